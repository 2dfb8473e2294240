"""Positions of extremes, the greatest elements in order, running sums: kernels against the numpy operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import choose, run
from tinyonnx.registry import Info, lookup

SIZES = st.sampled_from([1, 2, 3, 7])
TYPES = st.sampled_from([np.float32, np.int64])


def check(name: str, *inputs: Any, constants: tuple[int, ...] = (1,), **options: Any) -> None:
    np.testing.assert_array_equal(*run(name, *inputs, constants=constants, layout="row_major", **options))


def numbers(draw: Any, few: bool) -> tuple[np.ndarray, int]:
    """Return numbers, many of them equal, infinite or NaN, and an axis."""
    shape = draw(st.lists(SIZES, min_size=1, max_size=3), "shape")
    axis = draw(st.integers(-len(shape), len(shape) - 1), "axis")
    shape[axis] = draw(st.sampled_from([1, 2, 17, 70, 130]), "size of the axis")
    random = np.random.default_rng(draw(st.integers(0, 99), "seed"))
    x = random.integers(0, 3 if few else 1000, shape).astype(draw(TYPES, "type"))
    if x.dtype.kind == "f" and draw(st.booleans(), "special"):
        for special in (np.nan, np.inf, -np.inf, -0.0):
            x.reshape(-1)[random.integers(0, x.size, 1 + x.size // 9)] = special
    return x, axis


@given(data=st.data())
@settings(max_examples=40)
def test_positions_of_extremes(data: st.DataObject) -> None:
    x, axis = numbers(data.draw, data.draw(st.booleans(), "few"))
    options = {
        "axis": axis,
        "keepdims": data.draw(st.integers(0, 1)),
        "select_last_index": data.draw(st.integers(0, 1)),
    }
    check(data.draw(st.sampled_from(["ArgMax", "ArgMin"]), "operator"), x, constants=(), **options)


@given(data=st.data())
@settings(max_examples=40)
def test_first_elements(data: st.DataObject) -> None:
    x, axis = numbers(data.draw, data.draw(st.booleans(), "few"))
    k = np.array(data.draw(st.integers(1, x.shape[axis]), "k"))
    largest = data.draw(st.integers(0, 1), "largest")
    both = data.draw(st.booleans(), "both")
    if both:
        check("TopK", x, k, axis=axis, largest=largest, second=True)
    else:
        check("TopK", x, k, axis=axis, largest=largest)
    if largest and x.dtype == np.float32:
        check("TopK", x, axis=axis, k=int(k), opset=9)


@given(data=st.data())
@settings(max_examples=30)
def test_running_sums(data: st.DataObject) -> None:
    x, axis = numbers(data.draw, False)
    flags = {"exclusive": data.draw(st.integers(0, 1)), "reverse": data.draw(st.integers(0, 1))}
    check("CumSum", x, np.array(axis), **flags)


def test_sums_of_a_wide_array() -> None:
    x = np.random.default_rng(0).standard_normal((2, 5, 600)).astype(np.float32)
    check("CumSum", x, np.array(1, np.int32))


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "reason"),
    [
        ("ArgMax", [Info(np.dtype(bool), (3,))], {}, "elements of bool"),
        ("ArgMin", [Info(np.dtype(np.float16), (3,))], {}, "elements of float16"),
        (
            "TopK",
            [Info(np.dtype("f4"), (3,)), Info(np.dtype("i8"), (1,), np.array([2]))],
            {"axis": 1},
            "the axis is out of",
        ),
        ("CumSum", [Info(np.dtype("f4"), (3,)), Info(np.dtype("i8"), ())], {}, "the axis is not constant"),
        ("CumSum", [Info(np.dtype("f4"), (3,)), Info(np.dtype("i8"), (), np.array(3))], {}, "the axis is out of range"),
    ],
)
def test_refusals(name: str, inputs: list[Info], attributes: dict[str, Any], reason: str) -> None:
    chosen = choose(lookup("", name, 18), inputs[0], inputs, attributes)
    assert isinstance(chosen, str)
    assert reason in chosen
