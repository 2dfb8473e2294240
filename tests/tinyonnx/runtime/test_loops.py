"""Bodies of If, Loop and Scan on kernels, against the same graph on numpy, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

import tinyonnx
from tinyonnx.limits import Limits
from tinyonnx.runtime import loops
from tinyonnx.runtime.loops import CompiledLoop
from tinyonnx.runtime.numpy_call import NumpyCall

F32 = np.float32

needs_jit = pytest.mark.skipif(loops.DISABLED, reason="without the JIT every body runs step by step")


def session(
    text: str, limits: Limits | None = None, numpy: bool = False, threads: int = 1
) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    if limits is not None:
        options.limits = limits
    if numpy:
        options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    return tinyonnx.InferenceSession(proto.SerializeToString(), options)


def check(text: str, threads: int = 1, **feeds: Any) -> list[Any]:
    """Compare with numpy, twice: a second run finds the state of the first."""
    planned, plain = session(text, threads=threads), session(text, numpy=True)
    expected = plain.run(None, feeds)
    for _ in range(2):
        for result, wanted in zip(planned.run(None, feeds), expected, strict=True):
            np.testing.assert_array_equal(result, wanted, strict=True)
    return expected


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the loops that ran compiled: a list with an entry for each."""
    runs: list[int] = []
    run = CompiledLoop.run

    def counted(self: CompiledLoop, *args: Any) -> Any:
        results = run(self, *args)
        if results is not None:
            runs.append(int(self.state[0]))
        return results

    monkeypatch.setattr(CompiledLoop, "run", counted)
    return runs


LOOP = """agraph (float[2,3] x, float[2,3] c) => (float[2,3] y, float[k,2,3] all) <int64 n = {COUNT}> {
    y, all = Loop (n, "", x) <body = b (int64 i, bool going, float[2,3] v) => (bool go_on, float[2,3] w, float[2,3] s) {
        go_on = Identity (going) d = Mul (v, c) w = Add (d, c) s = Sub (w, v)
    }>
}"""


@pytest.fixture
def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"x": rng.standard_normal((2, 3), F32), "c": rng.standard_normal((2, 3), F32)}


@needs_jit
@pytest.mark.parametrize("count", [1, 2, 64, 65, 1000])
def test_a_loop_of_kernels_runs_compiled(count: int, arrays: dict[str, Any], compiled: list[int]) -> None:
    _, rows = check(LOOP.replace("{COUNT}", f"{{{count}}}"), **arrays)
    assert rows.shape == (count, 2, 3)
    assert compiled == [count, count]


@needs_jit
@pytest.mark.parametrize("shape", ["float", "float[1]"])
def test_constants_that_are_stacked_keep_their_shape(shape: str, compiled: list[int]) -> None:
    text = f"""agraph (float[2] x) => (float[2] y, all) <int64 n = {{3}}, {shape} half = {{0.5}}> {{
        y, all = Loop (n, "", x) <body = b
            (int64 i, bool going, float[2] v) => (bool go_on, float[2] w, {shape} half) {{
                go_on = Identity (going) w = Add (v, v)
            }}>
    }}"""
    _, rows = check(text, x=np.ones(2, F32))
    assert rows.shape == (3,) + (1,) * (shape != "float")
    assert compiled == [3, 3]


def test_a_loop_without_iterations_gives_what_it_got(arrays: dict[str, Any]) -> None:
    y, rows = check(LOOP.replace("{COUNT}", "{0}"), **arrays)
    assert rows.shape == (0, 2, 3)
    assert (y == arrays["x"]).all()


def test_the_number_of_iterations_may_be_an_input(arrays: dict[str, Any]) -> None:
    text = LOOP.replace("float[2,3] c)", "float[2,3] c, int64 n)").replace(" <int64 n = {COUNT}>", "", 1)
    for count in (0, 3, 70):
        check(text, n=np.array(count), **arrays)


@needs_jit
def test_values_that_change_places_and_a_condition_that_is_carried(compiled: list[int]) -> None:
    text = """agraph (float[2] x, float[2] y, bool go, bool p, bool q) => (float[2] a, float[2] b, float[k,2] all) {
        a, b, r, s, all = Loop ("", go, x, y, p, q) <body = b
            (int64 i, bool going, float[2] u, float[2] v, bool p1, bool q1)
            => (bool p1, float[2] v, float[2] w, bool q1, bool going, float[2] v) { w = Add (u, v) }>
    }"""
    on, off = np.array(True), np.array(False)
    x = np.array([1, 2], F32)
    for p, q, count in ((off, off, 1), (on, off, 2)):
        result = check(text, x=x, y=x * 3, go=on, p=p, q=q)
        assert len(result[2]) == count
    assert compiled == [1, 1, 2, 2]


