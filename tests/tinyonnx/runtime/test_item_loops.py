"""Plans that go through a batch item by item: same results, smaller arena, whole tensors for hooks."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tinyonnx.runtime.executor import Executable, kernel_names
from tinyonnx.runtime.item_loops import ItemLoop, _best
from tinyonnx.runtime.plan import NumpyStep

WEIGHTS = ", ".join(
    floats(*w) for w in [("a", 16, 3, 3, 3), ("b", 16, 16, 1, 1), ("c", 16, 1, 3, 3), ("d", 8, 16, 1, 1), ("e", 8)]
)
BODY = """h = Conv<pads=[1,1,1,1]>(x, a) i = Relu(h) j = Conv(i, b) k = HardSwish(j)
    l = Conv<group=16, pads=[1,1,1,1]>(k, c) m = Add(l, i) n = Conv(m, d, e) p = MaxPool<kernel_shape=[2,2]>(n)
    q = ReduceMax<axes=[0]>(p) y = Sub(p, q)"""


def session(body: str = BODY, outputs: str = "float[N,8,h,w] y", threads: int = 1) -> tinyonnx.InferenceSession:
    text = model_text(body, "float[N,3,40,40] x", outputs, WEIGHTS)
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    return tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [2, 20, 67])
def test_results_are_those_of_whole_steps(batch: int, threads: int) -> None:
    """The step that mixes the items comes after the loop."""
    here, x = session(threads=threads), data(batch, 3, 40, 40)
    plan = here.plan_for(None, {"x": x})
    assert len(plan.runs) == (batch > 2)
    if batch > 2:
        assert plan.runs[0].items == batch
        assert plan.runs[0].end < len(plan.steps)
    (actual,) = here.run(None, {"x": x})
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    text = model_text(BODY, "float[N,3,40,40] x", "float[N,8,h,w] y", WEIGHTS)
    (expected,) = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options).run(
        None, {"x": x}
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    (again,) = here.run(None, {"x": x})
    np.testing.assert_array_equal(actual, again)


def test_the_batch_of_another_run_may_be_as_large_as_a_group() -> None:
    """128 small images go by pairs, then 2 large ones one by one."""
    weights = ", ".join(floats(name, 8, inputs, 3, 3) for name, inputs in [("a", 3), ("b", 8), ("c", 8), ("d", 8)])
    weights += ", int64[4] s = {2, 8, 256, 256}"
    body = """h = Conv<pads=[1,1,1,1]>(x, a) i = Conv<pads=[1,1,1,1]>(h, b) j = Reshape(i, s)
        k = Conv<pads=[1,1,1,1]>(j, c) y = Conv<pads=[1,1,1,1]>(k, d)"""
    model = onnx.parser.parse_model(model_text(body, "float[N,3,32,32] x", "float[2,8,256,256] y", weights))
    here, feeds = tinyonnx.InferenceSession(model.SerializeToString()), {"x": data(128, 3, 32, 32)}
    assert [(run.items, run.group) for run in here.plan_for(None, feeds).runs] == [(128, 2), (2, 1)]
    (actual,) = here.run(None, feeds)
    *_, (_, (expected,)) = here.trace(feeds)
    np.testing.assert_array_equal(actual, expected)


def test_the_arena_holds_one_item_of_what_lives_from_step_to_step() -> None:
    body = BODY.replace("ReduceMax", "ReduceLogSumExp")  # without a kernel, which would need the batch in another order

    def size(batch: int) -> int:
        return session(body).plan_for(None, {"x": data(batch, 3, 40, 40)}).arena_bytes

    fed, given = 3 * 40 * 40 * 4, 8 * 40 * 40 * 4
    assert size(40) - size(20) <= 20 * (fed + given)


def test_what_is_read_outside_is_whole() -> None:
    here, x = session(BODY, "float[N,8,h,w] y, float[N,16,i,j] k, float[N,16,i,j] i"), data(20, 3, 40, 40)
    assert here.plan_for(None, {"x": x}).runs
    y, k, i = here.run(None, {"x": x})
    for item in (0, 7, 19):
        _, k1, i1 = here.run(None, {"x": x[item : item + 1]})
        np.testing.assert_array_equal(k[item : item + 1], k1)
        np.testing.assert_array_equal(i[item : item + 1], i1)
    np.testing.assert_array_equal(y.max(axis=0), 0)


def test_tools_see_whole_tensors_and_every_step() -> None:
    here, x = session(), data(20, 3, 40, 40)
    plan = here.plan_for(None, {"x": x})
    assert plan.runs
    for node, outputs in here.trace({"x": x}):
        assert outputs[0].shape == node.output.static_shape
    assert len(Executable(plan).time([x])) == len(plan.steps)
    assert [bool(names) for names in kernel_names(plan)] == [not isinstance(s, NumpyStep) for s in plan.steps]
    assert sorted({position for position, _ in plan.order}) == list(range(len(plan.steps)))


def test_the_steps_that_save_most_together() -> None:
    assert _best([]) == _best([-1, -2]) == (0, 0)
    assert _best([3, -1, 4, -9, 5]) == (0, 3)
    assert _best([-2, 1, 0, 5, -1]) == (1, 4)


def test_groups() -> None:
    assert ItemLoop(0, 2, 5, 1).groups == [slice(i, i + 1) for i in range(5)]
    assert ItemLoop(0, 2, 5, 2).groups == [slice(0, 2), slice(2, 4), slice(4, 5)]
