"""The adapter of PyTorch: inputs in order, without initializers; one output or several; bfloat16, which numpy lacks."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from ml_dtypes import bfloat16
from onnx import numpy_helper, parser

from onnx_conformance.runtimes import torch as adapter


def _model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {text}')


class _Tensor:
    """The part of a tensor of PyTorch that the adapter uses."""

    def __init__(self, array: np.ndarray, dtype: str) -> None:
        self.array, self.dtype = array, dtype

    def to(self, dtype: str) -> _Tensor:
        return _Tensor(self.array.astype(np.float32), dtype)

    def numpy(self) -> np.ndarray:
        if self.dtype == "bfloat16":
            raise TypeError("numpy has no bfloat16")
        return self.array


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand-ins for PyTorch and onnx2torch; the list gets the arguments of each call of the module."""
    calls: list[Any] = []

    def forward(*tensors: _Tensor) -> Any:
        calls.append(tensors)
        return tensors if len(tensors) > 1 else tensors[0]

    def convert(model: onnx.ModelProto) -> Any:
        return SimpleNamespace(eval=lambda: forward)

    torch = SimpleNamespace(
        Tensor=_Tensor, bfloat16="bfloat16", float32="float32", no_grad=nullcontext, set_num_threads=lambda _: None,
        from_numpy=lambda array: _Tensor(array, str(array.dtype)),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "onnx2torch", SimpleNamespace(convert=convert))
    return calls


def test_inputs_are_in_order_without_initializers(converted: list[Any]) -> None:
    model = _model("m (float[2] b, float[2] w, float[2] a) => (float[2] y, float[2] z) { y = Add (b, w) z = Neg (a) }")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    run = adapter.start()(model.SerializeToString())
    first, second = run({"a": np.full(2, 1, np.float32), "b": np.full(2, 2, np.float32)})
    assert (first.tolist(), second.tolist()) == ([2, 2], [1, 1])
    assert len(converted[0]) == 2


def test_bfloat16_goes_in_and_comes_out(converted: list[Any]) -> None:
    run = adapter.start()(_model("m (bfloat16[2] x) => (bfloat16[2] y) { y = Relu (x) }").SerializeToString())
    (y,) = run({"x": np.array([1, 2], bfloat16)})
    assert converted[0][0].dtype == "bfloat16"
    assert y.dtype == bfloat16
    assert y.tolist() == [1, 2]


@pytest.mark.skipif(find_spec("onnx2torch") is None, reason="not a dependency of the tests")
def test_pytorch_itself() -> None:
    text = (
        "m (float[2,3] x, bfloat16[2] h) => (float[2,3] y, bfloat16[2] z) { a = Relu (x) y = Add (a, x) z = Abs (h) }"
    )
    run = adapter.start()(_model(text).SerializeToString())
    y, z = run({"x": np.ones((2, 3), np.float32), "h": np.array([-1, 3], bfloat16)})
    assert (y.dtype, z.dtype) == (np.float32, bfloat16)
    assert y.tolist() == [[2.0] * 3] * 2
    assert z.tolist() == [1, 3]
