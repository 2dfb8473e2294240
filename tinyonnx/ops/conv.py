"""Convolutions over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import (
    Ints,
    WindowAttributes,
    Windows,
    check_auto_pad,
    pad,
    positive,
    split_pads,
    view,
    windows,
)
from tinyonnx.registry import Context, Info, op

_BLOCK_BYTES = 16 << 20
"""Maximum bytes of the unfolded input of one matrix product."""


class ConvAttributes(WindowAttributes):
    """The attributes of a convolution."""

    auto_pad: str = "NOTSET"
    group: int = 1
    kernel_shape: Ints | None = None


class ConvTransposeAttributes(ConvAttributes):
    """The attributes of a transposed convolution."""

    output_padding: Ints | None = None
    output_shape: Ints | None = None


def _check_operands(x: Array | Info, w: Array | Info, b: Array | Info | None, group: int) -> None:
    """Check what Conv and ConvTranspose require of their operands, except for channel counts. Raises OpError."""
    if x.ndim < 3:
        raise OpError(f"x has {x.ndim} dimensions, needs at least 3: batch, channels, spatial axes")
    if w.ndim != x.ndim:
        raise OpError(f"x has {x.ndim} dimensions, w has {w.ndim}")
    if group < 1:
        raise OpError(f"group is {group}, must be positive")
    for name, other in (("w", w), ("b", b)):
        if other is not None and x.dtype is not None and other.dtype is not None and x.dtype != other.dtype:
            raise OpError(f"x is {x.dtype}, {name} is {other.dtype}")


def _check_bias(b: Array | Info | None, channels: int) -> None:
    if b is not None and b.shape is not None and tuple(b.shape) != (channels,):
        raise OpError(f"b has shape {list(b.shape)}, w has {channels} filters")


def _check_kernel_shape(kernel_shape: Ints | None, w: Array | Info) -> tuple[int, ...]:
    assert w.shape is not None
    kernel = tuple(w.shape[2:])
    if kernel_shape is not None and tuple(kernel_shape) != kernel:
        raise OpError(f"kernel_shape {list(kernel_shape)} is not that of w, {list(kernel)}")
    return kernel


def _compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type to accumulate in: float32 for half precision, else `dtype`."""
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype


# -- Conv -------------------------------------------------------------------------------


def conv_windows(
    x: Array | Info, w: Array | Info, b: Array | Info | None = None, *, geometry: ConvAttributes
) -> Windows:
    """Return the windows of a Conv, from arrays or from `Info`s with known shapes.

    Raises OpError where operands or attributes don't fit together.
    """
    group = geometry.group
    _check_operands(x, w, b, group)
    assert x.shape is not None
    assert w.shape is not None
    if x.shape[1] != w.shape[1] * group:
        of = f" in each of {group} groups" if group > 1 else ""
        raise OpError(f"x has {x.shape[1]} channels, w expects {w.shape[1]}{of}")
    if w.shape[0] % group:
        raise OpError(f"group {group} doesn't divide the {w.shape[0]} filters of w")
    _check_bias(b, w.shape[0])
    kernel = _check_kernel_shape(geometry.kernel_shape, w)
    return windows(x.shape[2:], kernel, geometry, auto_pad=geometry.auto_pad)


def conv_shape(x: Info, w: Info, b: Info | None = None, *, geometry: ConvAttributes = ConvAttributes()) -> Info:
    """Infer the output shape of Conv."""
    if x.shape is None or w.shape is None:
        return Info(x.dtype, None)
    return Info(x.dtype, (x.shape[0], w.shape[0], *conv_windows(x, w, b, geometry=geometry).out))


