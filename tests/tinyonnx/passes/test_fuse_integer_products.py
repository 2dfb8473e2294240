"""Products of dynamically quantised activations, as ONNX Runtime's quantiser writes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import Optimised, model_text, unoptimised

Optimise = Callable[..., Optimised]

X = np.random.default_rng(0).normal(0, 2, (3, 4)).astype(np.float32)
WEIGHTS = "int8[4,2] w = {1,-2,3,-128,127,5,0,-7}, int8 wz = {3}"
BODY = """q, s, z = DynamicQuantizeLinear (x)
    m = MatMulInteger (q, w, z, wz)
    c = Cast <to = 1> (m)
    """


def equal(optimise: Optimise, text: str, *, fused: int, **feeds: np.ndarray) -> Optimised:
    """Optimise, and require the bits of the numpy operators' results."""
    expected = unoptimised(text, **feeds)
    result = optimise(text, expected=expected, **feeds)
    assert result.error == 0
    assert result.ops["MatMulIntegerToFloat"] == fused
    return result


@pytest.mark.parametrize("scales", ["float ws = {0.125}", "float[1] ws = {0.3}", "float[2] ws = {0.1, 0.07}"])
@pytest.mark.parametrize("order", ["c, t", "t, c"])
@pytest.mark.parametrize("factors", ["s, ws", "ws, s"])
@pytest.mark.parametrize("bias", ["y = Identity (p)", "y = Add (p, b)", "y = Add (b, p)"])
def test_pattern(optimise: Optimise, scales: str, order: str, factors: str, bias: str) -> None:
    body = f"{BODY} t = Mul ({factors}) p = Mul ({order}) {bias}"
    text = model_text(body, "float[3,4] x", "float[3,2] y", f"{WEIGHTS}, {scales}, float[2] b = {{0.5, -1.3}}")
    result = equal(optimise, text, fused=1, x=X)
    assert not result.ops["Mul"] + result.ops["Cast"] + result.ops["Add"]


def test_a_scale_of_one_number(optimise: Optimise) -> None:
    body = f"{BODY} y = Mul (c, s)"
    equal(optimise, model_text(body, "float[3,4] x", "float[3,2] y", WEIGHTS), fused=1, x=X)


@pytest.mark.parametrize("shape", ["", "[1]", "[2]"])
def test_a_computed_scale_of_the_weights(optimise: Optimise, shape: str) -> None:
    v = np.array([0.3, 0.3][: 1 if shape == "[1]" else 2], np.float32) if shape else np.float32(0.3)
    inputs = f"float[3,4] x, float{shape} v"
    text = model_text(f"{BODY} u = Neg (v) t = Mul (s, u) y = Mul (c, t)", inputs, "float[3,2] y", WEIGHTS)
    equal(optimise, text, fused=1, x=X, v=v)
    body = "q, s, z = DynamicQuantizeLinear (x) u = Abs (v) y = QLinearMatMul (q, s, z, w, u, wz, ys, z)"
    text = model_text(body, inputs, "uint8[3,2] y", f"{WEIGHTS}, float ys = {{0.25}}")
    assert equal(optimise, text, fused=0, x=X, v=v).ops["QLinearMatMul"] == 1


def test_refusals(optimise: Optimise) -> None:
    scales = f"{WEIGHTS}, float[2] ws = {{0.1, 0.07}}, float[3,1] rows = {{1, 2, 3}}"
    scales += ", float[3,2] b = {1, 2, 3, 4, 5, 6}"

    def refused(body: str, outputs: str = "float[3,2] y", fused: int = 0) -> Optimised:
        return equal(optimise, model_text(f"{BODY} {body}", "float[3,4] x", outputs, scales), fused=fused, x=X)

    shared = refused("t = Mul (s, ws) y = Mul (c, t) v = Identity (m)", "float[3,2] y, int32[3,2] v")
    assert shared.refused("its output is read")
    assert refused("t = Mul (s, rows) y = Mul (c, t)").refused("neither one number nor one for each column")
    assert refused("t = Mul (s, ws) p = Mul (c, t) y = Add (p, b)", fused=1).ops["Add"] == 1


def test_products_of_other_shapes(optimise: Optimise) -> None:
    body = BODY.replace("w, z", "batch, z") + "t = Mul (s, ws) y = Mul (c, t)"
    constants = f"{WEIGHTS}, float ws = {{0.125}}, int8[1,4,2] batch = {{1,-2,3,-128,127,5,0,-7}}"
    result = equal(optimise, model_text(body, "float[3,4] x", "float[1,3,2] y", constants), fused=0, x=X)
    assert result.refused("not a product of rows with one matrix")


