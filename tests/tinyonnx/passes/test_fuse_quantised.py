"""Operators between DequantizeLinear and QuantizeLinear run on bytes, at most one quantum from ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import Optimised, model_text

Optimise = Callable[..., Optimised]

X = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 6)).astype(np.uint8)
A = X[0, 0, :, :4].copy()

NUMBERS = """float xs = {0.05}, uint8 xz = {128}, float ys = {0.3}, uint8 yz = {7}, uint8 zero = {0},
    float ws = {0.02}, int8 wz = {0}, float[3] cs = {0.01, 0.02, 0.03}, int8[3] cz = {0, 0, 0},
    int8[3,4,1,1] w = {1,-2,3,-128,127,5,0,-7,9,-20,30,40}, int8[4,3] m = {1,-2,3,-128,127,5,0,-7,9,-20,30,40},
    int32[3] b = {100, -200, 300}, float[3] bs = {0.0005, 0.001, 0.0015}, int32[3] bz = {0, 0, 0},
    float[3] f = {0.5, -1.25, 2}, float[3] huge = {1e30, 0, 0}, float six = {100}, float none = {0}, float low = {-1},
    int64[2] shape = {2, -1}"""

START = "d = DequantizeLinear (x, xs, xz)"


def run(optimise: Optimise, body: str, shape: str, one: np.ndarray = X, **more: np.ndarray) -> Optimised:
    feeds = {"x": one, **more}
    inputs = ", ".join(f"uint8[{','.join(map(str, v.shape))}] {name}" for name, v in feeds.items())
    return optimise(model_text(f"{START} {body}", inputs, f"uint8[{shape}] y", NUMBERS), **feeds)


CONV = "2,3,5,6"


@pytest.mark.parametrize("weights", ["DequantizeLinear (w, ws, wz)", "DequantizeLinear <axis = 0> (w, cs, cz)"])
@pytest.mark.parametrize(
    "bias", ["", ", f", ", i"]
)  # fmt: skip
def test_convolution(optimise: Optimise, weights: str, bias: str) -> None:
    body = f"v = {weights} i = DequantizeLinear <axis = 0> (b, bs, bz) c = Conv (d, v{bias})"
    body += " y = QuantizeLinear (c, ys, yz)"
    result = run(optimise, body, CONV)
    assert result.ops == {"QLinearConv": 1}
    assert result.error <= 1


@pytest.mark.parametrize(
    ("activation", "zero", "fused"),
    [("Relu (c)", "zero", True), ("Clip (c, none, six)", "zero", True), ("Relu (c)", "yz", False),
     ("Clip (c, low, six)", "zero", False), ("Clip (c, none, ys)", "zero", False)],
)  # fmt: skip
def test_activations(optimise: Optimise, activation: str, zero: str, fused: bool) -> None:
    body = f"v = DequantizeLinear (w, ws, wz) c = Conv (d, v) r = {activation} y = QuantizeLinear (r, ys, {zero})"
    result = run(optimise, body, CONV)
    assert result.ops["QLinearConv"] == fused
    assert result.error <= 1


def test_matrices(optimise: Optimise) -> None:
    body = "v = DequantizeLinear <axis = 1> (m, cs, cz) c = MatMul (d, v) y = QuantizeLinear (c, ys, yz)"
    result = run(optimise, body, "5,3", A)
    assert result.ops == {"QLinearMatMul": 1}
    assert result.error <= 1
    body = "v = DequantizeLinear <axis = 1> (m, cs, cz) c = Gemm (d, v, f) y = QuantizeLinear (c, ys, yz)"
    result = run(optimise, body, "5,3", A)
    assert result.ops == {"QGemm": 1}
    assert result.error <= 1
    result = run(optimise, body.replace("Gemm", "Gemm <alpha = 0.5>"), "5,3", A)
    assert not result.ops["QGemm"]
    assert result.refused("alpha, beta or transA")


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_pairs(optimise: Optimise, op: str) -> None:
    body = f"e = DequantizeLinear (v, ys, yz) c = {op} (d, e) y = QuantizeLinear (c, ys, yz)"
    result = run(optimise, body, "2,4,5,6", v=X[::-1].copy())
    assert result.ops == {f"Quantized{op}": 1}
    assert result.error == 0


def test_means(optimise: Optimise) -> None:
    result = run(optimise, "c = GlobalAveragePool (d) y = QuantizeLinear (c, ys, yz)", "2,4,1,1")
    assert result.ops == {"QLinearGlobalAveragePool": 1}
    assert result.error <= 1


@pytest.mark.parametrize(
    ("move", "shape"),
    [("MaxPool <kernel_shape = [2, 2]> (d)", "2,4,4,5"), ("Transpose <perm = [1, 0, 2, 3]> (d)", "4,2,5,6"),
     ("Reshape (d, shape)", "2,120"), ("Flatten (d)", "2,120")],
)  # fmt: skip
def test_moves(optimise: Optimise, move: str, shape: str) -> None:
    result = run(optimise, f"c = {move} y = QuantizeLinear (c, xs, xz)", shape)
    assert not result.ops["DequantizeLinear"] + result.ops["QuantizeLinear"]
    assert result.error == 0
    assert run(optimise, f"c = {move} y = QuantizeLinear (c, ys, xz)", shape).refused("another scale")


def test_refusals(optimise: Optimise) -> None:
    conv = "v = DequantizeLinear (w, ws, wz) c = Conv (d, v{}) {} y = QuantizeLinear (c, ys, yz)"
    assert run(optimise, conv.format(", huge", ""), CONV).refused("the bias is too large for its scale")
    floats = "c = Conv (d, e) y = QuantizeLinear (c, ys, yz)"
    body = f"e = DequantizeLinear (v, ys, yz) {floats}"
    result = run(optimise, body, "2,2,5,6", v=X[:2, :, :1, :1].copy())
    assert result.refused("an operand is not dequantised with constant scales")
    other = "v = DequantizeLinear (w, ws, wz) c = Conv (d, v) q = QuantizeLinear (c, ys, yz) s = Softmax (c) "
    other += "y = QuantizeLinear (s, ys, yz)"
    assert not run(optimise, other, CONV).ops["QLinearConv"]
