"""Shape inference and constant folding."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text

CHAIN = """s = Shape(x)
    n = Gather<axis=0>(s, zero) n1 = Unsqueeze(n, front)
    c = Gather<axis=0>(s, one) c1 = Unsqueeze(c, front)
    t = Concat<axis=0>(n1, c1, rest)
    y = Reshape(x, t)"""


INDICES = "int64 zero = {0}, int64 one = {1}, int64[1] front = {0}, int64[1] rest = {-1}"


def test_shape_arithmetic_vanishes(optimise):
    text = model_text(CHAIN, "float[N,4,3,5] x", "float[n,c,r] y", INDICES)
    result = optimise(text, x=data(2, 4, 3, 5))
    assert dict(result.ops) == {"Reshape": 1}
    assert result.graph.outputs[0].static_shape == (2, 4, 15)
    assert result.error == 0


def test_constant_expressions_are_computed_once(optimise):
    body = "t = Transpose<perm=[1,0]>(w) d = Add(t, t) y = MatMul(x, d)"
    result = optimise(model_text(body, "float[2,3] x", "float[n,c] y", floats("w", 4, 3)), x=data(2, 3))
    assert dict(result.ops) == {"MatMul": 1}
    assert result.error < 1e-6


def test_a_large_constant_is_not_blown_up(optimise):
    body = "big = Expand(v, target) s = ReduceSum<keepdims=0>(big) y = Add(x, s)"
    constants = "float[1] v = {1.0}, int64[2] target = {2048, 4096}"
    result = optimise(model_text(body, "float[1] x", "float[n] y", constants), x=data(1))
    assert result.ops["Expand"] == 1


def test_an_if_with_a_constant_condition_becomes_its_branch(optimise):
    body = """r = Size(x) yes = Greater(r, five)
        y = If (yes) <then_branch = big () => (float[n] b) { b = Neg(x) },
                      else_branch = small () => (float[n] s) { s = Exp(x) }>"""
    for size, op in ((7, "Neg"), (3, "Exp")):
        result = optimise(model_text(body, "float[n] x", "float[n] y", "int64 five = {5}"), x=data(size))
        assert dict(result.ops) == {op: 1}
        assert result.error < 1e-6


@pytest.mark.parametrize("condition", [False, True])
def test_constants_of_the_same_name_in_two_branches_stay_apart(optimise, condition):
    body = """y = If (c) <then_branch = yes () => (float b) { b = Constant<value_float=1.0>() },
                         else_branch = no () => (float b) { b = Constant<value_float=2.0>() }>"""
    result = optimise(model_text(body, "bool c", "float y"), c=np.array(condition))
    assert result.error == 0


def test_constants_of_the_same_name_in_a_function_stay_apart(optimise):
    text = """<ir_version: 9, opset_import: ["" : 17, "local" : 1]> test (float[3] x) => (float[n] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 17]> f (x) => (y) {
            [same] a = Constant<value_float=2.0>() [same] b = Constant<value_float=3.0>()
            t = Mul(x, a) y = Add(t, b) }"""
    assert optimise(text, x=data(3)).error < 1e-6


@pytest.mark.parametrize(
    ("outputs", "condition", "message"),
    [
        ("y, z", "bool yes = {1}", "gives 1 outputs, the model wants 2"),
        ("y", "bool[0] yes = {}", r"must be one boolean, is bool\[0\]"),
        ("y", "bool[2] yes = {1, 0}", r"must be one boolean, is bool\[2\]"),
    ],
)
def test_a_malformed_if_fails_as_a_node(outputs, condition, message):
    body = f"""{outputs} = If (yes) <then_branch = t () => (float[n] a) {{ a = Neg(x) }},
                                     else_branch = e () => (float[n] b) {{ b = Exp(x) }}>"""
    model = onnx.parser.parse_model(model_text(body, "float[n] x", "float[n] y", condition))
    with pytest.raises(tinyonnx.NodeError, match=message):
        tinyonnx.InferenceSession(model.SerializeToString()).run(None, {"x": data(3)})
