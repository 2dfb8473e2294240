"""Plans that an earlier process stored give the results of new plans; any that may not fit count as absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import tinyonnx
from audiotag.models.mobilenet import random_graph
from tinyonnx import disk_cache
from tinyonnx.codegen import code_cache
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.codegen.processor import has_bfloat16
from tinyonnx.ir import Array
from tinyonnx.limits import Limits
from tinyonnx.onnxfile import graph_cache
from tinyonnx.runtime import sized_plans, stored_plan
from tinyonnx.runtime.plan import Unfit
from tinyonnx.runtime.sized import SizedPlan
from tinyonnx.runtime.sized_execution import PlanForSizes
from tinyonnx.runtime.stored_plan import StoredPlan

pytestmark = pytest.mark.skipif(DISABLED, reason="stored plans need machine code")

TIMES = (61, 60, 300, 41, 61, 1600)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    tinyonnx.save_model(random_graph("mn01", seed=0), path)
    return path


def session(
    model: Path | bytes, threads: int = 1, limits: Limits | None = None, precision: str = "float32", **sizes: int
) -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.precision = precision
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    options.intra_op_num_threads = threads
    options.limits = limits or options.limits
    return tinyonnx.InferenceSession(model, options)


def plans(here: Any) -> list[PlanForSizes]:
    """Return the plans for every size of a session and of its stages."""
    found = [plan for each in here._sized.values() for plan in each._plans]
    parts = [part for each in here._stages.values() if each is not None for part in (each.first, each.second)]
    return found + [plan for part in parts if part is not None for plan in plans(part)]


def sound(time: int, batch: int = 1) -> dict[str, Array]:
    return {"melspec": np.random.default_rng(time).standard_normal((batch, 1, 128, time)).astype(np.float32)}


def check(here: tinyonnx.InferenceSession, model: Path, *feeds: dict[str, Array]) -> None:
    for each in feeds:
        expected = session(model.read_bytes()).run(None, each)
        for a, b in zip(here.run(None, each), expected, strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


def test_results_are_the_same(folder: Path, model: Path) -> None:
    check(session(model), model, *map(sound, TIMES))  # compiles the kernels for all of them
    later = session(model)
    check(later, model, *map(sound, TIMES))
    assert [type(plan) for plan in plans(later)] == [StoredPlan]
    check(later, model, *map(sound, (9, 3, 1)))  # for which the stored plan does not hold


def test_several_sizes_vary(folder: Path, model: Path) -> None:
    feeds = sound(61, 3), sound(100, 3), sound(61, 3)
    check(session(model), model, *feeds)
    later = session(model)
    check(later, model, *feeds)
    assert [type(plan) for plan in plans(later)] == [StoredPlan]
    check(later, model, sound(61, 2), sound(50, 5))
    other = session(model)
    check(other, model, sound(61, 1))
    assert all(isinstance(plan, SizedPlan) for plan in plans(other)), "one clip at a time has a plan of its own"


def test_a_stored_plan_needs_neither_passes_nor_operators(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    tinyonnx.save_model(random_graph("mn01", seed=int.from_bytes(os.urandom(4))), model)  # new to the cache
    code = """
