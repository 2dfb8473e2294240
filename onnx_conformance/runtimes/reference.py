"""The reference implementation that comes with onnx."""

from __future__ import annotations

from functools import partial

from onnx import load_from_string

from onnx_conformance.runtimes.base import Prepare, Run


def start() -> Prepare:
    """Return the way to prepare a model."""
    from onnx.reference import ReferenceEvaluator

    def prepare(model: bytes) -> Run:
        return partial(ReferenceEvaluator(load_from_string(model)).run, None)

    return prepare
