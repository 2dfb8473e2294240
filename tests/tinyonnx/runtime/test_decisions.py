"""Plans that are specialised by the values that decide an If, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import tinyonnx
from tests.tinyonnx.runtime.native_plans import NativePlan
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.runtime.decisions import VALUES_KEPT
from tinyonnx.runtime.plan import BranchStep

RATE = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 3] x, {rate}) => (float[N, 3] y, float[N, 3] z) {{
        wanted = Constant <value_ints = [16000]> ()
        is_wanted = Equal (rate, wanted)
        condition = Squeeze (is_wanted)
        two = Constant <value_float = 2.0> ()
        y = If (condition) <
            then_branch = a () => (float[N, 3] p) {{ p = Mul (x, two) }},
            else_branch = b () => (float[N, 3] q) {{
                other = Constant <value_ints = [8000]> ()
                is_other = Equal (rate, other)
                inner = Squeeze (is_other)
                q = If (inner) <
                    then_branch = c () => (float[N, 3] r) {{ r = Sqrt (x) }},
                    else_branch = d () => (float[N, 3] s) {{ s = Neg (x) }}
                >
            }}
        >
        z = Relu (y)
    }}
"""


def model(text: str) -> bytes:
    content: bytes = onnx.parser.parse_model(text).SerializeToString()
    return content


def x_of(n: int) -> Any:
    return np.random.default_rng(n).uniform(0.1, 2, (n, 3)).astype(np.float32)


@pytest.mark.parametrize(("rate", "shape"), [("int64 rate", ()), ("int64[1] rate", (1,))])
def test_each_value_takes_its_branch(rate: str, shape: tuple[int, ...]) -> None:
    content = model(RATE.format(rate=rate))
    session = tinyonnx.InferenceSession(content)
    theirs = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for value in (16000, 8000, 44100, 8000, 16000):
        for n in (2, 5, 3):
            feeds = {"x": x_of(n), "rate": np.full(shape, value, np.int64)}
            for result, expected in zip(session.run(None, feeds), theirs.run(None, feeds), strict=True):
                np.testing.assert_allclose(result, expected, rtol=1e-6)
            assert not any(step.subplans for step in session.plan_for(None, feeds).numpy_steps)


def test_many_values_share_one_plan_with_the_if() -> None:
    content = model(RATE.format(rate="int64 rate"))
    session = tinyonnx.InferenceSession(content)
    x = x_of(4)
    for value in range(16000, 16000 - 3 * VALUES_KEPT, -1):
        feeds = {"x": x, "rate": np.array(value)}
        expected = x * 2 if value == 16000 else -x
        np.testing.assert_allclose(session.run(["y"], feeds)[0], expected, rtol=1e-6)
    plan = session.plan_for(None, feeds)
    assert sum(isinstance(step, BranchStep) for step in plan.steps) == 2
    assert session.plan_for(None, feeds | {"rate": np.array(1)}) is plan


@pytest.mark.parametrize("option", ["all", "none"])
def test_outputs_that_are_deciding_inputs(option: str) -> None:
    session = tinyonnx.InferenceSession(model(RATE.format(rate="int64 rate")))
    if option == "none":
        options = tinyonnx.SessionOptions()
        options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = tinyonnx.InferenceSession(model(RATE.format(rate="int64 rate")), options)
    for value in (16000, 7):
        rate = np.array(value)
        y, given = session.run(["y", "rate"], {"x": x_of(2), "rate": rate})
        assert given == value
        assert not np.shares_memory(given, rate)
        np.testing.assert_allclose(y, x_of(2) * 2 if value == 16000 else -x_of(2), rtol=1e-6)


@pytest.mark.parametrize(
    "condition",
    [
        "total = ReduceSum <keepdims = 0> (x)  condition = Greater (total, zero)",
        "noise = RandomUniform <shape = [1]> ()  total = Squeeze (noise)  condition = Greater (total, zero)",
        "total = Cast <to = 1> (many)  sum = ReduceSum <keepdims = 0> (total)  condition = Greater (sum, zero)",
    ],
)
def test_conditions_that_depend_on_more_than_single_integers_stay(condition: str) -> None:
    content = model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 3] x, int64[M] many) => (float[N, 3] y) {{
            zero = Constant <value_float = 0.0> ()
            {condition}
            y = If (condition) <
                then_branch = a () => (float[N, 3] p) {{ p = Neg (x) }},
                else_branch = b () => (float[N, 3] q) {{ q = Identity (x) }}
            >
        }}
    """)
    session = tinyonnx.InferenceSession(content)
    feeds = {"x": x_of(2), "many": np.array([1])}
    np.testing.assert_allclose(session.run(None, feeds)[0], -x_of(2))
    plan = session.plan_for(None, feeds)
    assert any(isinstance(step, BranchStep) for step in plan.steps) or any(step.subplans for step in plan.numpy_steps)


@pytest.mark.skipif(DISABLED, reason="tables of steps need machine code")
def test_compiled_models_are_not_specialised_by_a_value() -> None:
    content = model(RATE.format(rate="int64 rate"))
    session = tinyonnx.InferenceSession(content)
    feeds = {"x": x_of(2), "rate": np.array(16000)}
    session.run(None, feeds)
    native = NativePlan(content, feeds)
    for rate in (8000, 16000, 1, 8000):
        feeds = {"x": x_of(2), "rate": np.array(rate)}
        found = native.run(feeds)
        assert found is not None
        for a, b in zip(found, session.run(None, feeds), strict=True):
            np.testing.assert_array_equal(a, b)