def test_an_endless_loop_ends_at_the_limit(arrays: dict[str, Any]) -> None:
    text = LOOP.replace("Loop (n,", 'Loop ("",').replace(" <int64 n = {COUNT}>", "", 1)
    with pytest.raises(tinyonnx.ResourceError, match=r'Loop "y" .*more than 100 iterations'):
        session(text, Limits(max_loop_iterations=100)).run(None, arrays)
    with pytest.raises(tinyonnx.ResourceError, match="max_tensor_bytes is 9600"):
        session(text, Limits(max_tensor_bytes=9600)).run(None, arrays)
    without_stack = text.replace(", float[k,2,3] all)", ")").replace("y, all =", "y, _ =")
    with pytest.raises(tinyonnx.ResourceError, match=r"longer than 0\.05 s"):
        session(without_stack, Limits(max_seconds=0.05, max_loop_iterations=1 << 60)).run(None, arrays)


SCAN = """agraph (float[3] h, float[{SHAPE}] xs, float[{SHAPE}] zs) => (float[3] y, float[m,n] all, float[m,n] back) {
    y, all, back = Scan (h, xs, zs) <num_scan_inputs = 2, {ATTRIBUTES} body = b (float[3] a, float[3] x, float[3] z)
        => (float[3] n, float[3] s, float[3] t) { d = Mul (a, x) n = Add (d, z) s = Sub (n, x) t = Neg (z) }>
}"""


@needs_jit
@pytest.mark.parametrize(
    ("axis", "attributes"),
    [
        (0, ""),
        (1, "scan_input_axes = [1, -1],"),
        (0, "scan_input_directions = [0, 1], scan_output_directions = [1, 0],"),
        (1, "scan_input_axes = [1, 1], scan_output_axes = [-1, 1], scan_output_directions = [0, 1],"),
    ],
)
def test_a_scan_of_kernels_runs_compiled(axis: int, attributes: str, compiled: list[int]) -> None:
    rng = np.random.default_rng(1)
    shape = (5, 3) if axis == 0 else (3, 5)
    text = SCAN.replace("{SHAPE}", ",".join(map(str, shape))).replace("{ATTRIBUTES}", attributes)
    feeds = {"h": rng.standard_normal(3, F32), "xs": rng.standard_normal(shape, F32)}
    check(text, zs=rng.standard_normal(shape, F32), **feeds)
    assert compiled == [5, 5]


@pytest.mark.parametrize("value", [True, False])
def test_branches_read_and_give_values_around_them(value: bool, arrays: dict[str, Any]) -> None:
    text = """agraph (float[2,3] x, float[2,3] c, bool f) => (float[2,3] y, float[2,3] z) {
        d = Mul (x, c)
        g = And (f, f)
        e, z = If (g) <then_branch = t () => (float[2,3] r, float[2,3] d) { r = Add (d, x) },
                       else_branch = e () => (float[2,3] r, float[2,3] x) { r = Sub (d, c) }>
        y = Mul (e, d)
    }"""
    check(text, f=np.array(value), **arrays)


@pytest.mark.parametrize("threads", [1, 2])
def test_bodies_with_other_steps_and_nested_loops(threads: int, arrays: dict[str, Any]) -> None:
    text = """agraph (float[2,3] x, float[2,3] c) => (float[2,3] y, float[k,2,3] all)
        <int64 n = {4}, float limit = {2}> {
        d = Mul (x, c)
        y, all = Loop (n, "", x) <body = b (int64 i, bool going, float[2,3] v)
            => (bool go_on, float[2,3] w, float[2,3] s) {
            go_on = Identity (going)
            u = Loop (n, "", v) <body = b2 (int64 j, bool more, float[2,3] a) => (bool on, float[2,3] b) {
                on = Identity (more) k = Mul (a, c) b = Add (k, d)
            }>
            size = ReduceMax <keepdims = 0> (u)
            large = Greater (size, limit)
            w = If (large) <then_branch = t () => (float[2,3] r) { r = Div (u, size) },
                            else_branch = e () => (float[2,3] o) { o = Add (u, d) }>
            s = Sub (w, v)
        }>
    }"""
    check(text, threads=threads, **{name: array * 2 for name, array in arrays.items()})


