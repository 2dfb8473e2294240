"""Operators that select elements by computed indices: kernels against the numpy operators, and errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import choose, run
from tinyonnx.kernels import BoundKernel
from tinyonnx.kernels.indexing import bind_table_rows
from tinyonnx.registry import Info, lookup
from tinyonnx.runtime.constants import ConstantPool

SIZES = st.sampled_from([1, 2, 3, 5, 17])
TYPES = st.sampled_from([np.float32, np.int64, np.bool_])


def check(name: str, *inputs: Any, constants: tuple[int, ...] = (), **options: Any) -> None:
    np.testing.assert_array_equal(*run(name, *inputs, constants=constants, layout="row_major", **options))


def numbers(draw: Any, shape: list[int], dtype: Any) -> np.ndarray:
    return np.random.default_rng(draw(st.integers(0, 99), "seed")).integers(0, 100, shape).astype(dtype)


def indices_of(draw: Any, shape: list[int], size: int) -> np.ndarray:
    random = np.random.default_rng(draw(st.integers(0, 99), "seed of indices"))
    return random.integers(-size, size, shape)


@given(data=st.data())
@settings(max_examples=60)
def test_gather(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.lists(SIZES, min_size=1, max_size=4), "shape")
    axis = draw(st.integers(-len(shape), len(shape) - 1), "axis")
    indices = indices_of(draw, draw(st.lists(SIZES, max_size=2), "indices"), shape[axis])
    constants = draw(st.sampled_from([(), (0,)]), "constants")
    check("Gather", numbers(draw, shape, draw(TYPES, "type")), indices, axis=axis, constants=constants)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (1,), (17,), (2, 3)])
def test_table_rows(shape: tuple[int, ...], dtype: Any) -> None:
    ids = np.random.default_rng(0).integers(0, 7, shape).astype(dtype)
    for row in ((), (5,), (2, 17)):
        table = np.arange(7 * math.prod(row), dtype=np.float32).reshape(7, *row)
        check("TableRows", table, ids, fused=True, constants=(0,))


@pytest.mark.parametrize("number", [-1, 7])
def test_a_number_of_no_row_is_reported(number: int) -> None:
    table, ids, out = np.zeros((7, 2), np.float32), np.array([3, number]), np.zeros((2, 2), np.float32)
    status = np.zeros(1, np.int64)
    call = bind_table_rows(ConstantPool(), out, table, ids, status=status)
    BoundKernel(call.kernel, call.args).run(0, 1)
    assert status[0] == 1


@given(data=st.data())
@settings(max_examples=60)
def test_gather_and_scatter_elements(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.lists(SIZES, min_size=1, max_size=4), "shape")
    axis = draw(st.integers(-len(shape), len(shape) - 1), "axis")
    picked = [draw(st.integers(1, n), "size") for n in shape]
    picked[axis] = draw(SIZES, "indices")
    indices, dtype = indices_of(draw, picked, shape[axis]), draw(TYPES, "type")
    x, constants = numbers(draw, shape, dtype), draw(st.sampled_from([(), (0,)]), "constants")
    check("GatherElements", x, indices, axis=axis, constants=constants)
    check("ScatterElements", x, indices, numbers(draw, picked, dtype), axis=axis, constants=constants)
    check("Scatter", x, indices, numbers(draw, picked, dtype), axis=axis, opset=10)


@given(data=st.data())
@settings(max_examples=60)
def test_gather_and_scatter_tuples(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.lists(SIZES, min_size=1, max_size=4), "shape")
    batch = draw(st.integers(0, len(shape) - 1), "batch_dims")
    depth = draw(st.integers(1, len(shape) - batch), "depth")
    places = [*shape[:batch], *draw(st.lists(SIZES, max_size=2), "places")]
    indices = np.stack([indices_of(draw, places, n) for n in shape[batch : batch + depth]], axis=-1)
    x = numbers(draw, shape, draw(TYPES, "type"))
    check("GatherND", x, indices, batch_dims=batch)
    if not batch:
        check("ScatterND", x, indices, numbers(draw, [*places, *shape[depth:]], x.dtype))


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_scatter_in_place(reduction: str, dtype: Any) -> None:
    random = np.random.default_rng(3)
    x, updates = (random.integers(0, 9, n).astype(dtype) for n in ([4, 5], [3, 5]))
    if np.dtype(dtype).kind == "f":
        x[1, 1], updates[2, 2] = np.nan, np.nan
    rows = random.integers(-4, 4, [3, 5])
    check("ScatterElements", x, rows, updates, axis=0, reduction=reduction, in_place=True)
    check("ScatterElements", x.T.copy(), rows.T.copy(), updates.T.copy(), axis=1, reduction=reduction, in_place=True)
    check("ScatterND", x, np.array([[1], [-1], [1]]), updates, reduction=reduction, in_place=True)


@given(data=st.data())
@settings(max_examples=40)
def test_one_hot(data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(st.lists(SIZES, max_size=3), "shape")
    axis = draw(st.integers(-len(shape) - 1, len(shape)), "axis")
    indices = np.random.default_rng(1).integers(-7, 7, shape)
    values = np.array([0, 3], draw(TYPES, "type"))
    check(
        "OneHot", indices, np.array(5), values, axis=axis, constants=draw(st.sampled_from([(1,), (1, 2)]), "constants")
    )


@pytest.mark.parametrize(
    ("name", "shapes", "attributes", "reason"),
    [
        ("Gather", [("f2", [3]), ("f4", [2])], {}, "indices of float32"),
        ("Gather", [("c8", [3]), ("i8", [2])], {}, "elements of complex64"),
        ("GatherElements", [("f4", [3]), ("i8", [2, 2])], {}, "ranks differ, or the axis is out of range"),
        ("GatherElements", [("f4", [3, 2]), ("i8", [2, 3])], {}, "the indices have a longer axis than the data"),
        ("GatherND", [("f4", [3]), ("i8", [2, 2])], {}, "the indices don't fit the data"),
        ("GatherND", [("f4", [3, 2]), ("i8", [2, 1])], {"batch_dims": 1}, "the batches differ"),
        ("ScatterND", [("f4", [3, 2]), ("i8", [2, 1]), ("f4", [2, 3])], {}, "the updates have the wrong shape or type"),
        ("ScatterElements", [("f4", [3]), ("i8", [2]), ("f4", [2])], {"reduction": "xor"}, "reduction 'xor'"),
        ("ScatterElements", [("f2", [3]), ("i8", [2]), ("f2", [2])], {"reduction": "add"}, "add of float16"),
        ("Gather", [("f4", [1] * 7), ("i8", [2])], {}, "7 axes"),
    ],
)
def test_refusals(name: str, shapes: Any, attributes: dict[str, Any], reason: str) -> None:
    infos = [Info(np.dtype(dtype), tuple(shape)) for dtype, shape in shapes]
    chosen = choose(lookup("", name, 18), infos[0], infos, attributes)
    assert isinstance(chosen, str)
    assert reason in chosen
