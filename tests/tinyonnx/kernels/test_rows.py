"""Softmax, reductions and products of batches against the numpy operators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.codegen.primitives import LANES
from tinyonnx.kernels.rows import BLOCK
from tinyonnx.registry import Info, lookup

WIDTHS = [1, 2, 15, 16, 17, 40, 131]
REDUCTIONS = ["Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSum", "LogSumExp", "Prod"]


@pytest.mark.parametrize("n", WIDTHS)
def test_softmax(n: int) -> None:
    x = noise(0, 2, 5, n) * 30
    assert_close(*run("Softmax", x), tolerance=2e-6)
    assert_close(*run("Softmax", x, opset=11, axis=1), tolerance=2e-6)
    assert_close(*run("Softmax", x, opset=11, axis=-1), tolerance=2e-6)
    assert_close(*run("LogSoftmax", x), tolerance=2e-6)


@pytest.mark.parametrize("n", [BLOCK - 1, BLOCK, 2 * BLOCK + 17])
def test_rows_of_several_blocks(n: int) -> None:
    x = noise(0, 3, n) * 3
    for name in ("Softmax", "LogSoftmax"):
        assert_close(*run(name, x), tolerance=2e-6)
    for name in ("L1", "L2", "SumSquare", "LogSumExp"):
        assert_close(*run(f"Reduce{name}", x, np.array([1]), constants=(1,)))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_softmax_of_values_that_are_not_finite() -> None:
    x = noise(0, 4, 20)
    x[0, 17], x[1, 3], x[2, 5], x[3] = np.nan, np.inf, -np.inf, -np.inf
    for name in ("Softmax", "LogSoftmax"):
        assert_close(*run(name, x))


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.filterwarnings("ignore:.*encountered in")
def test_reductions(name: str, n: int) -> None:
    name, x = f"Reduce{name}", noise(0, 3, 5, n)
    if name == "ReduceLogSum":
        x = np.abs(x)
    x[0, 0, n // 2], x[1, 1, -1], x[1, 2, 0] = np.nan, np.inf, -np.inf
    assert_close(*run(name, x, np.array([-1]), constants=(1,)))
    assert_close(*run(name, x, np.array([1, 2]), constants=(1,), keepdims=0))
    assert_close(*run(name, x, constants=()))
    assert_close(*run(name, x, opset=12, constants=(), axes=[2], keepdims=0))


@given(data=st.data())
@settings(max_examples=80)
def test_matmul(data: st.DataObject) -> None:
    draw = data.draw
    sizes = st.sampled_from([1, 2, 7, 8, LANES - 1, LANES, LANES + 1, 3 * LANES + 2, 100])
    m, k, n = draw(sizes, "m"), draw(sizes, "k"), draw(sizes, "n")
    batch = draw(st.lists(st.integers(1, 3), max_size=2), "batch")

    def operand(seed: int, *shape: int) -> np.ndarray:
        own = [1 if draw(st.booleans(), "repeated") else size for size in batch]
        return noise(seed, *own[draw(st.integers(0, len(batch)), "missing") :], *shape)

    a, b = operand(0, m, k), operand(1, k, n)
    assert_close(*run("MatMul", a, b, constants=draw(st.sampled_from([(), (0,), (1,)]))))


def test_refusals() -> None:
    x = Info(np.dtype(np.float32), (2, 3, 4))
    several = {"axes": [0, 2]}
    assert "last axis" in str(choose(lookup("", "Softmax", 22), x, [x], {"axis": 1}))
    assert "last axes" in str(choose(lookup("", "ReduceMax", 12), x, [x], several))
    assert "vector" in str(choose(lookup("", "MatMul", 22), x, [x, Info(x.dtype, (4,))], {}))


@pytest.mark.parametrize(("axis", "fits"), [(-4, False), (-3, True), (2, True), (3, False)])
def test_axes_out_of_range_are_refused(axis: int, fits: bool) -> None:
    x = Info(np.dtype(np.float32), (2, 3, 4))
    assert ("out of range" in str(choose(lookup("", "Softmax", 11), x, [x], {"axis": axis}))) != fits
