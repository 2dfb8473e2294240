"""Invalid nodes: the error names the node, the fault and the shapes, optimised or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyonnx
from tests.system.hostile.models import model, refused

X4, W4 = "float[1,4,8,8] x", "float[4,4,3,3] w"


def zeros(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[Any]:
    return [np.zeros(shape, dtype) for shape in shapes]


def image(size: int = 8) -> Any:
    return np.zeros((1, 4, size, size), np.float32)


# label, node, inputs, constants, feeds, and the text that the message must contain
NODES: dict[str, tuple[str, str, str, list[Any], list[str]]] = {
    # axes
    "axis": ("Softmax<axis=2>(x)", "float[a,b] x", "", zeros((2, 3)), ["axis 2", "rank 2", "f32[2,3]"]),
    "axis, smallest": (
        "Softmax<axis=-9223372036854775808>(x)",
        "float[a,b] x",
        "",
        zeros((2, 3)),
        ["axis -9223372036854775808"],
    ),
    "axis of Concat": ("Concat<axis=3>(x, x)", "float[a,b] x", "", zeros((2, 3)), ["axis 3", "f32[2,3]"]),
    "axis of one Concat": ("Concat<axis=3>(x)", "float[a,b] x", "", zeros((2, 3)), ["axis 3", "f32[2,3]"]),
    "axis of Gather": (
        "Gather<axis=-3>(x, i)",
        "float[a,b] x, int64[n] i",
        "",
        [*zeros((2, 3)), np.array([0])],
        ["axis -3"],
    ),
    "axes repeat": ("ReduceSum(x, a)", "float[a,b] x", "int64[2] a = {0, -2}", zeros((2, 3)), ["duplicates"]),
    "axes of Squeeze": ("Squeeze(x, a)", "float[a,b] x", "int64[1] a = {0}", zeros((2, 3)), ["f32[2,3]"]),
    "axes of Unsqueeze": ("Unsqueeze(x, a)", "float[a,b] x", "int64[2] a = {1, 1}", zeros((2, 3)), ["duplicates"]),
    "perm repeats": ("Transpose<perm=[0,0]>(x)", "float[a,b] x", "", zeros((2, 3)), ["perm", "f32[2,3]"]),
    "perm is short": ("Transpose<perm=[0]>(x)", "float[a,b] x", "", zeros((2, 3)), ["perm", "f32[2,3]"]),
    "perm is out of range": ("Transpose<perm=[0,2]>(x)", "float[a,b] x", "", zeros((2, 3)), ["perm", "f32[2,3]"]),
    # sizes that don't fit
    "Reshape": ("Reshape(x, s)", "float[a,b] x", "int64[2] s = {4, 2}", zeros((2, 3)), ["[2, 3]", "[4, 2]"]),
    "Reshape, two unknown": ("Reshape(x, s)", "float[a,b] x", "int64[2] s = {-1, -1}", zeros((2, 3)), ["[-1, -1]"]),
    "Reshape, overflow": (
        "Reshape(x, s)",
        "float[a,b] x",
        "int64[3] s = {4611686018427387904, 4, -1}",
        zeros((2, 3)),
        ["4611686018427387904"],
    ),
    "Reshape, negative": ("Reshape(x, s)", "float[a,b] x", "int64[2] s = {-6, -1}", zeros((2, 3)), ["[-6, -1]"]),
    "Split sums": ("Split(x, s)", "float[a,b] x", "int64[1] s = {1}", zeros((2, 3)), ["f32[2,3]"]),
    "Split negative": ("Split(x, s)", "float[a,b] x", "int64[1] s = {-2}", zeros((2, 3)), ["f32[2,3]"]),
    "Expand": ("Expand(x, s)", "float[a,b] x", "int64[2] s = {4, 3}", zeros((2, 3)), ["f32[2,3]"]),
    "broadcast": ("Add(x, w)", "float[a,b] x, float[c] w", "", zeros((2, 3), (2,)), ["f32[2,3], f32[2]"]),
    "MatMul": ("MatMul(x, w)", "float[a,b] x, float[c,d] w", "", zeros((2, 3), (2, 3)), ["f32[2,3], f32[2,3]"]),
    "Gemm": ("Gemm(x, w)", "float[a,b] x, float[c,d] w", "", zeros((2, 3), (2, 3)), ["f32[2,3], f32[2,3]"]),
    "Gemm's bias": (
        "Gemm(x, w, b)",
        "float[a,b] x, float[c,d] w, float[e] b",
        "",
        zeros((2, 3), (3, 4), (5,)),
        ["f32[5]"],
    ),
    # convolutions and pools
    "stride 0": ("Conv<strides=[0,1]>(x, w)", f"{X4}, {W4}", "", [image(), *zeros((4, 4, 3, 3))], ["strides [0, 1]"]),
    "dilation 0": (
        "Conv<dilations=[0,1]>(x, w)",
        f"{X4}, {W4}",
        "",
        [image(), *zeros((4, 4, 3, 3))],
        ["dilations [0, 1]"],
    ),
    "group 0": ("Conv<group=0>(x, w)", f"{X4}, {W4}", "", [image(), *zeros((4, 4, 3, 3))], ["group", "f32[4,4,3,3]"]),
    "groups": ("Conv<group=3>(x, w)", f"{X4}, {W4}", "", [image(), *zeros((4, 4, 3, 3))], ["group", "f32[4,4,3,3]"]),
    "channels": ("Conv(x, w)", f"{X4}, float[4,3,3,3] w", "", [image(), *zeros((4, 3, 3, 3))], ["f32[4,3,3,3]"]),
    "kernel of no size": (
        "Conv(x, w)",
        f"{X4}, float[4,4,0,3] w",
        "",
        [image(), *zeros((4, 4, 0, 3))],
        ["f32[4,4,0,3]"],
    ),
    "kernel too large": ("Conv(x, w)", f"{X4}, float[4,4,9,1] w", "", [image(), *zeros((4, 4, 9, 1))], ["larger", "9"]),
    "kernel_shape": (
        "Conv<kernel_shape=[5,5]>(x, w)",
        f"{X4}, {W4}",
        "",
        [image(), *zeros((4, 4, 3, 3))],
        ["kernel_shape"],
    ),
    "kernel 0": ("MaxPool<kernel_shape=[0,1]>(x)", X4, "", [image()], ["kernel_shape [0, 1]"]),
    "pool too large": ("AveragePool<kernel_shape=[9,1]>(x)", X4, "", [image()], ["larger", "9"]),
    "pads that cut all": (
        "Conv<pads=[-5,0,-4,0]>(x, w)",
        f"{X4}, {W4}",
        "",
        [image(), *zeros((4, 4, 3, 3))],
        ["[-5, 0, -4, 0]"],
    ),
    "pads of one axis": ("Conv<pads=[1,1]>(x, w)", f"{X4}, {W4}", "", [image(), *zeros((4, 4, 3, 3))], ["pads [1, 1]"]),
    "Pad that cuts all": ("Pad(x, p)", "float[a] x", "int64[2] p = {-2, -2}", zeros((3,)), ["f32[3]"]),
    "auto_pad": ('Conv<auto_pad="NO">(x, w)', f"{X4}, {W4}", "", [image(), *zeros((4, 4, 3, 3))], ["auto_pad", "'NO'"]),
    "empty pool": ("GlobalMaxPool(x)", "float[a,b,c] x", "", zeros((1, 2, 0)), ["f32[1,2,0]"]),
    "Resize by 0": ("Resize(x, , s)", "float[a] x", "float[1] s = {0}", zeros((3,)), ["scales [0"]),
    "Resize by NaN": (
        "Resize(x, , s)",
        "float[a] x, float[b] s",
        "",
        [*zeros((3,)), np.float32([np.nan])],
        ["scales [nan"],
    ),
    "Resize to less than nothing": ("Resize(x, , , s)", "float[a] x", "int64[1] s = {-1}", zeros((3,)), ["sizes [-1]"]),
    # indices
    "Gather": ("Gather(x, i)", "float[a] x, int64[n] i", "", [*zeros((3,)), np.array([3])], ["3", "f32[3], i64[1]"]),
    "Gather, smallest": (
        "Gather(x, i)",
        "float[a] x, int64[n] i",
        "",
        [*zeros((3,)), np.array([-(2**63)])],
        ["-9223372036854775808"],
    ),
    "GatherND": (
        "GatherND(x, i)",
        "float[a] x, int64[n,k] i",
        "",
        [*zeros((3,)), np.array([[7]])],
        ["f32[3], i64[1,1]"],
    ),
    "GatherElements": ("GatherElements(x, i)", "float[a] x, int64[n] i", "", [*zeros((3,)), np.array([-4])], ["-4"]),
    "ScatterElements": (
        "ScatterElements(x, i, x)",
        "float[a] x, int64[n] i",
        "",
        [*zeros((3,)), np.array([0, 1, 3])],
        ["3", "i64[3]"],
    ),
    "ScatterND": (
        "ScatterND(x, i, u)",
        "float[a] x, int64[n,k] i, float[c] u",
        "",
        [*zeros((3,)), np.array([[3]]), *zeros((1,))],
        ["f32[1]"],
    ),
    "OneHot's depth": (
        "OneHot(i, d, v)",
        "int64[n] i, int64 d, float[2] v",
        "",
        [np.array([1]), np.array(-1), *zeros((2,))],
        ["-1"],
    ),
    "Compress": ("Compress(x, c)", "float[a] x, bool[n] c", "", [*zeros((2,)), np.ones(5, bool)], ["f32[2], bool[5]"]),
    "TopK": ("TopK(x, k)", "float[a] x, int64[1] k", "", [*zeros((2,)), np.array([3])], ["3", "f32[2]"]),
    # types
    "types differ": (
        "Add(x, w)",
        "float[a] x, int64[b] w",
        "",
        [*zeros((3,)), np.zeros(3, np.int64)],
        ["tensor(float)", "tensor(int64)"],
    ),
    "strings can't be added": (
        "Add(x, x)",
        "string[a] x",
        "",
        [np.array(["a"], object)],
        ["A can't be tensor(string)", "str[1]"],
    ),
    "no sine of integers": (
        "Sin(x)",
        "int32[a] x",
        "",
        [np.zeros(3, np.int32)],
        ["input can't be tensor(int32)", "i32[3]"],
    ),
    "shape of floats": (
        "Reshape(x, s)",
        "float[a] x, float[b] s",
        "",
        zeros((3,), (1,)),
        ["shape can't be tensor(float)"],
    ),
    "If of an integer": (
        "If(c) <then_branch = t () => (p) { p = Identity(x) }, else_branch = e () => (q) { q = Identity(x) }>",
        "float[a] x",
        "int64 c = {1}",
        zeros((3,)),
        ["cond can't be tensor(int64)"],
    ),
    "If of two": (
        "If(c) <then_branch = t () => (p) { p = Identity(x) }, else_branch = e () => (q) { q = Identity(x) }>",
        "float[a] x",
        "bool[2] c = {1, 1}",
        zeros((3,)),
        ["one boolean", "bool[2]"],
    ),
    "a sequence for a tensor": ("Relu(s)", "seq(float[a]) s", "", [zeros((3,))], ["X can't be seq(tensor(float))"]),
    "a tensor for a sequence": ("SequenceLength(x)", "float[a] x", "", zeros((3,)), ["can't be tensor(float)"]),
    "position in a sequence": (
        "SequenceAt(s, i)",
        "seq(float[a]) s, int64 i",
        "",
        [zeros((3,)), np.array(1)],
        ["position 1", "seq(1)"],
    ),
    "Cast of words": ("Cast<to=1>(x)", "string[a] x", "", [np.array(["one"], object)], ["one", "str[1]"]),
    # loops
    "body gives too little": (
        "Loop(n, c, x) <body = b (int64 i, bool d, float[a] v) => (d) { e = Relu(v) }>",
        "float[a] x",
        "int64 n = {2}, bool c = {1}",
        zeros((3,)),
        ["1 outputs"],
    ),
    "body takes too little": (
        "Loop(n, c, x) <body = b (int64 i) => (d, v) { d = Constant<value = bool {1}>() v = Relu(x) }>",
        "float[a] x",
        "int64 n = {2}, bool c = {1}",
        zeros((3,)),
        ["takes 1 inputs, got 3"],
    ),
    "Loop goes on if it is a float": (
        "Loop(n, c, x) <body = b (int64 i, bool d, float[a] v) => (e, v2) { e = Relu(v) v2 = Relu(v) }>",
        "float[a] x",
        "int64 n = {2}, bool c = {1}",
        zeros((3,)),
        ["boolean", "float32[3]"],
    ),
    "Scan over different lengths": (
        "Scan(x, w) <num_scan_inputs = 2, body = b (float p, float q) => (r) { r = Add(p, q) }>",
        "float[a] x, float[b] w",
        "",
        zeros((3,), (4,)),
        ["[3, 4]"],
    ),
    "Scan of more than there is": (
        "Scan(x) <num_scan_inputs = 2, body = b (float p, float q) => (r) { r = Add(p, q) }>",
        "float[a] x",
        "",
        zeros((3,)),
        ["num_scan_inputs"],
    ),
}


@pytest.mark.parametrize("case", NODES)
def test_nodes_that_fail(case: str, tmp_path: Path) -> None:
    node, inputs, constants, feeds, expected = NODES[case]
    op_type = node.partition("(")[0].partition("<")[0].strip()
    names = [declared.split()[-1] for declared in _split(inputs)]
    refused(
        model(f"[act] y = {node}", inputs, constants=constants),
        tinyonnx.NodeError,
        f'{op_type} "act" (node 0, opset 18): ',
        *expected,
        folder=tmp_path,
        feeds=dict(zip(names, feeds, strict=True)),
    )


def _split(inputs: str) -> list[str]:
    """Split at the commas between inputs, not at those between dimensions."""
    parts, depth = [""], 0
    for character in inputs:
        depth += (character in "[(") - (character in "])")
        parts[-1] += character
        if character == "," and not depth:
            parts[-1] = parts[-1][:-1]
            parts.append("")
    return parts


# attributes of the wrong type, and wrong numbers of operands: known when the model is loaded
CALLS = {
    "Softmax<axis=1.0>(x)": 'attribute "axis" is a float, must be an int',
    'Softmax<axis="1">(x)': 'attribute "axis" is a string, must be an int',
    "Softmax<axis=[1]>(x)": 'attribute "axis" is a list of ints, must be an int',
    "LeakyRelu<alpha=1>(x)": 'attribute "alpha" is an int, must be a float',
    "LeakyRelu<alpha = g () => (z) { z = Relu(x) }>(x)": 'attribute "alpha" is a graph, must be a float',
    "Conv<pads=1>(x, x)": 'attribute "pads" is an int, must be a list of ints',
    "Conv<pads=[1.5]>(x, x)": 'attribute "pads" is a list of floats, must be a list of ints',
    'Conv<auto_pad=["VALID"]>(x, x)': 'attribute "auto_pad" is a list of strings, must be a string',
    "Constant<value=1>()": 'attribute "value" is an int, must be a tensor',
    "If<then_branch=1, else_branch=2>(x)": 'attribute "then_branch" is an int, must be a graph',
    "Conv<strides=[1], strides=[2]>(x, x)": 'attribute "strides" is given twice',
    "Softmax<axes=1>(x)": 'unknown attribute "axes"',
    "Concat(x, x)": 'required attribute "axis" is missing',
    "ReduceSum()": "has 0 of 1 required inputs",
    "Sum()": "has 0 of 1 required inputs",
    "Add(x)": "has 1 of 2 required inputs",
    "Relu(x, x)": "has 2 inputs, takes at most 1",
}


@pytest.mark.parametrize("node", CALLS)
def test_calls_that_are_none(node: str, tmp_path: Path) -> None:
    name = node.partition("(")[0].partition("<")[0].strip()
    refused(model(f"[act] y = {node}"), tinyonnx.ModelError, f'{name} "act" (node 0): {CALLS[node]}', folder=tmp_path)


def test_more_outputs_than_there_are(tmp_path: Path) -> None:
    refused(
        model("[act] y, z = Relu(x)"), tinyonnx.ModelError, 'Relu "act" (node 0): has 2 outputs, gives at most 1',
        folder=tmp_path,
    )  # fmt: skip


def test_an_optional_without_an_element_is_no_tensor(tmp_path: Path) -> None:
    refused(
        model("e = Optional<type = float[2]>() [act] y = Relu(e)"),
        tinyonnx.NodeError,
        'Relu "act" (node 1, opset 18): X is missing, or an optional without',
        folder=tmp_path,
        feeds={"x": np.zeros(1, np.float32)},
    )


def test_a_rule_that_foresees_less_than_nothing(tmp_path: Path) -> None:
    trees = (
        "n_targets = -3, leaf_targetids = [0], leaf_weights = float[1] {1}, nodes_falseleafs = [1], "
        "nodes_falsenodeids = [0], nodes_featureids = [0], nodes_modes = uint8[1] {0}, nodes_splits = float[1] {1}, "
        "nodes_trueleafs = [1], nodes_truenodeids = [0], tree_roots = [0]"
    )
    proto = model(f"[act] y = ai.onnx.ml.TreeEnsemble<{trees}>(x)", "float[n,k] x")
    proto.opset_import[2].version = 5
    refused(proto, tinyonnx.NodeError, 'TreeEnsemble "act"', folder=tmp_path, feeds={"x": np.zeros((6, 1), np.float32)})


@pytest.mark.parametrize(("inputs", "opset"), [(", , x", 8), (", x", 9)])
def test_a_missing_state_of_a_scan(inputs: str, opset: int, tmp_path: Path) -> None:
    body = "b (float[c] s, float[c] v) => (t, w) { t = Add(s, v) w = Identity(t) }"
    proto = model(f"[act] y, z = Scan({inputs})<num_scan_inputs = 1, body = {body}>", "float[a,b,c] x", opset=opset)
    refused(proto, tinyonnx.NodeError, "missing", folder=tmp_path, feeds={"x": np.zeros((1, 3, 2), np.float32)})


def test_variadic_inputs_are_all_there(tmp_path: Path) -> None:
    for op_type in ("Max", "Sum", "Concat<axis=0>"):
        proto = model(f"[act] y = {op_type}(x, , x)")
        refused(proto, tinyonnx.NodeError, "missing", folder=tmp_path, feeds={"x": np.zeros(1, np.float32)})


def test_onnxruntimes_operators_take_tensors_only(tmp_path: Path) -> None:
    proto = model("[act] y = com.microsoft.FastGelu(s)", "seq(float[a]) s")
    expected = 'com.microsoft.FastGelu "act" (node 0, opset 1): an input can\'t be seq(tensor(float))'
    refused(proto, tinyonnx.NodeError, expected, folder=tmp_path, feeds={"s": zeros((3,))})


def test_bounds_of_another_type(tmp_path: Path) -> None:
    proto = model(
        "c = Conv(x, w) [act] y = Clip(c, , six)",
        "float[1,1,3,3] x",
        constants="float[1,1,1,1] w = {1}, int64 six = {6}",
    )
    feeds = {"x": np.zeros((1, 1, 3, 3), np.float32)}
    refused(proto, tinyonnx.NodeError, "input and max must have the same type", folder=tmp_path, feeds=feeds)
