"""Sums in the epilogue of Conv, and where that would be wrong."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text

X, Y = "float[1,4,6,5] x", "float[n,c,h,k] y"
WEIGHTS = f"{floats('w', 4, 4, 1, 1)}, {floats('v', 4, 4, 1, 1)}, {floats('b', 4)}"


def test_residual_and_activation_after_it(optimise):
    body = """c = Conv<pads=[1,1,1,1]>(x, w)
              s = Add(x, c)
              y = Relu(s)"""
    result = optimise(model_text(body, X, Y, floats("w", 4, 4, 3, 3)), x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"FusedConv": 1}
    assert result.graph.nodes[0].origin == ("c", "s", "y")
    assert result.applied("adds x in the epilogue of")
    assert result.error < 1e-5


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("order", ["c, r", "r, c"])
def test_a_residual_with_and_without_bias(optimise, bias, order):
    text = model_text(f"r = Neg(x) c = Conv(x, w{bias}) y = Add({order})", X, Y, WEIGHTS)
    result = optimise(text, x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"Neg": 1, "FusedConv": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize("order", ["c, d", "d, c"])
def test_the_later_of_two_convolutions_takes_the_sum(optimise, order):
    text = model_text(f"c = Conv(x, w) d = Conv(x, v, b) y = Add({order})", X, Y, WEIGHTS)
    result = optimise(text, x=data(1, 4, 6, 5))
    assert [(node.op_type, node.origin) for node in result.graph.nodes] == [("Conv", ("c",)), ("FusedConv", ("d", "y"))]
    assert result.error < 1e-5


def test_the_other_one_takes_it_where_the_later_is_read_elsewhere(optimise):
    body = "c = Conv(x, w) d = Conv(x, v) y = Add(c, d) z = Relu(d)"
    result = optimise(model_text(body, X, f"{Y}, float[n,c,h,k] z", WEIGHTS), x=data(1, 4, 6, 5))
    assert ("c", "y") in [node.origin for node in result.graph.nodes]
    assert result.refused("its output is read by y and by z")
    assert result.error < 1e-5


@pytest.mark.parametrize("other", ["c", "t"])
def test_a_convolution_that_is_read_twice_stays(optimise, other):
    body = f"c = Conv(x, w) t = Tanh(c) y = Add(c, {other})"
    result = optimise(model_text(body, X, Y, WEIGHTS), x=data(1, 4, 6, 5))
    assert result.ops["Add"] == result.ops["Conv"] == 1
    assert result.refused("its output is read")
    assert result.error < 1e-5


def test_one_convolution_takes_one_residual(optimise):
    body = "r = Neg(x) c = Conv(x, w) s = Add(c, r) y = Add(s, x)"
    result = optimise(model_text(body, X, Y, WEIGHTS), x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"Neg": 1, "FusedConv": 1, "Add": 1}
    assert result.error < 1e-5


def test_a_sum_after_the_activation_stays(optimise):
    result = optimise(model_text("c = Conv(x, w) a = Relu(c) y = Add(a, x)", X, Y, WEIGHTS), x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"FusedConv": 1, "Add": 1}
    assert result.error < 1e-5


def test_a_broadcast_residual_is_refused_with_a_reason(optimise):
    text = model_text("c = Conv(x, w) y = Add(c, r)", f"{X}, float[1,4,1,1] r", Y, WEIGHTS)
    result = optimise(text, x=data(1, 4, 6, 5), r=data(1, 4, 1, 1))
    assert result.ops["Add"] == 1
    assert result.refused("the other operand has shape [1, 4, 1, 1], not [1, 4, 6, 5]")
    assert result.error < 1e-5


@pytest.mark.parametrize("body", ["c = Conv(x, w) y = Add(c, z)", "c = Conv(z, w) y = Add(c, x)"])
def test_unknown_shapes_are_refused(optimise, body):
    """One may need broadcasting, as here, where the same item is added to two."""
    text = model_text(f"z = Expand(x, target) {body}", f"{X}, int64[4] target", Y, WEIGHTS)
    result = optimise(text, x=data(1, 4, 6, 5), target=np.array([2, 4, 6, 5]))
    assert result.ops["Add"] == 1
    assert result.refused("shapes are unknown")
    assert result.error < 1e-5


def test_operands_of_different_types_are_the_error_that_they_were():
    model = onnx.parser.parse_model(model_text("c = Conv(x, w) y = Add(c, r)", f"{X}, double[1,4,6,5] r", Y, WEIGHTS))
    with pytest.raises(tinyonnx.NodeError, match='Add "y"'):
        tinyonnx.InferenceSession(model.SerializeToString()).run(
            None, {"x": data(1, 4, 6, 5), "r": data(1, 4, 6, 5).astype(np.float64)}
        )
