"""Broken and malicious models: each is refused with a ModelError that names file, culprit and cause."""

from __future__ import annotations

import os
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tinyonnx.errors import ModelError, ResourceError
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load

HEADER = '<ir_version: 9, opset_import: ["": 18, "f": 1]>'
SMALL = HEADER + " g (float[2] x) => (float[2] y) { [act] y = Relu(x) }"


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def refused(source: Any, *expected: str, limits: Limits | None = None) -> ModelError:
    """Loading fails at once, and the one-line message has all of `expected`."""
    if isinstance(source, str):
        source = parsed(source)
    if isinstance(source, onnx.ModelProto):
        source = source.SerializeToString()
    with pytest.raises(ModelError) as caught:
        load(source, limits or Limits())
    message = str(caught.value)
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    for part in expected:
        assert part in message
    return caught.value


# -- files ------------------------------------------------------------------------------


def test_files_that_are_no_models(tmp_path: Path):
    refused(tmp_path / "none.onnx", "No such file")
    refused(tmp_path, "directory")
    for name, content, cause in [
        ("empty", b"", "is empty"),
        ("text", b"RIFF is not ONNX", "not an ONNX model"),
        ("random", np.random.default_rng(0).bytes(4096), "not an ONNX model"),
        ("truncated", parsed(SMALL).SerializeToString()[:-9], "truncated"),
        ("tensor", numpy_helper.from_array(np.ones(3)).SerializeToString(), "not an ONNX model"),
        ("no graph", onnx.ModelProto(ir_version=8).SerializeToString(), "has no graph"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, cause)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path: Path):
    path = tmp_path / "secret.onnx"
    path.write_bytes(b"x")
    path.chmod(0)
    refused(path, "Permission denied")


def test_path_with_a_null_byte():
    with pytest.raises(ModelError, match="null"):
        load("a\0b.onnx", Limits())


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_device_instead_of_file():
    refused(Path("/dev/zero"), "not a regular file")


# -- opsets and operators ---------------------------------------------------------------


def test_opsets():
    model = parsed(SMALL)
    del model.opset_import[:]
    refused(model, "imports no opset")
    for version, cause in [(onnx.defs.onnx_opset_version() + 1, "newest"), (0, "invalid"), (-1, "invalid")]:
        model = parsed(SMALL)
        model.opset_import[0].version = version
        refused(model, f"opset {version}", cause)
    model = parsed(SMALL)
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    refused(model, "contradicts")
    refused(SMALL.replace("Relu", "other.Relu"), 'other.Relu "act" (node 0)', 'domain "other"')


def test_all_unsupported_operators_at_once():
    error = refused(
        HEADER.replace('"f"', '"com.acme"')
        + """ g (float[2] x, bool c) => (float[2] y)
        { [a] p = FooOp(x)
          q = Relu<nonsense = 1>(p)
          [b] r = FooOp(q)
          y = If(c) <then_branch = t () => (float[2] s) { s = com.acme.Bar(r) },
                     else_branch = e () => (float[2] u) { u = Identity(r) }> }"""
    )
    assert str(error) == (
        '<bytes>: 2 operators are not supported: FooOp (2 nodes, first "a"), com.acme.Bar (1 node, first "s")'
    )


def test_operator_newer_than_the_opset():
    refused(SMALL.replace("Relu", "Gelu"), "1 operator is not supported: Gelu exists since opset 20", "18")


@pytest.mark.parametrize(
    ("node", "cause"),
    [
        ("Relu<slope = 1>(x)", 'unknown attribute "slope"'),
        ("Cast(x)", 'required attribute "to" is missing'),
        ("Relu()", "0 of 1 required inputs"),
        ("Add(x)", "1 of 2 required inputs"),
        ("Add(, x)", "1 of 2 required inputs"),
        ("Relu(x, x)", "2 inputs, takes at most 1"),
        ("Relu(nowhere)", 'reads "nowhere", which nothing produces'),
    ],
)
def test_illegal_calls(node: str, cause: str):
    refused(SMALL.replace("Relu(x)", node), f'{node.split("(")[0].split("<")[0]} "act" (node 0)', cause)


# -- names and order --------------------------------------------------------------------


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


@pytest.mark.parametrize("field", ["name", "op_type", "domain", "doc_string"])
def test_invalid_utf8(field: str):
    model = parsed(SMALL)
    setattr(model.graph.node[0], field, "PLACEHOLDER")
    data = model.SerializeToString().replace(b"PLACEHOLDER", b"\xff\xfeACEHOLDER")
    refused(data, f"graph.node[0].{field}", "not valid UTF-8")


def test_invalid_utf8_in_values():
    model = parsed(SMALL)
    model.graph.node[0].attribute.append(helper.make_attribute("s", b"\xff"))
    refused(model, '"s" is not valid UTF-8')
    refused(with_tensor(data_type=TensorProto.STRING, dims=[1], string_data=[b"\xff"]), '"w"', "UTF-8")


# -- depth and size ---------------------------------------------------------------------


def nested(depth: int) -> onnx.ModelProto:
    """If in If in If…"""

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
    """F0 is empty; each next function calls the one before it `calls` times."""
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


