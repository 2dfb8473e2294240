"""The gate of squeeze-and-excitation, and what only looks like it."""

from __future__ import annotations

import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text

SE = {
    "EfficientAT": """m = ReduceMean<axes=[2,3], keepdims=1>(x)
        q = Squeeze(m, last) p = Squeeze(q, last)
        a = Gemm<transB=1>(p, w1, b1) h = Relu(a)
        g = Gemm<transB=1>(h, w2, b2) s = Sigmoid(g)
        sh = Shape(m) e = Reshape(s, sh)
        z = Mul(e, x) u = Unsqueeze(z, first) y = ReduceMax<axes=[0], keepdims=0>(u)""",
    "torchvision": """m = GlobalAveragePool(x)
        a = Conv(m, k1, b1) h = Relu(a)
        g = Conv(h, k2, b2) s = HardSigmoid(g)
        y = Mul(x, s)""",
}


@pytest.mark.parametrize("spelling", SE)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_gate_of_squeeze_and_excitation_becomes_one_node(optimise, spelling, batch):
    weights = "int64[1] last = {-1}, int64[1] first = {0}, "
    weights += ", ".join([floats("w1", 4, 12), floats("w2", 12, 4), floats("b1", 4), floats("b2", 12)])
    weights += f", {floats('k1', 4, 12, 1, 1)}, {floats('k2', 12, 4, 1, 1)}"
    text = model_text(SE[spelling], "float[N,12,7,5] x", "float[n,c,h,k] y", weights)
    result = optimise(text, x=data(batch, 12, 7, 5))
    assert dict(result.ops) == {"SqueezeGate": 1, "Mul": 1}
    assert result.error < 1e-5


def test_squeeze_and_excitation_inside_is_refused_where_it_is_read_elsewhere(optimise):
    weights = f"{floats('b1', 4)}, {floats('b2', 12)}, {floats('k1', 4, 12, 1, 1)}, {floats('k2', 12, 4, 1, 1)}"
    for inner, fused in (("s", True), ("h", False), ("m", False)):
        body = SE["torchvision"] + f" t = Identity({inner})"
        text = model_text(body, "float[1,12,7,5] x", "float[n,c,h,k] y, float[n,c,h,k] t", weights)
        result = optimise(text, x=data(1, 12, 7, 5))
        assert ("SqueezeGate" in result.ops) == fused
        assert fused or result.refusals()
        assert result.error < 1e-5


@pytest.mark.parametrize(
    ("w1", "w2", "bias"),
    [
        (floats("w1", 4, 4), floats("w2", 4, 4), floats("b", 4, 1)),  # one number per row of the batch
        (floats("w1", 4, 4), floats("w2", 4, 4), floats("b", 4, 4)),
        (floats("w1", 2, 3), floats("w2", 3, 2), floats("b", 3)),  # pairs of channels
    ],
)
def test_a_gate_whose_maps_are_not_those_of_channels_stays(optimise, w1, w2, bias):
    inner = 2 if "[2" in w1 else 4
    body = """m = GlobalAveragePool(x) f = Reshape(m, rows) a = Gemm(f, w1, b) h = Relu(a)
        g = Gemm(h, w2) s = Sigmoid(g) e = Reshape(s, gate) y = Mul(x, e)"""
    shapes = f"int64[2] rows = {{-1, {inner}}}, int64[4] gate = {{4, 4, 1, 1}}"
    text = model_text(body, "float[4,4,3,3] x", "float[n,c,h,k] y", f"{w1}, {w2}, {bias}, {shapes}")
    result = optimise(text, x=data(4, 4, 3, 3))
    assert "SqueezeGate" not in result.ops
    assert result.refusals()
    assert result.error < 1e-5


def test_a_gate_that_mixes_the_items_of_the_batch_stays(optimise):
    weights = ", ".join([floats("w1", 3, 4, 1, 1), floats("w2", 4, 3, 1, 1)])
    body = """m = GlobalAveragePool(x) f = Reshape(m, mixed) a = Conv(f, w1) h = Relu(a)
        g = Conv(h, w2) s = Sigmoid(g) e = Reshape(s, gate) y = Mul(x, e)"""
    shapes = "int64[4] mixed = {1, 4, 2, 1}, int64[4] gate = {2, 4, 1, 1}"
    text = model_text(body, "float[2,4,3,3] x", "float[n,c,h,k] y", f"{weights}, {shapes}")
    result = optimise(text, x=data(2, 4, 3, 3))
    assert "SqueezeGate" not in result.ops
    assert result.error < 1e-5
