"""Operators that read or write elements by index, or give indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx.dtypes import NUMPY_DTYPE
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.shape import INT64, integers, normalise_axes
from tinyonnx.registry import Context, Info, by_running, op


def _wrap(indices: Array, length: int, what: str = "index") -> Array:
    """Indices counted from the front; raises OpError if one is out of range."""
    if indices.dtype.kind not in "iu":
        raise OpError(f"{what} must be integers, is {indices.dtype}")
    if indices.size and (indices.min() < -length or indices.max() >= length):
        wrong = indices.min() if indices.min() < -length else indices.max()
        raise OpError(f"{what} {wrong} is out of range for {length} elements")
    return np.asarray(np.where(indices < 0, indices + length, indices), INT64)


# -- Gather -------------------------------------------------------------------------------


def _gather_rule(data: Info, indices: Info, *, axis: int = 0) -> Info:
    if data.shape is None or indices.shape is None:
        return Info(data.dtype, None)
    (axis,) = normalise_axes([axis], len(data.shape))
    return Info(data.dtype, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))


@op("Gather", since=1, shape=_gather_rule)
def gather(data: Array, indices: Array, *, axis: int = 0) -> Array:
    (axis,) = normalise_axes([axis], data.ndim)
    return np.asarray(np.take(data, _wrap(indices, data.shape[axis]), axis))


def _along(data: Array, indices: Array, axis: int) -> tuple[Array, ...]:
    """Open index arrays that address, for each index, the element of `data` it means."""
    if indices.ndim != data.ndim:
        raise OpError(f"indices have rank {indices.ndim}, data has rank {data.ndim}")
    for i, (n, d) in enumerate(zip(indices.shape, data.shape, strict=True)):
        if i != axis and n > d:
            raise OpError(f"indices {list(indices.shape)} reach beyond data {list(data.shape)} on axis {i}")
    grid: list[Array] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = _wrap(indices, data.shape[axis])
    return tuple(grid)


@op(
    "GatherElements",
    since=11,
    shape=lambda data, indices, *, axis=0: Info(data.dtype, indices.shape),
)
def gather_elements(data: Array, indices: Array, *, axis: int = 0) -> Array:
    (axis,) = normalise_axes([axis], data.ndim)
    return data[_along(data, indices, axis)]


def _nd(data: Array, indices: Array, batch_dims: int) -> tuple[Array, ...]:
    """Index arrays for GatherND and ScatterND: the last axis of `indices` is a coordinate."""
    depth = indices.shape[-1] if indices.ndim else 0
    if not indices.ndim or batch_dims + depth > data.ndim or data.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise OpError(f"indices {list(indices.shape)} don't fit data {list(data.shape)}, batch_dims {batch_dims}")
    grid = np.ogrid[tuple(slice(n) for n in indices.shape[:-1])] if indices.ndim > 1 else []
    batch = [np.asarray(g) for g in list(grid)[:batch_dims]]
    return (*batch, *(_wrap(indices[..., i], data.shape[batch_dims + i]) for i in range(depth)))


def _gather_nd_rule(data: Info, indices: Info, *, batch_dims: int = 0) -> Info:
    if data.shape is None or not indices.shape:
        return Info(data.dtype, None)
    return Info(data.dtype, (*indices.shape[:-1], *data.shape[batch_dims + indices.shape[-1] :]))


@op("GatherND", since=11, shape=_gather_nd_rule)
def gather_nd(data: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    return np.asarray(data[_nd(data, indices, batch_dims)])


# -- Scatter ------------------------------------------------------------------------------

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _scatter(data: Array, where: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    result = data.copy()
    if updates.dtype != data.dtype:
        raise OpError(f"updates are {updates.dtype}, data is {data.dtype}")
    if reduction == "none":
        result[where] = updates
    elif reduction in _REDUCTIONS:
        _REDUCTIONS[reduction](result, where, updates)
    else:
        raise OpError(f"unknown reduction {reduction!r}")
    return result


def _like_data(data: Info, indices: Info, updates: Info, **_: Any) -> Info:
    return Info(data.dtype, data.shape)


@op("ScatterElements", since=11, shape=_like_data)
def scatter_elements(data: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none") -> Array:
    (axis,) = normalise_axes([axis], data.ndim)
    if indices.shape != updates.shape:
        raise OpError(f"indices {list(indices.shape)} and updates {list(updates.shape)} differ in shape")
    return _scatter(data, _along(data, indices, axis), updates, reduction)


@op("Scatter", since=9, shape=_like_data)
def scatter(data: Array, indices: Array, updates: Array, *, axis: int = 0) -> Array:
    return scatter_elements(data, indices, updates, axis=axis)


@op("ScatterND", since=11, shape=_like_data)
def scatter_nd(data: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Array:
    where = _nd(data, indices, 0)
    expected = (*indices.shape[:-1], *data.shape[indices.shape[-1] :])
    if updates.shape != expected:
        raise OpError(f"updates have shape {list(updates.shape)}, expected {list(expected)}")
    return _scatter(data, where, updates, reduction)


# -- what gives indices -------------------------------------------------------------------


@op("NonZero", since=9)
def non_zero(x: Array) -> Array:
    if x.ndim == 0:
        return np.zeros((0, int(bool(x))), INT64)
    return np.array(np.nonzero(x), INT64)


@op("Compress", since=9)
def compress(input: Array, condition: Array, *, axis: int | None = None) -> Array:
    if condition.ndim != 1:
        raise OpError(f"the condition must have rank 1, has {condition.ndim}")
    length = input.size if axis is None else input.shape[normalise_axes([axis], input.ndim)[0]]
    if len(condition) > length:
        raise OpError(f"{len(condition)} conditions for {length} elements")
    return np.compress(condition, input, axis)


def _one_hot_rule(indices: Info, depth: Info, values: Info, *, axis: int = -1) -> Info:
    if indices.shape is None or depth.value is None:
        return Info(values.dtype, None)
    (axis,) = normalise_axes([axis], len(indices.shape) + 1)
    return Info(values.dtype, (*indices.shape[:axis], int(depth.value.reshape(-1)[0]), *indices.shape[axis:]))


@op("OneHot", since=9, shape=_one_hot_rule)
def one_hot(ctx: Context | None, indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    count = int(depth.reshape(-1)[0])
    if count < 1 or values.shape != (2,):
        raise OpError(f"depth is {count} and values have shape {list(values.shape)}, expected a count and [2]")
    (axis,) = normalise_axes([axis], indices.ndim + 1)
    if ctx is not None:
        ctx.check_size((*indices.shape, count), values.dtype)
    numbers = indices.astype(INT64)
    numbers = np.where(numbers < 0, numbers + count, numbers)
    hot = np.expand_dims(numbers, axis) == np.arange(count).reshape(
        [-1 if i == axis else 1 for i in range(indices.ndim + 1)]
    )
    return np.asarray(np.where(hot, values[1], values[0]))


def _top_k(x: Array, k: int, axis: int, largest: bool) -> tuple[Array, Array]:
    (axis,) = normalise_axes([axis], x.ndim)
    if not 0 <= k <= x.shape[axis]:
        raise OpError(f"k is {k}, the axis has {x.shape[axis]} elements")
    # stable from the right end, flipped, keeps the lower index first among equals
    if largest:
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    indices = np.take(order, np.arange(k), axis)
    return np.take_along_axis(x, indices, axis), indices.astype(INT64)


def _top_k_infos(x: Info, k: int, axis: int) -> list[Info] | None:
    if x.shape is None:
        return None
    (axis,) = normalise_axes([axis], len(x.shape))
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [Info(x.dtype, shape), Info(INT64, shape)]


@op("TopK", since=1, shape=lambda x, *, k, axis=-1: _top_k_infos(x, k, axis))
def top_k_1(x: Array, *, k: int, axis: int = -1) -> tuple[Array, Array]:
    return _top_k(x, k, axis, True)


def _one(value: Array, what: str) -> int:
    numbers = integers(value, what)
    if len(numbers) != 1:
        raise OpError(f"{what} must be one number, has {len(numbers)}")
    return numbers[0]


def _top_k_rule(x: Info, k: Info, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> list[Info] | None:
    return None if k.value is None else _top_k_infos(x, _one(k.value, "k"), axis)


@op("TopK", since=10, shape=_top_k_rule)
def top_k(x: Array, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Array, Array]:
    return _top_k(x, _one(k, "k"), axis, bool(largest))


def _eye_like(input: Array, *, dtype: int | None = None, k: int = 0) -> Array:
    if input.ndim != 2:
        raise OpError(f"needs rank 2, got {input.ndim}")
    if dtype is not None and dtype not in NUMPY_DTYPE:
        raise OpError(f"unknown data type {dtype}")
    kind = input.dtype if dtype is None else NUMPY_DTYPE[dtype]
    rows, columns = input.shape
    return np.asarray(np.eye(rows, columns, k=k).astype(kind))


op("EyeLike", since=9, shape=by_running(_eye_like))(_eye_like)
