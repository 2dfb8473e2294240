"""Fusions of pairs, declared as data."""

from __future__ import annotations

import onnx.parser

import tinyonnx
from tests.tinyonnx.passes.conftest import model_text
from tinyonnx.ir import Graph
from tinyonnx.passes._pairs import FusedCall, Pair, PairFusion
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.registry import FUSED
from tinyonnx.runtime.constants import ConstantPool


def neighbours(pair: Pair) -> bool:
    return (pair.first.op_type, pair.second.op_type) == ("Neg", "Abs")


def abs_of_the_source(pair: Pair) -> FusedCall:
    return FusedCall("Abs", [pair.first.inputs[0]], {}, domain="", opset=pair.second.opset)


FUSION = PairFusion(neighbours, abs_of_the_source, "ignores the sign of")


def rewritten(body: str, fusion: PairFusion, outputs: str = "float[4] y") -> tuple[Graph, list[str]]:
    """Return the graph after a fusion, and the remarks."""
    session = tinyonnx.InferenceSession(
        onnx.parser.parse_model(model_text(body, "float[4] x", outputs)).SerializeToString()
    )
    rewrite = Rewrite(session.graph.clone(), ConstantPool(), tinyonnx.Limits(), "model", [], pass_name="fuse")
    fusion.apply(rewrite)
    rewrite.graph.verify()
    return rewrite.graph, [str(remark) for remark in rewrite.remarks]


def test_a_pair_becomes_one_node():
    graph, remarks = rewritten("[n] a = Neg(x) [m] y = Abs(a)", FUSION)
    (node,) = graph.nodes
    assert (node.op_type, node.domain, node.opset, node.label, node.origin) == ("Abs", "", 17, "m", ("n", "m"))
    assert node.inputs == graph.inputs
    assert remarks == ["fuse: m: ignores the sign of n"]


def test_the_fused_operator_is_one_of_ours_by_default():
    fusion = FUSION._replace(call=lambda pair: FusedCall("Magnitude", [pair.first.inputs[0]], {"a": 1}))
    (node,) = rewritten("a = Neg(x) y = Abs(a)", fusion)[0].nodes
    assert (node.op_type, node.domain, node.opset, node.attributes) == ("Magnitude", FUSED, 1, {"a": 1})


def test_the_pair_is_found_by_the_first_input():
    fusion = FUSION._replace(matches=lambda pair: (pair.first.op_type, pair.second.op_type) == ("Neg", "Sub"))
    assert [node.op_type for node in rewritten("a = Neg(x) y = Sub(a, x)", fusion)[0].nodes] == ["Abs"]
    assert [node.op_type for node in rewritten("a = Neg(x) y = Sub(x, a)", fusion)[0].nodes] == ["Neg", "Sub"]


def test_every_pair_is_fused():
    graph, _ = rewritten("a = Neg(x) b = Abs(a) c = Neg(b) y = Abs(c)", FUSION)
    assert [node.op_type for node in graph.nodes] == ["Abs", "Abs"]


def test_other_nodes_stay():
    graph, remarks = rewritten("a = Abs(x) b = Neg(a) y = RandomUniform<shape = [4]>()", FUSION)
    assert len(graph.nodes) == 3
    assert remarks == []


def test_a_first_node_that_something_else_reads_stays():
    graph, remarks = rewritten("[n] a = Neg(x) [m] y = Abs(a)", FUSION, "float[4] y, float[4] a")
    assert len(graph.nodes) == 2
    assert remarks == ["fuse: skipping m: not fused with n: its output is read by m and as an output"]


def test_checks_give_reasons():
    fusion = FUSION._replace(checks=(lambda pair: None, lambda pair: f"{pair.first.label} is dear"))
    graph, remarks = rewritten("[n] a = Neg(x) [m] y = Abs(a)", fusion)
    assert len(graph.nodes) == 2
    assert remarks == ["fuse: skipping m: not fused with n: n is dear"]
