"""Files of this machine as a transport."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelguard.blobs.base import read
from modelguard.blobs.local import LocalBlob, LocalFolder
from modelguard.errors import CannotFetch, CannotRead

DESCRIPTORS = Path("/proc/self/fd")


def test_any_range_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(100)))
    blob = LocalBlob(tmp_path / "a")
    assert (blob.size, blob.name, blob.sha256, blob.verified) == (100, str(tmp_path / "a"), None, True)
    assert read(blob, 10, 5) == bytes(range(10, 15))
    assert read(blob, 100, 0) == b""
    with pytest.raises(CannotRead, match="ends at byte 100, 101 wanted"):
        read(blob, 100, 1)


def test_a_file_that_shrinks_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    blob = LocalBlob(tmp_path / "a", name="a")
    os.truncate(tmp_path / "a", 50)
    with pytest.raises(CannotRead, match=r"^a: ended while it was read") as caught:
        read(blob, 40, 20)
    assert "run again" in caught.value.advice


@pytest.mark.parametrize("kind", ["absent", "directory", "pipe", "device", "below a file"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    path = {"device": Path(os.devnull), "below a file": tmp_path / "file/x"}.get(kind, tmp_path / kind)
    before = len(list(DESCRIPTORS.iterdir()))
    with pytest.raises(CannotFetch, match=r"^x: ") as caught:
        LocalBlob(path, name="x")
    assert caught.value.advice or "not a regular file" in str(caught.value)
    del caught
    assert len(list(DESCRIPTORS.iterdir())) <= before


def test_a_folder_lists_regular_files_in_name_order(tmp_path: Path) -> None:
    for name in ("b", "a", "not-utf8-\udcff", "new\nline"):
        (tmp_path / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("a")
    folder = LocalFolder(tmp_path, ref="here")
    assert folder.sizes == {"a": 1, "b": 1, "link": 1, "new\nline": 8, "not-utf8-\udcff": 10}
    assert list(folder.sizes)[:2] == ["a", "b"]
    assert read(folder.open("link"), 0, 1) == b"a"
    assert folder.open("a").name == "here/a"
    for name in ("sub", "pipe", "dangling", "../x", "absent"):
        with pytest.raises(CannotFetch, match="here: has no file"):
            folder.open(name)


def test_no_such_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("absent", "file"):
        with pytest.raises(CannotFetch, match="here: no such directory"):
            LocalFolder(tmp_path / name, ref="here")


def test_a_directory_that_cannot_be_listed(tmp_path: Path) -> None:
    if not os.geteuid():
        pytest.skip("root may list every directory")
    tmp_path.chmod(0)
    try:
        with pytest.raises(CannotFetch, match="here: Permission denied"):
            LocalFolder(tmp_path, ref="here")
    finally:
        tmp_path.chmod(0o700)
