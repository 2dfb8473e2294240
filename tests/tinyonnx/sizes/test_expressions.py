"""Sizes against integers: arithmetic, bounds, and conditions that hold exactly where the decisions do."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyonnx.codegen.kernel import DISABLED, BoundKernel
from tinyonnx.runtime.size_table import SizeTable, evaluate, place
from tinyonnx.sizes.expressions import Size, SizeError, Trace, bounds
from tinyonnx.sizes.integers import broadcast_shapes, maximum, minimum, value_of, vector

ARITHMETIC: list[Callable[[Any, Any], Any]] = [
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, maximum, minimum,
]  # fmt: skip
COMPARISONS: list[Callable[[Any, Any], bool]] = [
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
]  # fmt: skip

steps = st.lists(
    st.tuples(st.integers(0, len(ARITHMETIC) - 1), st.integers(0, 9), st.integers(0, 9), st.integers(-4, 70)),
    max_size=8,
)
values = st.tuples(st.integers(2, 300), st.integers(2, 9))


def numbers(program: list[tuple[int, int, int, int]], start: list[Any]) -> list[Any]:
    """Return the numbers that a random program computes: each step takes two earlier numbers, or one and a constant."""
    found = list(start)
    for function, a, b, constant in program:
        x, y = found[a % len(found)], constant if b >= 5 else found[b % len(found)]
        try:
            found.append(ARITHMETIC[function](x, y))
        except ZeroDivisionError:
            found.append(x)
    return found


@settings(max_examples=400)
@given(steps, values, values)
def test_arithmetic(program: list[tuple[int, int, int, int]], here: tuple[int, int], there: tuple[int, int]) -> None:
    trace = Trace()
    symbols = [trace.symbol("a", here[0]), trace.symbol("b", here[1])]
    found = numbers(program, [*symbols, 3])
    assert [value_of(n) for n in found] == numbers(program, [*here, 3])
    trace.set_values(symbols, there)
    if all(condition.holds() for condition in trace.conditions.values()):
        expected = numbers(program, [*there, 3])
        assert [value_of(n) for n in found] == expected
        for size, value in zip(found, expected):
            low, high = bounds(size)
            assert low is None or low <= value
            assert high is None or value <= high


@settings(max_examples=400)
@given(steps, st.integers(0, 5), st.integers(-4, 70), values, values)
def test_conditions(
    program: list[tuple[int, int, int, int]], comparison: int, constant: int, here: tuple[int, int],
    there: tuple[int, int],
) -> None:  # fmt: skip
    """Where all conditions hold, comparisons give the same results; and they hold for the traced sizes."""
    trace = Trace()
    symbols = [trace.symbol("a", here[0]), trace.symbol("b", here[1])]
    size = numbers(program, [*symbols, 3])[-1]
    decided = COMPARISONS[comparison](size, constant)
    assert decided == COMPARISONS[comparison](value_of(size), constant)
    assert all(condition.holds() for condition in trace.conditions.values())
    trace.set_values(symbols, there)
    if all(condition.holds() for condition in trace.conditions.values()):
        assert decided == COMPARISONS[comparison](value_of(size), constant)


@pytest.mark.skipif(DISABLED, reason="there is no machine code")
@settings(max_examples=200)
@given(steps, values, values)
def test_table(program: list[tuple[int, int, int, int]], here: tuple[int, int], there: tuple[int, int]) -> None:
    """The table gives what Python computes, and fails exactly where a condition doesn't hold."""
    trace = Trace()
    symbols = [trace.symbol("a", here[0]), trace.symbol("b", here[1])]
    found = numbers(program, [*symbols, 3])
    for size in found:
        _ = size > 20
    table = SizeTable(trace, symbols)
    table.check(trace.conditions.values())
    places = [place(i, table.slot(size)) for i, size in enumerate(found)]
    if table.largest_symbol() < 300:
        return
    rows, results = np.zeros(len(found), np.int64), np.zeros(table.count, np.int64)
    results[1:3] = there
    BoundKernel(evaluate, (table.code(), results, np.array(places, np.int64), rows)).run(0, 1)
    trace.set_values(symbols, there)
    holds = all(condition.holds() for condition in trace.conditions.values())
    assert bool(results[0]) == holds
    if holds:
        assert rows.tolist() == [value_of(size) for size in found]


def test_equal_expressions_are_one_object() -> None:
    trace = Trace()
    n, m = trace.symbol("n", 7), trace.symbol("m", 5)
    assert n * m + 2 * n is n * (m + 2)
    assert (n * m * 384) // (n * m) == 384
    assert ((n + 1) // 2 * 1024 + 1024) // ((n + 1) // 2 + 1) == 1024
    assert (n * 64 + 5) // 64 is n
    assert n * 6 % 3 == 0
    assert (n - n) == 0
    assert n != 0
    assert n > 1
    assert not trace.conditions, "all of this is so for any size"


@pytest.mark.parametrize("convert", [int, operator.index, hash, float, lambda n: len(range(n)), lambda n: {n: 1}[7]])
def test_conversions_pin_the_size(convert: Callable[[Any], Any]) -> None:
    trace = Trace()
    n = trace.symbol("n", 7)
    convert(n)
    trace.set_values([n], [8])
    assert not all(condition.holds() for condition in trace.conditions.values())


def test_arrays_of_sizes() -> None:
    trace = Trace()
    n = trace.symbol("n", 7)
    assert vector([1, 2]).dtype == np.int64
    assert [*vector([n, 2])] == [n, 2]
    assert np.int64(3) * n is 3 * n
    with pytest.raises(TypeError):
        np.arange(3) + n
    assert not trace.conditions


def test_sizes_of_two_plans_never_meet() -> None:
    a, b = Trace().symbol("n", 7), Trace().symbol("n", 7)
    with pytest.raises(SizeError, match="two plans"):
        a + b


@pytest.mark.parametrize("shapes", [[(3, 1), (4,)], [(), (2, 3)], [(1,), (0,)], [(5, 1, 4), (3, 1)], [(2,), (2,)]])
def test_broadcasting_is_numpys(shapes: list[tuple[int, ...]]) -> None:
    assert broadcast_shapes(*shapes) == np.broadcast_shapes(*shapes)


def test_broadcasting() -> None:
    trace = Trace()
    n = trace.symbol("n", 7)
    assert broadcast_shapes((n, 1), (3,)) == (n, 3)
    with pytest.raises(ValueError, match="broadcast"):
        broadcast_shapes((n,), (3,))
    assert isinstance(broadcast_shapes((1, 4), (n, 1))[0], Size)
    trace.set_values([n], [3])
    assert not all(condition.holds() for condition in trace.conditions.values()), "3 and 3 broadcast"


def test_symbols_are_bounded_so_that_nothing_overflows() -> None:
    trace = Trace()
    n = trace.symbol("n", 7)
    assert trace.largest_symbol([n * 4]) == 1 << 40
    assert trace.largest_symbol([n * n * n]) <= 1 << 20
    assert trace.largest_symbol([n // 2 * n]) <= 1 << 31
