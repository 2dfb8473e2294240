"""Nodes that change nothing or only shapes."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text


def test_noops_disappear(optimise):
    body = """a = Identity(x) b = Dropout(a) c = Cast<to=1>(b) d = Unsqueeze(c, front) e = Squeeze(d, front)
        f = Transpose<perm=[0,1]>(e) g = Concat<axis=0>(f) y = Relu(g)"""
    result = optimise(model_text(body, "float[3,4] x", "float[n,c] y", "int64[1] front = {0}"), x=data(3, 4))
    assert dict(result.ops) == {"Relu": 1}
    assert result.error == 0


TRAINING = "float ratio = {0.5}, bool training = {1}"


@pytest.mark.parametrize("seed", ["", "<seed = 3>"])
def test_a_dropout_in_training_mode_is_left_out(seed):
    """onnxruntime's optimised graphs omit it, too; otherwise the outputs would be random."""
    body = f"a = Relu(x) b = Dropout{seed}(a, ratio, training) y = Neg(b)"
    text = model_text(body, "float[50] x", "float[n] y", TRAINING, opset=13)
    model = onnx.parser.parse_model(text).SerializeToString()
    session, x = tinyonnx.InferenceSession(model), data(50)
    (expected,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected)
    remarks = session.plan_for(None, {"x": x}).remarks
    assert [str(r) for r in remarks if r.node == "b"] == ["remove_noops: b: Dropout in training mode is left out"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Relu(x) y = Dropout(a, ratio, training)", "its random result is an output"),
        ("a = Relu(x) b, m = Dropout(a, ratio, training) c = Cast<to = 1>(m) y = Mul(b, c)", "second output is read"),
    ],
)
def test_a_dropout_in_training_mode_whose_randomness_is_wanted(body, reason):
    text = model_text(body, "float[99] x", "float[n] y", TRAINING, opset=13)
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    feeds = {"x": np.ones(99, np.float32)}
    assert set(session.run(None, feeds)[0].tolist()) == {0.0, 2.0}
    assert [r.text for r in session.plan_for(None, feeds).remarks if not r.applied and reason in r.text]


def test_an_input_that_is_an_output_through_noops(optimise):
    result = optimise(model_text("y = Identity(x)", "float[3] x", "float[n] y"), x=data(3))
    assert not result.graph.nodes
    assert result.graph.output_names == ["y"]


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("y = Cast<to=11>(x)", "Cast"),
        ("y = Concat<axis=0>(x, x)", "Concat"),
        ("y = Expand(x, twice)", "Expand"),
        ("y = Pad(x, shifted)", "Pad"),
        ("y = Sum(x, x)", "Sum"),
        ("y = Max(x, k)", "Max"),
        ("y = Min(x, k)", "Min"),
        ("y = Transpose<perm=[1,0]>(x)", "Transpose"),
        ("y = Transpose(x)", "Transpose"),
        ("y = ReduceSum<keepdims=1>(x, front)", "ReduceSum"),
        ("y = ReduceL2<axes=[0]>(z)", "ReduceL2"),
        ("y = ReduceSumSquare<axes=[0]>(z)", "ReduceSumSquare"),
        ("y = Dropout(x, half, yes)", None),
    ],
)
def test_what_changes_something_stays(optimise, body, op):
    constants = ", ".join(
        ["int64[2] twice = {2, 4}", "int64[4] shifted = {1, 0, -1, 0}", floats("k", 3, 4), "int64[1] front = {0}"]
    )
    constants += ", float half = {0.0}, bool yes = {1}"
    element = "double" if "to=11" in body else "float"
    if "twice" in body:
        text = model_text(body, "float[1,4] x", "float[n,c] y", constants)
        result = optimise(text, x=data(1, 4))
    elif "(z)" in body:
        text = model_text(body.replace("(z)", "(x)"), "float[1,4] x", "float[n,c] y", constants)
        result = optimise(text, x=data(1, 4))
    else:
        result = optimise(model_text(body, "float[3,4] x", f"{element}[n,c] y", constants), x=data(3, 4))
    assert op is None or result.ops[op] == 1
    assert result.error < 1e-6


