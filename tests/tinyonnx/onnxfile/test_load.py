from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tinyonnx
from tinyonnx.ir import Graph
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load

HEADER = '<ir_version: 8, opset_import: ["": 17]>'


def loaded(model: str | onnx.ModelProto) -> Graph:
    proto = onnx.parser.parse_model(model) if isinstance(model, str) else model
    graph = load(proto.SerializeToString(), Limits())
    graph.verify()
    return graph


def by_onnxruntime(proto: onnx.ModelProto) -> Any:
    return onnxruntime.InferenceSession(proto.SerializeToString())


def runs_like(oracle: Callable[[onnx.ModelProto], Any], text: str, feeds: dict[str, np.ndarray]) -> Graph:
    proto = onnx.parser.parse_model(text)
    expected = oracle(proto).run(None, feeds)
    actual = tinyonnx.InferenceSession(proto.SerializeToString()).run(None, feeds)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    return loaded(text)


X = np.linspace(-2, 3, 6, dtype=np.float32).reshape(2, 3)


# -- graphs -----------------------------------------------------------------------------


def test_nodes_values_and_signature():
    graph = loaded(
        HEADER
        + """ small (float[N, 3, ?, -1] x) => (float[N, 3] y) <int64[1] axes = {2}, float[2, N] mid>
        { r = Relu(x)
          [last] y, unused = TopK<axis=1>(r, axes) }"""
    )
    x, y = graph.inputs[0], graph.outputs[0]
    assert (x.dtype, x.shape, x.type) == (np.float32, ("N", 3, None, None), "tensor(float)")
    assert (y.name, y.shape, y.type) == ("y", ("N", 3), "tensor(float)")
    assert graph.output_names == ["y"]
    relu, last = graph.nodes
    assert (relu.index, relu.name, relu.label, relu.opset, relu.domain) == (0, "", "r", 17, "")
    assert (last.index, last.name, last.attributes) == (1, "last", {"axis": 1})
    assert last.inputs == [relu.output, graph.initializers[0]]
    np.testing.assert_array_equal(graph.initializers[0].const, [2])


def test_types_are_spelled_as_onnxruntime_does():
    tensor, make = helper.make_tensor_type_proto, helper.make_value_info
    types = {
        "x": tensor(TensorProto.FLOAT, ["n", 2]),
        "half": tensor(TensorProto.FLOAT16, None),
        "double": tensor(TensorProto.DOUBLE, []),
        "text": tensor(TensorProto.STRING, [1]),
        "flag": tensor(TensorProto.BOOL, [1]),
        "brain": tensor(TensorProto.BFLOAT16, [1]),
        "byte": tensor(TensorProto.UINT8, [1]),
        "float8": tensor(TensorProto.FLOAT8E4M3FN, [1]),
        "nibble": tensor(TensorProto.INT4, [1]),
        "list": helper.make_sequence_type_proto(tensor(TensorProto.INT64, None)),
        "maybe": helper.make_optional_type_proto(tensor(TensorProto.FLOAT, [1])),
        "maybe_list": helper.make_optional_type_proto(
            helper.make_sequence_type_proto(tensor(TensorProto.DOUBLE, None))
        ),
        "table": helper.make_map_type_proto(TensorProto.STRING, tensor(TensorProto.FLOAT, None)),
    }
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "types",
            [make(name, type_proto) for name, type_proto in types.items()],
            [make("y", types["x"])],
        ),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=10,
    )
    graph = loaded(proto)
    oracle = onnxruntime.InferenceSession(proto.SerializeToString())
    assert {v.name: v.type for v in graph.inputs} == {v.name: v.type for v in oracle.get_inputs()}
    assert graph.outputs[0].type == oracle.get_outputs()[0].type


