from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinyonnx import disk_cache

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX file systems")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory that doesn't exist yet."""
    folder = tmp_path / "base" / "tinyonnx"
    monkeypatch.setattr(disk_cache, "folder", lambda: folder)
    monkeypatch.setattr(disk_cache, "_found_private", set())
    return folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_what_is_written_is_private_whatever_the_umask(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert disk_cache.write(root / "kernels-1" / "a.o", b"code")
        with disk_cache.open_lock("kernels.lock"):
            pass
    finally:
        os.umask(before)
    assert [mode(path) for path in (root, root / "kernels-1")] == [0o700, 0o700]
    assert not any(mode(path) & 0o022 for path in (root / "kernels-1" / "a.o", root / "kernels.lock"))
    assert disk_cache.read(root / "kernels-1" / "a.o") == b"code"


def test_another_users_files_are_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk_cache.write(root / "kernels-1" / "a.o", b"code")
    disk_cache._found_private.clear()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert disk_cache.read(root / "kernels-1" / "a.o") is None
    assert not disk_cache.write(root / "kernels-1" / "b.o", b"code")
    with pytest.raises(PermissionError, match="another user"):
        disk_cache.open_lock("kernels.lock")


@pytest.mark.parametrize("part", ["kernels-1", "kernels-1/a.o"])
@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_what_others_may_write_is_not_read(root: Path, part: str, bits: int) -> None:
    assert disk_cache.write(root / "kernels-1" / "a.o", b"code")
    disk_cache._found_private.clear()
    (root / part).chmod(mode(root / part) | bits)
    assert disk_cache.read(root / "kernels-1" / "a.o") is None


def test_a_cache_directory_that_others_may_write_is_closed_to_them(root: Path) -> None:
    root.mkdir(parents=True)
    root.chmod(0o777)
    assert disk_cache.write(root / "kernels-1" / "a.o", b"code")
    assert mode(root) == 0o700
    assert disk_cache.read(root / "kernels-1" / "a.o") == b"code"


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    assert disk_cache.write(root / "kernels-1" / "a.o", b"code")
    (root / "kernels-1" / "b.o").symlink_to(root / "kernels-1" / "a.o")
    assert disk_cache.read(root / "kernels-1" / "b.o") is None
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (root / "kernels.lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"kernels\.lock"):
        disk_cache.open_lock("kernels.lock")
    assert victim.read_bytes() == b"precious"


def test_damaged_files_are_absent(root: Path) -> None:
    path = root / "graphs" / "a"
    assert disk_cache.read(path) is None
    assert disk_cache.write(path, b"content")
    path.write_bytes(path.read_bytes()[:-1])
    assert disk_cache.read(path) is None


def test_the_oldest_are_removed(root: Path) -> None:
    for i in range(5):
        assert disk_cache.write(root / f"kernels-{i}" / "a.o", b"code")
        os.utime(root / f"kernels-{i}", (i, i))
    disk_cache.remove_old(root.glob("kernels-*"), 2)
    assert sorted(path.name for path in root.iterdir()) == ["kernels-3", "kernels-4"]
