"""Operators that read or write elements by index, or give indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.cast import dtype_of
from tinyonnx.ops.shape import INT64, integer, integers, normalise_axes
from tinyonnx.registry import Context, Info, op, same_as


def _wrap(indices: Array, length: int, what: str = "index") -> Array:
    """Return indices counted from the front; raises OpError if one is out of range."""
    if indices.dtype.kind not in "iu":
        raise OpError(f"{what} must be integers, is {indices.dtype}")
    if indices.size and (indices.min() < -length or indices.max() >= length):
        wrong = indices.min() if indices.min() < -length else indices.max()
        raise OpError(f"{what} {wrong} is out of range for {length} elements")
    return np.asarray(np.where(indices < 0, indices + length, indices), INT64)


# -- Gather -------------------------------------------------------------------------------


def gather_shape(data: Info, indices: Info, *, axis: int = 0) -> Info:
    if data.shape is None or indices.shape is None:
        return Info(data.dtype, None)
    (axis,) = normalise_axes([axis], len(data.shape))
    return Info(data.dtype, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))


@op("Gather", since=1, shape=gather_shape)
def gather(data: Array, indices: Array, *, axis: int = 0) -> Array:
    (axis,) = normalise_axes([axis], data.ndim)
    if indices.dtype.kind == "i" and data.size:
        try:
            return np.asarray(np.take(data, indices, axis), data.dtype)
        except IndexError:
            pass  # `_wrap` names the index
    return np.asarray(np.take(data, _wrap(indices, data.shape[axis]), axis), data.dtype)


def _along(data: Array, indices: Array, axis: int) -> tuple[Array, ...]:
    """Open index arrays that address the element of `data` selected by each index along `axis`."""
    if indices.ndim != data.ndim:
        raise OpError(f"indices have rank {indices.ndim}, data has rank {data.ndim}")
    for i, (n, d) in enumerate(zip(indices.shape, data.shape, strict=True)):
        if i != axis and n > d:
            raise OpError(f"indices {list(indices.shape)} reach beyond data {list(data.shape)} on axis {i}")
    grid: list[Array] = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = _wrap(indices, data.shape[axis])
    return tuple(grid)


@op("GatherElements", since=11, shape=lambda data, indices, *, axis=0: Info(data.dtype, indices.shape))
def gather_elements(data: Array, indices: Array, *, axis: int = 0) -> Array:
    (axis,) = normalise_axes([axis], data.ndim)
    return data[_along(data, indices, axis)]


def _nd(data: Array, indices: Array, batch_dims: int) -> tuple[Array, ...]:
    """Return index arrays for GatherND and ScatterND; the last axis of `indices` holds coordinates."""
    depth = indices.shape[-1] if indices.ndim else 0
    if (
        depth < 1
        or batch_dims < 0
        or batch_dims + depth > data.ndim
        or data.shape[:batch_dims] != indices.shape[:batch_dims]
    ):
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
    return np.asarray(data[_nd(data, indices, batch_dims)], data.dtype)


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
    elif reduction not in _REDUCTIONS:
        raise OpError(f"unknown reduction {reduction!r}")
    elif data.dtype.kind == "O":
        raise OpError(f"can't reduce strings by {reduction!r}")
    else:
        with np.errstate(all="ignore"):
            _REDUCTIONS[reduction](result, where, updates)
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


# -- operators that return indices --------------------------------------------------------


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


@op("Unique", since=11)
def unique(x: Array, *, axis: int | None = None, sorted: int = 1) -> tuple[Array, Array, Array, Array]:
    if axis is not None:
        (axis,) = normalise_axes([axis], x.ndim)
    # numpy sorts subarrays of strings only if these have a fixed length
    data = x.astype(str) if x.dtype.kind == "O" and axis is not None and x.size else x
    _, first, inverse, counts = np.unique(data, return_index=True, return_inverse=True, return_counts=True, axis=axis)
    inverse = inverse.reshape(-1)
    if not sorted:
        order = np.argsort(first, kind="stable")
        inverse, first, counts = np.argsort(order)[inverse], first[order], counts[order]
    y = np.take(x, first, axis)
    return y, first.astype(INT64), inverse.astype(INT64), counts.astype(INT64)


def _depth(depth: Array) -> int:
    if depth.size != 1 or not 1 <= depth.reshape(()) < 2**63:
        raise OpError(f"depth must be one positive number, is {depth.tolist()}")
    return int(depth.reshape(()))


def _one_hot_rule(indices: Info, depth: Info, values: Info, *, axis: int = -1) -> Info:
    if indices.shape is None or depth.value is None:
        return Info(values.dtype, None)
    (axis,) = normalise_axes([axis], len(indices.shape) + 1)
    return Info(values.dtype, (*indices.shape[:axis], _depth(depth.value), *indices.shape[axis:]))


@op("OneHot", since=9, shape=_one_hot_rule)
def one_hot(ctx: Context | None, indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    """Return one-hot vectors; an index outside [-depth, depth) gives a vector of off-values instead of an error."""
    count = _depth(depth)
    if values.shape != (2,):
        raise OpError(f"values must be off and on, shape [2], have {list(values.shape)}")
    (axis,) = normalise_axes([axis], indices.ndim + 1)
    if ctx is not None:
        ctx.check_size((*indices.shape, count), values.dtype)
        ctx.check_size((count,), INT64)
    with np.errstate(invalid="ignore"):
        numbers = np.expand_dims(indices.astype(INT64), axis)
    places = np.arange(count).reshape([-1 if i == axis else 1 for i in range(indices.ndim + 1)])
    hot = np.where(numbers < 0, numbers + count, numbers) == places
    return np.asarray(np.where(hot, values[1:], values[:1]))


def _check_k(k: int, size: int) -> None:
    """Raise OpError if there are fewer elements than k."""
    if not 0 <= k <= size:
        raise OpError(f"k is {k}, the axis has {size} elements")


def _top_k(x: Array, k: int, axis: int, largest: bool) -> tuple[Array, Array]:
    (axis,) = normalise_axes([axis], x.ndim)
    _check_k(k, x.shape[axis])
    # a stable sort of the reversed array, reversed, keeps the lower index first among equal elements
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
    _check_k(k, x.shape[axis])
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [Info(x.dtype, shape), Info(INT64, shape)]


@op("TopK", since=1, shape=lambda x, *, k, axis=-1: _top_k_infos(x, k, axis))
def top_k_1(x: Array, *, k: int, axis: int = -1) -> tuple[Array, Array]:
    return _top_k(x, k, axis, True)


def _top_k_rule(x: Info, k: Info, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> list[Info] | None:
    return None if k.value is None else _top_k_infos(x, integer(k.value, "k"), axis)


@op("TopK", since=10, shape=_top_k_rule)
def top_k(x: Array, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Array, Array]:
    return _top_k(x, integer(k, "k"), axis, bool(largest))


def _eye_like_rule(input: Info, *, dtype: int | None = None, k: int = 0) -> Info:
    return Info(input.dtype if dtype is None else dtype_of(dtype), input.shape)


@op("EyeLike", since=9, shape=_eye_like_rule)
def eye_like(ctx: Context | None, input: Array, *, dtype: int | None = None, k: int = 0) -> Array:
    if input.ndim != 2:
        raise OpError(f"needs rank 2, got {input.ndim}")
    kind = input.dtype if dtype is None else dtype_of(dtype)
    if ctx is not None:
        ctx.check_size(input.shape, kind)
    result = np.zeros(input.shape, kind)
    rows = np.arange(max(-k, 0), min(input.shape[0], input.shape[1] - k))
    result[rows, rows + k] = 1
    return result


@op("ReverseSequence", since=10, shape=same_as())
def reverse_sequence(input: Array, sequence_lens: Array, *, batch_axis: int = 1, time_axis: int = 0) -> Array:
    if sorted((batch_axis, time_axis)) != [0, 1] or input.ndim < 2:
        raise OpError("batch_axis and time_axis must be 0 and 1 of an input of rank 2 or more")
    if sequence_lens.shape != (input.shape[batch_axis],):
        raise OpError(f"{list(sequence_lens.shape)} lengths for a batch of {input.shape[batch_axis]}")
    result = input.copy()
    by_sequence = np.moveaxis(result, batch_axis, 0)
    for i, length in enumerate(integers(sequence_lens, "sequence_lens")):
        if not 0 <= length <= input.shape[time_axis]:
            raise OpError(f"length {length} of sequence {i} is out of range")
        by_sequence[i, :length] = by_sequence[i, :length][::-1].copy()
    return result
