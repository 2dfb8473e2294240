"""Arithmetic per channel folded into convolutions, and where that would be wrong."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tests.tinyonnx.passes.test_fold_batchnorm import bn

X, Y = "float[2,4,9,8] x", "float[n,c,h,k] y"

CHANNELWISE = {
    "bias": "y = Add(c, perchannel)",
    "bias, swapped": "y = Add(perchannel, c)",
    "subtraction": "y = Sub(c, perchannel)",
    "scale": "y = Mul(c, perchannel)",
    "division": "y = Div(c, perchannel)",
    "one number": "y = Mul(c, three)",
    "one number added": "y = Add(c, three)",
    "scale, shift, normalise": "m = Mul(c, perchannel) a = Add(m, rank3) y = BatchNormalization(a, ng, nb, nm, nv)",
}


@pytest.mark.parametrize("spelling", CHANNELWISE)
@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("op", ["Conv<group=2>", "ConvTranspose<group=2>"])
def test_arithmetic_per_channel_goes_into_the_weights(optimise, op, bias, spelling):
    shape = (6, 2, 3, 3) if op.startswith("Conv<") else (4, 3, 3, 3)
    weights = [floats("w", *shape), floats("b", 6), floats("perchannel", 1, 6, 1, 1, positive=True)]
    weights += [floats("rank3", 6, 1, 1), "float three = {3.0}", bn("n", 6)]
    body = f"c = {op}(x, w{bias}) {CHANNELWISE[spelling]}"
    result = optimise(model_text(body, X, Y, ", ".join(weights)), x=data(2, 4, 9, 8))
    assert dict(result.ops) == {op.split("<")[0]: 1}
    assert result.error < 2e-5


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w) y = Sub(perchannel, c)",
        "c = Conv(x, w) y = Div(perchannel, c)",
        "c = Conv(x, w) y = Add(c, percolumn)",
        "c = Conv(x, w) y = Add(c, perrow)",
        "c = Conv(x, w) y = Mul(c, peritem)",
        "c = Conv(x, w) y = Div(c, zero)",
        "c = Conv(x, w) a = Add(c, perchannel) r = Relu(c) y = Add(a, r)",
        "c = Conv(x, one) y = Add(c, perchannel)",
        "c = ConvTranspose(x, one_of_four) y = Mul(perchannel, c)",
    ],
)
def test_what_is_not_per_channel_stays(optimise, body):
    weights = [
        floats("w", 6, 4, 1, 1), floats("one", 1, 4, 1, 1), floats("one_of_four", 4, 1, 1, 1),
        floats("perchannel", 1, 6, 1, 1), floats("percolumn", 8), floats("perrow", 9, 1), floats("peritem", 2, 1, 1, 1),
        "float zero = {0.0}",
    ]  # fmt: skip
    result = optimise(model_text(body, X, Y, ", ".join(weights)), x=data(2, 4, 9, 8))
    assert sum(result.ops[op] for op in ("Conv", "FusedConv", "ConvTranspose")) == 1
    assert sum(result.ops.values()) > 1
    assert result.error < 2e-5


@pytest.mark.parametrize("source", ["x", "r", "g"])
def test_arithmetic_after_something_else_stays(optimise, source):
    body = f"r = Relu(x) g = MatMul(x, w) y = Mul({source}, k)"
    result = optimise(model_text(body, X, Y, f"{floats('w', 8, 8)}, {floats('k', 1, 4, 1, 1)}"), x=data(2, 4, 9, 8))
    assert result.ops["Mul"] == 1
    assert result.error < 1e-5


def test_a_constant_of_higher_rank_stays(optimise):
    text = model_text(
        "c = Conv(x, w) y = Add(c, k)",
        X,
        "float[a,n,c,h,v] y",
        f"{floats('w', 6, 4, 1, 1)}, float[1,1,1,1,1] k = {{2}}",
    )
    result = optimise(text, x=data(2, 4, 9, 8))
    assert result.ops["Add"] == 1
    assert result.error < 1e-5


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_infinities_stay_outside_of_the_weights(optimise, op):
    weights = "float[1,2,1,1] w = {0, 1}, float[1] one = {1}, float[1] zero = {0}"
    body = f"k = Div(one, zero) c = Conv(x, w) y = {op}(c, k)"
    text = model_text(body, "float[1,2,1,2] x", Y, weights)
    result = optimise(text, x=np.array([1, 2, -3, 4], np.float32).reshape(1, 2, 1, 2))
    assert result.ops[op] == 1
    assert result.refused("infinities")


@pytest.mark.parametrize(
    ("element", "w", "k", "x", "op"),
    [("float", 1e30, 1e30, 1e-35, "Mul"), ("float", 1e30, 1e-30, 1e-35, "Div"), ("float16", 1e-4, 1e4, 6e4, "Div")],
    ids=["overflow", "overflow of a quotient", "underflow"],
)
def test_weights_that_would_leave_their_range_stay(optimise, narrow, element, w, k, x, op):
    dtype = np.float32 if element == "float" else np.float16
    if dtype == np.float16:  # written as its bits
        w, k = (int(np.float16(number).view(np.uint16)) for number in (w, k))
    constants = f"{element}[1,1,1,1] w = {{{w}}}, {element} k = {{{k}}}"
    text = model_text(f"c = Conv(x, w) y = {op}(c, k)", f"{element}[1,1,1,1] x", f"{element}[n,c,h,v] y", constants)
    result = optimise(text, x=np.full((1, 1, 1, 1), x, dtype))
    assert result.ops[op] == 1
    assert result.refused("scaled weights")
    assert result.error == 0


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize(("variable", "shape"), [("w", (6, 4, 1, 1)), ("b", (6,)), ("k", (1, 6, 1, 1))])
def test_operands_that_are_not_constant_stay(optimise, op, variable, shape):
    weights = {"w": floats("w", 6, 4, 1, 1), "b": floats("b", 6), "k": floats("k", 1, 6, 1, 1)}
    del weights[variable]
    inputs = f"{X}, float[{','.join(map(str, shape))}] {variable}"
    text = model_text(f"c = Conv(x, w, b) y = {op}(c, k)", inputs, Y, ", ".join(weights.values()))
    result = optimise(text, **{"x": data(2, 4, 9, 8), variable: data(*shape)})
    assert result.ops[op] == 1
    assert result.error < 1e-5


def test_a_convolution_of_unknown_shape_stays(optimise):
    body = "z = Reshape(x, target) c = Conv(z, w) y = Add(c, k)"
    text = model_text(body, f"{X}, int64[4] target", Y, f"{floats('w', 6, 4, 1, 1)}, {floats('k', 1, 6, 1, 1)}")
    result = optimise(text, x=data(2, 4, 9, 8), target=np.array([1, 4, 18, 8]))
    assert result.ops["Add"] == 1
    assert result.error < 1e-5


def test_operators_with_other_broadcasting_stay():
    """Before opset 7 an operand of another shape is an error without the attribute `broadcast`."""
    weights = f"{floats('w', 6, 4, 1, 1)}, {floats('k', 1, 6, 1, 1)}"
    model = onnx.parser.parse_model(model_text("c = Conv(x, w) y = Add(c, k)", X, Y, weights, opset=6))
    with pytest.raises(tinyonnx.NodeError, match='Add "y"'):
        tinyonnx.InferenceSession(model.SerializeToString()).run(None, {"x": data(2, 4, 9, 8)})
