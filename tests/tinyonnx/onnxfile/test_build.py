"""Broken graphs and functions: names, order, attributes, nesting."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.tinyonnx.onnxfile.hostile import HEADER, SMALL, parsed, refused
from tinyonnx.errors import ResourceError
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load


@pytest.mark.parametrize(
    ("body", "causes"),
    [
        ("{ y = Relu(x)  y = Abs(x) }", ['Abs "y" (node 1)', '"y" is already defined']),
        ("{ x = Relu(x)  y = Abs(x) }", ['"x" is already defined']),
        ("{ y, y = TopK(x, k) }", ['"y" is already defined']),
        ("{ z = Relu(x) }", ['output "y" is never produced']),
        ("{ y = Add(x, a)  a = Relu(b)  b = Relu(a) }", ['graph "g"', "cycle", '"a"', '"b"']),
        ("{ y = Relu(y) }", ["cycle"]),
    ],
)
def test_names_and_order(body: str, causes: list[str]):
    refused(HEADER + " g (float[2] x, int64[1] k) => (float[2] y) " + body, *causes)


def test_duplicate_inputs_and_initializers():
    model = parsed(SMALL)
    model.graph.input.append(model.graph.input[0])
    refused(model, 'input "x"')
    model = parsed(SMALL)
    model.graph.initializer.extend([numpy_helper.from_array(np.ones(2, np.float32), "w")] * 2)
    refused(model, 'initializer "w"', "twice")


def test_a_subgraph_s_values_stay_inside():
    refused(
        HEADER
        + """ g (float[2] x, bool c) => (float[2] y)
        { t = If(c) <then_branch = t () => (float[2] p) { p = Relu(x) },
                     else_branch = e () => (float[2] q) { q = Abs(x) }>
          y = Add(t, p) }""",
        'reads "p"',
    )


def test_attributes():
    for change, cause in [
        (lambda a: a.append(helper.make_attribute("axis", 1)), "given twice"),
        (lambda a: a[0].ClearField("type"), "type"),
        (lambda a: setattr(a[0], "type", onnx.AttributeProto.GRAPHS), "type"),
        (lambda a: setattr(a[0], "ref_attr_name", "z"), "outside of any function"),
    ]:
        model = parsed(SMALL.replace("Relu", "Softmax<axis = 0>"))
        change(model.graph.node[0].attribute)
        refused(model, 'Softmax "act"', '"axis"', cause)


def nested(depth: int) -> onnx.ModelProto:
    """Return a model of Ifs, each within a branch of the one before."""

    def branch(node: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph([node], "branch", [], [onnx.ValueInfoProto(name=node.output[0])])

    leaf = graph = branch(helper.make_node("Relu", ["x"], ["leaf"]))
    for i in range(depth):
        graph = branch(helper.make_node("If", ["c"], [f"v{i}"], then_branch=graph, else_branch=leaf))
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]))
    graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_nesting_of_subgraphs():
    load(nested(3).SerializeToString(), Limits(max_depth=3)).verify()
    assert isinstance(refused(nested(4), "nested more than 3", limits=Limits(max_depth=3)), ResourceError)


def test_nesting_beyond_what_the_format_can_say():
    def field(number: int, content: bytes) -> bytes:
        length, size = len(content), []
        while length >= 128:
            length, size = length >> 7, [*size, length & 127 | 128]
        return bytes([number << 3 | 2, *size, length]) + content

    numbers = [
        message.DESCRIPTOR.fields_by_name[name].number
        for message, name in [(onnx.AttributeProto, "g"), (onnx.NodeProto, "attribute"), (onnx.GraphProto, "node")]
    ]
    data = b""
    for _ in range(10_000):
        for number in numbers:
            data = field(number, data)
    refused(field(onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number, data), "doesn't parse")


def functions(count: int, calls: int) -> str:
    """Return functions each of which calls the one before it `calls` times; F0 is empty."""
    text = HEADER + f' g (float[2] x) => (float[2] y) {{ y = f.F{count}(x) }} <domain: "f", opset_import: ["": 18]>'
    text += " F0 (v) => (v) { }"
    for i in range(1, count + 1):
        body = " ".join(f"v{k + 1} = f.F{i - 1}(v{k})" for k in range(calls))
        text += f' <domain: "f", opset_import: ["": 18, "f": 1]> F{i} (v0) => (v{calls}) {{ {body} }}'
    return text


def test_nesting_of_functions():
    refused(functions(80, 1), "nested more than 64")


def test_functions_that_multiply_are_stopped_early():
    start = time.process_time()
    error = refused(functions(50, 3), "more than 20000 nodes", limits=Limits(max_nodes=20_000))
    assert isinstance(error, ResourceError)
    assert time.process_time() - start < 10


def test_operands_count_like_nodes():
    many = ", ".join(["v"] * 20_000)
    calls = " ".join(f"t{i + 1} = f.F(t{i})" for i in range(100))
    text = (
        HEADER
        + f""" g (float[2] t0) => (float[2] t100) {{ {calls} }}
        <domain: "f", opset_import: ["": 18]> F (v) => (w) {{ w = Sum({many}) }}"""
    )
    refused(text, "more than 1000 nodes", limits=Limits(max_nodes=1_000))


@pytest.mark.parametrize(
    ("call", "function", "cause"),
    [
        ("f.F(x)", "F (v) => (w) { w = f.F(v) }", "function f.F calls itself"),
        ("f.F(x, x)", "F (v) => (w) { w = Relu(v) }", "has 2 inputs, function f.F has 1"),
        ("f.F<a = 1>(x)", "F (v) => (w) { w = Relu(v) }", 'has no attribute "a"'),
        ("f.F(x)", "F (v) => (w) { u = Relu(v) }", 'never produces its output "w"'),
        ("f.F(x)", "F (v) => (w) { w = Relu(x) }", 'reads "x"'),
        ("f.F(x)", "F (v) => (w) { w = Relu(u)  u = Relu(w) }", "cycle"),
        ("f.F(x)", "F (v) => (w) { w = other.Relu(v) }", 'domain "other"'),
    ],
)
def test_functions(call: str, function: str, cause: str):
    text = (
        HEADER
        + f' g (float[2] x) => (float[2] y) {{ [act] y = {call} }} <domain: "f", opset_import: ["": 18, "f": 1]> '
    )
    refused(text + function, cause)


def test_functions_defined_twice_and_mutually_recursive():
    function = ' <domain: "f", opset_import: ["": 18, "f": 1]> {} (v) => (w) {{ w = f.{}(v) }}'
    main = HEADER + " g (float[2] x) => (float[2] y) { y = f.A(x) }"
    refused(main + function.format("A", "B") + function.format("B", "A"), "f.A calls itself")
    refused(main + function.format("A", "B") + function.format("A", "B"), "f.A is defined twice")
