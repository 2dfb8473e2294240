"""A small model, and both modules under the name of onnxruntime."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime as real
import pytest

import tinyonnx

MODEL = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["": 17]>
    test (float[batch, 3] x, float[3] scale, float[3] shift) => (float[batch, 3] y, float[batch, 3] z)
        <float[3] scale = {1, 2, 3}, float[3] inner = {0, 0, 1}>
    {
        s = Mul(x, scale)
        y = Add(s, shift)
        z = Add(y, inner)
    }
""").SerializeToString()
X = np.arange(6, dtype=np.float32).reshape(2, 3)
SHIFT = np.array([10, 20, 30], np.float32)
FEEDS = {"x": X, "shift": SHIFT}
Y = X * [1, 2, 3] + SHIFT


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name in [n for n in sys.modules if n.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    tinyonnx.install_as_onnxruntime()
    import onnxruntime

    yield onnxruntime
    for name in [n for n in sys.modules if n.split(".")[0] == "onnxruntime"]:
        del sys.modules[name]


@pytest.fixture(params=["onnxruntime", "tinyonnx"])
def ort(request: pytest.FixtureRequest) -> ModuleType:
    """Either of them: a test that holds for both shows that they agree."""
    module: ModuleType = real if request.param == "onnxruntime" else request.getfixturevalue("stand_in")
    return module


def session(ort: ModuleType, options: Any = None) -> Any:
    return ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