def _blocks(batch: int, rows: int, row_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Cut [batch, rows] into blocks of at most `_BLOCK_BYTES` (or one row)."""
    per_block = max(1, _BLOCK_BYTES // max(1, row_bytes))
    items, step = max(1, per_block // rows), min(per_block, rows)
    for n, r in product(range(0, batch, items), range(0, rows, step)):
        yield slice(n, n + items), slice(r, r + step)


@op("Conv", since=1, shape=conv_shape)
def conv(
    ctx: Context | None, x: Array, w: Array, b: Array | None = None, *, geometry: ConvAttributes = ConvAttributes()
) -> Array:
    placement = conv_windows(x, w, b, geometry=geometry)
    (n, c), rank, group = x.shape[:2], x.ndim - 2, geometry.group
    dtype = _compute_dtype(x.dtype)
    filters = w.reshape(group, w.shape[0] // group, prod(w.shape[1:])).astype(dtype, copy=False)
    bias = None if b is None else b.reshape(group, -1, 1).astype(dtype, copy=False)
    patches = view(pad(ctx, x, placement, 0), placement)
    patches = patches.reshape(n, group, c // group, *patches.shape[2:])
    patches = np.moveaxis(patches, range(3, 3 + rank), range(-rank, 0))  # [N, G, C / G, *kernel, *out]
    shape = (n, *filters.shape[:2], *placement.out)
    if ctx is not None:
        ctx.check_size(shape, x.dtype)
    y = np.empty(shape, x.dtype)
    row_bytes = c * prod(placement.kernel) * prod(placement.out[1:]) * dtype.itemsize
    with np.errstate(all="ignore"):
        whole = (slice(None),) * (rank - 1)
        for items, rows in _blocks(n, placement.out[0], row_bytes):
            block: tuple[Any, ...] = (items, ..., rows, *whole)
            target = y[block]
            source = patches[block]
            columns = source.reshape(*source.shape[:2], filters.shape[2], prod(source.shape[-rank:]))
            columns = columns.astype(dtype, copy=False)
            result = filters @ columns
            if bias is not None:
                result += bias
            target[...] = result.reshape(target.shape)
    return y.reshape(n, w.shape[0], *placement.out)


# -- ConvTranspose ----------------------------------------------------------------------


def conv_transpose_windows(
    x: Array | Info, w: Array | Info, b: Array | Info | None = None, *, geometry: ConvTransposeAttributes
) -> Windows:
    """Return the windows of a ConvTranspose: `begin` and `end` are cut off the scattered sum, of which `out` is left.

    Raises OpError where operands or attributes don't fit together.
    """
    group, auto_pad, output_shape = geometry.group, geometry.auto_pad, geometry.output_shape
    _check_operands(x, w, b, group)
    assert x.shape is not None
    assert w.shape is not None
    if x.shape[1] != w.shape[0]:
        raise OpError(f"x has {x.shape[1]} channels, w expects {w.shape[0]}")
    if x.shape[1] % group:
        raise OpError(f"group {group} doesn't divide the {x.shape[1]} channels of x")
    _check_bias(b, w.shape[1] * group)
    spatial = x.shape[2:]
    rank = len(spatial)
    kernel = positive("kernel_shape", _check_kernel_shape(geometry.kernel_shape, w), rank)
    strides, dilations = positive("strides", geometry.strides, rank), positive("dilations", geometry.dilations, rank)
    check_auto_pad(auto_pad)
    extra = (0,) * rank if geometry.output_padding is None else tuple(geometry.output_padding)
    if len(extra) != rank or min(extra) < 0:
        raise OpError(f"output_padding {list(extra)} must be {rank} values that aren't negative")
    full = [
        (n - 1) * s + (k - 1) * d + 1 + e if n else 0
        for n, k, s, d, e in zip(spatial, kernel, strides, dilations, extra)
    ]
    if output_shape is None and not auto_pad.startswith("SAME"):
        begin, end = split_pads(geometry.pads if auto_pad == "NOTSET" else None, rank)
        out = tuple(f - p - q for f, p, q in zip(full, begin, end))
        if min(out) < 1:
            raise OpError(f"pads {[*begin, *end]} are larger than the output, {full} without them")
        return Windows(kernel, strides, dilations, begin, end, out)
    if output_shape is None:
        out = tuple(n * s for n, s in zip(spatial, strides))
    else:
        out = positive("output_shape", output_shape, rank)
    # if the sum is smaller than the given output shape, zeros are appended
    total = [max(0, f - o) for f, o in zip(full, out)]
    begin = tuple(t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total)
    return Windows(kernel, strides, dilations, begin, tuple(f - o - p for f, o, p in zip(full, out, begin)), out)


def conv_transpose_shape(x: Info, w: Info, b: Info | None = None, *, geometry: ConvTransposeAttributes) -> Info:
    """Infer the output shape of ConvTranspose."""
    if x.shape is None or w.shape is None:
        return Info(x.dtype, None)
    out = conv_transpose_windows(x, w, b, geometry=geometry).out
    return Info(x.dtype, (x.shape[0], w.shape[1] * geometry.group, *out))


@op("ConvTranspose", since=1, shape=conv_transpose_shape)
def conv_transpose(
    ctx: Context | None, x: Array, w: Array, b: Array | None = None, *,
    geometry: ConvTransposeAttributes = ConvTransposeAttributes(),
) -> Array:  # fmt: skip
    placement = conv_transpose_windows(x, w, b, geometry=geometry)
    (n, c), spatial, group = x.shape[:2], x.shape[2:], geometry.group
    dtype = _compute_dtype(x.dtype)
    shape = (n, group, w.shape[1], *placement.out)
    if ctx is not None:
        ctx.check_size(shape, dtype)
    filters = w.reshape(group, c // group, *w.shape[1:]).swapaxes(1, 2).astype(dtype, copy=False)
    signal = x.reshape(n, group, c // group, *spatial).astype(dtype, copy=False)
    y = np.zeros(shape, dtype)
    every = (slice(None),) * 3
    with np.errstate(all="ignore"):
        for tap in np.ndindex(placement.kernel):
            hits = [_hits(placement, i, k, size) for i, (k, size) in enumerate(zip(tap, spatial))]
            source = signal[every + tuple(s for s, _ in hits)]
            target = y[every + tuple(t for _, t in hits)]
            weights = np.ascontiguousarray(filters[(*every, *tap)])
            target += (weights @ source.reshape(*source.shape[:3], prod(source.shape[3:]))).reshape(target.shape)
        if b is not None:
            y += b.reshape(group, -1, *(1,) * len(spatial)).astype(dtype, copy=False)
    return y.reshape(n, group * w.shape[1], *placement.out).astype(x.dtype, copy=False)


def _hits(w: Windows, axis: int, tap: int, size: int) -> tuple[slice, slice]:
    """Return slices of the inputs that kernel element `tap` maps into the output along `axis`, and of their targets."""
    step, shift = w.strides[axis], tap * w.dilations[axis] - w.begin[axis]
    first = max(0, -(shift // step))
    last = min(size - 1, (w.out[axis] - 1 - shift) // step)
    if last < first:
        return slice(0, 0), slice(0, 0)
    return slice(first, last + 1), slice(first * step + shift, last * step + shift + 1, step)
