"""Costs of nodes and graphs."""

from __future__ import annotations

import onnx.parser

import tinyonnx
from tinyonnx.tools.costs import count_parameters
from tinyonnx.tools.inspect import inspect_graph

MODEL = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,4,4] x, bool c) => (y, z)
    <float[2,2,1,1] w = {1,2,3,4}, int8[2,3] b = {1,2,3,4,5,6}, float[2] s = {1,2}, float[2] k = {1,2}, float one = {1},
    float[2] mean = {0,0}, float[2] var = {1,1}, int64[2] shape = {2,-1}, float[1,3] only = {1,2,3}>
    {
        u = Conv(x, w)
        v = Conv(u, w)
        n = BatchNormalization(v, s, k, mean, var)
        y = Mul(n, one)
        d = DequantizeLinear(b, one)
        r = Reshape(d, shape)
        z = If(c) <then_branch = t () => (p) { p = Add(r, only) }, else_branch = e () => (q) { q = Sub(r, only) }>
    }"""


def test_parameters_are_counted_once_without_statistics_shapes_and_scalars() -> None:
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(MODEL).SerializeToString())
    assert count_parameters(session.graph) == 4 + 6 + 2 + 2 + 3
    report = inspect_graph(session)
    assert report.parameters == 17
    assert [node.parameters for node in report.nodes if not node.owner] == [4, 4, 4, 0, 6, 0, 0]
