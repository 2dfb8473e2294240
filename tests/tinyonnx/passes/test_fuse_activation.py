"""Activations in the epilogue of Conv and Gemm."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text


@pytest.mark.parametrize(
    "activation",
    [
        "Relu(c)",
        "HardSwish(c)",
        "Sigmoid(c)",
        "Tanh(c)",
        "LeakyRelu<alpha=0.3>(c)",
        "HardSigmoid(c)",
        "HardSigmoid<alpha=0.3, beta=0.1>(c)",
    ],
)
@pytest.mark.parametrize("op", ["Conv", "Gemm"])
def test_activation_goes_into_the_epilogue(optimise, op, activation):
    if op == "Conv":
        body, shape, weights = "c = Conv<pads=[1,1,1,1]>(x, w)", (2, 4, 6, 5), floats("w", 8, 4, 3, 3)
    else:
        body, shape, weights = "c = Gemm<transB=1>(x, w, b)", (3, 4), f"{floats('w', 8, 4)}, {floats('b', 8)}"
    dims = ",".join(map(str, shape))
    out = "n,c,h,k" if op == "Conv" else "n,c"
    text = model_text(f"{body} y = {activation}", f"float[{dims}] x", f"float[{out}] y", weights)
    result = optimise(text, x=data(*shape))
    assert dict(result.ops) == {f"Fused{op}": 1}
    assert result.graph.nodes[0].origin == ("c", "y")
    assert result.error < 1e-5


def test_nan_and_infinity_survive_fusion(optimise):
    body = "c = Conv(x, w) y = Relu(c)"
    text = model_text(body, "float[1,1,1,4] x", "float[n,c,h,k] y", "float[1,1,1,1] w = {1.0}")
    x = np.array([np.nan, np.inf, -np.inf, -1.0], np.float32).reshape(1, 1, 1, 4)
    model_nodes = optimise(text, x=np.zeros_like(x)).ops
    assert dict(model_nodes) == {"FusedConv": 1}
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    (y,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(y.reshape(-1), [np.nan, np.inf, 0.0, 0.0])