@pytest.mark.parametrize(
    "body",
    [
        "y = Expand(x, same)", "y = Pad(x, nothing)", "y = Sum(x)", "y = Max(x)", "y = Min(x)", "y = Cast<to=1>(x)",
        "y = Reshape(x, same)", "y = Dropout(x, half, no)", "y = Transpose<perm=[0,1]>(x)",
        "a = Transpose(x) y = Transpose(a)",
    ],
)  # fmt: skip
def test_what_changes_nothing_goes(optimise, body):
    constants = "int64[2] same = {1, 4}, int64[4] nothing = {0, 0, 0, 0}, float half = {0.5}, bool no = {0}"
    result = optimise(model_text(f"{body} z = Neg(y)", "float[1,4] x", "float[n,c] z", constants), x=data(1, 4))
    assert dict(result.ops) == {"Neg": 1}
    assert result.error == 0


@pytest.mark.parametrize(
    ("body", "rank"),
    [
        ("y = ReduceMax<axes=[0], keepdims=0>(x)", "a,b"),
        ("y = ReduceMean<axes=[-3], keepdims=0>(x)", "a,b"),
        ("y = ReduceProd<axes=[0,2], keepdims=0>(x)", "a"),
        ("y = ReduceSum<keepdims=0>(x, front)", "a,b"),
        ("y = Transpose<perm=[1,0,2]>(x)", "a,b,c"),
        ("y = Flatten<axis=2>(x)", "a,b"),
        ("y = Squeeze(x, front)", "a,b"),
        ("a = Unsqueeze(x, front) b = Reshape(a, column) y = Squeeze(b, front)", "a,b"),
    ],
)
def test_what_keeps_the_order_becomes_one_reshape(optimise, body, rank):
    """The Reshape reads the first tensor; the input [1, 4, 1] has three axes to lose."""
    constants = "int64[1] front = {0}, int64[3] column = {1, 2, 2}"
    result = optimise(
        model_text(f"{body} z = Neg(y)", "float[1,4,1] x", f"float[{rank}] z", constants), x=data(1, 4, 1)
    )
    assert dict(result.ops) == {"Reshape": 1, "Neg": 1}
    assert result.graph.nodes[0].inputs[0].name == "x"
    assert result.graph.nodes[0].attributes == {}
    assert result.applied("keeps the order of elements: replaced by a Reshape to ") >= 1
    assert result.error == 0


@pytest.mark.parametrize("noop", [0, 1])
def test_a_reduction_over_no_axes(optimise, noop):
    body = f"y = ReduceSum<noop_with_empty_axes={noop}, keepdims=0>(x) z = Neg(y)"
    result = optimise(model_text(body, "float[3,4] x", "float[n,c] z" if noop else "float z"), x=data(3, 4))
    assert dict(result.ops) == ({"Neg": 1} if noop else {"ReduceSum": 1, "Neg": 1})
    assert result.error < 1e-6


def test_axes_that_are_an_input_stay(optimise):
    text = model_text("y = ReduceSum<keepdims=1>(x, axes) z = Neg(y)", "float[1,1] x, int64[1] axes", "float[n,c] z")
    result = optimise(text, x=data(1, 1), axes=np.array([0]))
    assert result.ops["ReduceSum"] == 1
    assert result.error == 0


def test_a_dropout_whose_mask_is_read_stays(optimise):
    text = model_text("y, m = Dropout(x) z = Neg(y)", "float[3,4] x", "float[n,c] z, bool[n,c] m")
    result = optimise(text, x=data(3, 4))
    assert result.ops["Dropout"] == 1
    assert result.refused("a second output is read")
    assert result.error == 0


def test_a_dropout_that_may_train_is_left_out(optimise):
    """onnxruntime doesn't look at the mode, either."""
    body = "y = Dropout(x, ratio, training) z = Neg(y)"
    text = model_text(body, "float[3,4] x, bool training", "float[n,c] z", "float ratio = {0.0}")
    result = optimise(text, x=data(3, 4), training=np.array(False))
    assert dict(result.ops) == {"Neg": 1}
    assert result.error == 0


@pytest.mark.parametrize("is_test", [0, 1])
def test_an_old_dropout_changes_nothing(optimise, is_test):
    """Exporters left `is_test` at 0, which means training."""
    body = f"y = Dropout<is_test={is_test}, ratio=0.0>(x) z = Neg(y)"
    text = model_text(body, "float[3,4] x", "float[n,c] z", opset=6)
    result = optimise(text, [-data(3, 4)], x=data(3, 4))
    assert dict(result.ops) == {"Neg": 1}


