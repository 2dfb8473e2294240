"""Shape inference and constant folding."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load
from tinyonnx.onnxfile.outline import load_outline
from tinyonnx.runtime.shapes import infer_shapes

CHAIN = """s = Shape(x)
    n = Gather<axis=0>(s, zero) n1 = Unsqueeze(n, front)
    c = Gather<axis=0>(s, one) c1 = Unsqueeze(c, front)
    t = Concat<axis=0>(n1, c1, rest)
    y = Reshape(x, t)"""


UNDECIDED = "c = Cast<to=9>(fed)"
"""A condition that planning doesn't know; a single bool that is fed decides an If."""

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


def test_a_large_constant_that_does_not_grow_is_folded(optimise, monkeypatch):
    monkeypatch.setattr(sys.modules["tinyonnx.passes.specialise"], "FOLD_LIMIT", 8)
    body = "t = Transpose<perm=[1,0]>(w) y = MatMul(x, t)"
    result = optimise(model_text(body, "float[2,3] x", "float[n,c] y", floats("w", 4, 3)), x=data(2, 3))
    assert dict(result.ops) == {"MatMul": 1}
    assert result.error < 1e-6


def test_a_constant_node_is_folded_whatever_its_size(optimise, monkeypatch):
    monkeypatch.setattr(sys.modules["tinyonnx.passes.specialise"], "FOLD_LIMIT", 8)
    result = optimise(
        model_text("k = Constant<value_floats=[1.0,2.0,3.0]>() y = Add(x, k)", "float[3] x", "float[n] y"), x=data(3)
    )
    assert dict(result.ops) == {"Add": 1}
    assert result.error == 0


def test_a_folded_node_may_lack_an_output(optimise):
    body = 'v, "" = MaxPool<kernel_shape = [2]>(w) y = Add(x, v)'
    text = model_text(body, "float[1,1,2] x", "float[a,b,n] y", "float[1,1,3] w = {3, 5, 4}")
    result = optimise(text, x=data(1, 1, 2))
    assert dict(result.ops) == {"Add": 1}
    assert result.error == 0


def test_a_folded_node_may_lack_an_input(optimise):
    text = model_text(
        'c = Clip(w, "", top) y = Add(x, c)', "float[3] x", "float[n] y", "float[3] w = {1, 2, 3}, float top = {2}"
    )
    result = optimise(text, x=data(3))
    assert dict(result.ops) == {"Add": 1}
    assert result.error == 0


def test_every_result_gets_its_type(optimise):
    body = "a = Cast<to=11>(x) b = Abs(a) s = Shape(b) c = Cast<to=1>(s) d = Range(i, j, k) y = Cast<to=1>(d)"
    text = model_text(
        body, "float[p,q] x, int64 i, int64 j, int64 k", "float[m] y, double[p,q] b, float[r] c, int64[m] d"
    )
    feeds = {name: np.array(value) for name, value in (("i", 1), ("j", 9), ("k", 2))}
    result = optimise(text, x=data(2, 3), **feeds)
    types = {value.name: (value.dtype, value.static_shape) for node in result.graph.nodes for value in node.outputs}
    assert types["a"] == types["b"] == (np.float64, (2, 3))
    assert types["d"] == (np.int64, None)
    assert types["y"] == (np.float32, None)
    assert result.error == 0


def test_an_input_may_be_absent(optimise):
    result = optimise(model_text('y = Clip(x, "", top)', "float[5] x", "float[n] y", "float top = {0.5}"), x=data(5))
    assert result.graph.outputs[0].static_shape == (5,)
    assert result.error == 0


def test_a_sequence_of_constants_is_not_folded(optimise):
    body = "s = SequenceConstruct(w, v) c = ConcatFromSequence<axis=0>(s) y = Add(x, c)"
    constants = "float[1] w = {1}, float[2] v = {2, 3}"
    result = optimise(model_text(body, "float[3] x", "float[n] y", constants), x=data(3))
    assert result.ops["SequenceConstruct"] == 1
    assert result.error == 0


