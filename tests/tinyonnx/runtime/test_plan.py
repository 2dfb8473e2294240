"""The order of the steps of a plan, and their outputs."""

from __future__ import annotations

from tests.tinyonnx.runtime.test_planner import X, session
from tinyonnx.runtime.item_loops import ItemLoop
from tinyonnx.runtime.plan import KernelStep


def test_steps_of_runs_are_in_the_order_of_their_items():
    plan = session("a = @Slow(x) b = @Slow(a) c = @Slow(b) d = @Slow(c) e = @Slow(d) y = @Slow(e)").plan_for(
        None, {"x": X}
    )
    whole = slice(None)
    assert plan.order == [(i, whole) for i in range(6)]
    plan.runs = [ItemLoop(1, 3, 3, 2), ItemLoop(4, 5, 2, 1)]
    first, last = slice(0, 2), slice(2, 3)
    assert plan.order == [
        *((0, whole), (1, first), (2, first), (1, last), (2, last), (3, whole)),
        *((4, slice(0, 1)), (4, slice(1, 2)), (5, whole)),
    ]


def test_the_output_of_a_step_is_the_first_that_is_read():
    step = session("h = @Rows(x) y = @Rows(h)").plan_for(None, {"x": X}).steps[0]
    assert isinstance(step, KernelStep)
    assert KernelStep(step.node, step.fast, [], [None, *step.outputs]).output is step.outputs[0]
