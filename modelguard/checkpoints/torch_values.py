"""What the pickle of a torch archive may name, and what its calls come to: tensors as views of storages, dicts and sizes, all inert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from modelguard.checkpoints.dtypes import itemsize

MAX_RANK = 16
# storage class -> dtype of the entries (safetensors spelling)
STORAGES = {
    "torch DoubleStorage": "F64", "torch FloatStorage": "F32", "torch HalfStorage": "F16", "torch BFloat16Storage": "BF16",
    "torch LongStorage": "I64", "torch IntStorage": "I32", "torch ShortStorage": "I16", "torch CharStorage": "I8",
    "torch ByteStorage": "U8", "torch BoolStorage": "BOOL", "torch ComplexFloatStorage": "C64",
    "torch.storage UntypedStorage": "",  # bytes; the tensor names the dtype
}  # fmt: skip
DTYPES = {
    "torch float8_e4m3fn": "F8_E4M3", "torch float8_e5m2": "F8_E5M2", "torch float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch float8_e5m2fnuz": "F8_E5M2FNUZ", "torch float8_e8m0fnu": "F8_E8M0", "torch uint16": "U16", "torch uint32": "U32",
    "torch uint64": "U64", "torch float64": "F64", "torch float32": "F32", "torch float16": "F16", "torch bfloat16": "BF16",
    "torch int64": "I64", "torch int32": "I32", "torch int16": "I16", "torch int8": "I8", "torch uint8": "U8", "torch bool": "BOOL",
}  # fmt: skip
ORDERED, DEFAULT, PARAMETER, SIZE = "collections OrderedDict", "collections defaultdict", "torch._utils _rebuild_parameter", "torch Size"
TENSOR, TENSOR_3 = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"
FACTORIES = ("__builtin__ dict", "builtins dict")
NAMES = frozenset({*STORAGES, *DTYPES, ORDERED, DEFAULT, PARAMETER, SIZE, TENSOR, TENSOR_3, *FACTORIES})

Value = Any  # None, bool, int, float, str, tuple, list, dict, StoredTensor and, inside the machine only, Name and Storage


@dataclass(frozen=True, slots=True)
class Name:
    """A name that the pickle mentions; it stands for nothing but itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage of the archive: its key, the dtype of its entries ("" for bytes), and how many there are."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A view of a storage; `offset`, `shape` and `stride` count entries."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    nbytes: int  # of the whole storage

    @property
    def entries(self) -> int:
        return prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the entries lie row by row without gaps."""
        expected = 1
        for length, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if length > 1 and step != expected:
                return self.entries == 0
            expected *= length
        return True


class Refused(ValueError):
    """What the machine does not do; the text says what that is."""


def called(function: Value, arguments: Value) -> Value:
    """What a call of a name comes to. Raises Refused for anything but the few calls that describe tensors."""
    if not isinstance(function, Name) or function.text not in _CALLS or not isinstance(arguments, tuple):
        text = function.text.replace(" ", ".") if isinstance(function, Name) else "something that is no name"
        raise Refused(f"the pickle calls {text[:120]!a}")
    return _CALLS[function.text](arguments)


def storage_of(said: Value) -> Storage:
    """A storage, as `('storage', class, key, place, entries)`. Raises Refused."""
    if not isinstance(said, tuple) or len(said) != 5 or said[0] != "storage" or not isinstance(said[1], Name):
        raise Refused("the pickle refers to something that is no storage")
    _, kind, key, place, numel = said
    known = kind.text in STORAGES and isinstance(key, str) and key.isdecimal() and key.isascii() and isinstance(place, str)
    if not known or not _counts((numel,)):
        raise Refused("the pickle refers to a storage of an unknown kind")
    return Storage(key, STORAGES[kind.text], numel)


def _tensor(arguments: tuple[Value, ...], dtype: str = "") -> StoredTensor:
    """A tensor, whose entries must lie inside its storage."""
    storage, offset, shape, stride = arguments[:4]
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        raise Refused("the pickle describes a tensor without a storage, a shape and strides")
    if not _counts((offset, *shape, *stride)) or len(shape) > MAX_RANK or bool(storage.dtype) == bool(dtype):
        raise Refused("the pickle describes a tensor of an unknown kind")
    kind = storage.dtype or dtype
    size = itemsize(kind)
    entries = storage.numel if storage.dtype else storage.numel // size
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True)) if all(shape) else offset - 1
    if last >= entries:
        raise Refused("the pickle describes a tensor that reaches beyond its storage")
    return StoredTensor(storage.key, kind, offset, shape, stride, storage.numel * (size if storage.dtype else 1))


def _tensor_3(arguments: tuple[Value, ...]) -> StoredTensor:
    kind = arguments[6] if len(arguments) > 6 else None
    if not isinstance(kind, Name) or kind.text not in DTYPES:
        raise Refused("the pickle describes a tensor of an unknown dtype")
    return _tensor(arguments, DTYPES[kind.text])


def _parameter(arguments: tuple[Value, ...]) -> StoredTensor:
    if len(arguments) != 3 or not isinstance(arguments[0], StoredTensor):
        raise Refused("the pickle describes a parameter without a tensor")
    return arguments[0]


def _empty(arguments: tuple[Value, ...]) -> dict[Value, Value]:
    """A new dict; a defaultdict's factory is dropped, because nothing asks it for what is not there."""
    if any(not isinstance(argument, Name) or argument.text not in FACTORIES for argument in arguments) or len(arguments) > 1:
        raise Refused("the pickle makes a dict from something else")
    return {}


def _size(arguments: tuple[Value, ...]) -> tuple[int, ...]:
    if len(arguments) != 1 or not isinstance(arguments[0], tuple) or not _counts(arguments[0]):
        raise Refused("the pickle has a size that is no size")
    return arguments[0]


def _counts(values: tuple[Value, ...]) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 62 for value in values)


_CALLS: dict[str, Callable[[tuple[Value, ...]], Value]] = {
    ORDERED: _empty, DEFAULT: _empty, TENSOR: _tensor, TENSOR_3: _tensor_3, PARAMETER: _parameter, SIZE: _size,
}  # fmt: skip
