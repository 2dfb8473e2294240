"""Fixtures for plans on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyonnx import disk_cache, registry
from tinyonnx.codegen import code_cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of stored plans in this test; machine code comes from the usual cache."""
    here, usual = tmp_path / "cache", disk_cache.folder()
    here.mkdir()
    disk_cache._make(code_cache.folder())
    (here / code_cache.folder().name).symlink_to(usual / code_cache.folder().name)
    monkeypatch.setattr(disk_cache, "folder", lambda: here)
    monkeypatch.setattr(disk_cache, "_is_private", lambda status: True)  # the link
    monkeypatch.setattr(code_cache, "_addresses", {})
    monkeypatch.setattr(registry, "_custom", False)  # other tests register operators
    return here / "plans"
