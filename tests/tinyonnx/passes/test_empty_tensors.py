"""Optimised graphs give the same results, and refuse the same, where a tensor is empty."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import model_text

CONV = "float[4,4,1,1] w = {0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2}"
GATE = "float[2,4,1,1] w1 = {1,1,1,1,1,1,1,1}, float[4,2,1,1] w2 = {1,1,1,1,1,1,1,1}"
ONES = "float[4,1,1,1] taps = {1, 2, 3, 4}"
MATRIX = "float[4,3] w = {1,1,1,1,1,1,1,1,1,1,1,1}"

MODELS = {
    "squeeze-excite": (
        "p = ReduceMean<axes=[2,3]>(x) a = Conv(p, w1) b = Relu(a) c = Conv(b, w2) d = Sigmoid(c) y = Mul(x, d)",
        GATE,
    ),
    "activation": ("a = Conv(x, w) y = Relu(a)", CONV),
    "residual": ("a = Conv(x, w) y = Add(a, x)", CONV),
    "pair": ("a = Conv(x, w) b = Relu(a) y = Conv<group=4>(b, taps)", f"{CONV}, {ONES}"),
    "other pair": ("a = Conv<group=4>(x, taps) b = Relu(a) y = Conv(b, w)", f"{CONV}, {ONES}"),
    "hard swish": ("a = HardSigmoid<alpha=0.16666667>(x) y = Mul(a, x)", ONES),
    "mean": ("y = ReduceMean<axes=[2,3]>(x)", ONES),
    "pool": ("a = AveragePool<kernel_shape=[1,1]>(x) y = MaxPool<kernel_shape=[1,1]>(a)", ONES),
    "global pool": ("y = GlobalAveragePool(x)", ONES),
    "softmax": ("y = Softmax(x)", ONES),
    "product": ("a = MatMul(x, w) y = Relu(a)", MATRIX),
    "reshape": ("a = Transpose<perm=[0,2,3,1]>(x) y = Flatten<axis=2>(a)", ONES),
}


@pytest.mark.parametrize("shape", [(0, 4, 3, 4), (1, 4, 3, 0), (1, 4, 0, 4), (0, 4, 0, 4)], ids=str)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("declared", [False, True])
def test_as_without_passes(name: str, shape: tuple[int, ...], declared: bool) -> None:
    body, initializers = MODELS[name]
    dims = ",".join(map(str, shape)) if declared else "n,4,h,w"
    model = onnx.parser.parse_model(model_text(body, f"float[{dims}] x", "float[i,j,k,l] y", initializers))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    feeds = {"x": np.zeros(shape, np.float32)}
    plain = tinyonnx.InferenceSession(model.SerializeToString(), options)
    optimised = tinyonnx.InferenceSession(model.SerializeToString())
    try:
        (expected,) = plain.run(None, feeds)
    except tinyonnx.NodeError:
        with pytest.raises(tinyonnx.NodeError):
            optimised.run(None, feeds)
        return
    (actual,) = optimised.run(None, feeds)
    np.testing.assert_array_equal(actual, expected, strict=True)
