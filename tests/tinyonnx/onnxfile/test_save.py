from __future__ import annotations

import os
import stat

import ml_dtypes
import numpy as np
import onnx
import onnx.checker
import onnx.parser
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tinyonnx import Graph, ModelError, Node, Value, save_model, to_bytes
from tinyonnx.onnxfile.load import load

F32 = np.dtype(np.float32)


def described(graph: Graph) -> object:
    """Return everything of a graph that a file holds, comparable."""

    def value(v):
        return None if v is None else v.name

    def declared(v):
        return v.name, v.type, v.shape

    def attribute(a):
        if isinstance(a, Graph):
            return described(a)
        if isinstance(a, np.ndarray):
            return a.dtype, a.shape, a.tolist() if a.dtype.hasobject else a.tobytes()
        if isinstance(a, list):
            return [attribute(item) for item in a]
        return type(a), str(a)

    return (
        graph.name,
        graph.opsets,
        graph.metadata,
        [declared(v) for v in graph.inputs],
        [(v.name, attribute(v.const)) for v in graph.initializers],
        [
            (
                n.op_type,
                n.domain,
                n.opset,
                n.name,
                [value(v) for v in n.inputs],
                [value(v) for v in n.outputs],
                {k: attribute(a) for k, a in n.attributes.items()},
            )
            for n in graph.nodes
        ],
        graph.output_names,
        [declared(v) for v in graph.outputs],
    )


def reloaded(graph: Graph) -> Graph:
    """Write a graph and read it back; assert that onnx finds the file valid and that both graphs are equal."""
    data = to_bytes(graph)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    again = load(data)
    again.verify()
    assert to_bytes(again) == data
    return again


def round_trip(text: str) -> onnx.ModelProto:
    graph = load(onnx.parser.parse_model(text).SerializeToString())
    assert described(reloaded(graph)) == described(graph)
    return onnx.load_from_string(to_bytes(graph))


def small(op_type: str = "Relu", attributes=None, opset: int = 17, **options) -> Graph:
    graph = Graph("small", {"": opset})
    x = graph.add_input(Value("x", F32, ("n", 3)))
    y = Value("y", F32, ("n", 3))
    graph.add_node(Node(op_type, [x], [y], attributes, opset=opset, name="only", **options))
    graph.add_output(y)
    return graph


# -- content that is kept -----------------------------------------------------------------


def test_a_built_graph_runs_elsewhere(tmp_path):
    graph = Graph("built", {"": 17})
    graph.metadata = {"producer_name": "test", "custom:key": "value", "model_version": "3"}
    x = graph.add_input(Value("x", F32, ("batch", 3)))
    w = graph.add_initializer("w", np.arange(12, dtype=np.float32).reshape(3, 4))
    h, y = Value("h"), Value("y", F32, ("batch", 4))
    graph.add_node(Node("Gemm", [x, w], [h], {"alpha": 2, "beta": 1.0}, opset=17, name="gemm"))
    graph.add_node(Node("Clip", [h, None, graph.add_initializer("top", np.float32(9.0).reshape(()))], [y], opset=17))
    graph.add_output(y)
    path = tmp_path / "model.onnx"
    save_model(graph, path)

    data = np.ones((2, 3), np.float32)
    (result,) = ort.InferenceSession(path).run(None, {"x": data})
    np.testing.assert_array_equal(result, np.minimum(2 * data @ w.const, 9))
    again = load(path)
    assert again.metadata["producer_name"] == "test"
    assert again.metadata["custom:key"] == "value"
    assert again.metadata["model_version"] == "3"
    assert again.nodes[0].attributes == {"alpha": 2.0, "beta": 1.0}
    (arg,) = ort.InferenceSession(path).get_inputs()
    assert (arg.name, arg.type, arg.shape) == ("x", "tensor(float)", ["batch", 3])


def test_constants_are_raw_data():
    model = onnx.load_from_string(to_bytes(constants_of(np.arange(6, dtype=np.float32))))
    (tensor,) = model.graph.initializer
    assert len(tensor.raw_data) == 24
    assert not tensor.float_data


def constants_of(array: np.ndarray) -> Graph:
    graph = Graph("constants", {"": 21})
    value = graph.add_initializer("c", array)
    y = Value("y", array.dtype, array.shape)
    graph.add_node(Node("Identity", [value], [y], opset=21))
    graph.add_output(y)
    return graph


@pytest.mark.parametrize(
    "dtype",
    [
        *("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16", ">f4", ">i8"),
        *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4, ml_dtypes.uint4),
    ],
)
def test_every_type_of_constant(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    graph = load(to_bytes(constants_of(array)))
    constant = graph.initializers[0].const
    assert constant.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(constant, array)


def test_constants_of_strings_and_odd_layouts():
    for array in (
        np.array([["a", "é"], ["", "d"]], object),
        np.zeros((0, 3), np.float32),
        np.float64(2.5).reshape(()),
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)[::2],
        np.broadcast_to(np.float32(3), (2, 5)),
    ):
        constant = load(to_bytes(constants_of(array))).initializers[0].const
        assert constant.shape == array.shape
        assert constant.tolist() == array.tolist()