import sys, numpy as np, tinyonnx
options = tinyonnx.SessionOptions()
options.intra_op_num_threads = 1
here = tinyonnx.InferenceSession(sys.argv[1], options)
result = here.run(None, {"melspec": np.ones((1, 1, 128, int(sys.argv[2])), np.float32)})[0]
names = ("tinyonnx.passes", "tinyonnx.ops", "tinyonnx.kernels", "onnx", "numba")
print([name for name in names if name in sys.modules])
"""
    commands = [[sys.executable, "-c", code, str(model), time] for time in ("70", "90")]
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=300, check=True) for command in commands]
    outputs = [run.stdout for run in runs]
    assert "tinyonnx.passes" in outputs[0]
    assert outputs[1] == "[]\n"


def test_a_damaged_file_counts_as_absent(folder: Path, model: Path) -> None:
    check(session(model), model, sound(61))
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    here = session(model)
    check(here, model, sound(61))
    assert not any(isinstance(plan, StoredPlan) for plan in plans(here))
    path.write_bytes(b"short")
    check(session(model), model, sound(61))
    later = session(model)
    check(later, model, sound(61))
    assert [type(plan) for plan in plans(later)] == [StoredPlan], "it was stored again"


def test_machine_code_that_is_gone(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(session(model), model, sound(61))
    here = session(model)
    with monkeypatch.context() as patch:
        patch.setattr(code_cache, "load_file", lambda name: None)
        check(here, model, sound(61), sound(62), sound(61))
    assert any(isinstance(plan, SizedPlan) for plan in plans(here))


def test_what_a_plan_depends_on_is_part_of_its_key(folder: Path, model: Path) -> None:
    def is_stored(here: tinyonnx.InferenceSession, names: list[str] | None = None) -> bool:
        here.run(names, sound(61))
        return any(isinstance(plan, StoredPlan) for plan in plans(here))

    assert not is_stored(session(model))
    assert is_stored(session(model))
    assert not is_stored(session(model, threads=2)) or os.cpu_count() == 1
    assert not is_stored(session(model, limits=Limits(max_tensor_bytes=1 << 28)))
    assert not is_stored(session(model), ["embedding"])
    assert not is_stored(session(model.read_bytes()))
    assert is_stored(session(model, precision="bfloat16")) == (not has_bfloat16())
    assert not is_stored(session(model, time=61))
    tinyonnx.save_model(random_graph("mn01", seed=1), model)
    assert not is_stored(session(model))


def test_plans_with_rounded_weights_are_not_stored(folder: Path, model: Path) -> None:
    exact, rounded = session(model.read_bytes()), session(model)
    rounded.round_weights(rounded.operand_means())
    result, expected = (each.run(None, sound(61))[0] for each in (rounded, exact))
    assert not np.array_equal(result, expected)
    assert not folder.exists()
    check(session(model), model, sound(61))


def written(path: Path, text: str, **tensors: Array) -> Path:
    """Return a model file of this text and these initializers, large enough for the cache of graphs."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in tensors.items())
    proto.doc_string = "." * graph_cache._SMALL
    onnx.save(proto, path)
    return path


def matrix(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, 200)).astype(np.float32)


WITH_NUMPY = """
g (float[n, 200] x, int64 k) => (float[n, 200] y, float[m, 2] found, int64[2] size) {
    size = Shape (x)
    h = MatMul (x, w)
    c = CumSum (h, axis)
    y = Relu (c)
    top = Constant <value = float[2] {0.5, 2.0}> ()
    nonzero = NonZero (x)
    pairs = Transpose (nonzero)
    real = Cast <to = 1> (pairs)
    found = Mul (real, top)
    row = Gather <axis = 0> (x, k)
}
"""