def test_an_empty_tensor_keeps_its_zeros(optimise):
    text = model_text("y = Unsqueeze(x, front) z = Neg(y)", "float[0,4] x", "float[a,n,c] z", "int64[1] front = {0}")
    result = optimise(text, x=data(0, 4))
    assert dict(result.ops) == {"Reshape": 1, "Neg": 1}
    assert result.graph.nodes[0].attributes == {"allowzero": 1}


@pytest.mark.parametrize(("opset", "used", "size"), [(4, 14, 3), (11, 11, 3), (11, 14, 0), (15, 15, 0)])
def test_a_reshape_is_of_an_opset_that_has_it(optimise, opset, used, size):
    """Before opset 5 its shape is an attribute, before 14 it has no allowzero."""
    text = model_text("y = Unsqueeze<axes=[0]>(x) z = Neg(y)", f"float[{size}] x", "float[a,n] z", opset=min(opset, 12))
    if opset > 12:
        text = model_text(
            "y = Unsqueeze(x, front) z = Neg(y)", f"float[{size}] x", "float[a,n] z", "int64[1] front = {0}", opset
        )
    result = optimise(text, [-data(1, size)], x=data(size))
    assert dict(result.ops) == {"Reshape": 1, "Neg": 1}
    assert result.graph.nodes[0].opset == used
    assert result.error == 0


def test_a_pad_without_an_input_of_pads_stays(optimise):
    text = model_text("y = Pad<pads=[0,0]>(x) z = Neg(y)", "float[4] x", "float[n] z", opset=10)
    result = optimise(text, x=data(4))
    assert dict(result.ops) == {"Pad": 1, "Neg": 1}
    assert result.error == 0


def test_an_output_that_is_absent_keeps_nothing(optimise):
    text = model_text('y, "" = Dropout(x) z = Neg(y)', "float[4] x", "float[n] z")
    result = optimise(text, x=data(4))
    assert dict(result.ops) == {"Neg": 1}
    assert result.error == 0


def test_a_single_reshape_is_left_alone(optimise):
    text = model_text("a = Relu(x) y = Reshape(a, square)", "float[4] x", "float[n,m] y", "int64[2] square = {2, 2}")
    result = optimise(text, x=data(4))
    assert dict(result.ops) == {"Relu": 1, "Reshape": 1}
    assert result.applied("Reshape") == 0


def test_a_reshape_of_another_domain_is_not_left_out():
    def doubled(x: np.ndarray, shape: np.ndarray) -> np.ndarray:
        return np.float32(2) * x.reshape(shape)

    tinyonnx.op("Reshape", domain="tests.noops")(doubled)
    text = """<ir_version: 8, opset_import: ["" : 17, "tests.noops" : 1]> g (float[4] x) => (float[1,2,2] y)
        <int64[2] square = {2, 2}, int64[1] front = {0}>
        { a = tests.noops.Reshape(x, square) b = Unsqueeze(a, front) y = Neg(b) }"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    np.testing.assert_array_equal(session.run(None, {"x": data(4)})[0], -2 * data(4).reshape(1, 2, 2))


def test_unknown_shapes_stay(optimise):
    body = "r = Reshape(x, target) y = Squeeze(r, front) z = Neg(y)"
    text = model_text(body, "float[3,4] x, int64[3] target", "float[n,c] z", "int64[1] front = {0}")
    result = optimise(text, x=data(3, 4), target=np.array([1, 2, 6]))
    assert result.ops == {"Reshape": 1, "Squeeze": 1, "Neg": 1}
    assert result.error == 0


def test_values_that_a_subgraph_captures(optimise):
    body = """i = Identity(x) u = Unsqueeze(x, front)
        y = If (yes) <then_branch = t () => (float[n,c] p) { p = Neg(i) },
                      else_branch = e () => (float[n,c] q) { q = Squeeze(u, front) }>"""
    text = model_text(body, "float[3,4] x, bool yes", "float[n,c] y", "int64[1] front = {0}")
    for yes in (True, False):
        result = optimise(text, x=data(3, 4), yes=np.array(yes))
        assert "Identity" not in result.ops
        assert result.error == 0