def test_a_loop_of_constants_is_not_folded(optimise):
    body = """n, y = Loop (three, yes, zero) <body = b (int64 i, bool go, float a) => (bool next, float c, float d)
        { next = Identity(go) c = Add(a, x) d = Identity(c) }>"""
    text = model_text(body, "float x", "float n, float[k] y", "int64 three = {3}, bool yes = {1}, float zero = {0}")
    result = optimise(text, x=data().reshape(()))
    assert result.ops["Loop"] == 1
    assert result.error < 1e-6


def test_an_if_with_a_constant_condition_becomes_its_branch(optimise):
    body = """r = Size(x) yes = Greater(r, five)
        y = If (yes) <then_branch = big () => (float[n] b) { b = Neg(x) },
                      else_branch = small () => (float[n] s) { s = Exp(x) }>"""
    for size, op in ((7, "Neg"), (3, "Exp")):
        result = optimise(model_text(body, "float[n] x", "float[n] y", "int64 five = {5}"), x=data(size))
        assert dict(result.ops) == {op: 1}
        assert result.error < 1e-6
        assert result.applied(f"replaced by the {'then' if op == 'Neg' else 'else'} branch")


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
        ("y, z", "bool yes = {1}", "gives 1 outputs, the model has 2"),
        ("y", "bool[0] yes = {}", r"must be one boolean, is bool\[0\]"),
        ("y", "bool[2] yes = {1, 0}", r"must be one boolean, is bool\[2\]"),
        ("y", "float[1] yes = {1}", r"cond can't be tensor\(float\)"),
    ],
)
def test_a_malformed_if_fails_as_a_node(outputs, condition, message):
    body = f"""{outputs} = If (yes) <then_branch = t () => (float[n] a) {{ a = Neg(x) }},
                                     else_branch = e () => (float[n] b) {{ b = Exp(x) }}>"""
    model = onnx.parser.parse_model(model_text(body, "float[n] x", "float[n] y", condition))
    with pytest.raises(tinyonnx.NodeError, match=message):
        tinyonnx.InferenceSession(model.SerializeToString()).run(None, {"x": data(3)})


def test_random_numbers_are_not_folded(optimise):
    body = "r = RandomNormal<shape=[3]>() z = Mul(r, zero) y = Add(x, z)"
    text = model_text(body, "float[3] x", "float[n] y", "float zero = {0.0}")
    assert optimise(text, x=data(3)).ops["RandomNormal"] == 1


def test_all_folded_constants_together_are_bounded(optimise, monkeypatch):
    monkeypatch.setattr(sys.modules["tinyonnx.passes.specialise"], "FOLD_TOTAL", 30 * 4)
    body = "a = Expand(v, ten) b = Expand(w, ten) c = Expand(u, eleven) s = Concat<axis=0>(x, a, b, c) y = Neg(s)"
    constants = "float[1] v = {1}, float[1] w = {2}, float[1] u = {3}, int64[1] ten = {10}, int64[1] eleven = {11}"
    result = optimise(model_text(body, "float[1] x", "float[n] y", constants), x=data(1))
    assert result.ops == {"Expand": 1, "Concat": 1, "Neg": 1}
    assert result.error == 0


@pytest.mark.parametrize("condition", [True, False])
def test_folded_values_that_a_subgraph_captures(optimise, condition):
    body = f"""{UNDECIDED} t = Transpose<perm=[1,0]>(w) s = Shape(x) n = Gather<axis=0>(s, zero)
        y = If (c) <then_branch = yes () => (float[n,k] p) {{ p = MatMul(x, t) }},
                    else_branch = no () => (float[n,k] q) {{ r = Reshape(x, tail) f = Cast<to=1>(n) q = Mul(r, f) }}>"""
    constants = f"{floats('w', 4, 3)}, int64 zero = {{0}}, int64[2] tail = {{-1, 1}}"
    text = model_text(body, "float[2,3] x, float fed", "float[n,k] y", constants)
    result = optimise(text, x=data(2, 3), fed=np.array(condition, np.float32))
    assert dict(result.ops) == {"Cast": 1, "If": 1}
    assert result.error < 1e-6


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_that_is_taken_may_capture_and_nest(optimise, condition):
    body = f"""{UNDECIDED} k = Neg(x) yes = Greater(two, one)
        y = If (yes) <
            then_branch = t () => (float[n] a) {{
                m = Exp(k)
                a = If (c) <then_branch = tt () => (float[n] b) {{ b = Add(m, k) }},
                            else_branch = te () => (float[n] d) {{ d = Sub(m, x) }}> }},
            else_branch = e () => (float[n] f) {{ f = Abs(k) }}>"""
    text = model_text(body, "float[n] x, float fed", "float[n] y", "float one = {1.0}, float two = {2.0}")
    result = optimise(text, x=data(5), fed=np.array(condition, np.float32))
    assert dict(result.ops) == {"Cast": 1, "Neg": 1, "Exp": 1, "If": 1}
    assert result.error < 1e-6