def test_subgraphs_and_captured_values():
    round_trip("""
        <ir_version: 8, opset_import: ["": 17]>
        outer (bool flag, float[n] x) => (float[n] y)
        <float[1] two = {2.0}> {
            twice = Mul(x, two)
            y = If (flag) <
                then_branch = then () => (float[n] a) { a = Add(twice, x) },
                else_branch = else () => (float[n] b) <float[1] three = {3.0}> {
                    inner = If (flag) <
                        then_branch = t () => (float[n] c) { c = Neg(twice) },
                        else_branch = e () => (float[n] d) { d = Mul(x, three) }
                    >
                    b = Sub(inner, two)
                }
            >
        }""")


def test_loops_and_sequences():
    round_trip("""
        <ir_version: 8, opset_import: ["": 17]>
        loop (float[3] x, int64 n, bool go, seq(float) s) => (float[3] last, float[m, 3] all, seq(float) t) {
            last, all = Loop (n, go, x) <
                body = body (int64 i, bool on, float[3] v) => (bool still, float[3] w, float[3] scanned) {
                    still = Identity(on)
                    w = Add(v, x)
                    scanned = Identity(w)
                }
            >
            t = Identity(s)
        }""")


def test_kinds_of_attributes():
    values = {
        "i": 3,
        "b": True,
        "n": np.int64(4),
        "f": 2.5,
        "e": np.float32(1.5),
        "s": "é",
        "ints": [1, 2],
        "pair": (3, 4),
        "floats": [1.0, 2.5],
        "mixed": [1, 2.5],
        "strings": ["a", "b"],
        "none": None,
        "empty": [],
        "t": np.array([1.0, 2.0]),
        "tensors": [np.array([1]), np.array([2.0])],
        "type": helper.make_tensor_type_proto(TensorProto.FLOAT, [2]),
    }
    graph = small("Odd", values, domain="com.example")
    (node,) = onnx.load_from_string(to_bytes(graph)).graph.node
    kinds = {a.name: onnx.AttributeProto.AttributeType.Name(a.type) for a in node.attribute}
    assert kinds == {
        "i": "INT",
        "b": "INT",
        "n": "INT",
        "f": "FLOAT",
        "e": "FLOAT",
        "s": "STRING",
        "ints": "INTS",
        "pair": "INTS",
        "floats": "FLOATS",
        "mixed": "FLOATS",
        "strings": "STRINGS",
        "empty": "INTS",
        "t": "TENSOR",
        "tensors": "TENSORS",
        "type": "TYPE_PROTO",
    }
    back = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "empty"}
    assert (back["i"], back["b"], back["n"], back["f"], back["e"]) == (3, 1, 4, 2.5, 1.5)
    assert back["s"] == "é".encode()
    assert (back["ints"], back["pair"], back["floats"], back["mixed"]) == ([1, 2], [3, 4], [1.0, 2.5], [1.0, 2.5])
    np.testing.assert_array_equal(numpy_helper.to_array(back["t"]), values["t"])


def test_the_schema_decides_where_the_python_type_does_not():
    graph = small("Constant", {"value_floats": []})
    graph.nodes[0].inputs.clear()
    graph.inputs[0].uses.clear()
    (node,) = onnx.load_from_string(to_bytes(graph)).graph.node
    assert node.attribute[0].type == onnx.AttributeProto.FLOATS


def test_sparse_constants():
    dense = np.zeros((3, 4), np.float32)
    dense[1, 2], dense[2, 0] = 5, -1
    graph = Graph("sparse", {"": 17})
    y = Value("y", F32, (3, 4))
    graph.add_node(Node("Constant", [], [y], {"sparse_value": dense}, opset=17))
    graph.add_output(y)
    (node,) = onnx.load_from_string(to_bytes(graph)).graph.node
    assert node.attribute[0].type == onnx.AttributeProto.SPARSE_TENSOR
    np.testing.assert_array_equal(reloaded(graph).nodes[0].attributes["sparse_value"], dense)


def test_folded_constants_and_renamed_outputs():
    graph = small()
    x, y = graph.inputs[0], graph.outputs[0]
    folded = Value("folded", F32, (3,), np.ones(3, np.float32))
    z = Value("z", F32, ("n", 3))
    graph.add_node(Node("Add", [y, folded], [z], opset=17))
    graph.add_output(z, "result")
    graph.add_output(x)
    graph.add_output(folded)
    again = reloaded(graph)
    assert [v.name for v in again.initializers] == ["folded"]
    assert again.output_names == ["y", "result", "x", "folded"]
    assert again.nodes[-1].op_type == "Identity"


