"""Reductions of axes that others follow, against the numpy operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.kernels.columns import _COLUMNS, _ROWS
from tinyonnx.registry import Fast, Info, lookup

OPS = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"]
RARE = ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceProd"]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("columns", [1, 3, 17, _COLUMNS, 2 * _COLUMNS + 1])
@pytest.mark.parametrize("rows", [1, 2, _ROWS, _ROWS + 1, 2 * _ROWS + 3])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_shapes(op: str, columns: int, rows: int, keepdims: int) -> None:
    x = noise(0, 3, rows, columns) + np.float32(0.5)
    assert_close(*run(op, x, np.array([1]), keepdims=keepdims))


@pytest.mark.filterwarnings("ignore:.*encountered in")
@pytest.mark.parametrize("op", RARE)
@pytest.mark.parametrize("rows", [1, 2, _ROWS + 1])
def test_sums_of_functions_and_products(op: str, rows: int) -> None:
    x = noise(0, 3, rows, _COLUMNS + 1) + np.float32(0.5)
    x = np.abs(x) if op == "ReduceLogSum" else x
    x[1, rows // 2, 5], x[2, 0, 7] = np.nan, -np.inf
    assert_close(*run(op, x, np.array([1])))


@pytest.mark.parametrize("axes", [[0], [0, 1], [1], [-3], [1, 2], [2, 1], [0, 1, 2]])
@pytest.mark.parametrize("op", OPS)
def test_axes(op: str, axes: list[int]) -> None:
    x = noise(0, 3, 4, 5, 6)
    assert_close(*run(op, x, np.array(axes)))
    assert_close(*run(op, x, opset=11, axes=axes))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("row", [0, 1, _ROWS, _ROWS + 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(op: str, row: int, value: float) -> None:
    x = noise(0, 2, _ROWS + 2, 5)
    x[1, row, 3] = value
    assert_close(*run(op, x, np.array([1])))


def test_many_rows_round_little() -> None:
    x = np.full((1, 100_000, 3), np.float32(0.1))
    actual, _ = run("ReduceMean", x, np.array([1]))
    np.testing.assert_allclose(actual, np.float32(0.1), rtol=1e-5)


def test_refusals_say_why() -> None:
    f4 = np.dtype(np.float32)
    x, out = Info(f4, (2, 3, 4)), Info(f4, (2, 1, 4))

    def why(*infos: Info | None, **attributes: Any) -> str:
        reason = choose(lookup("", "ReduceMax", 20), out, infos, attributes)
        return "" if isinstance(reason, Fast) else reason

    def axes(*numbers: int) -> Info:
        return Info(np.dtype(np.int64), (len(numbers),), np.array(numbers))

    assert why(x, axes(1)) == ""
    assert "not adjacent" in why(x, axes(0, 2))
    assert "not constant" in why(x, axes(1)._replace(value=None))
    assert "nothing is reduced" in why(x, None, noop_with_empty_axes=1)
    assert "nothing to reduce" in why(x._replace(shape=(2, 0, 4)), axes(1))
    assert "float64" in why(x._replace(dtype=np.dtype(np.float64)), axes(1))
    assert "constant" in why(x._replace(value=np.zeros((2, 3, 4), np.float32)), axes(1))