def test_steps_of_numpy(folder: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", WITH_NUMPY, w=matrix(200), axis=np.array(0))
    feeds = [{"x": matrix(n), "k": np.array(1)} for n in (5, 9, 7, 5)]
    check(session(path), path, *feeds)
    later = session(path)
    check(later, path, *feeds)
    first, second = plans(later)
    assert isinstance(first, StoredPlan)
    assert isinstance(second, StoredPlan)
    assert {step.node.op_type for step in first.plan.numpy_steps} >= {"NonZero"}
    wrong = {"x": matrix(5), "k": np.array(5)}
    for names in (["row"], ["row"]):  # the second from a stored plan
        messages = []
        for here in (session(path), session(path.read_bytes())):
            here.run(names, feeds[0])
            with pytest.raises(tinyonnx.NodeError) as error:
                here.run(names, wrong)
            messages.append(str(error.value).replace("<bytes>", "m.onnx"))
        assert messages[0] == messages[1]


def test_constants_without_axes_stay_so(folder: Path, tmp_path: Path) -> None:
    text = """g (float[n, 200] x) => (rows, number) {
        found = NonZero (x)
        rows = Gather <axis = 0> (found, first)
        number = Identity (half)
    }"""
    path = written(tmp_path / "m.onnx", text, first=np.array(0), half=np.array(0.5, np.float32))
    for _ in range(2):
        here = session(path)
        check(here, path, *({"x": matrix(n)} for n in (5, 9)))
    assert [type(plan) for plan in plans(here)] == [StoredPlan, StoredPlan], "a plan for each stage"


def test_axes_of_one_element_vary_later(folder: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", "g (float[n, m] x) => (y) { y = Relu (x) }")
    for _ in range(2):
        check(session(path), path, *({"x": matrix(n)[:, :m]} for n, m in ((5, 1), (1, 7), (7, 3), (5, 1), (1, 1))))
    assert len(list(folder.iterdir())) > 1


def test_sizes_that_divide_others(folder: Path, tmp_path: Path) -> None:
    text = """g (float[a, 200] x, float[b, 200] z) => (y) {
        rows = Shape <start = 0, end = 1> (x)
        parts = Shape <start = 0, end = 1> (z)
        count = Div (rows, parts)
        shape = Concat <axis = 0> (count, rest)
        y = Reshape (x, shape)
    }"""
    path = written(tmp_path / "m.onnx", text, rest=np.array([-1, 50]))
    for _ in range(2):
        here = session(path)
        check(here, path, *({"x": matrix(n), "z": matrix(k)} for n, k in ((6, 3), (12, 6), (12, 3))))
    assert [type(plan) for plan in plans(here)] == [StoredPlan]


def test_models_of_fixed_sizes(folder: Path, tmp_path: Path) -> None:
    text = "g (float[5, 200] x) => (float[5, 200] y) { h = MatMul (x, w) y = Softmax (h) }"
    path = written(tmp_path / "m.onnx", text, w=matrix(200))
    feeds = [{"x": matrix(5, seed)} for seed in range(3)]
    first = session(path)
    check(first, path, *feeds)
    assert plans(first) == [], "the plan that was made serves the first process"
    later = session(path)
    check(later, path, *feeds)
    assert [type(plan) for plan in plans(later)] == [StoredPlan]


def test_sizes_without_a_plan_for_all_of_them(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "m.onnx", "g (float[n, 200] x) => (y) { h = MatMul (x, w) y = Relu (h) }", w=matrix(200))
    make = sized_plans.make_sized

    def refuse(shapes: Any, groups: Any, plan: Any) -> SizedPlan:
        if groups:
            raise Unfit
        return make(shapes, groups, plan)

    monkeypatch.setattr(sized_plans, "make_sized", refuse)
    session(path).run(None, {"x": matrix(5)})
    later = session(path)
    check(later, path, {"x": matrix(5)})
    assert [type(plan) for plan in plans(later)] == [StoredPlan]
    check(later, path, *({"x": matrix(n)} for n in (7, 5, 9)))


def test_each_value_that_decides_a_branch_has_a_plan(folder: Path, tmp_path: Path) -> None:
    text = """g (float[n, 200] x, int64 rate) => (float[n, 200] y) {
        is_wanted = Equal (rate, wanted)
        h = If (is_wanted) <
            then_branch = a () => (p) { p = MatMul (x, w) },
            else_branch = b () => (q) { q = Neg (x) }
        >
        y = Relu (h)
    }"""
    path = written(tmp_path / "m.onnx", text, w=matrix(200), wanted=np.array(16000))
    feeds = [{"x": matrix(n), "rate": np.array(rate)} for rate in (16000, 8000) for n in (5, 9)]
    for _ in range(2):
        here = session(path)
        check(here, path, *feeds)
    assert [type(plan) for plan in plans(here)] == [StoredPlan] * 2


BRANCHES = """g (float[n, 200] x, bool[m] several) => (y) {{
    numbers = Cast <to = 6> (several)
    greatest = ReduceMax <keepdims = 0> (numbers)
    c = Cast <to = 9> (greatest)
    y = If <then_branch = t () => (p) {{ p = {op} (x) }}, else_branch = e () => (q) {{ q = Abs (x) }}> (c)
}}"""


def test_steps_with_subgraphs(folder: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", BRANCHES.format(op="Hardmax"))
    feeds = [{"x": matrix(n), "several": np.array([False, n > 5])} for n in (5, 9, 5, 40, 3)]
    check(session(path), path, *feeds)
    later = session(path)
    check(later, path, *feeds)
    assert [type(plan) for plan in plans(later)] == [StoredPlan]


BODIES = """
g (float[n, 3] x, float[m, n, 3] parts, int64 count) => (y, all, sum, sums, z, rows, found) {
    y, all = Loop (four, "", x) <body = b (int64 i, bool go, float[n, 3] v) => (bool go, w, u) {
        d = Mul (v, x)
        w = Add (d, half)
        u = Sub (w, v)
    }>
    sum, sums = Scan <num_scan_inputs = 1, scan_output_directions = [1],
                      body = c (float[n, 3] t, float[n, 3] p) => (a, e) {
        a = Add (t, p)
        e = Hardmax (a)
    }> (x, parts)
    top = ReduceMax <keepdims = 0> (x)
    large = Greater (top, limit)
    z = If (large) <then_branch = f () => (q) { q = Tanh (x) }, else_branch = h () => (r) {
        k, ks = Loop (count, "", sum) <body = l (int64 i, bool go, float[n, 3] v) => (bool go, w, float[n, 3] u) {
            o = Hardmax (x)
            w = Add (v, o)
            u = Neg (w)
        }>
        r = Concat <axis = 0> (k, constant)
    }>
    last, rows = Loop (count, "", x) <body = j (int64 at, bool on, float[n, 3] old) => (bool on, new, float[n, 3] new) {
        new = Sigmoid (old)
    }>
    found = Loop (four, "", one) <body = s (int64 at, bool on, old) => (bool on, new) {
        new = Concat <axis = 0> (old, one)
    }>
}
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_bodies(folder: Path, tmp_path: Path, threads: int) -> None:
    tensors = {"four": np.array(4), "half": np.array([0.5], np.float32), "limit": np.array(1, np.float32)}
    tensors |= {"constant": np.ones((2, 3), np.float32), "one": np.array([1])}
    path = written(tmp_path / "m.onnx", BODIES, **tensors)
    feeds = [
        {"x": matrix(n)[:, :3], "parts": matrix(n * m)[:, :3].reshape(m, n, 3) - shift, "count": np.array(count)}
        for n, m, count, shift in ((4, 2, 3, 0), (7, 3, 2, 5), (50, 2, 0, 0), (2, 9, 1, 5), (1, 1, 2, 0), (0, 2, 3, 0))
    ]
    feeds += [{**each, "x": -np.abs(each["x"])} for each in feeds]
    check(session(path, threads), path, *feeds)
    later = session(path, threads)
    check(later, path, *feeds)
    stored = [plan for plan in plans(later) if isinstance(plan, StoredPlan)]
    assert stored
    for plan in stored:
        calls = [call for known in plan.idle[0].known for part in known.parts for call in part.numpy_calls]
        assert sum(call.loop is not None for call in calls) == 2 * len(plan.idle[0].known), "y and last"
    unoptimised = tinyonnx.SessionOptions()
    unoptimised.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    for each in feeds:
        expected = tinyonnx.InferenceSession(path, unoptimised).run(None, each)
        for a, b in zip(later.run(None, each), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6, strict=True)


def test_branches_that_are_steps_are_stored(folder: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "m.onnx", BRANCHES.format(op="Neg"))
    taken = np.array([False, True]), np.array([False, False])
    feeds = [{"x": matrix(n), "several": several} for n in (5, 9, 5, 40, 3) for several in taken]
    check(session(path), path, *feeds)
    later = session(path)
    check(later, path, *feeds, *feeds[::-1])
    assert StoredPlan in [type(plan) for plan in plans(later)]


def test_strings_are_not_stored(folder: Path, tmp_path: Path) -> None:
    text = "g (float[n, 200] x) => (y, z) { y = Relu (x) z = Identity (names) }"
    path = written(tmp_path / "m.onnx", text, names=np.array(["a"], object))
    for _ in range(2):
        check(session(path), path, *({"x": matrix(n)} for n in (5, 9)))
    assert not folder.exists()


def test_large_models_are_not_stored(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_plan, "LARGEST", 1000)
    check(session(model), model, sound(61))
    assert not folder.exists()


def test_few_plans_are_kept(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_plan, "KEPT", 2)
    for names in (["logits"], ["embedding"], ["logits", "embedding"]):
        session(model).run(names, sound(61))
    assert len(list(folder.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no modes")
def test_a_folder_that_cannot_be_written(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "folder", lambda: Path(os.devnull) / "tinyonnx")
    check(session(model), model, sound(61), sound(62))