def test_initialized_inputs_are_not_required():
    text = (
        HEADER
        + """ old (float[2,3] x, float[3] w) => (float[2,3] y)
        { y = Mul(x, w) }"""
    )
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.float32([1, 2, 3]), "w"))
    graph = loaded(proto)
    assert [v.name for v in graph.inputs] == ["x"]
    assert [v.name for v in onnxruntime.InferenceSession(proto.SerializeToString()).get_inputs()] == ["x"]
    assert (graph.initializers[0].name, graph.initializers[0].type) == ("w", "tensor(float)")


def test_metadata():
    proto = onnx.parser.parse_model(HEADER + " net (float[1] x) => (float[1] y) { y = Relu(x) }")
    proto.producer_name, proto.producer_version, proto.domain, proto.model_version = "p", "1.2", "d", 7
    proto.doc_string, proto.graph.doc_string = "model", "graph"
    proto.metadata_props.add(key="labels", value="a,b")
    assert loaded(proto).metadata == {
        "producer_name": "p",
        "producer_version": "1.2",
        "domain": "d",
        "model_version": "7",
        "description": "model",
        "graph_name": "net",
        "graph_description": "graph",
        "custom:labels": "a,b",
    }


def test_unsorted_nodes_are_sorted():
    text = (
        HEADER
        + """ g (float[2,3] x, bool c) => (float[2,3] y)
        { y = If(c) <then_branch = t () => (float[2,3] p) { p = Neg(inner)  inner = Abs(late) },
                     else_branch = e () => (float[2,3] q) { q = Identity(late) }>
          late = Relu(early)
          early = Neg(x) }"""
    )
    graph = loaded(text)
    assert [(n.op_type, n.index) for n in graph.nodes] == [("Neg", 2), ("Relu", 1), ("If", 0)]
    (result,) = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString()).run(
        None, {"x": X, "c": np.array(True)}
    )
    np.testing.assert_array_equal(result, -np.maximum(-X, 0))


def test_outputs_may_be_inputs_or_initializers():
    graph = loaded(HEADER + " g (float[1] x) => (float[1] x, float[1] w) <float[1] w = {3}> { unused = Relu(x) }")
    assert graph.outputs == [graph.inputs[0], graph.initializers[0]]


# -- subgraphs --------------------------------------------------------------------------


def test_captured_values_are_the_same_objects():
    graph = loaded(
        HEADER
        + """ g (float[2,3] x, bool c) => (float[2,3] y) <float w = {2}>
        { a = Abs(x)
          y = If(c) <then_branch = t () => (float[2,3] p) { p = Mul(a, w) },
                     else_branch = e () => (float[2,3] a) { }> }"""
    )
    node = graph.nodes[1]
    then, otherwise = node.attributes["then_branch"], node.attributes["else_branch"]
    assert then.nodes[0].inputs == [graph.nodes[0].output, graph.initializers[0]]
    assert otherwise.outputs == [graph.nodes[0].output]
    assert graph.nodes[0].output in then.captures()


def test_inner_names_shadow_outer_ones():
    graph = loaded(
        HEADER
        + """ g (float[2,3] x, bool c) => (float[2,3] y)
        { v = Abs(x)
          y = If(c) <then_branch = t () => (float[2,3] p) { v = Neg(x)  p = Relu(v) },
                     else_branch = e () => (float[2,3] q) { q = Relu(v) }> }"""
    )
    branches = graph.nodes[1].attributes
    then = branches["then_branch"]
    assert then.nodes[1].inputs == [then.nodes[0].output]
    assert branches["else_branch"].nodes[0].inputs == [graph.nodes[0].output]


# -- attributes and tensors -------------------------------------------------------------


@pytest.fixture
def attribute_op():
    """An operator that takes any attribute."""
    from tinyonnx import registry

    def anything(x: Any, **attributes: Any) -> Any:
        return x

    tinyonnx.op("Anything", domain="test.load")(anything)
    yield
    del registry._OPS["test.load", "Anything"]


