"""Small models that demand much memory, time or depth: the limits hold, and the memory is never allocated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tinyonnx
from tests.system.hostile.models import in_time, model, refused, session, within

LIMIT = 1 << 20
LARGE = 1 << 24

# node, inputs, constants, feeds
BOMBS: dict[str, tuple[str, str, str, list[Any]]] = {
    "ConstantOfShape": ("ConstantOfShape(s)", "int64[1] s", "", [np.array([LARGE])]),
    "ConstantOfShape, constant": ("ConstantOfShape(s)", "float[n] x", "int64[1] s = {16777216}", [np.zeros(1, "f4")]),
    "Range": ("Range(a, b, c)", "int64 a, int64 b, int64 c", "", [np.array(0), np.array(LARGE), np.array(1)]),
    "Range of floats": (
        "Range(a, b, c)",
        "float a, float b, float c",
        "",
        [np.float32(0), np.float32(1), np.float32(1e-30)],
    ),
    "Tile": ("Tile(x, r)", "float[n] x, int64[1] r", "", [np.zeros(4, "f4"), np.array([LARGE])]),
    "Expand": ("Expand(x, s)", "float[n] x, int64[2] s", "", [np.zeros(4, "f4"), np.array([LARGE, 4])]),
    "Resize": ("Resize(x, , s)", "float[n] x, float[1] s", "", [np.zeros(4, "f4"), np.float32([LARGE])]),
    "Resize to sizes": ("Resize(x, , , s)", "float[n] x, int64[1] s", "", [np.zeros(4, "f4"), np.array([LARGE])]),
    "Upsample": ("Resize(x, , s)", "float[n] x", "float[1] s = {16777216}", [np.zeros(4, "f4")]),
    "Pad": ("Pad(x, p)", "float[n] x, int64[2] p", "", [np.zeros(4, "f4"), np.array([0, LARGE])]),
    "OneHot": (
        "OneHot(i, d, v)",
        "int64[n] i, int64 d, float[2] v",
        "",
        [np.zeros(4, "i8"), np.array(LARGE), np.zeros(2, "f4")],
    ),
    "Concat": (f"Concat<axis=0>({', '.join(['x'] * 64)})", "float[n] x", "", [np.zeros(1 << 13, "f4")]),
    "MatMul": (
        "MatMul(a, b)",
        "float[n,k] a, float[k,m] b",
        "",
        [np.zeros((1 << 12, 1), "f4"), np.zeros((1, 1 << 12), "f4")],
    ),
    "broadcast": ("Add(a, b)", "float[n,k] a, float[m] b", "", [np.zeros((1 << 12, 1), "f4"), np.zeros(1 << 12, "f4")]),
    "Gather": ("Gather(x, i)", "float[n,k] x, int64[m] i", "", [np.zeros((1, 1 << 12), "f4"), np.zeros(1 << 12, "i8")]),
    "EyeLike": ("EyeLike(a)", "float[n,k] a", "", [np.zeros((1 << 10, 1 << 9), "f4")]),
    "ConvTranspose": (
        "ConvTranspose<strides=[16777216]>(x, w)",
        "float[n,c,w] x, float[1,1,1] w",
        "",
        [np.zeros((1, 1, 8), "f4"), np.zeros((1, 1, 1), "f4")],
    ),
    "RoiAlign": (
        "RoiAlign<output_height=8192, output_width=8192>(x, r, i)",
        "float[n,c,h,w] x, float[k,4] r, int64[k] i",
        "",
        [np.zeros((1, 1, 4, 4), "f4"), np.zeros((1, 4), "f4"), np.zeros(1, "i8")],
    ),
    "HannWindow": ("HannWindow(n)", "int64 n", "", [np.array(LARGE)]),
    "RandomNormal": ("RandomNormal<shape=[16777216]>()", "float[n] x", "", [np.zeros(1, "f4")]),
}


PADDED = {
    "MaxPool": 'kernel_shape=[2147483647], auto_pad="SAME_UPPER"',
    "AveragePool": "kernel_shape=[9], strides=[16777216], pads=[8388608,8388608]",
    "AveragePool, wide": 'kernel_shape=[2147483647], auto_pad="SAME_LOWER", count_include_pad=1',
    "LpPool": "kernel_shape=[9], strides=[16777216], pads=[8388608,8388608]",
    "Conv": "strides=[16777216], pads=[8388608,8388608]",
}


@pytest.mark.parametrize("level", [0, 99])
@pytest.mark.parametrize("case", PADDED)
def test_padding_is_no_bomb_either(case: str, level: int) -> None:
    """A kernel that needs no padded copy may do it; what makes one is refused."""
    op_type = case.partition(",")[0]
    proto = model(
        f"y = {op_type}<{PADDED[case]}>(x{', w' if op_type == 'Conv' else ''})", "float[n,c,w] x",
        constants="float[1,1,1] w = {1}",
    )  # fmt: skip

    def check() -> None:
        with in_time():
            try:
                (y,) = session(proto, level, max_tensor_bytes=LIMIT).run(None, {"x": np.ones((1, 1, 8), np.float32)})
            except tinyonnx.ResourceError as error:
                message = str(error)
            else:
                assert level == 99
                assert y.size < 10
                return
            assert "max_tensor_bytes" in message

    _again_within(8 * LIMIT, check)


@pytest.mark.parametrize("case", BOMBS)
def test_memory_bombs(case: str, tmp_path: Path) -> None:
    node, inputs, constants, feeds = BOMBS[case]
    op_type = node.partition("(")[0].partition("<")[0]
    proto = model(f"[act] y = {node}", inputs, constants=constants)
    fed = dict(zip((i.name for i in proto.graph.input), feeds, strict=True))
    expected = op_type, "max_tensor_bytes"

    def check() -> None:
        refused(proto, tinyonnx.ResourceError, *expected, folder=tmp_path, feeds=fed, max_tensor_bytes=LIMIT)

    _again_within(8 * LIMIT, check)


def _again_within(limit: int, check: Callable[[], None]) -> None:
    """Assert that the check passes, and passes again within that much memory, after imports and compilation."""
    check()
    with within(limit):
        check()


HUGE = """
import resource, sys
import numpy as np
import tinyonnx