@pytest.mark.parametrize(("depth", "fused"), [(33025, 1), (33026, 0)])
def test_sums_that_may_exceed_an_int32(optimise: Optimise, depth: int, fused: int) -> None:
    body = BODY.replace("(q, w, z, wz)", "(q, ones, z)") + "y = Mul (c, s)"
    text = model_text(
        f"ones = ConstantOfShape <value = int8[1] {{1}}> (shape) {body}",
        f"float[1,{depth}] x", "float[1,1] y", f"int64[2] shape = {{{depth}, 1}}",
    )  # fmt: skip
    result = equal(optimise, text, fused=fused, x=np.random.default_rng(0).normal(size=(1, depth)).astype(np.float32))
    assert result.refused("may exceed an int32") == (not fused)


def test_scaled_integers_that_are_no_product(optimise: Optimise) -> None:
    text = model_text("c = Cast <to = 1> (m) y = Mul (c, s)", "int32[3,2] m", "float[3,2] y", "float s = {0.5}")
    equal(optimise, text, fused=0, m=np.arange(6, dtype=np.int32).reshape(3, 2))


IMAGE = np.random.default_rng(1).normal(0, 2, (2, 2, 5, 4)).astype(np.float32)
FILTERS = "uint8[3,2,1,2] w = {1,255,3,128,127,5,0,7,9,11,200,17}, uint8 wz = {121}, float ws = {0.125}"
FILTERS += ", int32[1,3,1,1] f = {7,-1000,2147483000}, float[1,3,1,1] b = {0.5,-1.5,2.5}, int32[1,1,1,4] g = {1,2,3,4}"
SUMS = """q, s, z = DynamicQuantizeLinear (x)
    m = ConvInteger <pads = [0, 1, 0, 0]> (q, w, z, wz)
    t = Mul (s, ws)
    """


def convolve(optimise: Optimise, body: str, fused: int, outputs: str = "float[2,3,5,4] y") -> Optimised:
    text = model_text(SUMS + body, "float[2,2,5,4] x", outputs, FILTERS)
    result = optimise(text, expected=unoptimised(text, x=IMAGE), x=IMAGE)
    assert result.error == 0
    assert result.ops["ConvIntegerToFloat"] == fused
    return result


@pytest.mark.parametrize("offset", ["a = Identity (m)", "a = Add (m, f)", "a = Add (f, m)"])
@pytest.mark.parametrize("product", ["p = Mul (c, t)", "p = Mul (t, c)"])
@pytest.mark.parametrize("bias", ["y = Identity (p)", "y = Add (p, b)", "y = Add (b, p)"])
def test_convolution(optimise: Optimise, offset: str, product: str, bias: str) -> None:
    result = convolve(optimise, f"{offset} c = Cast <to = 1> (a) {product} {bias}", 1)
    assert not result.ops["ConvInteger"] + result.ops["Cast"] + result.ops["Add"]
    assert result.ops["Mul"] == 1


def test_a_computed_offset(optimise: Optimise) -> None:
    body = "u = Div (b, t) v = Floor (u) o = Cast <to = 6> (v) a = Add (m, o) c = Cast <to = 1> (a) y = Mul (c, t)"
    convolve(optimise, body, 1)


def test_refusals_of_convolutions(optimise: Optimise) -> None:
    def refused(body: str, reason: str, outputs: str = "float[2,3,5,4] y", fused: int = 0) -> None:
        assert convolve(optimise, body, fused, outputs).refused(reason)

    refused("c = Cast <to = 1> (m) y = Mul (c, b)", "the scale is not one number")
    refused("a = Add (m, g) c = Cast <to = 1> (a) y = Mul (c, t)", "not one number for each filter")
    refused(
        "c = Cast <to = 1> (m) y = Mul (c, t) v = Identity (m)",
        "its output is read",
        "float[2,3,5,4] y, int32[2,3,5,4] v",
    )
    refused(
        "c = Cast <to = 1> (m) y = Mul (c, t) v = Add (y, b)",
        "its output is read",
        "float[2,3,5,4] y, float[2,3,5,4] v",
        fused=1,
    )
    both = convolve(optimise, "c = Cast <to = 1> (m) p = Mul (c, t) r = Relu (p) y = Add (p, r)", 1)
    assert both.ops["Add"] == 1
    text = model_text(
        "m = ConvInteger (q, w) c = Cast <to = 1> (m) y = Mul (c, s)",
        "uint8[1,1,3,3] q, uint8[1,1,2,2] w",
        "float[1,1,2,2] y",
        "float s = {0.5}",
    )
    feeds = {"q": np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3), "w": np.uint8([[[[1, 2], [3, 255]]]])}
    assert optimise(text, expected=unoptimised(text, **feeds), **feeds).refused("its weights are not constant")
