"""Split replaced by Slices."""

from __future__ import annotations

import numpy as np
import onnx.parser

import tinyonnx
from tests.tinyonnx.passes.conftest import data, model_text


def test_split_becomes_slices_of_what_is_read(optimise):
    text = model_text(
        "sizes = Constant<value_ints = [1, 2, 3]>() a, b, c = Split<axis = -1>(x, sizes) y = Sub(a, c)",
        "float[2, 6] x", "float[2, 3] y",
    )  # fmt: skip
    result = optimise(text, x=data(2, 6))
    assert result.ops == {"Slice": 2, "Sub": 1}
    assert result.error == 0


def test_slices_take_the_place_of_the_split(optimise):
    """Behind the node that they read, before those that read them."""
    text = model_text(
        "r = Relu(x) a, b, c = Split<axis = 1>(r) y = Sum(a, b, c)", "float[2, 6] x", "float[2, 2] y", opset=12
    )
    result = optimise(text, x=data(2, 6))
    assert [node.op_type for node in result.graph.nodes] == ["Relu", "Slice", "Slice", "Slice", "Sum"]
    assert result.applied("replaced by a Slice for each part") == 1
    assert result.error < 1e-6


def test_split_into_equal_parts_and_outputs(optimise):
    text = model_text("a, b = Split<axis = 1>(x)", "float[2, 6, 3] x", "float[2, 3, 3] a, float[2, 3, 3] b", opset=12)
    result = optimise(text, x=data(2, 6, 3))
    assert result.ops == {"Slice": 2}
    assert result.error == 0


def test_the_default_axis_is_the_first(optimise):
    text = model_text("a, b = Split(x) y = Sub(a, b)", "float[4, 6] x", "float[n, m] y", opset=12)
    result = optimise(text, x=data(4, 6))
    assert result.ops == {"Slice": 2, "Sub": 1}
    assert result.error == 0


def test_a_split_of_another_domain_stays():
    def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x / 2, -x / 2

    tinyonnx.op("Split", domain="tests.split")(halves)
    text = """<ir_version: 8, opset_import: ["" : 17, "tests.split" : 1]> g (float[4] x) => (float[4] y)
        { a, b = tests.split.Split(x) y = Sub(a, b) }"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    np.testing.assert_array_equal(session.run(None, {"x": data(4)})[0], data(4))


def test_parts_of_unknown_sizes_stay(optimise):
    text = model_text("a, b = Split<axis = 0>(x, sizes)", "float[6] x, int64[2] sizes", "float[n] a, float[m] b")
    result = optimise(text, x=data(6), sizes=np.array([2, 4]))
    assert result.ops == {"Split": 1}
    assert result.refused("the sizes of its parts are unknown")
    assert result.error == 0


def test_a_source_of_unknown_shape_stays(optimise):
    text = model_text(
        "z = Reshape(x, target) a, b = Split<axis = 0>(z)",
        "float[6] x, int64[2] target",
        "float[n, k] a, float[m, k] b",
    )
    result = optimise(text, x=data(6), target=np.array([2, 3]))
    assert result.ops == {"Reshape": 1, "Split": 1}
    assert result.error == 0


def test_parts_that_a_subgraph_captures(optimise):
    body = """a, b, c = Split<axis = 0>(x, sizes)
        y = If (yes) <then_branch = t () => (float[n] p) { p = Neg(b) },
                      else_branch = e () => (float[n] q) { q = Abs(c) }>"""
    text = model_text(body, "float[6] x, bool yes", "float[n] y", "int64[3] sizes = {1, 2, 3}")
    for yes in (True, False):
        result = optimise(text, x=data(6), yes=np.array(yes))
        assert result.ops == {"Slice": 2, "If": 1}
        assert result.error == 0


def test_the_slices_have_origin_and_names_of_the_split(optimise):
    text = model_text(
        "[s] a, b = Split<axis = 0, num_outputs = 2>(x)", "float[5] x", "float[n] a, float[m] b", opset=18
    )
    result = optimise(text, x=data(5))
    assert [(node.op_type, node.origin, node.output.name) for node in result.graph.nodes] == [
        ("Slice", ("s",), "a"), ("Slice", ("s",), "b"),
    ]  # fmt: skip
    assert result.error == 0


def test_a_split_without_one_of_its_outputs_stays(optimise):
    text = model_text('a, "", c = Split<axis = 0>(x, sizes) y = Sub(a, c)', "float[6] x", "float[n] y",
                      "int64[3] sizes = {2, 2, 2}")  # fmt: skip
    x = data(6)
    result = optimise(text, expected=[x[:2] - x[4:]], x=x)
    assert result.ops == {"Split": 1, "Sub": 1}
    assert result.error == 0
