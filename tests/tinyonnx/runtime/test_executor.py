"""Executables: plans bound to an arena."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tinyonnx.limits import Limits
from tinyonnx.registry import Info
from tinyonnx.runtime import binding, program
from tinyonnx.runtime.executor import Executable, execute
from tinyonnx.runtime.plan import LayoutStep, Plan

CNN = model_text(
    "c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c) m = GlobalAveragePool(r) f = Flatten(m) y = Gemm<transB=1>(f, g)",
    "float[batch,3,height,width] x", "float[batch,5] y", f"{floats('w', 8, 3, 3, 3)}, {floats('g', 5, 8)}",
)  # fmt: skip


def plan_of(x: np.ndarray) -> Plan:
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(CNN).SerializeToString())
    return session.plan_for(None, {"x": x})


def test_an_executable_is_used_again():
    x = data(1, 3, 8, 6)
    plan = plan_of(x)
    (first,) = execute(plan, [x])
    (idle,) = plan.idle
    (second,) = execute(plan, [x])
    assert plan.idle == [idle]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("way", ["clock", "no clock", "large"])
def test_each_step_is_timed_while_it_runs(way, monkeypatch):
    """Steps are timed with the clock of programs, without it, and one by one, as in plans that run long."""
    if way == "no clock":
        monkeypatch.setattr(program, "HAS_CLOCK", False)
    if way == "large":
        monkeypatch.setattr(binding, "_LONG_RUN", 0)
    x = data(1, 3, 8, 6)
    plan = plan_of(x)
    (expected,) = execute(plan_of(x), [x])
    executable = Executable(plan)
    (slot,) = plan.outputs
    result = plan.buffers[slot].view(executable.arena)
    result[...] = np.nan
    seconds = executable.time([x])
    assert len(seconds) == len(plan.steps)
    assert all(0 <= each < 60 for each in seconds)
    np.testing.assert_array_equal(result, expected)


def test_a_plan_that_runs_long_gives_the_same(monkeypatch):
    x = data(2, 3, 9, 7)
    (expected,) = execute(plan_of(x), [x])
    monkeypatch.setattr(binding, "_LONG_RUN", 0)
    (stepwise,) = execute(plan_of(x), [x])
    np.testing.assert_array_equal(stepwise, expected)


DOMAIN = "test.executor"


@tinyonnx.op("Parts", domain=DOMAIN)
def parts(a, b=None, c=None):
    """a + 1, whether there is a b, and c + 1."""
    return a + np.float32(1), np.array(b is not None), c + np.float32(1)


stacked = []


@tinyonnx.op("Reshape", domain=DOMAIN, shape=lambda x: Info(x.dtype, (2, *x.shape)))
def reshape(x):
    """A Reshape that, unlike ONNX's, returns a copy."""
    stacked.append(x)
    return np.stack([x, x])


def custom(body: str, inputs: str, outputs: str, **options: object) -> tinyonnx.InferenceSession:
    text = f'''<ir_version: 8, opset_import: ["" : 17, "{DOMAIN}" : 1]>
        g ({inputs}) => ({outputs}) {{ {body.replace("@", DOMAIN + ".")} }}'''
    settings = tinyonnx.SessionOptions()
    for name, value in options.items():
        setattr(settings, name, value)
    return tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), settings)


def test_absent_inputs_and_outputs_of_numpy_steps():
    a, c = data(3), data(3, seed=1)
    s = custom('p, "", q = @Parts(a, "", c) y = Neg(q) z = Neg(c)', "float[n] a, float[n] c",
               "float[n] y, float[n] z, float[n] p")  # fmt: skip
    y, z, p = s.run(None, {"a": a, "c": c})
    np.testing.assert_array_equal(y, -(c + np.float32(1)))
    np.testing.assert_array_equal(z, -c)
    np.testing.assert_array_equal(p, a + np.float32(1))
    here = custom('"", b = @Parts(a, "", c)', "float[n] a, float[n] c", "bool b")
    assert here.run(None, {"a": a, "c": c}) == [np.array(False)]


def test_what_a_custom_operator_will_give_is_counted_before_it_runs():
    """Its name is that of an operator of ONNX whose results are views."""
    stacked.clear()
    s = custom("h = @Reshape(x) y = NonZero(h)", "float[n] x", "int64[m,k] y", limits=Limits(max_run_bytes=30_000_000))
    with pytest.raises(tinyonnx.ResourceError, match="Reshape"):
        s.run(None, {"x": np.zeros(10_000_000, np.float32)})
    assert not stacked
    assert s.run(None, {"x": data(5)})[0].shape == (2, 10)
    assert stacked


