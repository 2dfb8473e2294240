"""Reductions; the axes are an attribute before, and an input since, opset 13 (ReduceSum) or 18."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import Ints, Shape, is_float, one_axis, quiet, widened
from tinyonnx.registry import Info, op

Reducer = Callable[[Array, Shape, bool], Any]


def several_axes(axes: Sequence[int], rank: int) -> Shape:
    """Return the non-negative axes. Raises OpError if one is out of range or given twice."""
    result = tuple(one_axis(int(a), rank) for a in axes)
    if len(set(result)) < len(result):
        raise OpError(f"axes contain duplicates: {list(axes)}")
    return result


def reduced_shape(shape: Shape, axes: Shape, keepdims: int) -> Shape:
    """Return the shape after reducing over non-negative axes."""
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _chosen(axes: Ints, rank: int, noop: int = 0) -> Shape:
    """Return the axes to reduce; without axes all of them, or none if `noop` is set."""
    if axes is not None and len(axes):
        return several_axes(axes, rank)
    return () if noop else tuple(range(rank))


def _vector(axes: Array | None) -> list[int] | None:
    if axes is None:
        return None
    if axes.ndim > 1:
        raise OpError(f"axes should be a list, has shape {axes.shape}")
    return [int(a) for a in axes.ravel()]


def _shape(data: Info, axes: Info | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0, **_: Any) -> Info:
    known = axes is None or axes.value is not None
    if data.shape is None or not known:
        return Info(data.dtype, None)
    values = None if axes is None else _vector(axes.value)
    chosen = _chosen(values, data.ndim, noop_with_empty_axes)
    return Info(data.dtype, reduced_shape(data.shape, chosen, keepdims))


def _shape_1(data: Info, *, axes: Ints = None, keepdims: int = 1, **_: Any) -> Info:
    if data.shape is None:
        return Info(data.dtype, None)
    return Info(data.dtype, reduced_shape(data.shape, _chosen(axes, data.ndim), keepdims))


def _reduction(name: str, reducer: Reducer, since: int = 18) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Register both forms of a reduction; `since` is the opset from which `axes` is an input."""

    @op(name, since=since, shape=_shape)
    @quiet
    def with_input(
        data: Array, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Array:
        chosen = _chosen(_vector(axes), data.ndim, noop_with_empty_axes)
        return np.asarray(reducer(data, chosen, bool(keepdims))).astype(data.dtype, copy=False)

    @op(name, since=1, shape=_shape_1)
    @quiet
    def with_attribute(data: Array, *, axes: Ints = None, keepdims: int = 1) -> Array:
        return np.asarray(reducer(data, _chosen(axes, data.ndim), bool(keepdims))).astype(data.dtype, copy=False)

    return with_input, with_attribute


def _real(x: Array) -> Array:
    return widened(x) if is_float(x.dtype) else x.astype(np.float64)


def _sum(x: Array, axes: Shape, keep: bool) -> Any:
    wide = is_float(x.dtype) and x.dtype.itemsize < 4
    return np.sum(x, axis=axes, keepdims=keep, dtype=np.float32 if wide else x.dtype)


def mean_over(x: Array, axes: Shape, keep: bool) -> Any:
    """Return the mean in the type to compute in; nan over an empty set of floats, without numpy's warning."""
    count = prod(x.shape[a] for a in axes)
    if is_float(x.dtype):
        total = np.asarray(_sum(x, axes, keep))
        return total / total.dtype.type(count)
    accumulator: Any = np.uint64 if x.dtype.kind == "u" else np.int64
    exact = np.asarray(np.sum(x, axis=axes, keepdims=keep, dtype=accumulator))
    magnitude = np.abs(exact) // exact.dtype.type(max(count, 1))
    return np.where(exact < 0, -magnitude, magnitude) if x.dtype.kind == "i" else magnitude


def _extreme(dtype: np.dtype[Any], sign: int) -> Any:
    """Return the least (sign -1) or greatest value of a type."""
    if dtype.kind == "b":
        return sign > 0
    if dtype.kind in "iu":
        return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min
    return sign * np.inf


def _max(x: Array, axes: Shape, keep: bool) -> Any:
    return np.max(x, axis=axes, keepdims=keep, initial=_extreme(x.dtype, -1))


def _min(x: Array, axes: Shape, keep: bool) -> Any:
    return np.min(x, axis=axes, keepdims=keep, initial=_extreme(x.dtype, 1))


def _prod(x: Array, axes: Shape, keep: bool) -> Any:
    return np.prod(widened(x), axis=axes, keepdims=keep, dtype=widened(x).dtype)


def _l1(x: Array, axes: Shape, keep: bool) -> Any:
    return _sum(np.abs(x), axes, keep)


def _l2(x: Array, axes: Shape, keep: bool) -> Any:
    return np.sqrt(_sum_square(_real(x), axes, keep))


def _sum_square(x: Array, axes: Shape, keep: bool) -> Any:
    return _sum(np.square(widened(x)), axes, keep)


def _log_sum(x: Array, axes: Shape, keep: bool) -> Any:
    return np.log(_sum(_real(x), axes, keep))


def _log_sum_exp(x: Array, axes: Shape, keep: bool) -> Any:
    real = _real(x)
    top = _max(real, axes, True)
    shift = np.where(np.isfinite(top), top, 0)
    total = np.log(_sum(np.exp(real - shift), axes, True)) + shift
    return total.reshape(reduced_shape(x.shape, axes, keep))


reduce_sum, reduce_sum_1 = _reduction("ReduceSum", _sum, since=13)
reduce_mean, reduce_mean_1 = _reduction("ReduceMean", mean_over)
reduce_max, reduce_max_1 = _reduction("ReduceMax", _max)
reduce_min, reduce_min_1 = _reduction("ReduceMin", _min)
reduce_prod, reduce_prod_1 = _reduction("ReduceProd", _prod)
reduce_l1, reduce_l1_1 = _reduction("ReduceL1", _l1)
reduce_l2, reduce_l2_1 = _reduction("ReduceL2", _l2)
reduce_sum_square, reduce_sum_square_1 = _reduction("ReduceSumSquare", _sum_square)
reduce_log_sum, reduce_log_sum_1 = _reduction("ReduceLogSum", _log_sum)
reduce_log_sum_exp, reduce_log_sum_exp_1 = _reduction("ReduceLogSumExp", _log_sum_exp)


# -- positions --------------------------------------------------------------------------


def _position_shape(data: Info, *, axis: int = 0, keepdims: int = 1, **_: Any) -> Info:
    if data.shape is None:
        return Info(np.dtype(np.int64), None)
    along = one_axis(axis, data.ndim)
    _check_not_empty(data.shape, along)
    return Info(np.dtype(np.int64), reduced_shape(data.shape, (along,), keepdims))


def _check_not_empty(shape: Shape, axis: int) -> None:
    if shape[axis] == 0:
        raise OpError(f"axis {axis} of shape {shape} is empty")


def _positions(function: Callable[..., Any], data: Array, axis: int, keepdims: int, last: int) -> Array:
    along = one_axis(axis, data.ndim)
    _check_not_empty(data.shape, along)
    if last:
        found = data.shape[along] - 1 - function(np.flip(data, along), axis=along, keepdims=bool(keepdims))
    else:
        found = function(data, axis=along, keepdims=bool(keepdims))
    return np.asarray(found, np.int64)


@op("ArgMax", shape=_position_shape)
def arg_max(data: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    return _positions(np.argmax, data, axis, keepdims, select_last_index)


@op("ArgMin", shape=_position_shape)
def arg_min(data: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    return _positions(np.argmin, data, axis, keepdims, select_last_index)
