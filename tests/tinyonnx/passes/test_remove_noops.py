"""Nodes that change nothing or only shapes."""

from __future__ import annotations

from tests.tinyonnx.passes.conftest import data, model_text


def test_noops_disappear(optimise):
    body = """a = Identity(x) b = Dropout(a) c = Cast<to=1>(b) d = Unsqueeze(c, front) e = Squeeze(d, front)
        f = Transpose<perm=[0,1]>(e) g = Concat<axis=0>(f) y = Relu(g)"""
    result = optimise(model_text(body, "float[3,4] x", "float[n,c] y", "int64[1] front = {0}"), x=data(3, 4))
    assert dict(result.ops) == {"Relu": 1}
    assert result.error == 0


def test_an_input_that_is_an_output_through_noops(optimise):
    result = optimise(model_text("y = Identity(x)", "float[3] x", "float[n] y"), x=data(3))
    assert not result.graph.nodes
    assert result.graph.output_names == ["y"]
