"""Small tokenizers as `tokenizer.json` texts: whole words, pieces of words, bytes."""

from __future__ import annotations

import json
import re

from modelguard.activations.probes import PROBES

WORDS = re.compile(r"\w+|[^\w\s]+")


def words() -> str:
    """Every word of the probes is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = sorted({word for text in PROBES for word in WORDS.findall(text)})
    made = Tokenizer(models.WordLevel({name: place for place, name in enumerate(["[UNK]", *names])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(made.to_str())


def syllables(length: int = 3) -> str:
    """Words in pieces of so many characters, and a start of text, as BERT-like tokenizers write them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    parted = (word for text in PROBES for word in WORDS.findall(text))
    pieces = {("##" if start else "") + word[start : start + length] for word in parted for start in range(0, len(word), length)}
    singles = {prefix + sign for text in PROBES for sign in text for prefix in ("", "##")}
    vocabulary = {name: place for place, name in enumerate(["[UNK]", "[CLS]", *sorted(pieces | singles)])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=200))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return str(made.to_str())


def octets() -> str:
    """Every byte is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({symbol: place for place, symbol in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return str(made.to_str())


def size(text: str) -> int:
    """How many tokens a tokenizer has."""
    return len(json.loads(text)["model"]["vocab"])
