from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from audiotag.models.mobilenet import random_graph
from tinyonnx import InferenceSession, to_bytes
from tinyonnx.ir import Value
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load
from tinyonnx.passes import Rewrite
from tinyonnx.runtime.shape_independent import ShapeIndependentRewrites, alike

SIZES = [40, 100, 33, 101, 257]

RESIDUAL = """<ir_version: 8, opset_import: ["": 17]>
g (float[n,3,h,w] x) => (float[n,m] y)
<float[4,3,1,1] k1 = {1,-2,3,-4,5,-6,7,-8,9,-10,11,-12}, float[4] b1 = {1,2,-3,4},
 float[4,4,1,1] k2 = {1,-2,3,-4,5,-6,7,-8,9,-10,11,-12,13,-14,15,-16}, float[4,2] m = {1,2,3,4,5,6,7,-8}>
{ c = Conv(x, k1, b1) h = Relu(c) d = Conv(h, k2) s = Add(d, c) r = Relu(s)
  p = GlobalAveragePool(r) f = Flatten(p) z = Shape(x) i = Constant<value_ints=[0]>() o = Gather(z, i)
  t = Constant<value_ints=[-1]>() u = Concat<axis=0>(o, t) v = Reshape(f, u) y = MatMul(v, m) }"""


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        pytest.param(to_bytes(random_graph("mn01")), lambda size: (1, 1, 128, size), id="mn01"),
        pytest.param(
            onnx.parser.parse_model(RESIDUAL).SerializeToString(), lambda size: (2, 3, 5, size), id="residual"
        ),
    ],
)
def test_a_session_that_met_other_sizes_does_the_same_as_a_fresh_one(content, shape):
    session = InferenceSession(content)
    (only,) = session.get_inputs()
    for size in SIZES:
        feeds = {only.name: np.random.default_rng(size).standard_normal(shape(size)).astype(np.float32)}
        fresh = InferenceSession(content)
        for one, other in zip(session.run(None, feeds), fresh.run(None, feeds), strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
        plan, expected = session.plan_for(None, feeds), fresh.plan_for(None, feeds)
        assert alike(plan.graph, expected.graph)
        assert [type(step) for step in plan.steps] == [type(step) for step in expected.steps]
        assert {r.node for r in expected.remarks if r.applied} == {r.node for r in plan.remarks if r.applied}


def graph():
    return load(onnx.parser.parse_model(RESIDUAL).SerializeToString(), Limits())


class Steps:
    """Records its calls; on demand, `finish` damages graphs that were rewritten ahead."""

    def __init__(self, spoil=False):
        self.spoil, self.done, self.ahead_of = spoil, [], set()

    def begin(self):
        self.done.append("begin")
        return graph()

    def ahead(self, graph):
        self.done.append("ahead")
        graph.name = "ahead"
        return Rewrite(graph, None, None, "", [])

    def finish(self, graph):
        self.done.append("finish")
        if self.spoil and graph.name == "ahead":
            graph.nodes[0].attributes["group"] = 2
        return Rewrite(graph, None, None, "", [])


@pytest.mark.parametrize("spoil", [False, True])
def test_graphs_are_rewritten_ahead_with_the_second_use_if_that_leads_to_the_same(spoil):
    ahead, steps, done = ShapeIndependentRewrites(), Steps(spoil), []
    for _ in range(4):
        result = ahead.rewrite("key", steps.begin, steps.ahead, steps.finish)
        done.append(" ".join(steps.done))
        steps.done.clear()
        assert not result.graph.nodes[0].attributes
    later = "begin finish" if spoil else "finish"
    assert done == ["begin finish", "begin finish begin ahead finish", later, later]
    ahead.rewrite("other", steps.begin, steps.ahead, steps.finish)
    assert steps.done == ["begin", "finish"]


def rewire(graph):
    add = next(node for node in graph.nodes if node.op_type == "Add")
    conv, other = add.inputs
    for value, index, new in ((conv, 0, other), (other, 1, conv)):
        value.uses.remove((add, index))
        add.inputs[index] = new
        new.uses.append((add, index))


def change_weight(graph):
    value = graph.nodes[0].inputs[1]
    value.const = value.const + 1


def change_attribute(graph):
    graph.nodes[0].attributes["auto_pad"] = "VALID"


def change_shape(graph):
    graph.nodes[0].outputs[0].shape = (1, 2)


def change_operator(graph):
    graph.nodes[1].op_type = "Abs"


def change_output(graph):
    graph.clear_outputs()
    graph.add_output(graph.nodes[0].outputs[0], "y")


def add_input(graph):
    graph.inputs.append(Value("more"))


@pytest.mark.parametrize(
    "change", [rewire, change_weight, change_attribute, change_shape, change_operator, change_output, add_input]
)
def test_graphs_that_differ_are_not_alike(change):
    a, b = graph(), graph()
    assert alike(a, b)
    change(b)
    assert not alike(a, b)
    assert not alike(b, a)