def test_a_subgraph_that_returns_a_captured_value():
    graph = Graph("g", {"": 17})
    flag, x = graph.add_input(Value("flag", np.dtype("?"), ())), graph.add_input(Value("x", F32, ("n",)))
    branches = {}
    for name in ("then_branch", "else_branch"):
        branches[name] = Graph(name, {"": 17})
        branches[name].add_output(x)
    y = Value("y", F32, ("n",))
    graph.add_node(Node("If", [flag], [y], branches, opset=17))
    graph.add_output(y)
    data = to_bytes(graph)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    feeds = {"flag": np.array(True), "x": np.arange(3, dtype=np.float32)}
    np.testing.assert_array_equal(ort.InferenceSession(data).run(None, feeds)[0], feeds["x"])


def test_the_exports(shared):
    for name in ("mn04_torchscript", "mn04_torchscript_opset13", "mn04_dynamo", "mn04_hear_multi_output"):
        graph = load(shared / f"data/onnx/{name}.onnx")
        assert described(reloaded(graph)) == described(graph), name


def test_operators_of_another_opset_with_the_same_meaning():
    graph = small()
    graph.nodes[0].opset = 14
    assert reloaded(graph).nodes[0].opset == 17


# -- content that is refused --------------------------------------------------------------


def refused(graph: Graph) -> str:
    with pytest.raises(ModelError) as caught:
        to_bytes(graph)
    return str(caught.value)


def test_names_used_twice():
    graph = small()
    graph.add_initializer("x", np.ones(1))
    assert '"x"' in refused(graph)
    graph = small()
    graph.add_output(graph.inputs[0], "y")
    assert '"y"' in refused(graph)
    graph = small()
    graph.add_output(graph.outputs[0])
    assert '"y"' in refused(graph)
    graph = small()
    graph.inputs[0].name = ""
    assert "no name" in refused(graph)


def test_shadowed_names():
    graph = Graph("g", {"": 17})
    flag = graph.add_input(Value("flag", np.dtype("?"), ()))
    body = Graph("body", {"": 17})
    body.add_output(body.add_initializer("flag", np.ones(1, np.float32)))
    y = Value("y", F32, (1,))
    graph.add_node(Node("If", [flag], [y], {"then_branch": body, "else_branch": body.clone()}, opset=17))
    graph.add_output(y)
    assert '"flag"' in refused(graph)


def test_values_that_nothing_produces():
    graph = small()
    graph.set_input(graph.nodes[0], 0, Value("ghost"))
    assert "ghost" in refused(graph)
    graph = small()
    graph.add_output(Value("ghost", F32, ()))
    assert "ghost" in refused(graph)


def test_inputs_and_outputs_without_a_type():
    for which in ("inputs", "outputs"):
        graph = small()
        value = getattr(graph, which)[0]
        value.dtype = None
        assert f'"{value.name}"' in refused(graph)
    graph = small()
    graph.inputs[0].type = "tensor(quaternion)"
    assert "quaternion" in refused(graph)


def test_several_opsets_of_one_domain():
    graph = small("Softmax")
    graph.nodes[0].opset = 11
    assert "opset 11" in refused(graph)


@pytest.mark.parametrize(
    "value",
    [{"a": 1}, object(), [1, "a"], [[1]], 1j, 1 << 63, b"bytes", np.array(["2020"], "M8[D]"), "\udc80"],
    ids=lambda value: type(value).__name__,
)
def test_attributes_that_onnx_has_not(value):
    message = refused(small("Odd", {"odd": value}, domain="com.example"))
    assert 'Odd "only"' in message
    assert '"odd"' in message


def test_constants_that_onnx_has_not():
    for array in (np.zeros(2, "M8[s]"), np.zeros(2, "f4,i4"), np.array([1, None], object)):
        assert '"c"' in refused(constants_of(array))


def test_too_large_for_one_file():
    graph = small()
    graph.add_initializer("huge", np.broadcast_to(np.float32(0), (1 << 15, 1 << 15)))
    assert "4294967296 bytes" in refused(graph)


# -- files --------------------------------------------------------------------------------


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    broken = small("Odd", {"odd": object()}, domain="com.example")
    with pytest.raises(ModelError):
        save_model(broken, path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_model(small(), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_files_links_and_what_is_none(tmp_path):
    target, link = tmp_path / "target.onnx", tmp_path / "link.onnx"
    link.symlink_to(target)
    save_model(small(), link)
    assert link.is_symlink()
    assert target.read_bytes() == to_bytes(small())
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    with pytest.raises(ModelError, match="not a regular file"):
        save_model(small(), tmp_path)
    with pytest.raises(OSError, match="No such file"):
        save_model(small(), tmp_path / "no" / "model.onnx")