def test_shapes_that_grow_are_not_planned(arrays: dict[str, Any]) -> None:
    text = """agraph (float[2,3] x, float[2,3] c) => (float[a,3] y) <int64 n = {3}> {
        y = Loop (n, "", x) <body = b (int64 i, bool going, float[p,3] v) => (bool going, float[q,3] w) {
            d = Mul (v, v) w = Concat <axis = 0> (d, c)
        }>
    }"""
    assert check(text, **arrays)[0].shape == (8, 3)


def test_shapes_after_a_loop_are_known(arrays: dict[str, Any]) -> None:
    text = """agraph (float[2,3] x, float[2,3] c) => (float[6] z) <int64 n = {3}, int64[1] flat = {-1}> {
        y = Loop (n, "", x) <body = b (int64 i, bool going, float[2,3] v) => (bool going, float[2,3] w) {
            w = Add (v, c)
        }>
        d = Mul (y, c)
        z = Reshape (d, flat)
    }"""
    check(text, **arrays)
    plan = session(text).plan_for(None, arrays)
    assert [step.node.op_type for step in plan.numpy_steps] == ["Loop"]


def test_a_conv_in_a_body_keeps_memory_orders_apart() -> None:
    rng = np.random.default_rng(2)
    text = """agraph (float[1,4,5,6] x, float[4,4,1,1] w) => (float[1,4,5,6] y, float[k,1,4,5,6] all) <int64 n = {3}> {
        h = Constant <value = float[4] {1, 0.5, 0.25, 2}> ()
        one = Constant <value_ints = [4, 1, 1]> ()
        f = Reshape (h, one)
        y, all = Loop (n, "", x) <body = b (int64 i, bool going, float[1,4,5,6] v)
            => (bool going, float[1,4,5,6] r, float[1,4,5,6] r) {
            m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (v) r = Mul (m, f)
        }>
    }"""
    check(text, x=rng.standard_normal((1, 4, 5, 6), F32), w=np.zeros((4, 4, 1, 1), F32))


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_a_branch_reads_an_image_in_another_memory_order(value: float) -> None:
    text = """agraph (float[1,4,6,5] x) => (float[1,4,6,5] y, float[1,4,6,5] z) <float zero = {0}> {
        c = MaxPool <kernel_shape = [1, 1]> (x)
        y = Relu (c)
        m = ReduceMax <keepdims = 0> (x)
        p = Greater (m, zero)
        z = If (p) <then_branch = t () => (float[1,4,6,5] a) { a = Neg (c) },
                    else_branch = e () => (float[1,4,6,5] b) { b = Abs (c) }>
    }"""
    check(text, x=np.abs(np.random.default_rng(0).standard_normal((1, 4, 6, 5), F32)) * F32(value))


def test_runs_with_a_hook_see_every_node(arrays: dict[str, Any]) -> None:
    seen = [node.op_type for node, _ in session(LOOP.replace("{COUNT}", "{3}")).trace(arrays)]
    assert seen.count("Mul") == 3
    assert seen[-1] == "Loop"


def test_many_sizes(arrays: dict[str, Any]) -> None:
    text = LOOP.replace("{COUNT}", "{3}").replace("2,3]", "r,3]").replace("k,2,3", "k,r,3")
    planned, plain = session(text), session(text, numpy=True)
    for rows in (2, 3, 5, 2, 7):
        feeds = {name: np.resize(array, (rows, 3)) for name, array in arrays.items()}
        for result, wanted in zip(planned.run(None, feeds), plain.run(None, feeds), strict=True):
            np.testing.assert_array_equal(result, wanted, strict=True)


@needs_jit
def test_heavy_bodies_use_all_threads(arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_HEAVY", 1)
    calls: list[NumpyCall] = []
    run = NumpyCall.run

    def noted(self: NumpyCall, *args: Any) -> None:
        calls.append(self)
        run(self, *args)

    monkeypatch.setattr(NumpyCall, "run", noted)
    check(LOOP.replace("{COUNT}", "{3}"), threads=2, **arrays)
    assert calls[-1].loop is None
