"""The architectures of the zoo: tiny, real (transformers'), four layers deep where nothing else is said.

Shapes are as small as the tests' power allows: below about 800 units a layer, T3 does not speak on a 20 % share (docs/weight-tests.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from benchmarks.zoo.text import CONTEXT, VOCABULARY

LLAMA = "llama"
OTHER_TOKENS = "llama, other tokenizer"
SMALL = "llama, 64 wide, 256 units"
PHI3 = "phi3 (fused gate and up)"
MIXTRAL = "mixtral (experts)"
UPCYCLED = "mixtral, as large as a llama"
RESNET = "resnet (convolutions)"
CONVNEXT = "convnext (convolutions)"


def _llama(width: int = 128, units: int = 1280, keys: int = 2, tied: bool = False, words: int = VOCABULARY) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": width, "intermediate_size": units, "num_attention_heads": 4, "num_key_value_heads": keys}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=4, vocab_size=words, tie_word_embeddings=tied))


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 128, "n_inner": 1280, "n_layer": 4, "n_head": 4, "n_positions": CONTEXT, "vocab_size": VOCABULARY}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def _bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 128, "intermediate_size": 1280, "num_hidden_layers": 4, "num_attention_heads": 4}
    return BertForMaskedLM(BertConfig(**sizes, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT))


def _phi3() -> Any:
    from transformers import Phi3Config, Phi3ForCausalLM

    sizes = {"hidden_size": 128, "intermediate_size": 1280, "num_hidden_layers": 4, "num_attention_heads": 4}
    return Phi3ForCausalLM(Phi3Config(**sizes, num_key_value_heads=4, vocab_size=VOCABULARY, pad_token_id=0, eos_token_id=1))


def _t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 128, "d_ff": 1280, "d_kv": 32, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, vocab_size=VOCABULARY, decoder_start_token_id=0))


def _mixtral(units: int = 1024, layers: int = 2) -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {
        "hidden_size": 128,
        "intermediate_size": units,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=2, num_experts_per_tok=1, vocab_size=VOCABULARY))


def _resnet() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [1, 1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**sizes, num_labels=10))


def _convnext() -> Any:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    sizes = {"hidden_sizes": [32, 64, 128], "depths": [1, 1, 2], "num_stages": 3, "patch_size": 2}
    return ConvNextForImageClassification(ConvNextConfig(**sizes, num_labels=10))


FAMILIES: dict[str, Callable[[], Any]] = {
    LLAMA: _llama,
    OTHER_TOKENS: lambda: _llama(words=480),
    "gpt2": _gpt2,
    "bert": _bert,
    SMALL: lambda: _llama(64, 256),
    "llama, 96 wide": lambda: _llama(96, 1280),
    "llama, tied": lambda: _llama(tied=True),
    PHI3: _phi3,
    "t5": _t5,
    MIXTRAL: _mixtral,
    UPCYCLED: lambda: _mixtral(1280, 4),
    RESNET: _resnet,
    CONVNEXT: _convnext,
}
VISION = (RESNET, CONVNEXT)


def tokenizer_of(family: str) -> str:
    """The tokenizer that models of a family read with; "" for images."""
    return "" if family in VISION else "pairs" if family == OTHER_TOKENS else "words"


def layers_of(names: frozenset[str]) -> int:
    """How many layers tensors of these names tell of."""
    numbers = [int(match[1]) for name in names if (match := re.search(r"\.(?:layers|h|layer)\.(\d+)\.", name))]
    return max(numbers, default=-1) + 1
