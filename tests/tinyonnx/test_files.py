"""Model files are read whole; files are written whole or not at all."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from tinyonnx import files
from tinyonnx.errors import ModelError
from tinyonnx.files import FilePages, naming_file, read_file, release_pages, target_of, write_file, write_text


def test_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"12345678")
    monkeypatch.setattr(files, "_MAX_MODEL_BYTES", 8)
    assert read_file(str(path)) == b"12345678"
    monkeypatch.setattr(files, "_MAX_MODEL_BYTES", 7)
    with pytest.raises(ModelError, match="has 8 bytes, the format allows 7"):
        read_file(str(path))
    with pytest.raises(ModelError, match="is not a regular file"):
        read_file("/dev/null")
    with pytest.raises(ModelError, match="none: can't be read: No such file"):
        read_file(str(tmp_path / "none"))
    with pytest.raises(ModelError, match="can't be opened"):
        read_file("a\0b")


def test_writing_follows_links_and_keeps_the_umask(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "link", b"new")
        write_file(tmp_path / "program", b"run", 0o777)
    finally:
        os.umask(before)
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "program").stat().st_mode) == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "program", "real"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def fail(handle: int) -> None:
        assert len(list(tmp_path.iterdir())) == 2  # the unfinished file beside the old one
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)) as caught:
        write_file(path, b"new")
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)
    assert [other.read_bytes() for other in tmp_path.iterdir()] == [b"old"]


def test_content_is_on_the_disk_before_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: steps.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("replace"), replace(*paths)))
    write_file(tmp_path / "a", b"1")
    write_file(tmp_path / "b", b"2", durable=False)
    assert steps == ["fsync", "replace", "replace"]


def test_targets_that_are_no_files(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(ModelError, match="is not a regular file"):
            target_of(path)
    if os.path.exists("/dev/fd"):
        reading, writing = os.pipe()
        with pytest.raises(ModelError, match="is not a regular file"):
            target_of(f"/dev/fd/{writing}")
        os.close(reading)
        os.close(writing)
    with pytest.raises(FileNotFoundError):
        target_of(tmp_path / "none" / "m.onnx")
    assert target_of(tmp_path / "m.onnx") == os.path.realpath(tmp_path / "m.onnx")


def test_text_goes_to_files_and_devices(tmp_path: Path) -> None:
    write_text(str(tmp_path / "page"), "µs")
    assert (tmp_path / "page").read_bytes() == b"\xc2\xb5s"
    write_text("/dev/null", "gone")
    with pytest.raises(IsADirectoryError):
        write_text(str(tmp_path), "text")
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            write_text("/dev/full", "text")


def test_errors_without_a_name_get_one() -> None:
    with pytest.raises(OSError, match=r"a\.html"), naming_file("a.html"):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match="other"), naming_file("a.html"):
        raise OSError(2, "No such file", "other")


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="tells the memory of a mapping on Linux alone")
def test_pages_of_a_file_are_released_and_read_again(tmp_path: Path) -> None:
    values = np.arange(100_000, dtype=np.int64)
    (tmp_path / "data").write_bytes(values.tobytes())
    with open(tmp_path / "data", "rb") as file:
        pages = FilePages(file.fileno(), 0, access=mmap.ACCESS_READ)

    def resident() -> int:
        text = Path("/proc/self/smaps").read_text()
        return int(text.split(str(tmp_path / "data"))[1].split("Rss:")[1].split()[0])

    array = np.frombuffer(pages, np.int64)[10:].reshape(-1, 2)
    assert array.sum() == values[10:].sum()
    assert resident() >= 700
    release_pages(array)
    assert resident() == 0
    assert array.sum() == values[10:].sum()


def test_other_memory_is_not_released() -> None:
    anonymous = np.frombuffer(mmap.mmap(-1, 1 << 16), np.uint8)
    anonymous[:] = 7
    for array in (anonymous, anonymous[5:], np.full(10, 7, np.uint8)):
        release_pages(array)
        assert (array == 7).all()
