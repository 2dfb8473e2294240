"""Interpolation at positions between elements: AffineGrid, GridSample and DeformConv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from math import prod
from operator import mul
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import WindowAttributes, Windows, positive, windows
from tinyonnx.ops.math import is_float, quiet, widened
from tinyonnx.ops.shape import Shape, integers
from tinyonnx.registry import Context, Info, op

Ints = Sequence[int] | None
Taps = list[tuple[Array, Array]]
Place = Callable[[Array, int], Array]

_FAR = 4
"""Distance from the image beyond which no kernel reads an element."""


# -- interpolation ----------------------------------------------------------------------


def _linear(position: Array) -> Taps:
    """Return the neighbours of positions along one axis, each with its weight."""
    low = np.floor(position)
    t = position - low
    return [(low, 1 - t), (low + 1, t)]


def _cubic(position: Array) -> Taps:
    """Return four neighbours, weighted by the convolution kernel with a = -0.75."""
    a = -0.75
    low = np.floor(position)
    t = position - low

    def near(d: Array) -> Array:
        return np.asarray(((a + 2) * d - (a + 3)) * d * d + 1)

    def far(d: Array) -> Array:
        return np.asarray(((a * d - 5 * a) * d + 8 * a) * d - 4 * a)

    return [(low - 1, far(t + 1)), (low, near(t)), (low + 1, near(1 - t)), (low + 2, far(2 - t))]


def _inside(position: Array, size: int) -> Array:
    """Return integral positions as indices, -1 for those outside."""
    index = position.astype(np.int64)
    return np.where((index >= 0) & (index < size), index, -1)


def _rows(x: Array) -> Array:
    """Return `x` [N, C, *spatial] as [N, elements + 1, C]; the last row, for positions outside, is zeros."""
    n, c = x.shape[:2]
    rows = np.full((n, prod(x.shape[2:]) + 1, c), "" if x.dtype.kind == "O" else 0, x.dtype)
    rows[:, :-1] = np.moveaxis(x.reshape(n, c, prod(x.shape[2:])), 1, 2)
    return rows


def _flat(indices: Sequence[Array], spatial: Sequence[int]) -> Array:
    """Combine one index per axis, -1 if outside, into a row number of `_rows`; there may be no elements."""
    outside = reduce(np.logical_or, [index < 0 for index in indices])
    flat = np.zeros(indices[0].shape, np.int64)
    for index, size in zip(indices, spatial, strict=True):
        flat = flat * size + index
    return np.where(outside, prod(spatial), flat)


def _interpolate(x: Array, positions: Sequence[Array], taps: Callable[[Array], Taps], place: Place) -> Array:
    """Return values of `x` [N, C, *spatial] at positions [N, P] per spatial axis, as [N, C, P]."""
    spatial, rows, batch = x.shape[2:], _rows(x), np.arange(len(x))[:, None]
    neighbours = [
        [(place(whole, size), weight) for whole, weight in taps(position)]
        for position, size in zip(positions, spatial, strict=True)
    ]
    result = np.zeros((*positions[0].shape, x.shape[1]), x.dtype)
    for corner in product(*neighbours):
        index = _flat([i for i, _ in corner], spatial)
        result += rows[batch, index] * reduce(mul, [w for _, w in corner])[..., None].astype(x.real.dtype)
    return np.moveaxis(result, 2, 1)


# -- AffineGrid -------------------------------------------------------------------------


def _affine_shape(theta: Shape, size: Sequence[int]) -> Shape:
    rank = len(size) - 2
    if rank not in (2, 3) or min(size) < 1:
        raise OpError(f"size {list(size)} should be N, C and two or three positive spatial sizes")
    if theta != (size[0], rank, rank + 1):
        raise OpError(f"theta has shape {list(theta)}, size {list(size)} needs {[size[0], rank, rank + 1]}")
    return (size[0], *size[2:], rank)


def _affine_rule(theta: Info, size: Info, *, align_corners: int = 0) -> Info:
    if theta.shape is None or size.value is None:
        return Info(theta.dtype, None)
    return Info(theta.dtype, _affine_shape(theta.shape, integers(size.value, "size")))


@op("AffineGrid", since=20, shape=_affine_rule)
@quiet
def affine_grid(ctx: Context, theta: Array, size: Array, *, align_corners: int = 0) -> Array:
    """Return positions x, y(, z) in [-1, 1] of every element of an image; a single element is at 0."""
    shape = _affine_shape(theta.shape, integers(size, "size"))
    ctx.check_size(shape, np.float64)
    spatial = shape[1:-1]
    steps = [np.arange(n) * 2 + 1 - n for n in spatial]
    axes = [s / max(n - 1 if align_corners else n, 1) for s, n in zip(steps, spatial)]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(spatial)], axis=-1)
    grid = places.reshape(-1, len(spatial) + 1) @ theta.astype(np.float64).swapaxes(1, 2)
    return grid.reshape(shape).astype(theta.dtype)


# -- GridSample -------------------------------------------------------------------------

_KERNELS = {"linear": _linear, "cubic": _cubic}


def _grid_shape(x: Shape, grid: Shape) -> Shape:
    rank = len(x) - 2
    if rank < 1 or len(grid) != rank + 2 or grid[0] != x[0] or grid[-1] != rank:
        raise OpError(
            f"X has shape {list(x)} and grid {list(grid)}; they should be [N, C, *spatial] and [N, *output, axes]"
        )
    return (*x[:2], *grid[1:-1])


def _grid_rule(x: Info, grid: Info, **_: Any) -> Info:
    if x.shape is None or grid.shape is None:
        return Info(x.dtype, None)
    return Info(x.dtype, _grid_shape(x.shape, grid.shape))


def _reflect(position: Array, low: float, high: float) -> Array:
    """Reflect positions at both ends until they are in range."""
    if high <= low:
        return np.full_like(position, low)
    around = np.abs(position - low) % (2 * (high - low))
    return low + np.minimum(around, 2 * (high - low) - around)


def _within(position: Array, size: int, padding_mode: str, align_corners: int) -> Array:
    """Move positions outside the image as `padding_mode` requires; "zeros" only clips them to just outside."""
    low, high = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
    if padding_mode == "zeros":
        return np.clip(position, -_FAR, size + _FAR)
    outside = (position < low) | (position > high)
    if padding_mode == "border":
        return np.where(outside, np.clip(position, 0, size - 1), position)
    return np.where(outside, _reflect(position, low, high), position)


def _back(y: Array, dtype: np.dtype[Any]) -> Array:
    """Convert back to `dtype`; integers are truncated and clipped to their range."""
    if dtype.kind not in "iu":
        return y.astype(dtype)
    limits = np.iinfo(dtype)
    high = float(limits.max)
    return np.clip(y, limits.min, high if int(high) == limits.max else np.nextafter(high, 0)).astype(dtype)


def _grid_sample(
    ctx: Context, x: Array, grid: Array, align_corners: int, mode: str, padding_mode: str, modes: Sequence[str]
) -> Array:
    if padding_mode not in ("zeros", "border", "reflection"):
        raise OpError(f"padding_mode is {padding_mode!r}, should be zeros, border or reflection")
    if mode not in modes:
        raise OpError(f"mode is {mode!r}, should be one of {', '.join(modes)}")
    shape = _grid_shape(x.shape, grid.shape)
    ctx.check_size(shape, x.dtype)
    spatial = x.shape[2:]
    if 0 in spatial:
        raise OpError(f"X of shape {list(x.shape)} has nothing to sample")
    points = widened(grid).reshape(len(grid), -1, len(spatial))
    # as in PyTorch and onnxruntime, the neighbours of a cubic position are padded, not the position
    moving = "zeros" if "cubic" in mode and padding_mode == "border" else padding_mode
    positions = []
    for i, size in enumerate(spatial):
        n = points[..., -1 - i]
        position = (n + 1) / 2 * (size - 1) if align_corners else ((n + 1) * size - 1) / 2
        position = np.rint(position) if mode == "nearest" else position
        positions.append(_within(position, size, moving, align_corners))

    def place(position: Array, size: int) -> Array:
        if padding_mode == "zeros":
            return _inside(position, size)
        return np.clip(_within(position, size, padding_mode, align_corners), 0, size - 1).astype(np.int64)

    if mode == "nearest":
        index = _flat([place(p, size) for p, size in zip(positions, spatial)], spatial)
        return np.moveaxis(_rows(x)[np.arange(len(x))[:, None], index], 2, 1).reshape(shape)
    if x.dtype.kind == "O":
        raise OpError(f"mode {mode} can't interpolate strings")
    wide = widened(x) if is_float(x.dtype) or x.dtype.kind == "c" else x.astype(np.float64)
    y = _interpolate(wide, positions, _KERNELS[mode.removeprefix("bi")], place)
    return _back(y.reshape(shape), x.dtype)


@op("GridSample", since=20, shape=_grid_rule)
@quiet
def grid_sample(
    ctx: Context, x: Array, grid: Array, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Array:
    """Interpolate at the positions of `grid`; NaN positions give NaN."""
    return _grid_sample(ctx, x, grid, align_corners, mode, padding_mode, ("linear", "nearest", "cubic"))


@op("GridSample", since=16, shape=_grid_rule)
@quiet
def grid_sample_16(
    ctx: Context, x: Array, grid: Array, *, align_corners: int = 0, mode: str = "bilinear", padding_mode: str = "zeros"
) -> Array:
    if x.ndim != 4:
        raise OpError(f"X has shape {list(x.shape)}, needs four axes before opset 20")
    return _grid_sample(ctx, x, grid, align_corners, mode, padding_mode, ("bilinear", "nearest", "bicubic"))


# -- DeformConv -------------------------------------------------------------------------


class DeformAttributes(WindowAttributes):
    """The attributes of DeformConv."""

    group: int = 1
    kernel_shape: Ints = None
    offset_group: int = 1


def _deform_windows(
    x: Shape, w: Shape, offset: Shape | None, b: Shape | None, mask: Shape | None, geometry: DeformAttributes
) -> Windows:
    rank, group, offset_group = len(x) - 2, geometry.group, geometry.offset_group
    kernel_shape = geometry.kernel_shape
    if rank < 1 or len(w) != len(x):
        raise OpError(f"X has {len(x)} dimensions, W {len(w)}; they need the same number, at least 3")
    if kernel_shape is not None and positive("kernel_shape", kernel_shape, rank) != w[2:]:
        raise OpError(f"kernel_shape {list(kernel_shape)} isn't that of W, {list(w[2:])}")
    if group < 1 or w[0] % group or x[1] != w[1] * group:
        raise OpError(f"X has {x[1]} channels, which W of shape {list(w)} can't convolve in {group} groups")
    if offset_group < 1 or x[1] % offset_group:
        raise OpError(f"{x[1]} channels can't be divided into {offset_group} offset groups")
    placement = windows(x[2:], w[2:], geometry)
    taps = offset_group * prod(w[2:])
    for name, shape, wanted in (
        ("offset", offset, (x[0], taps * rank, *placement.out)),
        ("mask", mask, (x[0], taps, *placement.out)),
        ("B", b, (w[0],)),
    ):
        if shape is not None and shape != wanted:
            raise OpError(f"{name} has shape {list(shape)}, should be {list(wanted)}")
    return placement


def _deform_rule(
    x: Info, w: Info, offset: Info, b: Info | None = None, mask: Info | None = None, *, geometry: DeformAttributes
) -> Info:
    if x.shape is None or w.shape is None:
        return Info(x.dtype, None)
    b_shape, mask_shape = (None if info is None else info.shape for info in (b, mask))
    placement = _deform_windows(x.shape, w.shape, offset.shape, b_shape, mask_shape, geometry)
    return Info(x.dtype, (x.shape[0], w.shape[0], *placement.out))


def _regular(w: Windows) -> list[Array]:
    """Return positions of an ordinary convolution's taps along each spatial axis, [kernel elements, outputs]."""
    rank = len(w.kernel)
    positions = []
    for axis, (k, s, d, begin, _, out) in enumerate(zip(*w)):
        line = np.arange(k)[:, None] * d + np.arange(out) * s - begin
        line = line.reshape([k if i == axis else out if i == rank + axis else 1 for i in range(2 * rank)])
        whole = np.broadcast_to(line, (*w.kernel, *w.out))
        positions.append(whole.reshape(prod(w.kernel), prod(w.out)))
    return positions