@pytest.mark.parametrize("batch", [1, 127])
def test_copies_between_memory_orders_and_items_in_groups(batch):
    """The last group of 127 items, which are gone through by pairs, has one."""
    weights = ", ".join(floats(name, 8, channels, 3, 3) for name, channels in (("a", 3), ("b", 8)))
    body = "h = Conv<pads=[1,1,1,1]>(x, a) i = Conv<pads=[1,1,1,1]>(h, b) j = Softmax<axis=3>(i) y = Mul(j, j)"
    text = model_text(body, "float[N,3,32,32] x", "float[N,8,h,w] y", weights)
    s = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    x = data(batch, 3, 32, 32)
    plan = s.plan_for(None, {"x": x})
    assert [(run.items, run.group) for run in plan.runs] == ([(127, 2)] if batch > 1 else [])
    assert any(isinstance(step, LayoutStep) for step in plan.steps)
    (found,) = execute(plan, [x])
    *_, (_, (expected,)) = s.trace({"x": x})
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(np.sqrt(found).sum(axis=3), 1, rtol=1e-5)


def test_results_that_are_lists():
    s = custom("y = SequenceConstruct(x, x) z = Neg(x)", "float[n] x", "seq(float[n]) y, float[n] z")
    x = data(3)
    y, z = s.run(None, {"x": x})
    assert [item.tolist() for item in y] == [x.tolist()] * 2
    np.testing.assert_array_equal(z, -x)


def test_after_invalid_data_the_operator_tells_and_the_next_run_is_right():
    body = "a = Gather(x, i) b = Relu(a) y = Gather(b, j)"
    text = model_text(body, "float[n,3] x, int64[k] i, int64[m] j", "float[m,c] y")
    session, x = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString()), data(4, 3)
    for i, j, error in (([1, 2], [0, 7], '"y".*index 7'), ([1, 9], [0, 1], '"a".*index 9')):
        with pytest.raises(tinyonnx.NodeError, match=error):
            session.run(None, {"x": x, "i": np.array(i), "j": np.array(j)})
        (y,) = session.run(None, {"x": x, "i": np.array([3, 2]), "j": np.array([1, 0])})
        np.testing.assert_array_equal(y, np.maximum(x[[2, 3]], 0))


@pytest.mark.parametrize(("limit", "fits"), [(11_900_000, False), (12_100_000, True)])
def test_the_arena_counts_among_the_bytes_of_a_run(limit, fits):
    text = model_text("h = Relu(x) g = Neg(h) y = NonZero(g)", "float[n] x", "int64[k,m] y")
    options = tinyonnx.SessionOptions()
    options.limits = Limits(max_run_bytes=limit)
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)
    feeds = {"x": np.ones(1_000_000, np.float32)}
    arena = session.plan_for(None, feeds).arena_bytes
    assert arena in range(4_000_000, 4_010_000)
    if fits:
        assert session.run(None, feeds)[0].shape == (1, 1_000_000)
    else:
        with pytest.raises(tinyonnx.ResourceError, match="max_run_bytes"):
            session.run(None, feeds)


SEQUENCES = """<ir_version: 8, opset_import: ["": 17]>
g (float[N] x, seq(float[N]) s) => (seq(float[N]) fed, seq(float[N]) built, seq(float[N]) more, float[N] y)
    <float[2] k = {1, 2}> {
    fed = Identity (s)
    y = Identity (x)
    built = SequenceConstruct (x, k, x)
    more = SequenceInsert (built, y)
}"""


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
def test_tensors_of_sequences_are_the_callers(level):
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = getattr(tinyonnx.GraphOptimizationLevel, level)
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(SEQUENCES).SerializeToString(), options)
    for _ in range(3):
        x, s = np.float32([3, 4]), [np.float32([5, 6]), np.float32([7, 8])]
        fed, built, more, y = session.run(None, {"x": x, "s": s})
        found = [*fed, *built, *more, y]
        firsts = [5, 7, 3, 1, 3, 3, 1, 3, 3, 3]
        np.testing.assert_array_equal(found, [[first, first + 1] for first in firsts])
        for number, each in enumerate(found):  # no other result, feed or constant changes
            each[:] = number
        np.testing.assert_array_equal(found, np.repeat(np.arange(10), 2).reshape(10, 2))
        np.testing.assert_array_equal([x, *s], [[3, 4], [5, 6], [7, 8]])
