"""The reader of torch's own files: what torch.save writes is read bit by bit, and nothing hostile is built, called or waited for."""

from __future__ import annotations

import os
import pickle
import struct
import time
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.attempt import attempt
from modelguard.blobs.base import read
from modelguard.blobs.local import LocalBlob
from modelguard.checkpoints import torch_zip
from modelguard.checkpoints.torch_pickle import MAX_OPCODES, load
from modelguard.checkpoints.torch_values import StoredTensor
from modelguard.checkpoints.torch_zip import open_torch_zip, read_state
from modelguard.errors import Malformed
from modelguard.types.findings import Missing

torch = pytest.importorskip("torch")


def saved(path: Path, value: object) -> LocalBlob:
    torch.save(value, path)
    return LocalBlob(path)


def archive(path: Path, data: bytes, files: dict[str, bytes] | None = None) -> LocalBlob:
    """An archive around a pickle, as Python's zipfile writes it."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in ({"a/data.pkl": data} | {f"a/{name}": content for name, content in (files or {}).items()}).items():
            made.writestr(name, content)
    return LocalBlob(path)


@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
        "complex64",
        "float8_e4m3fn",
        "float8_e5m2",
        "uint16",
    ],
)
def test_every_dtype_is_read_bit_by_bit(dtype: str, tmp_path: Path) -> None:
    raw = torch.randint(0, 2 if dtype == "bool" else 200, (5, 6, 16), dtype=torch.uint8)
    tensor = raw.view(getattr(torch, dtype))
    opened = open_torch_zip(saved(tmp_path / "pytorch_model.bin", {"w": tensor}))
    info = opened.tensors["w"]
    buffer = bytearray(info.nbytes)
    opened.readinto("w", 0, memoryview(buffer))
    assert (bytes(buffer), info.shape) == (raw.numpy().tobytes(), tuple(tensor.shape))
    part = bytearray(7)
    opened.readinto("w", 3, memoryview(part))
    assert part == buffer[3:10]


def test_state_dicts_are_checkpoints(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4))
    model[2].weight = torch.nn.Parameter(model[2].weight[1:])  # a view: its storage begins before it
    opened = open_torch_zip(saved(tmp_path / "a.bin", model.state_dict()))
    assert {name: info.shape for name, info in opened.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    buffer = bytearray(opened.tensors["2.weight"].nbytes)
    opened.readinto("2.weight", 0, memoryview(buffer))
    assert buffer == model[2].weight.detach().numpy().tobytes()
    assert (opened.format, opened.notes) == ("torch zip", ())
    assert torch_zip.sniff("a.bin", (tmp_path / "a.bin").read_bytes()[:512])
    wrapped = open_torch_zip(saved(tmp_path / "b.ckpt", {"state_dict": model.state_dict(), "epoch": 3}))
    assert (wrapped.tensors.keys(), wrapped.notes) == (opened.tensors.keys(), ("the weights are those under 'state_dict'",))


@pytest.mark.parametrize("kind", ["AdamW", "SGD", "Adagrad", "RMSprop"])
def test_states_of_optimizers_and_schedulers_are_the_ones_torch_loads(kind: str, tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(3):
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        scheduler.step()
    for value in (optimizer.state_dict(), scheduler.state_dict()):
        state = read_state(saved(tmp_path / "state.pt", value))
        assert plain(state, state.value) == plain_torch(value)


def plain(state: torch_zip.TorchState, value: Any) -> Any:
    """A state with its tensors as lists of bytes."""
    if isinstance(value, StoredTensor):
        return state.numbers(value).tobytes()
    if isinstance(value, dict):
        return {key: plain(state, item) for key, item in value.items()}
    return [plain(state, item) for item in value] if isinstance(value, list | tuple) else value


def plain_torch(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain_torch(item) for key, item in value.items()}
    return [plain_torch(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [1.5, None, True, False, "ü", -(2**40)], 3: (), "c": (1, (2, (3, 4, 5, 6)))},
        OrderedDict(x=OrderedDict(y=2)),
        defaultdict(dict, {1: {"step": 2}}),
        {"size": torch.Size([2, 3])},
        [[], [{}], "a" * 300, list(range(1000))],
    ],
    ids=range(5),
)
def test_plain_values_come_out_as_they_went_in(value: Any, tmp_path: Path) -> None:
    assert read_state(saved(tmp_path / "x.pt", value)).value == value


class Runs:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


def test_what_runs_code_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for value in (Runs(canary), {"a": [Runs(canary)]}, OrderedDict(a=Runs(canary))):
        with pytest.raises(Malformed, match=r"names 'posix\.system'.*not executed"):
            read_state(saved(tmp_path / "x.pt", value))
    with pytest.raises(Malformed, match=r"torch\.nn\.modules"):
        open_torch_zip(saved(tmp_path / "model.pt", torch.nn.Linear(2, 2)))
    torch.save({"a": 1}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(Malformed, match="bare pickles"):
        open_torch_zip(LocalBlob(tmp_path / "old.bin"))
    with pytest.raises(Malformed, match="TorchScript"):
        open_torch_zip(archive(tmp_path / "s.pt", PICKLE, {"code/__torch__.py": b"pass", "constants.pkl": PICKLE}))
    assert not canary.exists()


TWO = b"\x80\x02"
LAUGHS = TWO + b")" + b"q\x00h\x00\x86" * 60 + b"."  # a tuple of 2**60 leaves
REFUSED = {
    "empty": b"",
    "no protocol": b"}.",
    "protocol 5": pickle.dumps({}, protocol=5),
    "instance": TWO + b"(cos\nsystem\nX\x01\x00\x00\x00ao.",
    "inst": TWO + b"(X\x01\x00\x00\x00aios\nsystem\n.",
    "stack global": TWO + b"\x8c\x02os\x8c\x06system\x93.",
    "call of a text": TWO + b"X\x01\x00\x00\x00a)R.",
    "call of a dict": TWO + b"})R.",
    "name not ascii": TWO + "cös\nsystem\n.".encode(),
    "name without end": TWO + b"c" + b"a" * 5000,
    "huge memo": TWO + b"}r\xff\xff\xff\x3f",
    "unset memo": TWO + b"h\x07.",
    "huge text": TWO + b"X\xff\xff\xff\x7f",
    "huge integer": TWO + b"\x8a\xff" + b"\x01" * 255 + b".",
    "persistent text": TWO + b"X\x01\x00\x00\x00aQ.",
    "storage of a key that is a path": TWO
    + b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x03\x00\x00\x00../X\x03\x00\x00\x00cpuK\x01tQ.",
    "a key twice": TWO + b"}(K\x01K\x02K\x01K\x03u.",
    "a key that is a list": TWO + b"}]K\x01s.",
    "items of a list": TWO + b"]K\x01K\x02s.",
    "attributes of a list": TWO + b"]}b.",
    "odd items": TWO + b"}(K\x01u.",
    "below a mark": TWO + b"K\x01(\x85.",
    "bytes behind": TWO + b"K\x01.K\x01.",
    "two values": TWO + b"K\x01K\x02.",
    "a name alone": TWO + b"ctorch\nSize\n.",
    "size of texts": TWO + b"ctorch\nSize\nX\x01\x00\x00\x00a\x85\x85R.",
    "many lists": TWO + b"]" * (MAX_OPCODES + 5),
    "deep tuples without end": TWO + b"K\x01" + b"\x85" * (MAX_OPCODES + 5),
}
ACCEPTED = {
    "nothing": TWO + b"N.",
    "recalled": TWO + b"K\x07q\x05h\x05\x86.",
    "a list in itself": TWO + b"]q\x00h\x00a.",
    "deep tuples": TWO + b"K\x01" + b"\x85" * 200_000 + b".",
    "billion laughs": LAUGHS,
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_pickles_are_refused_in_one_line_and_soon(case: str) -> None:
    started = time.process_time()
    with pytest.raises(Malformed) as caught:
        load(REFUSED[case], "x.pt")
    assert time.process_time() - started < 3
    assert str(caught.value).startswith("x.pt: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert caught.value.advice


def test_strange_but_harmless_pickles_cost_little(tmp_path: Path) -> None:
    started = time.process_time()
    for case, data in ACCEPTED.items():
        blob = archive(tmp_path / f"{case}.pt", data)
        state = read_state(blob)
        with pytest.raises(Malformed):
            open_torch_zip(blob)
        assert state.starts == {}
    assert time.process_time() - started < 5


@given(st.binary(max_size=60), st.integers(0, 200))
@settings(max_examples=400, deadline=None)
def test_damaged_pickles_are_read_or_refused(noise: bytes, place: int) -> None:
    whole = pickle.dumps({"a": [1, 2.5, "x", (True, None)], 3: {"b": -7}}, protocol=2)
    for data in (TWO + noise, whole[:place] + noise, whole[:place] + noise + whole[place + len(noise) :]):
        outcome = attempt(lambda data=data: load(data, "x.pt"), what="it")  # type: ignore[misc]
        assert not isinstance(outcome, Missing) or ("crashed" not in outcome.why and "\n" not in outcome.why)


def raw_entry(name: bytes, content: bytes, at: int, **changed: Any) -> tuple[bytes, bytes]:
    """(local part, central part) of one stored entry."""
    crc, size, method = zlib.crc32(content), len(content), changed.get("method", 0)
    local_name = changed.get("local_name", name)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 0, 0, method, 0, 0, crc, size, size, len(local_name), 0) + local_name + content
    place = changed.get("header", at)
    central = struct.pack(
        "<4sHHHHHHIIIHHHHHII",
        b"PK\x01\x02",
        0,
        0,
        0,
        method,
        0,
        0,
        crc,
        size,
        size,
        len(name),
        0,
        0,
        0,
        0,
        changed.get("attributes", 0),
        place,
    )
    return local, central + name


def raw_archive(*parts: tuple[bytes, bytes, dict[str, Any]], before: bytes = b"", between: bytes = b"", behind: bytes = b"") -> bytes:
    body, directory = before, b""
    for name, content, changed in parts:
        local, central = raw_entry(name, content, len(body), **changed)
        body, directory = body + local, directory + central
    body += between
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, len(parts), len(parts), len(directory), len(body), 0)
    return body + directory + end + behind


PICKLE = TWO + b"}."
GOOD: tuple[bytes, bytes, dict[str, Any]] = (b"a/data.pkl", PICKLE, {})
ARCHIVES = {
    "a prefix": raw_archive(GOOD, before=b"#!/bin/sh\n"),
    "bytes between": raw_archive(GOOD, between=b"PK"),
    "bytes behind": raw_archive(GOOD, behind=b"\0"),
    "two archives": raw_archive(GOOD) + raw_archive(GOOD),
    "a name twice": raw_archive(GOOD, (b"a/data.pkl", TWO + b"N.", {})),
    "another local name": raw_archive((b"a/data.pkl", PICKLE, {"local_name": b"a/data.pkx"})),
    "compressed": raw_archive((b"a/data.pkl", PICKLE, {"method": 8})),
    "a directory": raw_archive((b"a/data.pkl", PICKLE, {"attributes": 0x10})),
    "overlapping": raw_archive(GOOD, (b"a/data/0", b"1234", {"header": 0})),
    "two roots": raw_archive(GOOD, (b"b/data/0", b"1234", {})),
    "a path upward": raw_archive(GOOD, (b"../data/0", b"1234", {})),
    "code": raw_archive(GOOD, (b"a/code/x.py", b"1234", {})),
    "another file": raw_archive(GOOD, (b"a/payload.sh", b"1234", {})),
    "no pickle": raw_archive((b"a/data/0", b"1234", {})),
    "big-endian": raw_archive(GOOD, (b"a/byteorder", b"big", {})),
    "cut short": raw_archive(GOOD)[:-5],
    "only an end": raw_archive(),
}


def test_a_plain_archive_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(raw_archive(GOOD, (b"a/byteorder", b"little", {})))
    assert read_state(LocalBlob(tmp_path / "a.pt")).value == {}


@pytest.mark.parametrize("case", ARCHIVES)
def test_archives_that_readers_may_read_differently_are_refused(case: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(ARCHIVES[case])
    with pytest.raises(Malformed) as caught:
        read_state(LocalBlob(tmp_path / "a.pt"))
    assert "a.pt: " in str(caught.value)
    assert caught.value.advice


def test_a_flipped_bit_of_the_pickle_is_seen(tmp_path: Path) -> None:
    data = bytearray(raw_archive((b"a/data.pkl", TWO + b"K\x01.", {})))
    data[data.index(b"K\x01") + 1] = 2
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(Malformed, match="checksum"):
        read_state(LocalBlob(tmp_path / "a.pt"))


def test_tensors_beyond_their_storage_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4)}, tmp_path / "a.bin")
    blob = LocalBlob(tmp_path / "a.bin")
    data = bytearray(read(blob, 0, blob.size))
    at = data.index(b"K\x04\x85")  # the shape (4,), as a pickle
    for shape in (5, 255):
        start, end = data.index(TWO), data.index(b"PK\x07\x08")
        body = data[start:end].replace(b"K\x04\x85", b"K" + bytes([shape]) + b"\x85")
        with pytest.raises(Malformed, match="beyond its storage"):
            load(bytes(body), "a.bin")
    assert at
    with pytest.raises(Malformed, match="strides"):
        open_torch_zip(saved(tmp_path / "t.bin", {"w": torch.zeros(3, 4).t()}))
    short = archive(tmp_path / "s.bin", bytes(data[data.index(TWO) : data.index(b"PK\x07\x08")]), {"data/0": b"1234"})
    with pytest.raises(Malformed, match="storage 0 has 4 bytes, 16 expected"):
        open_torch_zip(short)


@given(st.integers(0, 4000), st.binary(min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_damaged_archives_are_read_or_refused(place: int, noise: bytes) -> None:
    whole = bytearray(WHOLE)
    whole[place % len(whole) : place % len(whole) + len(noise)] = noise

    class Memory:
        name, size, sha256, verified = "x.bin", len(whole), None, False

        def readinto(self, start: int, buffer: memoryview) -> None:
            buffer[:] = whole[start : start + len(buffer)]

    opened = attempt(lambda: open_torch_zip(Memory()), what="it")
    if isinstance(opened, Missing):
        assert "crashed" not in opened.why
        assert "\n" not in opened.why
    else:
        assert all(info.nbytes == 4 * info.entries for info in opened.tensors.values())


def _whole() -> bytes:
    import io

    file = io.BytesIO()
    torch.save({"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(3)}, file)
    return file.getvalue()


WHOLE = _whole()
