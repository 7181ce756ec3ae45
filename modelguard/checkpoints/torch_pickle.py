"""The pickle inside a torch archive, read as data: a machine of few opcodes that builds plain values and calls nothing.

It knows what `torch.save` writes for tensors in dicts, lists and tuples (the opcodes and names of torch/_weights_only_unpickler.py, less
what makes objects). A name is an inert token; a call of a token is one case of a table. Everything else is refused by name.
Limits hold before memory is taken: every opcode costs at least its own byte, and their number is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from modelguard.checkpoints.torch_values import NAMES, Name, Refused, Storage, Value, called, storage_of
from modelguard.errors import Malformed

MAX_PICKLE_BYTES = 32 << 20
MAX_OPCODES = 500_000  # about 25 a tensor
MAX_TEXT = 1 << 16  # bytes of one string
MAX_INTEGER = 8  # bytes
PROTOCOL = 2  # what torch.save writes unless it is told otherwise
Action = Callable[["_Machine"], None]


def load(data: bytes, name: str) -> Value:
    """The value that a pickle of `torch.save` describes. Raises Malformed, naming the file and what was refused."""
    if len(data) > MAX_PICKLE_BYTES:
        raise Malformed(f"{name}: a pickle of {len(data)} bytes, more than the {MAX_PICKLE_BYTES} that are read", advice="split the file")
    try:
        return _Machine(data).run()
    except Refused as error:
        raise Malformed(f"{name}: {error}; it was not executed", advice="save the weights as safetensors") from error
    except (struct.error, IndexError, ValueError) as error:  # reading beyond the end, or taking from an empty stack
        raise Malformed(f"{name}: a pickle that breaks off or is damaged; it was not executed", advice="save or fetch it again") from error


class _Machine:
    """Opcodes one by one. The stack holds values; `marks` are the heights at which a MARK was set."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}

    def run(self) -> Value:
        if self.data[:2] != bytes([0x80, PROTOCOL]):
            raise Refused("a pickle of a protocol that torch.save does not write by itself")
        for _ in range(MAX_OPCODES):
            opcode = self.byte()
            if opcode == 0x2E:
                return self.end()
            action = _ACTIONS.get(opcode)
            if action is None:
                raise Refused(f"the pickle uses the opcode {bytes([opcode])!r}, which no state of tensors needs")
            action(self)
        raise Refused(f"the pickle has more than {MAX_OPCODES} opcodes")

    def end(self) -> Value:
        if len(self.stack) != 1 or self.marks or self.at != len(self.data):
            raise Refused("the pickle goes on behind its end, or leaves values over")
        if isinstance(self.stack[0], Name | Storage):
            raise Refused("the pickle holds no value")
        return self.stack[0]

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def take(self, layout: str) -> Any:
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return value

    def text(self, length: int) -> str:
        if length > MAX_TEXT or length > len(self.data) - self.at:
            raise Refused(f"the pickle has a string of {length} bytes")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def line(self) -> str:
        end = self.data.index(b"\n", self.at, self.at + 400)
        text, self.at = self.data[self.at : end].decode("utf-8"), end + 1
        return text

    def pop(self) -> Value:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise Refused("the pickle takes a value from below a mark")
        return self.stack.pop()

    def since_mark(self) -> list[Value]:
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def top(self, kind: type) -> Any:
        if (self.marks and len(self.stack) <= self.marks[-1]) or type(self.stack[-1]) is not kind:
            raise Refused(f"the pickle adds to something that is no {kind.__name__}")
        return self.stack[-1]

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise Refused("the pickle recalls a value that it never stored")
        self.stack.append(self.memo[index])

    def set_items(self, pairs: list[Value]) -> None:
        target = self.top(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not (key is None or isinstance(key, str | int | float)) or key in target:
                raise Refused("the pickle has a dict with a key that stands twice, or that is neither a text nor a number")
            target[key] = value


def _name(machine: _Machine, module: str, attribute: str) -> None:
    text = f"{module} {attribute}"
    if text not in NAMES:
        raise Refused(f"the pickle names {f'{module}.{attribute}'[:120]!a}, which no state of tensors needs")
    machine.stack.append(Name(text))


def _persistent(machine: _Machine) -> None:
    machine.stack.append(storage_of(machine.pop()))


def _call(machine: _Machine) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.stack.append(called(function, arguments))


def _build(machine: _Machine) -> None:
    """Attributes of an OrderedDict, such as the `_metadata` of a state dict: nothing that a tensor depends on."""
    state = machine.pop()
    if not isinstance(state, dict):
        raise Refused("the pickle sets attributes from something that is no dict")
    machine.top(dict)


def _integer(machine: _Machine) -> None:
    length = machine.byte()
    if length > MAX_INTEGER:
        raise Refused(f"the pickle has an integer of {length} bytes")
    machine.at += length
    machine.stack.append(int.from_bytes(machine.data[machine.at - length : machine.at], "little", signed=True))


def _protocol(machine: _Machine) -> None:
    if machine.at != 1 or machine.byte() != PROTOCOL:
        raise Refused("the pickle states a protocol in its middle")


def _pushes(make: Callable[[_Machine], Value]) -> Action:
    return lambda machine: machine.stack.append(make(machine))


def _makes_tuple(length: int) -> Action:
    return lambda machine: machine.stack.append(tuple([machine.pop() for _ in range(length)][::-1]))


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _appends(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.top(list).extend(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


_ACTIONS: dict[int, Action] = {
    0x80: _protocol,
    0x85: _makes_tuple(1),
    0x86: _makes_tuple(2),
    0x87: _makes_tuple(3),
    0x88: _pushes(lambda _: True),
    0x89: _pushes(lambda _: False),
    0x8A: _integer,
    ord("N"): _pushes(lambda _: None),
    ord("K"): _pushes(lambda machine: machine.take("<B")),
    ord("M"): _pushes(lambda machine: machine.take("<H")),
    ord("J"): _pushes(lambda machine: machine.take("<i")),
    ord("G"): _pushes(lambda machine: machine.take(">d")),
    ord("X"): _pushes(lambda machine: machine.text(machine.take("<I"))),
    ord(")"): _pushes(lambda _: ()),
    ord("]"): _pushes(lambda _: []),
    ord("}"): _pushes(lambda _: {}),
    ord("("): lambda machine: machine.marks.append(len(machine.stack)),
    ord("t"): _pushes(lambda machine: tuple(machine.since_mark())),
    ord("a"): _append,
    ord("e"): _appends,
    ord("s"): _set_item,
    ord("u"): lambda machine: machine.set_items(machine.since_mark()),
    ord("q"): lambda machine: machine.remember(machine.take("<B")),
    ord("r"): lambda machine: machine.remember(machine.take("<I")),
    ord("h"): lambda machine: machine.recall(machine.take("<B")),
    ord("j"): lambda machine: machine.recall(machine.take("<I")),
    ord("c"): lambda machine: _name(machine, machine.line(), machine.line()),
    ord("R"): _call,
    ord("Q"): _persistent,
    ord("b"): _build,
}
