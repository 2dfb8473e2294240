"""tract, through its Python package."""

from __future__ import annotations

from typing import Any

from onnx import load_from_string

from onnx_conformance.reproduce import run_tract
from onnx_conformance.runtimes.base import Prepare, Run


def start() -> Prepare:
    """Return the way to prepare a model."""
    import tract  # noqa: F401  # an installation that doesn't work is reported before the first model

    def prepare(model: bytes) -> Run:
        def run(feeds: dict[str, Any]) -> list[Any]:
            results: list[Any] = run_tract(load_from_string(model), feeds)
            return results

        return run

    return prepare
