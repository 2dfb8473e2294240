"""Measured time of models on this machine, kept in the cache."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotag.models.catalog import cache_dir, resolve
from tinyonnx.files import write_file

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel


def measured(name: str) -> float | None:
    """Return the time of a model on this machine; None if there is no such model, or it has not been measured here."""
    entry = _read().get(name)
    if not isinstance(entry, dict):
        return None
    milliseconds = entry.get("milliseconds")
    same = entry.get("machine") == platform.node() and entry.get("file") == _identity(resolve(name))
    return float(milliseconds) if same and isinstance(milliseconds, int | float) else None


def _path() -> Path:
    return cache_dir() / "times.json"


def _read() -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        entries = json.loads(_path().read_text(encoding="utf-8"))
        return entries if isinstance(entries, dict) else {}
    return {}


def keep(model: ResolvedModel, milliseconds: float) -> None:
    """Write the time of a model in milliseconds.

    On a full disk or without permission only the list's column is lost.
    """
    entry = {"milliseconds": round(milliseconds, 3), "machine": platform.node(), "file": _identity(model)}
    with suppress(OSError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_file(_path(), json.dumps(_read() | {model.name: entry}, indent=1).encode(), durable=False)


def _identity(model: ResolvedModel) -> list[int]:
    """Return size and modification time of a model's file."""
    if isinstance(model.source, bytes):
        return [len(model.source)]
    status = os.stat(model.source)
    return [status.st_size, status.st_mtime_ns]
