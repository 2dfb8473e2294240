"""Arithmetic per channel folded into convolutions, and where that would be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text


def _bn(name: str, channels: int) -> str:
    return ", ".join(floats(f"{name}{p}", channels, positive=p in "gv") for p in "gbmv")


CHANNELWISE = {
    "bias": "y = Add(c, perchannel)",
    "bias, swapped": "y = Add(perchannel, c)",
    "subtraction": "y = Sub(c, perchannel)",
    "scale": "y = Mul(c, perchannel)",
    "division": "y = Div(c, perchannel)",
    "one number": "y = Mul(c, three)",
    "scale, shift, normalise": "m = Mul(c, perchannel) a = Add(m, rank3) y = BatchNormalization(a, ng, nb, nm, nv)",
}


@pytest.mark.parametrize("spelling", CHANNELWISE)
@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("op", ["Conv<group=2>", "ConvTranspose<group=2>"])
def test_arithmetic_per_channel_goes_into_the_weights(optimise, op, bias, spelling):
    shape = (6, 2, 3, 3) if op.startswith("Conv<") else (4, 3, 3, 3)
    weights = [floats("w", *shape), floats("b", 6), floats("perchannel", 1, 6, 1, 1, positive=True)]
    weights += [floats("rank3", 6, 1, 1), "float three = {3.0}", _bn("n", 6)]
    body = f"c = {op}(x, w{bias}) {CHANNELWISE[spelling]}"
    result = optimise(model_text(body, "float[2,4,9,8] x", "float[n,c,h,k] y", ", ".join(weights)), x=data(2, 4, 9, 8))
    assert dict(result.ops) == {op.split("<")[0]: 1}
    assert result.error < 2e-5


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w) y = Sub(perchannel, c)",
        "c = Conv(x, w) y = Add(c, percolumn)",
        "c = Conv(x, w) y = Div(c, zero)",
        "c = Conv(x, w) a = Add(c, perchannel) r = Relu(c) y = Add(a, r)",
    ],
)
def test_what_is_not_per_channel_stays(optimise, body):
    weights = [floats("w", 6, 4, 1, 1), floats("perchannel", 1, 6, 1, 1), floats("percolumn", 8), "float zero = {0.0}"]
    text = model_text(body, "float[2,4,9,8] x", "float[n,c,h,k] y", ", ".join(weights))
    result = optimise(text, x=data(2, 4, 9, 8))
    assert result.ops["Conv"] + result.ops["FusedConv"] == 1
    assert sum(result.ops.values()) > 1
    assert result.error < 2e-5


@pytest.mark.parametrize(
    ("element", "w", "k", "x", "op"),
    [("float", 1e30, 1e30, 1e-35, "Mul"), ("float", 1e30, 1e-30, 1e-35, "Div"), ("float16", 1e-4, 1e4, 6e4, "Div")],
    ids=["overflow", "overflow of a quotient", "underflow"],
)
def test_weights_that_would_leave_their_range_stay(optimise, element, w, k, x, op):
    dtype = np.float32 if element == "float" else np.float16
    if dtype == np.float16:  # written as its bits
        w, k = (int(np.float16(number).view(np.uint16)) for number in (w, k))
    constants = f"{element}[1,1,1,1] w = {{{w}}}, {element} k = {{{k}}}"
    text = model_text(f"c = Conv(x, w) y = {op}(c, k)", f"{element}[1,1,1,1] x", f"{element}[n,c,h,v] y", constants)
    result = optimise(text, x=np.full((1, 1, 1, 1), x, dtype))
    assert result.ops[op] == 1
    assert any("scaled weights" in r for r in result.refusals())
    assert result.error == 0