@op("DeformConv", since=19, shape=_deform_rule)
@quiet
def deform_conv(
    x: Array, w: Array, offset: Array, b: Array | None = None, mask: Array | None = None, *,
    geometry: DeformAttributes = DeformAttributes(),
) -> Array:  # fmt: skip
    """Return a convolution with an offset for every tap, y before x, and a set of offsets per offset group."""
    b_shape, mask_shape = (None if array is None else array.shape for array in (b, mask))
    placement = _deform_windows(x.shape, w.shape, offset.shape, b_shape, mask_shape, geometry)
    (n, c), spatial, filters = x.shape[:2], x.shape[2:], w.shape[0]
    group, offset_group = geometry.group, geometry.offset_group
    taps, outputs = prod(placement.kernel), prod(placement.out)
    regular = _regular(placement)
    weights = widened(w).reshape(group, filters // group, -1)
    y = np.empty((n, filters, *placement.out), x.dtype)
    for i in range(n):
        moved = widened(offset[i]).reshape(offset_group, taps, len(spatial), outputs)
        positions = [
            np.clip(moved[:, :, axis] + at, -_FAR, size + _FAR).reshape(offset_group, -1)
            for axis, (at, size) in enumerate(zip(regular, spatial))
        ]
        image = widened(x[i]).reshape(offset_group, c // offset_group, *spatial)
        columns = _interpolate(image, positions, _linear, _inside)
        if mask is not None:
            columns = columns * widened(mask[i]).reshape(offset_group, 1, -1)
        result = weights @ columns.reshape(group, c // group * taps, outputs)
        if b is not None:
            result = result + widened(b).reshape(group, -1, 1)
        y[i] = result.reshape(y.shape[1:])
    return y
