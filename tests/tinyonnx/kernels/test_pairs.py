"""Arithmetic of integers, comparisons, logic and choices against numpy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import choose, run
from tinyonnx.registry import Info, lookup

ARITHMETIC = ["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max"]
COMPARISONS = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]
LOGIC = ["And", "Or", "Xor"]

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in")


def numbers(dtype: Any, seed: int, shape: tuple[int, ...] | list[int]) -> np.ndarray:
    """Return a few different numbers, so that many are equal, with the ends of the range and zero."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype == np.bool_:
        return np.asarray(rng.random(shape) < 0.5)
    few = rng.integers(0 if dtype.kind == "u" else -4, 5, shape)
    x = np.asarray(few, dtype)
    if dtype.kind == "f":
        ends = [np.nan, np.inf, -np.inf, -0.0]
    else:
        ends = [np.iinfo(dtype).min, np.iinfo(dtype).max, np.iinfo(dtype).max // 2 + 3]
    chosen = rng.random(shape)
    for i, end in enumerate(ends):
        x = np.where((chosen > i / 8) & (chosen < (i + 1) / 8), dtype.type(end), x)
    return np.asarray(x)


def check(name: str, *operands: np.ndarray, layout: str = "row_major", constants: tuple[int, ...] = ()) -> None:
    np.testing.assert_array_equal(*run(name, *operands, layout=layout, constants=constants), strict=True)


@given(data=st.data())
@settings(max_examples=100)
def test_broadcast(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 16, 17, 40]), max_size=4), "shape")

    def operand(dtype: Any, seed: int) -> np.ndarray:
        sizes = [1 if draw(st.booleans(), "repeated") else n for n in shape]
        return numbers(dtype, seed, sizes[draw(st.integers(0, len(shape)), "missing") :])

    name = draw(st.sampled_from(["Add", "Greater", "And", "Where"]))
    dtype = bool if name == "And" else draw(st.sampled_from([np.int32, np.int64]), "dtype")
    operands = [operand(dtype, seed) for seed in range(2)]
    if name == "Where":
        operands.insert(0, operand(bool, 2))
    constants = draw(st.sampled_from([(), *((i,) for i in range(len(operands)))]), "constants")
    check(name, *operands, layout=draw(st.sampled_from(["row_major", "channels_last"])), constants=constants)


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_arithmetic(name: str, dtype: Any) -> None:
    a, b = numbers(dtype, 0, (5, 7, 61)), numbers(dtype, 1, (5, 7, 61))
    check(name, a, b)
    check(name, a, b[:, :1])
    check(name, a[0, 0], b)
    for scalar in {0, 1, -1, 3, -3, np.iinfo(dtype).min}:
        check(name, a, np.array(scalar, dtype), constants=(1,))


@pytest.mark.parametrize(
    ("dtype", "names"),
    [
        (np.int8, ["Add", "Sub", "Mul", "Equal", "Min", "Max", "Div"]),
        (np.uint8, ["Add", "Mul"]),
        (np.int16, ["Sub", "Min", "Div"]),
        (np.uint32, ["Sub", "Equal"]),
        (np.uint64, ["Mul", "Equal"]),
    ],
)
def test_arithmetic_of_other_integers(dtype: Any, names: list[str]) -> None:
    """Each pair of operator and type is compiled for itself: all operators once, all types with some."""
    a, b = numbers(dtype, 0, (5, 61)), numbers(dtype, 1, (5, 61))
    for name in names:
        check(name, a, b)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, dtype) for name in COMPARISONS for dtype in (np.float32, np.int64)),
        *(("Less", np.float64), ("Equal", np.float64), ("GreaterOrEqual", np.int32), ("Greater", np.int8)),
    ],
)
def test_comparisons(name: str, dtype: Any) -> None:
    a, b = numbers(dtype, 0, (5, 7, 61)), numbers(dtype, 1, (5, 7, 61))
    check(name, a, b)
    check(name, a, b[:, :1], layout="channels_last")
    check(name, a[0, 0], b)


@pytest.mark.parametrize("name", [*LOGIC, "Equal"])
def test_truth_values(name: str) -> None:
    check(name, numbers(bool, 0, (3, 50)), numbers(bool, 1, (3, 50)))
    check(name, numbers(bool, 0, (3, 1)), numbers(bool, 1, (3, 50)))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int64, np.uint8, bool])
def test_where(dtype: Any) -> None:
    condition = numbers(bool, 2, (3, 5, 50))
    x, y = numbers(np.int8, 0, (3, 5, 50)).astype(dtype), numbers(np.int8, 1, (3, 5, 50)).astype(dtype)
    for c in (condition, condition[:, :, :1], condition[0, 0]):
        check("Where", c, x, y)
        check("Where", c, x[:1, :1, :1], y, constants=(1,))
        check("Where", c, x, y[0, 0, :1], constants=(2,))
        check("Where", c, x[:, :, :1], y[0])


def test_long_rows() -> None:
    a = numbers(np.int32, 0, (2, 10000))
    check("Add", a, numbers(np.int32, 1, (10000,)))
    check("Where", a > 0, a, numbers(np.int32, 1, (1,)))


def test_refusals() -> None:
    def reason(name: str, *types: Any, shape: tuple[int, ...] = (3,), **attributes: Any) -> str:
        infos = [Info(np.dtype(t), shape) for t in types]
        return str(choose(lookup("", name, 22), infos[-1], infos, attributes))

    for name in ("Div", "Mod", "Min", "Max", "Less", "GreaterOrEqual"):
        assert reason(name, np.uint8, np.uint8).endswith("uint8")
    assert reason("Less", np.float16, np.float16).endswith("float16")
    assert reason("Equal", object, object).endswith("object")
    assert reason("Min", np.int32, np.int32, np.int32).endswith("3 operands")
    assert reason("Mod", np.int32, np.int32, fmod=1) == "the remainder has the sign of the dividend"
    assert reason("And", bool, bool, shape=(2,) * 7) == "7 axes"
    assert reason("Where", bool, object, object) == "object and object"
    constant = Info(np.dtype(np.int32), (3,), np.zeros(3, np.int32))
    assert "both operands are constant" in str(choose(lookup("", "Add", 22), constant, [constant] * 2, {}))
    truths = Info(np.dtype(bool), (3,), np.zeros(3, bool))
    assert choose(lookup("", "Where", 22), constant, [truths, constant, constant], {}) == "all inputs are constant"
