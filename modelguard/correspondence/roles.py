"""What a tensor is for, read off its name: other architectures have other names for the same thing. A hint, never evidence."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

INSIDE = {  # role in a layer -> ends of names, without `.weight` and `.bias`
    "qkv": r"(qkv(_proj)?|query_key_value|c_attn|in_proj)",
    "q": r"(q_proj|q|query|wq|attn_q|q_lin)",
    "k": r"(k_proj|k|key|wk|attn_k|k_lin)",
    "v": r"(v_proj|v|value|wv|attn_v|v_lin)",
    "o": r"(o_proj|out_proj|attn\.c_proj|attention\.dense|attention\.output\.dense|attn_output|wo|out_lin)",
    "gate_up": r"(gate_up_proj|gate_up|w12|wi_fused|up_gate_proj)",
    "gate": r"(gate_proj|w1|ffn_gate|wi_0)",
    "up": r"(up_proj|w3|ffn_up|wi_1|wi|mlp\.c_fc|fc1|dense_h_to_4h|intermediate\.dense|lin1)",
    "down": r"(down_proj|w2|ffn_down|mlp\.wo|mlp\.c_proj|fc2|dense_4h_to_h|output\.dense|lin2)",
    "norm before attention": r"(input_layernorm|ln_1|attn_norm|attention_norm|layer_norm1|ln1)",
    "norm before units": r"(post_attention_layernorm|ln_2|ffn_norm|layer_norm2|ln2)",
}
OUTSIDE = {
    "tokens": r"(embed_tokens|wte|tok_embeddings|token_embd|embed_in|word_embeddings)",
    "head": r"(lm_head|embed_out|output)",
    "last norm": r"(norm|ln_f|final_layer_norm|final_layernorm|output_norm)",
    "positions": r"(wpe|position_embeddings|embed_positions)",
}
FUSED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}
_TABLES = tuple({role: re.compile(rf"(?:^|.*[._]){ends}$", re.IGNORECASE) for role, ends in table.items()} for table in (INSIDE, OUTSIDE))


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a tensor stands: its stack (`model.layers`) and number there; "" and -1 outside the layers."""

    stack: str
    number: int


@dataclass(frozen=True, slots=True)
class Role:
    """What a tensor is for: `module` is a known role, or what follows the number in its name; `kind` is weight, bias and the like."""

    module: str
    kind: str


def located(name: str) -> tuple[Place, Role]:
    """The place and the role that a name tells."""
    match = re.match(r"^(.*?)\.(\d{1,6})\.(.+)$", "." + name)
    place, rest = (Place(match[1].strip("."), int(match[2])), match[3]) if match else (Place("", -1), name)
    module, _, kind = rest.rpartition(".")
    module, kind = (module, kind) if module else (rest, "")
    table = _TABLES[place.number < 0]
    known = next((role for role, pattern in table.items() if pattern.match(module)), "")
    expert = re.search(r"experts\.\d+\.", rest)
    return place, Role((expert[0] if expert else "") + known if known else module, kind)


def by_role(names: Iterable[str]) -> Mapping[Place, Mapping[Role, str]]:
    """Names by place and role; a role that two tensors of one layer claim is nobody's."""
    found: dict[Place, dict[Role, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(names):
        place, role = located(name)
        found[place][role].append(name)
    return {place: {role: claims[0] for role, claims in roles.items() if len(claims) == 1} for place, roles in found.items()}


def paired_places(left: Iterable[Place], right: Iterable[Place]) -> Mapping[Place, Place]:
    """For every place on the right its counterpart on the left: equal stacks first, the others in their order where they are as many."""
    ours, theirs = _stacks(left), _stacks(right)
    stacks = {stack: stack for stack in theirs if stack in ours}
    rest = [stack for stack in ours if stack and stack not in stacks], [stack for stack in theirs if stack and stack not in stacks]
    if len(rest[0]) == len(rest[1]):
        stacks |= dict(zip(rest[1], rest[0], strict=True))
    known = set(left)
    pairs = {place: Place(stacks[place.stack], place.number) for place in right if place.stack in stacks}
    return {place: other for place, other in pairs.items() if other in known}


def _stacks(places: Iterable[Place]) -> list[str]:
    return sorted({place.stack for place in places})
