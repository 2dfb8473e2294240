"""Executables: plans bound to an arena."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tinyonnx.runtime import executor, program
from tinyonnx.runtime.executor import Executable, execute
from tinyonnx.runtime.plan import Plan

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
    """With the clock of programs, without, and step by step, as for plans that run long."""
    if way == "no clock":
        monkeypatch.setattr(program, "HAS_CLOCK", False)
    if way == "large":
        monkeypatch.setattr(executor, "_LONG_RUN", 0)
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
    monkeypatch.setattr(executor, "_LONG_RUN", 0)
    (stepwise,) = execute(plan_of(x), [x])
    np.testing.assert_array_equal(stepwise, expected)