def test_limits_make_sense():
    for wrong in ({"max_nodes": -1}, {"max_tensor_bytes": -1}, {"max_depth": -1}, {"max_seconds": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Limits(**wrong)


# -- functions --------------------------------------------------------------------------


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


# -- tensors ----------------------------------------------------------------------------


def with_tensor(**fields: Any) -> onnx.ModelProto:
    model = parsed(SMALL)
    model.graph.initializer.append(TensorProto(name="w", **fields))
    return model


FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"dims": [3], "raw_data": bytes(8)}, "8 bytes, its shape [3] and type need 12"),
        ({"dims": [1], "raw_data": bytes(8)}, "8 bytes"),
        ({"dims": [3], "float_data": [1, 2]}, "2 values in float_data"),
        ({"dims": [3], "int32_data": [1, 2, 3]}, "0 values in float_data"),
        ({"dims": [3]}, "0 values"),
        ({"dims": [2], "float_data": [1, 2], "raw_data": bytes(8)}, "twice"),
        ({"dims": [-1], "raw_data": bytes(4)}, "negative dimension -1"),
        ({"dims": [1 << 62, 4], "raw_data": bytes(4)}, "over"),
        ({"dims": [0, 1 << 62]}, "over"),
        ({"dims": [1 << 40], "float_data": [1.0]}, "over"),
        ({"dims": [1] * 65, "raw_data": bytes(4)}, "rank 65"),
        ({"dims": [1], "data_type": 0, "raw_data": bytes(4)}, "no data type"),
        ({"dims": [1], "data_type": 999, "raw_data": bytes(4)}, "unknown data type 999"),
        ({"dims": [3], "data_type": TensorProto.INT4, "raw_data": bytes(1)}, "1 bytes"),
        ({"dims": [3], "data_type": TensorProto.INT4, "int32_data": [1]}, "1 values in int32_data"),
        ({"dims": [1], "data_type": TensorProto.COMPLEX64, "float_data": [1.0]}, "need 2"),
        ({"dims": [2], "data_type": TensorProto.STRING, "string_data": [b"a"]}, "1 strings"),
        ({"dims": [1], "data_type": TensorProto.STRING, "raw_data": b"a"}, "can't be raw"),
        ({"dims": [1], "raw_data": bytes(4), "segment": TensorProto.Segment(begin=0, end=1)}, "segments"),
    ],
)
def test_tensors(fields: dict[str, Any], cause: str):
    refused(with_tensor(**{"data_type": FLOAT, **fields}), 'initializer "w"', cause)


def test_tensor_over_the_limit():
    model = with_tensor(data_type=FLOAT, dims=[100], raw_data=bytes(400))
    load(model.SerializeToString(), Limits(max_tensor_bytes=400))
    assert isinstance(refused(model, "399", limits=Limits(max_tensor_bytes=399)), ResourceError)


@pytest.mark.parametrize(
    ("indices", "dims", "cause"),
    [
        ([0, 9], [9], "outside of its shape"),
        ([-1, 2], [9], "outside of its shape"),
        ([2, 2], [9], "not ascending"),
        ([0, 1, 2], [9], "indices int64[3] for values [2]"),
        ([[0, 0], [0, 3]], [3, 3], "outside of its shape"),
        ([[0, 0], [0, -1]], [3, 3], "outside of its shape"),
        ([0, 1], [-9], "negative"),
        ([0, 1], [1 << 40], "over"),
    ],
)
def test_sparse_tensors(indices: Any, dims: list[int], cause: str):
    model = parsed(SMALL)
    values = numpy_helper.from_array(np.ones(2, np.float32), "s")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64(indices)), dims)
    )
    refused(model, 'sparse initializer "s"', cause)


def test_many_sparse_tensors_can_not_fill_the_memory():
    model = parsed(SMALL)
    for i in range(100):
        values = numpy_helper.from_array(np.ones(1, np.float32), f"s{i}")
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([0])), [1 << 20])
        )
    tracemalloc.start()
    try:
        refused(model, '"s4"', limits=Limits(max_tensor_bytes=4 << 22))
        assert tracemalloc.get_traced_memory()[1] < 5 << 22
    finally:
        tracemalloc.stop()


# -- fuzzing ----------------------------------------------------------------------------

SEED = parsed(
    HEADER
    + """ g (float[N,3] x, bool c) => (float[N,3] y) <float[3] w = {1,2,3}, int8[2] i = {1,2}>
    { t = If(c) <then_branch = a () => (float[N,3] p) { p = Add(x, w) },
                 else_branch = b () => (float[N,3] q) { q = f.F<alpha = 2.0>(x) }>
      y = Identity(t) }
    <domain: "f", opset_import: ["": 18]> F <alpha> (x) => (y)
    { z = LeakyRelu<alpha: float = @alpha>(x)  y = Relu(z) }"""
).SerializeToString()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(SEED)))
def test_damaged_bytes_load_or_are_refused(changes: list[tuple[int, int]], end: int):
    data = bytearray(SEED)
    for position, byte in changes:
        data[position] = byte
    for candidate in (bytes(data), bytes(data[:end])):
        with suppress(ModelError):
            load(candidate, Limits()).verify()
