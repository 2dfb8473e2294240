"""Pooling over windows, or over all spatial axes."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import Ints, WindowAttributes, Windows, pad, windows
from tinyonnx.registry import Context, Info, op


class PoolAttributes(WindowAttributes):
    """The attributes of a pool."""

    auto_pad: str = "NOTSET"
    ceil_mode: int = 0
    kernel_shape: Ints


def _check_rank(x: Array | Info) -> None:
    if x.ndim < 3:
        raise OpError(f"x has {x.ndim} dimensions, needs at least 3: batch, channels, spatial axes")


def pool_windows(x: Array | Info, geometry: PoolAttributes) -> Windows:
    """Return the windows of a pool, from an array or from an `Info` with a known shape. Raises OpError."""
    _check_rank(x)
    assert x.shape is not None
    return windows(
        x.shape[2:], geometry.kernel_shape, geometry, auto_pad=geometry.auto_pad, ceil_mode=geometry.ceil_mode
    )


def pool_shape(x: Info, *, geometry: PoolAttributes, **_: Any) -> Info:
    """Infer the output shape of pools with one output."""
    return Info(x.dtype, None if x.shape is None else (*x.shape[:2], *pool_windows(x, geometry).out))


def _taps(x: Array, w: Windows, axis: int) -> Iterator[Array]:
    """Return views of the elements that each kernel element reads, over all windows along one spatial axis."""
    span = (w.out[axis] - 1) * w.strides[axis] + 1
    lead = (slice(None),) * (axis + 2)
    for k in range(w.kernel[axis]):
        start = k * w.dilations[axis]
        yield x[(*lead, slice(start, start + span, w.strides[axis]))]


def _reduce(x: Array, w: Windows, combine: np.ufunc) -> Array:
    """Reduce all windows of the padded `x`, axis by axis: sum(kernel), not prod(kernel) steps."""
    for axis in reversed(range(len(w.kernel))):
        taps = _taps(x, w, axis)
        x = np.array(next(taps))
        for tap in taps:
            combine(x, tap, out=x)
    return x


def _sums(ctx: Context | None, x: Array, w: Windows) -> Array:
    """Return the sum of every window, with zeros as padding; half precision is summed in float32."""
    padded = pad(ctx, x, w, 0)
    return _reduce(padded.astype(np.float32) if x.dtype.itemsize < 4 else padded, w, np.add)


# -- MaxPool ----------------------------------------------------------------------------


def max_pool_shape(ctx: Context, x: Info, *, geometry: PoolAttributes, storage_order: int = 0) -> list[Info]:
    """Infer the output shape of MaxPool: the maxima and, if `ctx` asks for two outputs, their indices."""
    y = pool_shape(x, geometry=geometry)
    return [y, Info(np.dtype(np.int64), y.shape)][: ctx.n_outputs]


def _lowest(dtype: np.dtype[Any]) -> Any:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


@op("MaxPool", since=1, shape=max_pool_shape)
def max_pool(
    ctx: Context | None, x: Array, *, geometry: PoolAttributes, storage_order: int = 0
) -> Array | tuple[Array, Array]:
    """Return the maxima and, if `ctx` asks for two outputs, their indices in the flattened `x`.

    The first of equal maxima in row-major order counts; NaN is greater than any number.
    """
    placement = pool_windows(x, geometry)
    if storage_order not in (0, 1):
        raise OpError(f"storage_order is {storage_order}, not 0 or 1")
    padded = pad(ctx, x, placement, _lowest(x.dtype))
    if ctx is not None and ctx.n_outputs > 1:
        return _max_with_indices(ctx, padded, placement, x.shape, storage_order)
    return _reduce(padded, placement, np.maximum)


def _max_with_indices(
    ctx: Context, padded: Array, w: Windows, shape: tuple[int, ...], storage_order: int
) -> tuple[Array, Array]:
    inside = np.arange(prod(shape), dtype=np.int64).reshape(shape)
    if storage_order:
        spatial = np.arange(prod(shape[2:]), dtype=np.int64).reshape(shape[2:], order="F")
        inside = inside.min(axis=tuple(range(2, len(shape))), keepdims=True) + spatial
    value, index = padded, pad(ctx, inside, w, -1)
    for axis in reversed(range(len(w.kernel))):
        taps, index_taps = _taps(value, w, axis), _taps(index, w, axis)
        value, index = np.array(next(taps)), np.array(next(index_taps))
        for tap, tap_index in zip(taps, index_taps):
            # padding is never chosen, even if the data is equal to the fill value
            better = (tap > value) | ((tap != tap) & (value == value)) | ((index < 0) & (tap_index >= 0))
            np.copyto(value, tap, where=better)
            np.copyto(index, tap_index, where=better)
    return value, index


# -- AveragePool ------------------------------------------------------------------------


def _counts(spatial: Ints, w: Windows, count_include_pad: int) -> Array:
    """Return the number of elements that each window averages, [*out]; positions beyond the padded end never count."""
    counts = np.ones((), np.int64)
    for size, k, s, d, b, e, o in zip(spatial, *w):
        low, high = (-b, size + e) if count_include_pad else (0, min(size, size + e))
        starts = np.arange(o) * s - b
        before, until = (np.clip(-((starts - bound) // d), 0, k) for bound in (low, high))
        counts = counts[..., None] * (until - before)
    return counts


@op("AveragePool", since=1, shape=pool_shape)
def average_pool(ctx: Context | None, x: Array, *, geometry: PoolAttributes, count_include_pad: int = 0) -> Array:
    """Return the means of the windows; a window of nothing but padding gives 0."""
    placement = pool_windows(x, geometry)
    counts = np.maximum(_counts(x.shape[2:], placement, count_include_pad), 1)
    with np.errstate(all="ignore"):
        sums = _sums(ctx, x, placement)
        sums /= counts.astype(sums.dtype)
        return sums.astype(x.dtype, copy=False)


# -- LpPool -----------------------------------------------------------------------------


def _power(x: Array, p: float) -> Array:
    """Compute |x| ** p in float32 at least. Raises OpError unless `p` is positive."""
    if not p > 0:
        raise OpError(f"p is {p}, must be positive")
    return np.asarray(np.power(np.abs(x.astype(np.float32) if x.dtype.itemsize < 4 else x), p))


def _root(sums: Array, p: float) -> Array:
    return np.asarray(np.power(sums, 1 / p))


@op("LpPool", since=2, shape=pool_shape)
def lp_pool(ctx: Context | None, x: Array, *, geometry: PoolAttributes, p: int = 2) -> Array:
    return _lp_pool(ctx, x, geometry, p)


def _lp_pool(ctx: Context | None, x: Array, geometry: PoolAttributes, p: float) -> Array:
    placement = pool_windows(x, geometry)
    with np.errstate(all="ignore"):
        return _root(_sums(ctx, _power(x, p), placement), p).astype(x.dtype, copy=False)


@op("LpPool", since=1, shape=pool_shape)
def lp_pool_1(
    ctx: Context | None, x: Array, *, kernel_shape: Ints | None = None, auto_pad: str = "NOTSET", p: float = 2.0,
    pads: Ints | None = None, strides: Ints | None = None,
) -> Array:  # fmt: skip
    if kernel_shape is None:
        raise OpError("kernel_shape is missing")
    geometry = PoolAttributes(kernel_shape=kernel_shape, auto_pad=auto_pad, pads=pads, strides=strides)
    return _lp_pool(ctx, x, geometry, p)


# -- global -----------------------------------------------------------------------------


def _axes(x: Array | Info) -> tuple[int, ...]:
    """Return the spatial axes. Raises OpError if there are none, or one of them is empty."""
    _check_rank(x)
    assert x.shape is not None
    if 0 in x.shape[2:]:
        raise OpError(f"x of shape {list(x.shape)} has nothing to pool")
    return tuple(range(2, x.ndim))


def global_shape(x: Info, **_: Any) -> Info:
    """Infer the output shape of global pools: spatial axes shrink to 1."""
    return Info(x.dtype, None if x.shape is None else (*x.shape[:2], *(1 for _ in _axes(x))))


@op("GlobalAveragePool", since=1, shape=global_shape)
def global_average_pool(x: Array) -> Array:
    with np.errstate(all="ignore"):
        dtype = np.float32 if x.dtype.itemsize < 4 else x.dtype
        return np.mean(x, axis=_axes(x), keepdims=True, dtype=dtype).astype(x.dtype, copy=False)


@op("GlobalMaxPool", since=1, shape=global_shape)
def global_max_pool(x: Array) -> Array:
    return np.asarray(x.max(axis=_axes(x), keepdims=True))


@op("GlobalLpPool", since=2, shape=global_shape)
def global_lp_pool(x: Array, *, p: int = 2) -> Array:
    return _global_lp_pool(x, p)


@op("GlobalLpPool", since=1, shape=global_shape)
def global_lp_pool_1(x: Array, *, p: float = 2.0) -> Array:
    return _global_lp_pool(x, p)


def _global_lp_pool(x: Array, p: float) -> Array:
    with np.errstate(all="ignore"):
        sums: Array = _power(x, p).sum(axis=_axes(x), keepdims=True)
        return _root(sums, p).astype(x.dtype, copy=False)