tinyonnx.InferenceSession(open(sys.argv[1], "rb").read()).get_inputs()
gibibytes = 6 << 30
resource.setrlimit(resource.RLIMIT_AS, (gibibytes, gibibytes))
for path in sys.argv[1:]:
    for level in (0, 99):
        options = tinyonnx.SessionOptions()
        options.graph_optimization_level = tinyonnx.GraphOptimizationLevel(level)
        try:
            tinyonnx.InferenceSession(path, options).run(None, {"x": np.ones((1, 1, 4), np.float32)})
            print(path, level, "ran")
        except tinyonnx.ResourceError as error:
            assert "max_tensor_bytes" in str(error) or "too large" in str(error), error
# not ru_maxrss, which begins with that of the process that started this one
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are Linux's")
def test_bombs_of_terabytes_with_the_default_limits(tmp_path: Path) -> None:
    """2**40 elements and more; empty tensors whose other dimensions overflow 2**63."""
    nodes = [
        ("y = ConstantOfShape(s)", "int64[2] s = {1048576, 1048576}"),
        ("y = ConstantOfShape(s)", "int64[3] s = {0, 4611686018427387904, 4}"),
        ("y = ConstantOfShape(s)", "int64[3] s = {4611686018427387904, 4611686018427387904, 4}"),
        ("y = Expand(x, s)", "int64[4] s = {4611686018427387904, 1, 1, 4}"),
        ("y = Tile(x, s)", "int64[3] s = {1, 4611686018427387904, 4}"),
        ("y = Range(a, b, c)", "int64 a = {0}, int64 b = {4611686018427387904}, int64 c = {1}"),
        ("y = Pad(x, p)", "int64[6] p = {0, 0, 0, 0, 0, 1099511627776}"),
        ("y = Resize(x, , s)", "float[3] s = {1, 1, 1e15}"),
        ("y = Resize(x, , , s)", "int64[3] s = {1, 1, 4611686018427387904}"),
        ("y = OneHot(i, d, v)", "int64[1] i = {0}, int64 d = {4611686018427387904}, float[2] v = {0, 1}"),
        ('y = MaxPool<kernel_shape=[1125899906842624], auto_pad="SAME_UPPER">(x)', ""),
        ("y = Conv<strides=[1099511627776], pads=[1099511627776, 1099511627776]>(x, w)", "float[1,1,1] w = {1}"),
    ]
    paths = []
    for i, (node, constants) in enumerate(nodes):
        paths.append(tmp_path / f"{i}.onnx")
        paths[-1].write_bytes(model(node, "float[1,1,4] x", constants=constants).SerializeToString())
    for _ in range(2):  # the first may have to compile kernels, which takes memory, too
        command = [sys.executable, "-c", HUGE, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert "ran" not in done.stdout, done.stdout
    assert int(done.stdout) < 200


def test_results_whose_size_only_the_operator_knows(tmp_path: Path) -> None:
    ones = np.ones(1 << 18, np.float32)
    refused(
        model("[act] y = NonZero(x)"), tinyonnx.ResourceError, 'NonZero "act"', "i64[1,262144]", "max_tensor_bytes",
        folder=tmp_path, feeds={"x": ones}, max_tensor_bytes=LIMIT,
    )  # fmt: skip


@pytest.mark.parametrize(
    "node", ["Reshape(x, s)", "Expand(x, s)", "ConstantOfShape(s)", "Unsqueeze(x, t)", "Tile(u, s)"]
)
@pytest.mark.parametrize("fed", [True, False])
def test_ranks_beyond_numpys(node: str, fed: bool, tmp_path: Path) -> None:
    """Shapes of 65 dimensions, known to the planner or only during the run."""
    feeds = {"x": np.zeros(1, np.float32)}
    shape = {"s": np.ones(65, np.int64), "t": np.arange(1, 66)}
    constants = "float[1] u = {1}"
    inputs = "float[n] x"
    for name, values in shape.items():
        if fed:
            inputs += f", int64[65] {name}"
            feeds[name] = values
        else:
            constants += f", int64[65] {name} = {{{', '.join(map(str, values))}}}"
    proto = model(f"[act] y = {node}", inputs, constants=constants)
    refused(proto, tinyonnx.Error, '"act" (node 0', folder=tmp_path, feeds=feeds)


def test_endless_loops(tmp_path: Path) -> None:
    body = "b (int64 i, bool d, float[a] v) => (e, w) { e = Identity(d) w = Relu(v) }"
    for m in ("", "m"):
        endless = model(
            f"[act] y = Loop({m}, c, x) <body = {body}>", constants="bool c = {1}, int64 m = {9223372036854775807}"
        )
        feeds = {"x": np.zeros(1, np.float32)}
        refused(
            endless,
            tinyonnx.ResourceError,
            "max_loop_iterations",
            folder=tmp_path,
            feeds=feeds,
            max_loop_iterations=1000,
        )
        limits = {"max_seconds": 0.05, "max_loop_iterations": 1 << 60}
        refused(endless, tinyonnx.ResourceError, "max_seconds", folder=tmp_path, feeds=feeds, **limits)


def test_a_loop_that_fills_the_memory(tmp_path: Path) -> None:
    """Each iteration doubles the carried value; another loop keeps all values."""
    doubles = "b (int64 i, bool d, float[a] v) => (e, w) { e = Identity(d) w = Concat<axis=0>(v, v) }"
    stacks = "b (int64 i, bool d, float[a] v) => (e, w, s) { e = Identity(d) w = Identity(v) s = Identity(v) }"
    feeds = {"x": np.zeros(1 << 12, np.float32)}
    for body, outputs in ((doubles, "y"), (stacks, "y, z")):
        loop = model(f"[act] {outputs} = Loop(, c, x) <body = {body}>", outputs=outputs, constants="bool c = {1}")

        def check(loop: onnx.ModelProto = loop) -> None:
            error = tinyonnx.ResourceError
            refused(loop, error, "max_tensor_bytes", folder=tmp_path, feeds=feeds, max_tensor_bytes=LIMIT)

        _again_within(8 * LIMIT, check)


def test_very_many_nodes() -> None:
    """Loaded, planned and run in seconds; nothing about it is quadratic."""
    count = 10_000
    nodes = [helper.make_node("Neg" if i % 2 else "Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, [2])],
        [onnx.ValueInfoProto(name=f"v{count}")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for level in (0, 99):
        with in_time():
            (y,) = session(proto, level).run(None, {"v0": np.float32([1, -1])})
        assert y.tolist() == [0, 0]


@pytest.mark.parametrize("op_type", ["Relu", "Identity", "Neg"])
def test_a_value_that_very_many_read(op_type: str) -> None:
    count = 3000
    nodes = [helper.make_node(op_type, ["x"], [f"v{i}"]) for i in range(count)]
    nodes.append(helper.make_node("Sum", [f"v{i}" for i in range(count)], ["y"]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])], [onnx.ValueInfoProto(name="y")]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with in_time():
        (y,) = session(proto).run(None, {"x": np.float32([1, 1])})
    assert np.abs(y).tolist() == [count, count]
