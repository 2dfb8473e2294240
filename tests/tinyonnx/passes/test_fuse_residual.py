"""Sums in the epilogue of Conv."""

from __future__ import annotations

from tests.tinyonnx.passes.conftest import data, floats, model_text


def test_residual_and_activation_after_it(optimise):
    body = """c = Conv<pads=[1,1,1,1]>(x, w)
              s = Add(x, c)
              y = Relu(s)"""
    text = model_text(body, "float[1,4,6,5] x", "float[n,c,h,k] y", floats("w", 4, 4, 3, 3))
    result = optimise(text, x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"FusedConv": 1}
    assert result.graph.nodes[0].origin == ("c", "s", "y")
    assert result.error < 1e-5


def test_a_broadcast_residual_is_refused_with_a_reason(optimise):
    body = "c = Conv(x, w) y = Add(c, r)"
    inputs = "float[1,4,6,5] x, float[1,4,1,1] r"
    text = model_text(body, inputs, "float[n,c,h,k] y", floats("w", 4, 4, 1, 1))
    result = optimise(text, x=data(1, 4, 6, 5), r=data(1, 4, 1, 1))
    assert result.ops["Add"] == 1
    assert any("the other operand has shape [1, 4, 1, 1], not [1, 4, 6, 5]" in r for r in result.refusals())
    assert result.error < 1e-5
