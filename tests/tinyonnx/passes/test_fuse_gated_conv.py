"""Gates in front of 1×1 convolutions."""

from __future__ import annotations

import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text, unoptimised


def test_a_gated_image_that_is_read_elsewhere_is_computed(optimise):
    body = "z = Mul(g, x) y = Conv(z, w) t = Relu(z)"
    inputs = "float[1,4,6,5] x, float[1,4,1,1] g"
    text = model_text(body, inputs, "float[n,c,h,k] y, float[n,c,h,k] t", floats("w", 4, 4, 1, 1))
    result = optimise(text, x=data(1, 4, 6, 5), g=data(1, 4, 1, 1))
    assert "GatedConv" not in result.ops
    assert any("not fused with" in r for r in result.refusals())
    assert result.error < 1e-5


X, Y = "float[2,4,6,5] x", "float[n,c,h,k] y"
W = floats("w", 3, 4, 1, 1)


@pytest.mark.parametrize("order", ["g, x", "x, g"])
@pytest.mark.parametrize("rest", ["y = Conv(z, w)", "c = Conv(z, w, b) s = Add(c, r) y = Relu(s)"])
def test_a_gate_goes_into_the_convolution(optimise, order, rest):
    inputs = f"{X}, float[2,4,1,1] g, float[2,3,6,5] r"
    text = model_text(f"z = Mul({order}) {rest}", inputs, Y, f"{W}, {floats('b', 3)}")
    result = optimise(text, x=data(2, 4, 6, 5), g=data(2, 4, 1, 1, seed=1), r=data(2, 3, 6, 5, seed=2))
    assert dict(result.ops) == {"GatedConv": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize(
    "shape", [(1, 4, 1, 1), (4, 1, 1), (2, 1, 1, 1), (2, 1, 6, 5), (2, 4, 6, 1), (2, 4, 6, 5), (1,)]
)
def test_other_products_stay(optimise, shape):
    text = model_text("z = Mul(x, g) y = Conv(z, w)", f"{X}, float[{','.join(map(str, shape))}] g", Y, W)
    result = optimise(text, x=data(2, 4, 6, 5), g=data(*shape, seed=1))
    assert dict(result.ops) == {"Mul": 1, "Conv": 1}
    assert result.error < 1e-5


def test_other_operators_stay(optimise):
    text = model_text("z = Add(x, g) y = Conv(z, w)", f"{X}, float[2,4,1,1] g", Y, W)
    result = optimise(text, x=data(2, 4, 6, 5), g=data(2, 4, 1, 1, seed=1))
    assert dict(result.ops) == {"Add": 1, "Conv": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize("constant", ["g", "x"])
def test_constant_operands_stay(optimise, constant):
    shape = {"x": (2, 4, 6, 5), "g": (2, 4, 1, 1)}
    variable = "xg".replace(constant, "")
    inputs = f"float[{','.join(map(str, shape[variable]))}] {variable}"
    text = model_text("z = Mul(x, g) y = Conv(z, w)", inputs, Y, f"{W}, {floats(constant, *shape[constant])}")
    result = optimise(text, **{variable: data(*shape[variable])})
    assert dict(result.ops) == {"Mul": 1, "Conv": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize("attributes", ["strides=[2,2]", "pads=[1,1,1,1]", "group=2"])
def test_other_convolutions_stay(optimise, attributes):
    weights = floats("w", 4, 2, 1, 1) if "group" in attributes else W
    text = model_text(f"z = Mul(x, g) y = Conv<{attributes}>(z, w)", f"{X}, float[2,4,1,1] g", Y, weights)
    result = optimise(text, x=data(2, 4, 6, 5), g=data(2, 4, 1, 1, seed=1))
    result.assert_without("GatedConv", 1e-5)


def test_a_product_of_an_old_opset(optimise):
    """Operands of equal rank broadcast as they do today, but only if the attribute allows that."""
    feeds = {"x": data(2, 4, 6, 5), "g": data(2, 4, 1, 1, seed=1)}
    text = model_text("z = Mul<broadcast=1>(x, g) y = Conv(z, w)", f"{X}, float[2,4,1,1] g", Y, W, opset=6)
    result = optimise(text, unoptimised(text, **feeds), **feeds)
    assert dict(result.ops) == {"GatedConv": 1}
    assert result.error < 1e-5
    model = onnx.parser.parse_model(text.replace("<broadcast=1>", "")).SerializeToString()
    with pytest.raises(tinyonnx.NodeError, match='Mul "z"'):
        tinyonnx.InferenceSession(model).run(None, feeds)
