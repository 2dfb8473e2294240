"""Helpers for tests of the command line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def lines(path):
    return sorted(Path(path).read_text().splitlines())


def size_of(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def at_work(process, path="out.jsonl", size=20_000, rows=600):
    """Wait until the output has grown by `size` bytes, or has all of its rows, or the process has ended."""
    began = size_of(path)
    deadline = time.monotonic() + 300
    while process.poll() is None and size_of(path) < began + size:
        if size_of(path) and Path(path).read_bytes().count(b"\n") >= rows:
            return
        assert time.monotonic() < deadline, "the output does not grow"
        time.sleep(0.01)
