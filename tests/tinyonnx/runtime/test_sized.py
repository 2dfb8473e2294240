"""Plans for every size give the results of plans for one size, bit for bit, and never hold where they shouldn't."""

from __future__ import annotations

import os
import threading

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, helper

import tinyonnx
from onnx_conformance.generate.sized import ImageGraphs, SequenceGraphs
from tests.tinyonnx.kernels.test_resize import MODES
from tinyonnx.codegen.arguments import leaves
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Temporary, temporary
from tinyonnx.runtime.plan import BranchStep
from tinyonnx.runtime.sized import SizedPlan, _in_arena
from tinyonnx.sizes.expressions import SizeError, Trace

FLOAT = onnx.TensorProto.FLOAT

pytestmark = pytest.mark.skipif(DISABLED, reason="plans for every size need machine code")


def fresh(model: bytes, feeds: dict[str, Array], threads: int = 1) -> list[Array]:
    return session(model, threads).run(None, feeds)


def session(model: bytes, threads: int = 1) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    return tinyonnx.InferenceSession(model, options)


def sized_plans(s: tinyonnx.InferenceSession) -> list[SizedPlan]:
    (plans,) = s._sized.values()
    assert not plans.refused, plans.refused
    return plans._plans


def assert_planned_for_sizes(s: tinyonnx.InferenceSession) -> None:
    """Assert that a session has plans for every size."""
    (plans,) = s._sized.values()
    assert plans._plans, plans.refused


def check(model: ModelProto, shapes: list[tuple[int, ...]], seed: int) -> None:
    """Run all shapes in one session, some again, each compared with a session of its own.

    One is also compared with onnxruntime and with the nodes in numpy.
    """
    content = model.SerializeToString()
    alone: dict[tuple[int, ...], tinyonnx.InferenceSession] = {}
    random = np.random.default_rng(seed)
    here = session(content)
    for i, shape in enumerate((*shapes, *shapes[:3])):
        feeds = {"x": random.standard_normal(shape).astype(np.float32)}
        if shape not in alone:
            alone[shape] = session(content)
        results, expected = here.run(None, feeds), alone[shape].run(None, feeds)
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"shape {shape}")
        if i == 1:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            theirs = onnxruntime.InferenceSession(content, options).run(None, feeds)
            plain = tinyonnx.SessionOptions()
            plain.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
            numpy = tinyonnx.InferenceSession(content, plain).run(None, feeds)
            for a, b, c in zip(results, theirs, numpy, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
                np.testing.assert_allclose(a, c, rtol=1e-3, atol=1e-4)
    assert_planned_for_sizes(here)


def test_constants_of_many_sizes_are_not_those_of_one() -> None:
    one = helper.make_tensor("s", FLOAT, [1], [2.0])
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], axis=-1)
    x, y = (helper.make_tensor_value_info(name, FLOAT, ["n", "m"]) for name in "xy")
    content = helper.make_model(
        helper.make_graph([node], "g", [x], [y], [one]), opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    ).SerializeToString()  # fmt: skip
    here, random = session(content), np.random.default_rng(0)
    for shape in ((2, 4), (3, 5), (2, 4), (1, 4), (1, 5), (1, 6), (2, 6)):
        feeds = {"x": random.standard_normal(shape).astype(np.float32)}
        np.testing.assert_array_equal(here.run(None, feeds)[0], fresh(content, feeds)[0])


