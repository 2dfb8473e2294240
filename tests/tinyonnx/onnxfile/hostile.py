"""Models that are refused with a ModelError that names file, culprit and cause."""

from __future__ import annotations

from typing import Any

import onnx
import onnx.parser
import pytest
from onnx import TensorProto

from tinyonnx.errors import ModelError
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load

HEADER = '<ir_version: 9, opset_import: ["": 18, "f": 1]>'


SMALL = HEADER + " g (float[2] x) => (float[2] y) { [act] y = Relu(x) }"


FLOAT = TensorProto.FLOAT


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def refused(source: Any, *expected: str, limits: Limits | None = None) -> ModelError:
    """Assert that loading fails at once, and that the one-line message has all of `expected`."""
    if isinstance(source, str):
        source = parsed(source)
    if isinstance(source, onnx.ModelProto):
        source = source.SerializeToString()
    with pytest.raises(ModelError) as caught:
        load(source, limits or Limits())
    message = str(caught.value)
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    for part in expected:
        assert part in message
    return caught.value


def with_tensor(**fields: Any) -> onnx.ModelProto:
    model = parsed(SMALL)
    model.graph.initializer.append(TensorProto(name="w", **fields))
    return model