@pytest.mark.usefixtures("attribute_op")
def test_attributes_are_python_values():
    node = helper.make_node("Anything", ["x"], ["y"], domain="test.load")
    dense = numpy_helper.from_array(np.float32([1, 2]), "dense")
    sparse = helper.make_sparse_tensor(dense, numpy_helper.from_array(np.int64([0, 3])), [4])
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    given = {"i": 3, "f": 0.5, "s": "é", "ints": [1, 2], "floats": [0.5, 1.0], "strings": ["a", "b"]}
    for name, value in {**given, "t": dense, "sparse": sparse, "kind": kind, "tensors": [dense]}.items():
        node.attribute.append(helper.make_attribute(name, value))
    signature = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = loaded(
        helper.make_model(
            helper.make_graph([node], "g", signature[:1], signature[1:]),
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("test.load", 1)],
        )
    )
    attributes = graph.nodes[0].attributes
    assert {name: attributes[name] for name in given} == given
    np.testing.assert_array_equal(attributes["t"], np.float32([1, 2]))
    np.testing.assert_array_equal(attributes["tensors"][0], np.float32([1, 2]))
    np.testing.assert_array_equal(attributes["sparse"], np.float32([1, 0, 0, 2]))
    assert attributes["kind"] == kind


def initializer(tensor: TensorProto) -> np.ndarray:
    proto = onnx.parser.parse_model(HEADER + " g (float[1] x) => (float[1] y) { y = Relu(x) }")
    proto.graph.initializer.append(tensor)
    const = loaded(proto).initializers[0].const
    assert const is not None
    assert not const.flags.writeable
    return const


DTYPES = [n for n, v in TensorProto.DataType.items() if v not in (TensorProto.UNDEFINED, TensorProto.STRING)]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (5, 1)])
def test_every_dtype_raw_and_typed(name, raw, shape):
    number = TensorProto.DataType.Value(name)
    values = np.arange(np.prod(shape, dtype=int)).astype(helper.tensor_dtype_to_np_dtype(number))
    if raw:
        tensor = numpy_helper.from_array(values.reshape(shape), "w")
    else:
        tensor = helper.make_tensor("w", number, shape, values)
    actual = initializer(tensor)
    expected = values.reshape(shape)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(actual.astype(np.complex128), expected.astype(np.complex128))


def test_strings_are_str():
    tensor = helper.make_tensor("w", TensorProto.STRING, [2, 1], ["é", ""])
    assert initializer(tensor).tolist() == [["é"], [""]]


def test_any_nonzero_byte_is_true():
    tensor = TensorProto(name="w", data_type=TensorProto.BOOL, dims=[3], raw_data=b"\x00\x02\xff")
    assert initializer(tensor).view(np.uint8).tolist() == [0, 1, 1]


def test_raw_data_is_not_copied():
    array = initializer(numpy_helper.from_array(np.ones((16, 16), np.float32), "w"))
    root: Any = array
    while isinstance(root, np.ndarray):
        root = root.base
    assert isinstance(root, bytes)


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_initializers_are_dense(indices):
    proto = onnx.parser.parse_model(HEADER + " g (float[2,3] x) => (float[2,3] y) { y = Add(x, s) }")
    values = numpy_helper.from_array(np.float32([7, 8]), "s")
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64(indices)), [2, 3])
    )
    np.testing.assert_array_equal(loaded(proto).initializers[0].const, np.float32([[0, 7, 0], [0, 0, 8]]))


# -- functions --------------------------------------------------------------------------

FUNCTIONS = '<ir_version: 9, opset_import: ["": 18, "f": 1]>'