def test_runs_that_overlap_share_no_memory_that_kernels_write() -> None:
    """Memory between the kernels of a step has a size of its own in a global mean: it depends on channels alone."""
    weights = helper.make_tensor("w", FLOAT, [24, 3, 3, 3], np.linspace(-1, 1, 648).tolist())
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, FLOAT, [1, n, "h", "w_"]) for name, n in (("x", 3), ("y", 24)))
    graph = helper.make_graph(nodes, "means", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    s = session(model.SerializeToString())
    for height in (20, 21, 22):
        s.run(None, {"x": np.ones((1, 3, height, 9), np.float32)})
    calls = [call for p in sized_plans(s) for known in p._bindings for binding in known for call in binding.calls]
    assert any(call.kernel.__name__ == "global_mean" for call in calls)
    assert not [call.kernel.__name__ for call in calls for leaf in leaves(call.args) if isinstance(leaf, Temporary)]


def test_convolutions_of_many_filters() -> None:
    """Whether pixels are gathered is decided by costs of the width: for waveforms, and for images of any width."""
    weights = np.random.default_rng(0).standard_normal((64, 1, 1, 32)).astype(np.float32) / 8
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[1, 16])
    x, y = (helper.make_tensor_value_info(name, FLOAT, [1, n, 1, "w_"]) for name, n in (("x", 1), ("y", 64)))
    graph = helper.make_graph([node], "filters", [x], [y], [onnx.numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    check(model, [(1, 1, 1, n) for n in (800, 801, 817, 3000, 3017, 33, 48)], 0)


@pytest.mark.parametrize("seed", range(40))
def test_images(seed: int) -> None:
    random = np.random.default_rng(seed)
    height = int(random.integers(16, 40))
    if seed % 2:
        shapes = [(1, 4, height, int(n)) for n in random.integers(16, 90, 9)]
    else:
        shapes = [(1, 4, int(m), int(n)) for m, n in random.integers(16, 70, (9, 2))]
    check(ImageGraphs(seed).build(), shapes, seed)


@pytest.mark.parametrize("seed", range(40))
def test_sequences(seed: int) -> None:
    random = np.random.default_rng(seed)
    batch = int(random.integers(1, 4))
    if seed % 2:
        shapes = [(batch, int(n), 24) for n in random.integers(2, 60, 9)]
    else:
        shapes = [(int(m), int(n), 24) for m, n in zip(random.integers(1, 5, 9), random.integers(1, 60, 9))]
    check(SequenceGraphs(seed).build(), shapes, seed)


@pytest.mark.parametrize("seed", range(40, 52))
def test_inputs_whose_sizes_have_no_names(seed: int) -> None:
    random = np.random.default_rng(seed)
    model = (ImageGraphs if seed % 2 else SequenceGraphs)(seed).build()
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_param")
    if seed % 2:
        shapes = [(int(k), 4, int(m), int(n)) for k, m, n in random.integers([1, 16, 16], [4, 50, 50], (7, 3))]
    else:
        shapes = [(int(m), int(n), 24) for m, n in random.integers(1, [5, 60], (7, 2))]
    check(model, shapes, seed)


def parsed(text: str, opset: int = 17) -> bytes:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}').SerializeToString()


CONV = """g (float[1, 2, n, m] x, float[k] y) => (float[1, 2, h, w] z, float[k] v)
<float[2, 2, 3, 3] w0 = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}>
{ c = Conv<pads = [1, 1, 1, 1]>(x, w0) z = Relu(c) v = Tanh(y) }"""


def images(n: int, m: int = 9, k: int = 3) -> dict[str, Array]:
    random = np.random.default_rng(n)
    return {"x": random.standard_normal((1, 2, n, m)).astype(np.float32), "y": np.arange(k, dtype=np.float32)}


def test_sizes_that_begin_to_vary_later() -> None:
    model = parsed(CONV)
    here = session(model)
    for n, m, k in ((8, 9, 3), (12, 9, 3), (9, 9, 3), (9, 11, 3), (10, 12, 3), (10, 12, 5), (11, 13, 6), (8, 9, 3)):
        feeds = images(n, m, k)
        for a, b in zip(here.run(None, feeds), fresh(model, feeds), strict=True):
            np.testing.assert_array_equal(a, b)
    assert [len(plan.symbols) for plan in sized_plans(here)] == [3]


@pytest.mark.parametrize("sizes", [(8, 1, 2, 1, 9), (1, 5, 7, 1), (6, 0, 7, 0, 9)])
def test_sizes_zero_and_one(sizes: tuple[int, ...]) -> None:
    model = parsed("g (float[n, 3] x) => (float[n, 3] y, float[3] s) { y = Exp(x) s = ReduceSum<keepdims = 0>(x, a) }"
                   .replace("{ y", "<int64[1] a = {0}> { y"))  # fmt: skip
    here = session(model)
    for n in sizes:
        feeds = {"x": np.ones((n, 3), np.float32)}
        for a, b in zip(here.run(None, feeds), fresh(model, feeds), strict=True):
            np.testing.assert_array_equal(a, b)


def test_two_names_of_one_size_that_differ() -> None:
    """The model says that both are equal; onnxruntime doesn't insist."""
    model = parsed("g (float[n] x, float[n] y) => (float[m] z) { a = Exp(x) z = Concat<axis = 0>(a, y) }")
    here = session(model)
    for a, b in ((3, 3), (5, 5), (4, 4), (4, 6), (7, 2), (8, 8)):
        (z,) = here.run(None, {"x": np.zeros(a, np.float32), "y": np.zeros(b, np.float32)})
        assert z.tolist() == [1] * a + [0] * b


def test_a_size_that_must_be_another_ones() -> None:
    """A plan that is valid for one size only fails for others, with the error of a plan for that size."""
    model = parsed("g (float[n, 4] x, float[m, 4] y) => (float[n, 4] z) { a = Exp(x) z = Add(a, y) }")
    here = session(model)

    def run(n: int, m: int) -> Array:
        return here.run(None, {"x": np.zeros((n, 4), np.float32), "y": np.zeros((m, 4), np.float32)})[0]

    for n, m in ((3, 3), (5, 5), (6, 6), (6, 1), (1, 7), (4, 1), (9, 9)):
        assert run(n, m).shape == (max(n, m), 4)
    for n, m in ((3, 5), (6, 7)):
        with pytest.raises(tinyonnx.NodeError, match=rf"f32\[{n},4\], f32\[{m},4\]"):
            run(n, m)
    assert run(8, 8).shape == (8, 4)


def test_limits_hold_for_every_size() -> None:
    options = tinyonnx.SessionOptions()
    options.limits = tinyonnx.Limits(max_tensor_bytes=1 << 12)
    model = parsed("g (float[n] x) => (float[n] y) { a = Exp(x) y = Neg(a) }")
    here = tinyonnx.InferenceSession(model, options)
    for n in (100, 200, 1024, 7):
        assert here.run(None, {"x": np.zeros(n, np.float32)})[0].shape == (n,)
    with pytest.raises(tinyonnx.ResourceError, match="max_tensor_bytes"):
        here.run(None, {"x": np.zeros(1025, np.float32)})


def test_threads_and_sizes() -> None:
    """Several threads run one session at different sizes; each result is right."""
    model = ImageGraphs(3).build().SerializeToString()
    random = np.random.default_rng(0)
    feeds = [{"x": random.standard_normal((1, 4, 20, n)).astype(np.float32)} for n in range(20, 50, 3)]
    expected = [fresh(model, feed, 2) for feed in feeds]
    here = session(model, 2)
    wrong: list[object] = []

    def work(first: int) -> None:
        for i in range(30):
            number = (first + i * 7) % len(feeds)
            try:
                for a, b in zip(here.run(None, feeds[number]), expected[number], strict=True):
                    np.testing.assert_array_equal(a, b)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert_planned_for_sizes(here)


def test_results_own_their_memory() -> None:
    model = parsed("g (float[n] x) => (int64[1] s, float[n] y, float[k] z)"
                   " { s = Shape(x) y = Exp(x) z = ConstantOfShape(s) }")  # fmt: skip
    here = session(model)
    kept = [here.run(None, {"x": np.zeros(n, np.float32)}) for n in (3, 4, 5, 6, 3, 4)]
    for results in kept:
        for result in results:
            result += 1
    assert [[r.shape[0] if r.dtype != np.int64 else int(r[0]) for r in results] for results in kept] == [
        [n + 1, n, n] for n in (3, 4, 5, 6, 3, 4)
    ]
    s, y, z = here.run(None, {"x": np.zeros(6, np.float32)})
    assert (s.tolist(), y.tolist(), z.tolist()) == ([6], [1] * 6, [0] * 6)


def test_memory_grows_to_the_largest_size_alone() -> None:
    model = parsed(CONV)
    here = session(model)
    for n in (10, 40, 80, 20, 80, 30, 12, 80):
        here.run(None, images(n))
    (plan,) = sized_plans(here)
    (executable,) = plan.idle
    assert len(executable.arena) <= 2 * 80 * 9 * 2 * 4 * 2 + 4096


RESIZES = [
    *(f'<mode = "nearest", nearest_mode = "{m}"' for m in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")),
    *(f'<mode = "{mode}", antialias = {aa}, exclude_outside = {out}'
      for mode in ("linear", "cubic") for aa in (0, 1) for out in (0, 1)),
]  # fmt: skip

TARGETS = {
    "by scales": "(x, none, factors)",
    "by sizes": "(x, none, none, sizes)",
    "not larger": "(x, none, none, sizes)",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("transformation", MODES)
def test_resize(transformation: str, target: str) -> None:
    """Each of many kinds of Resize in one model; heights and widths that grow and shrink."""
    policy = ', axes = [2, 3], keep_aspect_ratio_policy = "not_larger"' if target == "not larger" else ", axes = [2, 3]"
    lines = [
        f'z{i} = Resize{resize}, coordinate_transformation_mode = "{transformation}"{policy}>{TARGETS[target]}'
        for i, resize in enumerate(RESIZES)
    ]
    results = ", ".join(f"float[1, 2, h{i}, w{i}] z{i}" for i in range(len(lines)))
    model = parsed(f"""g (float[1, 2, n, m] i) => ({results})
        <float[2] factors = {{2.3, 0.6}}, float[0] none = {{}}, int64[2] times = {{3, 1}}, int64[2] by = {{2, 2}}>
        {{ x = Relu(i) shape = Shape<start = 2>(x) large = Mul(shape, times) sizes = Div(large, by) {" ".join(lines)} }}
        """, opset=19)  # fmt: skip
    here = session(model)
    for n, m in ((6, 9), (9, 6), (4, 31), (22, 22), (23, 5), (6, 9)):
        feeds = {"i": np.random.default_rng(n).standard_normal((1, 2, n, m)).astype(np.float32)}
        for a, b in zip(here.run(None, feeds), fresh(model, feeds), strict=True):
            np.testing.assert_array_equal(a, b)
    assert [plan.symbols for plan in sized_plans(here)]


@pytest.mark.parametrize("scale", [2.0, 1.5, 2.3, 0.7, 1 / 3, 0.1, 1.9999999, 3.1415927])
def test_sizes_that_a_scale_gives(scale: float) -> None:
    """Numbers of pixels computed in float32: small sizes, and large ones whose product is rounded."""
    model = parsed(f"""g (float[1, 1, n] x) => (float[1, 1, m] y)
        <float[1] s = {{{np.float32(scale)!s}}}, float[0] none = {{}}>
        {{ z = Resize<axes = [2], coordinate_transformation_mode = "asymmetric">(x, none, s) y = Neg(z) }}
        """, opset=18)  # fmt: skip
    here = session(model)
    for n in (10, 20, 30, 31, 99, 1000, 4097, 65535, 65536, 100001, 10):
        (y,) = here.run(None, {"x": np.arange(n, dtype=np.float32).reshape(1, 1, n)})
        assert y.shape == (1, 1, int(np.float32(n) * np.float32(scale))), n


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_that_go_item_by_item(threads: int) -> None:
    """A loop over items has as many as there are; sizes of images vary as well."""
    random = np.random.default_rng(0)
    weights = {"a": (32, 3, 3, 3), "b": (32, 1, 3, 3), "c": (32, 32, 1, 1), "d": (8, 32, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["i"], pads=[1] * 4),
        helper.make_node("Relu", ["i"], ["j"]),
        helper.make_node("Conv", ["j", "b"], ["k"], pads=[1] * 4, group=32),
        helper.make_node("Conv", ["k", "c"], ["l"]),
        helper.make_node("Add", ["l", "j"], ["m"]),
        helper.make_node("Conv", ["m", "d"], ["n"]),
        helper.make_node("ReduceMax", ["n"], ["o"], axes=[0]),
        helper.make_node("Sub", ["n", "o"], ["y"]),
    ]
    constants = [helper.make_tensor(k, FLOAT, v, random.standard_normal(v).ravel()) for k, v in weights.items()]
    x, y = (helper.make_tensor_value_info(n, FLOAT, ["b", c, "h", "w"]) for n, c in (("x", 3), ("y", 8)))
    graph = helper.make_graph(nodes, "batches", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    here = session(model, threads)
    shapes = [(4, 60, 64), (5, 60, 64), (6, 60, 70), (8, 52, 80), (7, 60, 64), (11, 60, 64), (16, 60, 66), (3, 64, 64),
              (2, 90, 64), (5, 60, 64), (1, 60, 64), (67, 20, 24), (4, 60, 64), (12, 60, 64)]  # fmt: skip
    for batch, height, width in shapes:
        feeds = {"x": random.standard_normal((batch, 3, height, width)).astype(np.float32)}
        np.testing.assert_array_equal(here.run(None, feeds)[0], fresh(model, feeds, threads)[0])
    runs = [run for plan in sized_plans(here) for run in plan.plan.runs]
    assert {run.most for run in runs} >= {4, 8, 16}


def test_what_cannot_be_planned_for_every_size_is_planned_size_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise SizeError("not this one")

    monkeypatch.setattr("tinyonnx.runtime.sized_plans.make_sized", refuses)
    model = parsed(CONV)
    here = session(model)
    for n in (5, 8, 13, 6, 21, 9):
        np.testing.assert_array_equal(here.run(None, images(n))[0], fresh(model, images(n))[0])
    (plans,) = here._sized.values()
    assert plans.refused == "SizeError: not this one"


def test_subgraphs() -> None:
    """An If whose condition is known by sizes is decided for each; a Loop runs as ever."""
    model = parsed("""g (float[n] x) => (float[m] y) <int64 four = {4}>
        { s = Size(x) c = Greater(s, four)
          y = If(c)<then_branch = t () => (float[k] a) { a = Exp(x) },
                    else_branch = e () => (float[k] b) { b = Neg(x) }> }
        """)
    here = session(model)
    for n in (3, 7, 9, 2, 4, 5, 30):
        (y,) = here.run(None, {"x": np.ones(n, np.float32)})
        np.testing.assert_allclose(y, np.exp(np.ones(n)) if n > 4 else -np.ones(n), rtol=1e-6)


BODIES = """g (float[n, 3] x, float[m, n, 3] parts) => (float[n, 3] y, float[k, n, 3] all, float[n, 3] sum,
    float[m, n, 3] sums, float[n, 3] z, float[l, n, 3] rows)
<int64 four = {4}, float[1] half = {0.5}, int64 three = {3}, int64 zero = {0}>
{
    y, all = Loop(four, "", x)<body = b (int64 i, bool go, float[n, 3] v) => (bool go, float[n, 3] w, float[n, 3] u)
        { d = Mul(v, x) w = Add(d, half) u = Sub(w, v) }>
    sum, sums = Scan<num_scan_inputs = 1, body = c (float[n, 3] t, float[n, 3] p) => (float[n, 3] a, float[n, 3] e)
        { a = Add(t, p) e = Exp(a) }>(x, parts)
    top = ReduceMax<keepdims = 0>(x) large = Greater(top, half) one = Squeeze(large)
    z = If(one)<then_branch = f () => (float[n, 3] q) { q = Tanh(x) },
                else_branch = h () => (float[n, 3] r) { s = Shape(x) o = Reshape(x, s) r = Neg(o) }>
    shape = Shape(x) size = Gather(shape, zero) rest = Mod(size, three) count = Add(rest, four)
    _, rows = Loop(count, "", x)<body = j
        (int64 at, bool on, float[n, 3] old) => (bool on, float[n, 3] new, float[n, 3] new)
        { new = Sigmoid(old) }>
}"""


@pytest.mark.parametrize("threads", [1, 2])
def test_bodies_have_kernels_in_plans_for_every_size(threads: int) -> None:
    model = parsed(BODIES)
    plain = tinyonnx.SessionOptions()
    plain.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    here, numpy = session(model, threads), tinyonnx.InferenceSession(model, plain)
    random = np.random.default_rng(0)
    for n, m in ((4, 2), (7, 3), (50, 2), (6, 9), (51, 1), (2000, 4), (3, 70), (4, 2), (1, 3), (0, 2)):
        feeds = {"x": random.standard_normal((n, 3)), "parts": random.standard_normal((m, n, 3))}
        feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
        kept = here.run(None, feeds)
        for a, b, c in zip(kept, fresh(model, feeds, threads), numpy.run(None, feeds), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{n}, {m}")
            np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6, err_msg=f"{n}, {m}")
        again = [result.copy() for result in kept]
        here.run(None, {name: -array for name, array in feeds.items()})
        for a, b in zip(kept, again, strict=True):
            np.testing.assert_array_equal(a, b)
    for sized in sized_plans(here):
        bodies = sized.plan.with_bodies()[1:]
        kinds = [type(step).__name__ for body in bodies for step in body.steps]
        assert len(bodies) == 3, "branches are steps of the plan itself"
        assert sum(isinstance(step, BranchStep) for step in sized.plan.steps) == 1
        assert set(kinds) == {"KernelStep"}
        loops = [call.loop for known in sized.idle[0].known for part in known.parts for call in part.numpy_calls]
        assert sum(loop is not None for loop in loops) == 3 * len(sized.idle[0].known)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork() -> None:
    model = parsed(CONV)
    here = session(model)
    for n in (8, 12, 9):
        here.run(None, images(n))
    (plans,) = here._sized.values()
    with plans._lock, plans._plans[0].lock:
        child = os.fork()
        if child == 0:
            try:
                np.testing.assert_array_equal(here.run(None, images(31))[0], fresh(model, images(31))[0])
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_views_of_temporary_memory_share_it() -> None:
    """A kernel writes to the memory in one shape, the next one reads it in another."""
    whole = temporary(24)
    views = whole, whole.reshape(4, 6), whole[6:], whole.reshape(4, 6)[1], temporary(24)
    found = _in_arena(views, Trace(), {})
    start = found[0].address
    assert [view.address.terms for view in found[1:4]] == [(start + offset).terms for offset in (0, 24, 24)]
    assert found[4].address.terms != start.terms
