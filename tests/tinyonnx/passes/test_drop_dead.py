"""Nodes and initializers that nothing reads."""

from __future__ import annotations

import numpy as np
import onnx.parser

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text


def test_chains_and_initializers_that_nothing_reads(optimise):
    body = "a = Neg(x) b = Mul(a, w) c, d = TopK(b, k) y = Abs(x)"
    result = optimise(model_text(body, "float[4] x", "float[n] y", f"{floats('w', 4)}, int64[1] k = {{2}}"), x=data(4))
    assert dict(result.ops) == {"Abs": 1}
    assert result.graph.initializers == []
    assert result.error == 0


def test_one_output_that_is_read_keeps_the_node(optimise):
    result = optimise(model_text("c, y = TopK(x, k)", "float[4] x", "int64[n] y", "int64[1] k = {2}"), x=data(4))
    assert dict(result.ops) == {"TopK": 1}
    assert result.error == 0


def test_what_only_a_subgraph_reads_stays(optimise):
    body = """a = Neg(x) b = Mul(a, w)
        y = If (yes) <then_branch = t () => (float[n] p) { p = Abs(b) },
                      else_branch = e () => (float[n] q) { q = Exp(x) }>"""
    text = model_text(body, "float[4] x, bool yes", "float[n] y", floats("w", 4))
    for yes in (True, False):
        result = optimise(text, x=data(4), yes=np.array(yes))
        assert result.ops == {"Neg": 1, "Mul": 1, "If": 1}
        assert result.error < 1e-6


def test_a_subgraph_that_nothing_reads_frees_what_it_captures(optimise):
    body = """a = Exp(x)
        z = If (yes) <then_branch = t () => (float[n] p) { p = Abs(a) },
                      else_branch = e () => (float[n] q) { q = Neg(a) }>
        y = Abs(x)"""
    result = optimise(model_text(body, "float[4] x, bool yes", "float[n] y"), x=data(4), yes=np.array(True))
    assert dict(result.ops) == {"Abs": 1}


def test_an_initializer_that_may_be_fed_stays():
    text = model_text("y = Neg(x)", "float[4] x, float[4] w", "float[n] y", floats("w", 4))
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    graph = session.plan_for(None, {"x": data(4)}).graph
    assert [value.name for value in graph.initializers] == ["w"]
    assert [arg.name for arg in session.get_overridable_initializers()] == ["w"]
