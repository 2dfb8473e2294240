"""Gathers hoisted over arithmetic, and cases where hoisting would be wrong or useless."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text

INDICES = "int64 zero = {0}, int64 one = {1}, int64 last = {-1}, int64[1] list = {1}"


def test_functions_of_one_tensor(optimise):
    """Dynamic ReLU as exported: the maps of every channel along a last axis."""
    body = """s = Reshape(theta, shape) u = Unsqueeze(x, axis) a = Slice(s, i0, i2, i4) b = Slice(s, i2, i4, i4)
        m = Mul(u, a) z = Add(m, b) p = Gather<axis=-1>(z, zero) q = Gather<axis=4>(z, last) y = Max(p, q)"""
    weights = f"""{INDICES}, int64[1] axis = {{-1}}, int64[5] shape = {{2,3,1,1,4}},
        int64[1] i0 = {{0}}, int64[1] i2 = {{2}}, int64[1] i4 = {{4}}"""
    inputs = "float[2,3,5,7] x, float[2,12] theta"
    result = optimise(
        model_text(body, inputs, "float[2,3,5,7] y", weights), x=data(2, 3, 5, 7), theta=data(2, 12, seed=1)
    )
    assert result.applied("Gather is hoisted over") == 4
    assert result.error < 1e-6
    # the image is never repeated for both functions
    shapes = {node.output.shape for node in result.graph.nodes}
    assert (2, 3, 5, 7) in shapes
    assert (2, 3, 5, 7, 2) not in shapes


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(
    ("left", "right"), [((3, 2, 4), (3, 2, 4)), ((3, 2, 4), (4,)), ((2, 1), (3, 1, 4)), ((1,), (3, 2, 4))]
)
def test_operands_broadcast(optimise, op, axis, left, right):
    text = model_text(
        f"a = {op}(l, r) g = Gather<axis={axis}>(a, one) y = Identity(g)",
        f"float[{','.join(map(str, left))}] l, float[{','.join(map(str, right))}] r", "float[n,m] y", INDICES,
    )  # fmt: skip
    result = optimise(text, l=data(*left), r=data(*right, seed=1))
    assert result.applied("Gather is hoisted over a") == 1
    assert result.error == 0


@pytest.mark.parametrize(
    ("body", "ranks", "reason"),
    [
        ("a = Add(x, k) y = Gather<axis=2>(a, zero) z = Gather<axis=1>(a, one)", {"y": 2, "z": 2}, "several axes"),
        ("a = Add(x, k) y = Gather<axis=1>(a, zero) z = Gather<axis=1>(a, one) w = Gather<axis=1>(a, last)",
         {"y": 2, "z": 2, "w": 2}, "there are 3, of 2 indices"),
        ("a = Add(x, k) y = Gather<axis=1>(a, list) z = Gather<axis=1>(a, one)", {"y": 3, "z": 2}, None),
        ("a = Add(x, k) y = Gather<axis=1>(a, zero) z = Neg(a)", {"y": 2, "z": 3}, None),
        ("z = Add(x, k) y = Gather<axis=1>(z, zero)", {"y": 2, "z": 3}, None),
        ("a = Add(x, k) y = Gather<axis=1>(a, i)", {"y": 2}, None),
        ("a = Sum(x, k, k) y = Gather<axis=1>(a, zero)", {"y": 2}, None),
    ],
)  # fmt: skip
def test_gathers_stay(optimise, body, ranks, reason):
    outputs = ", ".join(
        f"float[{', '.join(name + str(i) for i in range(rank))}] {name}" for name, rank in ranks.items()
    )
    computed = "(a, i)" in body
    inputs = "float[3,2,4] x" + (", int64 i" if computed else "")
    feeds = {"x": data(3, 2, 4)} | ({"i": np.array(1)} if computed else {})
    result = optimise(model_text(body, inputs, outputs, f"{INDICES}, {floats('k', 4)}"), **feeds)
    assert result.applied("Gather is hoisted") == 0
    assert result.ops["Gather"] == body.count("Gather")
    assert reason is None or result.refused(reason)
    assert result.error < 1e-6


def test_an_index_outside_is_the_error_that_it_was():
    text = model_text("a = Add(x, x) y = Gather<axis=1>(a, one)", "float[3,1] x", "float[n] y", INDICES)
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    with pytest.raises(tinyonnx.NodeError, match=r'Gather "y"'):
        session.run(None, {"x": data(3, 1)})


def test_readers_in_a_subgraph_keep_theirs(optimise):
    """The Gather of a branch is no node of the graph around it."""
    body = """a = Add(x, k) g = Gather<axis=1>(a, zero)
        y = If(c) <then_branch = t () => (float[n,m] p) { p = Gather<axis=1>(a, one) },
                   else_branch = e () => (float[n,m] q) { q = Identity(g) }>"""
    text = model_text(body, "float[3,2,4] x, bool c", "float[n,m] y", f"{INDICES}, {floats('k', 4)}")
    for c in (True, False):
        assert optimise(text, x=data(3, 2, 4), c=np.array(c)).error < 1e-6


def test_constants_are_gathered_in_advance(optimise):
    body = "a = Mul(x, k) y = Gather<axis=1>(a, zero) z = Gather<axis=1>(a, last)"
    weights = f"{INDICES}, {floats('k', 2, 4)}"
    result = optimise(model_text(body, "float[3,1,4] x", "float[a,b] y, float[c,d] z", weights), x=data(3, 1, 4))
    assert dict(result.ops) == {"Reshape": 2, "Mul": 2}
    assert result.error == 0
