"""Names and order of nodes in protobuf messages, with what subgraphs capture."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from tests.tinyonnx.onnxfile.hostile import HEADER, parsed
from tinyonnx.errors import ModelError
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load
from tinyonnx.onnxfile.messages import all_names, function_label, in_order, label_of, reads_of, where_is

BRANCH = "else_branch = e () => (float[n] q) { q = Abs(x) }"


def graph_of(body: str) -> onnx.GraphProto:
    return parsed(f"{HEADER} g (float[n] x, bool c) => (float[n] y) {{ {body} }}").graph


def order(body: str) -> list[str]:
    """Return the labels of the nodes in the order in which they can run."""
    nodes = in_order(graph_of(body).node, {"x", "c"}, "m.onnx", "m.onnx: graph")
    return [label_of(node, index) for index, node in nodes]


@pytest.mark.parametrize(
    "branch",
    [
        "then_branch = t () => (float[n] p) { p = Neg(a) }",
        "then_branch = t () => (float[n] a) { }",
        "then_branch = t () => (float[n] p) { b = Neg(x) p = Add(b, a) }",
        "then_branch = t () => (float[n] p) { p = If (c) <then_branch = u () => (float[n] r) { r = Neg(a) }, "
        "else_branch = v () => (float[n] s) { s = Neg(x) }> }",
    ],
)
def test_what_a_subgraph_captures_comes_before_it(branch: str) -> None:
    body = f"y = If (c) <{branch}, {BRANCH}> a = Exp(x)"
    assert order(body) == ["a", "y"]
    graph = load(parsed(f"{HEADER} g (float[n] x, bool c) => (float[n] y) {{ {body} }}").SerializeToString(), Limits())
    graph.verify()
    assert "a" in [value.name for value in graph.nodes[1].subgraphs[0].captures()]


@pytest.mark.parametrize(
    "branch",
    [
        "then_branch = t () => (float[n] p) { a = Neg(x) p = Neg(a) }",
        "then_branch = t () => (float[n] p) <float[1] a = {1}> { p = Neg(a) }",
        "then_branch = t (float[n] a) => (float[n] p) { p = Neg(a) }",
    ],
)
def test_a_name_of_its_own_is_not_captured(branch: str) -> None:
    """Here it would be a cycle: `a` reads the result of the node with the subgraph."""
    assert order(f"y = If (c) <{branch}, {BRANCH}> a = Exp(y)") == ["y", "a"]


def test_a_sparse_initializer_is_a_name_of_its_own() -> None:
    graph = graph_of(f"y = If (c) <then_branch = t () => (float[n] p) {{ p = Neg(a) }}, {BRANCH}> a = Exp(y)")
    inner = graph.node[0].attribute[0].g
    values = helper.make_tensor("a", onnx.TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", onnx.TensorProto.INT64, [1], [0])
    inner.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
    assert [index for index, _ in in_order(graph.node, {"x", "c"}, "m.onnx", "graph")] == [0, 1]
    assert {"a", "p", "q", "x", "c", "y"} <= all_names(graph)


def test_absent_inputs_are_no_names() -> None:
    (node,) = graph_of("y = Clip (x, x, x)").node
    node.input[1] = ""
    outer = helper.make_node("If", ["c"], ["z"])
    outer.attribute.append(helper.make_attribute("then_branch", helper.make_graph([node], "t", [], [])))
    assert reads_of(node) == {"x"}
    assert reads_of(outer) == {"c", "x"}


def test_a_cycle_through_a_subgraph() -> None:
    body = f"y = If (c) <then_branch = t () => (float[n] p) {{ p = Neg(a) }}, {BRANCH}> a = Exp(y)"
    with pytest.raises(ModelError, match=r'm\.onnx: graph: nodes depend on each other in a cycle: .*"a"'):
        order(body)


def test_nodes_that_are_in_order_keep_their_places() -> None:
    assert order("b = Neg(x) a = Exp(x) y = Add(a, b)") == ["b", "a", "y"]
    assert sorted(order("y = Add(a, b) b = Neg(x) a = Exp(x)")[:2]) == ["a", "b"]


def test_labels() -> None:
    node = helper.make_node("Relu", ["x"], ["", "y"])
    assert label_of(node, 3) == "y"
    assert label_of(helper.make_node("Relu", ["x"], [""]), 3) == "#3"
    assert label_of(helper.make_node("Relu", ["x"], ["y"], name="n"), 3) == "n"
    assert where_is("m.onnx", node, 3, "call/") == 'm.onnx: Relu "call/y" (node 3)'
    node.domain = "ai.onnx"
    assert where_is("m.onnx", node, 3) == 'm.onnx: Relu "y" (node 3)'
    assert function_label(("d", "f", "")) == "d.f"
    assert function_label(("d", "f", "v2")) == "d.f:v2"