def test_a_branch_within_a_branch_is_taken(optimise):
    body = f"""{UNDECIDED} yes = Greater(two, one)
        y = If (c) <
            then_branch = t () => (float[n] a) {{
                m = Exp(x)
                a = If (yes) <then_branch = tt () => (float[n] b) {{ b = Neg(m) }},
                              else_branch = te () => (float[n] d) {{ d = Abs(m) }}> }},
            else_branch = e () => (float[n] f) {{ f = Abs(x) }}>"""
    text = model_text(body, "float[n] x, float fed", "float[n] y", "float one = {1.0}, float two = {2.0}")
    for condition in (True, False):
        result = optimise(text, x=data(5), fed=np.array(condition, np.float32))
        (_, node) = result.graph.nodes
        assert [inner.op_type for inner in node.attributes["then_branch"].nodes] == ["Exp", "Neg"]
        assert result.error < 1e-6


def test_constants_are_folded_three_levels_deep(optimise):
    body = "t = Transpose<perm=[1,0]>(w) a3 = MatMul(x, t)"
    for level in (2, 1, 0):
        body = f"""a{level} = If (c) <
            then_branch = yes{level} () => (float[n,k] a{level + 1}) {{ {body} }},
            else_branch = no{level} () => (float[n,k] b{level + 1}) {{ b{level + 1} = MatMul(x, v) }}>"""
    constants = f"{floats('w', 4, 3)}, {floats('v', 3, 4)}"
    text = model_text(f"{UNDECIDED} {body}", "float[2,3] x, float fed", "float[n,k] a0", constants)
    result = optimise(text, x=data(2, 3), fed=np.array(1, np.float32))
    nodes = result.graph.nodes
    for _ in range(3):
        nodes = nodes[-1].attributes["then_branch"].nodes
    assert [node.op_type for node in nodes] == ["MatMul"]
    assert result.error < 1e-6


def test_a_loop_may_pass_other_shapes_than_declared(optimise):
    """The carried tensor grows, so that its size must not be folded."""
    body = """y = Loop (three, yes, x) <body = b (int64 i, bool go, float[1] v) => (bool more, float[k] w) {
        more = Identity(go) s = Shape(v) f = Cast<to=1>(s) w = Concat<axis=0>(v, f) }>"""
    text = model_text(body, "float[1] x", "float[n] y", "int64 three = {3}, bool yes = {1}")
    expected = np.array([data(1)[0], 1, 2, 3], np.float32)
    assert optimise(text, [expected], x=data(1)).error == 0


def test_what_is_inferred_replaces_what_the_file_declares(tmp_path: Path) -> None:
    """Where nothing is inferred, tools that only show a model believe the file."""
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]> test (float[2,3] x) => (float[9,9] y, float[4] z) {
        y = Neg (x) z = local.Unknown (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "test.onnx")
    graph, _ = load_outline(str(tmp_path / "test.onnx"))
    values = infer_shapes(graph, Limits()).values
    assert values["y"].shape == (2, 3)
    assert values["z"].shape == (4,)


def test_sizes_stay_known_where_they_are_symbols() -> None:
    """Values computed from sizes become constants, whose content is expressions of these sizes."""
    content = onnx.parser.parse_model(model_text(CHAIN, "float[N,4,M,5] x", "float[n,c,r] y", INDICES))
    values = infer_shapes(load(content.SerializeToString()), Limits()).values
    assert [str(size) for size in values["y"].shape or ()] == ["N", "4", "5·M"]
