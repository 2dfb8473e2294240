"""Helpers for tests of the command line."""

from __future__ import annotations

import io
import json
import subprocess
import sys


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def piped(content, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def process(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "audiotag", *arguments], capture_output=True, timeout=300, **options)
