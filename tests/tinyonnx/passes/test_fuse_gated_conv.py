"""Gates in front of 1×1 convolutions."""

from __future__ import annotations

from tests.tinyonnx.passes.conftest import data, floats, model_text


def test_a_gated_image_that_is_read_elsewhere_is_computed(optimise):
    body = "z = Mul(g, x) y = Conv(z, w) t = Relu(z)"
    inputs = "float[1,4,6,5] x, float[1,4,1,1] g"
    text = model_text(body, inputs, "float[n,c,h,k] y, float[n,c,h,k] t", floats("w", 4, 4, 1, 1))
    result = optimise(text, x=data(1, 4, 6, 5), g=data(1, 4, 1, 1))
    assert "GatedConv" not in result.ops
    assert any("not fused with" in r for r in result.refusals())
    assert result.error < 1e-5