def test_functions_calling_functions():
    graph = runs_like(
        by_onnxruntime,
        FUNCTIONS
        + """ g (float[2,3] x) => (float[2,3] y, float[2,3] z)
        { [first] a = f.Outer<alpha = 0.5>(x)
          y = f.Outer<alpha = 0.25>(a)
          z = Neg(a) }
        <domain: "f", opset_import: ["": 18]> Leak <slope> (v) => (w)
        { t = LeakyRelu<alpha: float = @slope>(v)  w = Neg(t) }
        <domain: "f", opset_import: ["": 18, "f": 1]> Outer <alpha> (v) => (w)
        { t = f.Leak<slope: float = @alpha>(v)  w = Mul(t, t) }""",
        {"x": X},
    )
    assert [(n.op_type, n.index) for n in graph.nodes] == [
        ("LeakyRelu", 0),
        ("Neg", 0),
        ("Mul", 0),
        ("LeakyRelu", 1),
        ("Neg", 1),
        ("Mul", 1),
        ("Neg", 2),
    ]
    assert [n.output.name for n in graph.nodes] == ["first/t/t", "first/t", "a", "y/t/t", "y/t", "y", "z"]
    assert [n.attributes.get("alpha") for n in graph.nodes[::3]] == [0.5, 0.25, None]


def test_function_names_never_collide():
    graph = runs_like(
        onnx.reference.ReferenceEvaluator,
        FUNCTIONS
        + """ g (float[2,3] x) => (float[2,3] y, float[2,3] z)
        { u = Abs(x)
          [call] a = f.F(u)
          [call] b = f.F(a)
          y = Add(b, u)
          z = Neg(a) }
        <domain: "f", opset_import: ["": 18]> F (v) => (w) { t = Exp(v)  w = Neg(t) }""",
        {"x": X},
    )
    names = [v.name for n in graph.nodes for v in n.outputs if v is not None]
    assert len(set(names)) == len(names)


def test_own_values_keep_their_names_beside_those_of_functions():
    proto = onnx.parser.parse_model(
        FUNCTIONS
        + """ g (float[2,3] x) => (float[2,3] y) { u = Abs(x)  [call] a = f.F(u)  y = Add(a, u) }
        <domain: "f", opset_import: ["": 18]> F (v) => (w) { t = Exp(v)  w = Neg(t) }"""
    )
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = proto.graph.node[2].input[1] = "call/t"
    graph = loaded(proto)
    assert [n.output.name for n in graph.nodes] == ["call/t", "call/t'", "a", "y"]


def test_attribute_defaults_and_absent_references():
    text = (
        FUNCTIONS
        + """ g (float[2,3] x) => (float[2,3] y, float[2,3] z) { y = f.F(x)  z = f.F<alpha = 0.75>(x) }
        <domain: "f", opset_import: ["": 18]> F <beta, alpha: float = 0.5> (v) => (w)
        { t = LeakyRelu<alpha: float = @alpha>(v)  w = Elu<alpha: float = @beta>(t) }"""
    )
    graph = loaded(text)
    assert [n.attributes for n in graph.nodes] == [{"alpha": 0.5}, {}, {"alpha": 0.75}, {}]


def test_absent_inputs_and_outputs_of_functions():
    graph = loaded(
        FUNCTIONS
        + """ g (float[2,3] x, float hi) => (float[2,3] y) { y = f.F(x, , hi) }
        <domain: "f", opset_import: ["": 18]> F (v, lo, hi, more) => (w, extra)
        { w = Clip(v, lo, hi)  extra = Sum(v) }"""
    )
    clip, extra = graph.nodes
    assert clip.inputs == [graph.inputs[0], None, graph.inputs[1]]
    assert extra.output.name == "y/extra"


def test_functions_with_their_own_opset():
    graph = loaded(
        FUNCTIONS
        + """ g (float[2,3] x) => (float[2,3] y) { t = f.F(x)  y = Relu(t) }
        <domain: "f", opset_import: ["": 13]> F (v) => (w) { w = Relu(v) }"""
    )
    assert [n.opset for n in graph.nodes] == [13, 18]


