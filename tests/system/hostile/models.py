"""Small models as text, and what must happen when they are hostile."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

import tinyonnx
from tinyonnx import GraphOptimizationLevel

SECONDS = 60
"""Limit of processor time: far more than any of these models takes, far less than quadratic time in its size."""
LEVELS = [GraphOptimizationLevel.ORT_ENABLE_ALL, GraphOptimizationLevel.ORT_DISABLE_ALL]


def model(
    nodes: str,
    inputs: str = "float[n] x",
    outputs: str = "y",
    constants: str = "",
    opset: int = 18,
    functions: str = "",
) -> onnx.ModelProto:
    """Return a model in ONNX's text format.

    `constants` are initializers, `functions` whole functions of the domain f.
    """
    head = f'<ir_version: 10, opset_import: ["": {opset}, "f": 1, "ai.onnx.ml": 3, "com.microsoft": 1]>'
    values = f"<{constants}>" if constants else ""
    return onnx.parser.parse_model(f"{head} g ({inputs}) => ({outputs}) {values} {{ {nodes} }} {functions}")


def session(source: onnx.ModelProto | bytes | Path, level: int = 99, **limits: Any) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel(level)
    options.intra_op_num_threads = 1
    options.limits = tinyonnx.Limits(**limits)
    if isinstance(source, onnx.ModelProto):
        source = source.SerializeToString()
    return tinyonnx.InferenceSession(source, options)


def refused(
    source: onnx.ModelProto | bytes,
    error: type[tinyonnx.Error],
    *expected: str,
    folder: Path,
    feeds: Mapping[str, Any] | None = None,
    **limits: Any,
) -> None:
    """Assert that loading or running fails, optimised or not, with a printable line that names file and `expected`."""
    path = folder / "hostile.onnx"
    path.write_bytes(source if isinstance(source, bytes) else source.SerializeToString())
    for level in LEVELS:
        with in_time(), pytest.raises(tinyonnx.Error) as caught:
            session(path, level, **limits).run(None, dict(feeds or {}))
        assert isinstance(caught.value, error), repr(caught.value)
        message = str(caught.value)
        assert message.isprintable()
        for part in ("hostile.onnx: ", *expected):
            assert part in message, message


@contextmanager
def in_time() -> Iterator[None]:
    """Assert that the block takes less processor time than the limit; waiting doesn't count, as on a busy machine."""
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


@contextmanager
def within(limit: int) -> Iterator[None]:
    """Assert that no more than `limit` bytes are allocated at one time, including importing and compiling."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
