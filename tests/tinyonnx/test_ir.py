from __future__ import annotations

import numpy as np
import pytest

from tinyonnx.ir import Graph, Node, Value


def chain() -> tuple[Graph, list[Value]]:
    """Return the graph x → Relu → a → Neg → b → Abs → c, with a also an output."""
    graph = Graph("chain", {"": 17})
    values = [Value(n) for n in "xabc"]
    graph.add_input(values[0])
    for op, i in (("Relu", 0), ("Neg", 1), ("Abs", 2)):
        graph.add_node(Node(op, [values[i]], [values[i + 1]], opset=17))
    graph.add_output(values[3])
    graph.add_output(values[1], "seen")
    graph.verify()
    return graph, values


def test_uses_run_in_both_directions():
    graph, (x, a, b, c) = chain()
    assert x.uses == [(graph.nodes[0], 0)]
    assert a.uses == [(graph.nodes[1], 0), (graph, 1)]
    assert (b.producer, c.uses) == (graph.nodes[1], [(graph, 0)])


def test_replacing_all_uses_reaches_outputs_but_not_their_names():
    graph, (x, a, _, _) = chain()
    graph.replace_all_uses_with(a, x)
    graph.remove_node(graph.nodes[0])
    graph.verify()
    assert graph.outputs[1] is x
    assert graph.output_names == ["c", "seen"]


def test_a_used_node_can_not_be_removed():
    graph, _ = chain()
    with pytest.raises(AssertionError, match="a is still used"):
        graph.remove_node(graph.nodes[0])


@pytest.mark.parametrize(
    "damage",
    [
        lambda g: g.nodes.reverse(),
        lambda g: g.nodes[1].inputs.__setitem__(0, g.inputs[0]),
        lambda g: g.outputs.__setitem__(0, g.inputs[0]),
        lambda g: setattr(g.nodes[0].outputs[0], "producer", None),
        lambda g: g.nodes[0].outputs[0].uses.pop(),
        lambda g: g.nodes.append(g.nodes[0]),
    ],
)
def test_verify_finds_every_kind_of_damage(damage):
    graph, _ = chain()
    damage(graph)
    with pytest.raises(AssertionError):
        graph.verify()


def nested() -> Graph:
    """Return an If whose branch reads a value of the enclosing graph."""
    graph = Graph("outer")
    condition, x = graph.add_input(Value("condition")), graph.add_input(Value("x"))
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        branch = Graph(name)
        result = Value(f"{name}:y")
        branch.add_node(Node(op, [x], [result]))
        branch.add_output(result)
        branches[name] = branch
    y = Value("y")
    graph.add_node(Node("If", [condition], [y], branches))
    graph.add_output(y)
    graph.verify()
    return graph


def test_captured_values_are_uses_of_the_outer_graph():
    graph = nested()
    assert len(graph.inputs[1].uses) == 2
    assert [v.name for v in graph.nodes[0].subgraphs[0].captures()] == ["x"]
    replacement = Value("r", const=np.zeros(1))
    graph.replace_all_uses_with(graph.inputs[1], replacement)
    assert graph.nodes[0].attributes["then_branch"].nodes[0].inputs == [replacement]
    graph.verify()


def test_removing_a_node_releases_what_its_subgraphs_captured():
    graph = nested()
    graph.clear_outputs()
    graph.remove_node(graph.nodes[0])
    assert graph.inputs[1].uses == []
    graph.verify()


def test_a_clone_is_independent():
    graph = nested()
    copy = graph.clone()
    copy.verify()
    assert copy.nodes[0].subgraphs[0].captures() == [copy.inputs[1]]
    copy.clear_outputs()
    copy.remove_node(copy.nodes[0])
    graph.verify()
    assert len(graph.nodes) == 1