def test_function_that_returns_its_input():
    graph = runs_like(
        onnx.reference.ReferenceEvaluator,
        FUNCTIONS
        + """ g (float[2,3] x) => (float[2,3] y) { t = f.Same(x)  y = Relu(t) }
        <domain: "f", opset_import: ["": 18]> Same (v) => (v) { unused = Abs(v) }""",
        {"x": X},
    )
    assert graph.nodes[-1].inputs == graph.inputs


@pytest.mark.parametrize("flag", [True, False])
def test_subgraphs_in_functions_see_only_the_function(flag):
    graph = runs_like(
        by_onnxruntime,
        FUNCTIONS
        + """ g (float[2,3] x, bool c) => (float[2,3] y) { v = Neg(x)  y = f.F(x, c) }
        <domain: "f", opset_import: ["": 18]> F (v, c) => (w)
        { w = If(c) <then_branch = t () => (float[2,3] p) { u = Abs(v)  p = Neg(u) },
                     else_branch = e () => (float[2,3] q) { q = Identity(v) }> }""",
        {"x": X, "c": np.array(flag)},
    )
    then = graph.nodes[1].attributes["then_branch"]
    assert then.nodes[0].inputs == [graph.inputs[0]]
    assert then.nodes[0].output.name == "y/u"


def test_graphs_passed_to_functions_capture_where_they_were_written():
    text = (
        FUNCTIONS
        + """ g (float[2,3] x, bool c) => (float[2,3] y)
        { v = Neg(x)
          y = f.Twice<body = b () => (float[2,3] p) { p = Abs(v) }>(x, c) }
        <domain: "f", opset_import: ["": 18]> Twice <body> (v, c) => (w)
        { s = If(c) <then_branch: graph = @body, else_branch: graph = @body>  w = Add(s, v) }"""
    )
    graph = loaded(text)
    branches = graph.nodes[1].subgraphs
    assert len(branches) == 2
    assert branches[0] is not branches[1]
    assert all(b.nodes[0].inputs == [graph.nodes[0].output] for b in branches)


def test_constants_of_functions_are_shared_by_all_calls():
    graph = loaded(
        FUNCTIONS
        + """ g (float[3] x) => (float[3] y) { t = f.F(x)  y = f.F(t) }
        <domain: "f", opset_import: ["": 18]> F (v) => (w)
        { k = Constant<value = float[3] {1, 2, 3}>()  w = Add(v, k) }"""
    )
    first, second = (n.attributes["value"] for n in graph.nodes[::2])
    assert first is second


# -- files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["mn04_dynamo", "mn04_hear_multi_output", "mn04_torchscript", "mn04_torchscript_opset13"]
)
def test_exports(shared: Path, name: str):
    path = shared / "data/onnx" / f"{name}.onnx"
    graph = load(path, Limits())
    graph.verify()
    oracle = onnx.load(path)
    assert len(graph.nodes) == len(oracle.graph.node)
    assert graph.output_names == [o.name for o in oracle.graph.output]
    assert graph.initializers
    for value, tensor in zip(graph.initializers, oracle.graph.initializer, strict=True):
        np.testing.assert_array_equal(value.const, numpy_helper.to_array(tensor))


def test_external_data(tmp_path: Path):
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(3, dtype=np.int64), np.bool_([True, False])]
    proto = onnx.parser.parse_model(HEADER + " g (float[1] x) => (float[1] y) { y = Relu(x) }")
    for i, array in enumerate(arrays):
        proto.graph.initializer.append(numpy_helper.from_array(array, f"w{i}"))
    (tmp_path / "sub").mkdir()
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="sub/m.data", size_threshold=0)
    for graph in (
        load(tmp_path / "m.onnx", Limits()),
        load((tmp_path / "m.onnx").read_bytes(), Limits(), folder=tmp_path),
    ):
        graph.verify()
        for value, expected in zip(graph.initializers, arrays, strict=True):
            np.testing.assert_array_equal(value.const, expected)
            assert value.dtype == expected.dtype
