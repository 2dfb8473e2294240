"""Operators that create, join and slice tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.shape import Shape, integer, integers, normalise_axes
from tinyonnx.registry import Context, Info, op
from tinyonnx.sizes.integers import maximum

# -- Constant, ConstantOfShape, Range -----------------------------------------------------


@op("Constant", since=1)
def constant(
    *, value: Array | None = None, sparse_value: Array | None = None, value_float: float | None = None,
    value_floats: Sequence[float] | None = None, value_int: int | None = None, value_ints: Sequence[int] | None = None,
    value_string: str | None = None, value_strings: Sequence[str] | None = None,
) -> Array:  # fmt: skip
    given: list[tuple[Any, Any]] = [
        (value, None),
        (sparse_value, None),
        (value_float, np.float32),
        (value_floats, np.float32),
        (value_int, np.int64),
        (value_ints, np.int64),
        (value_string, object),
        (value_strings, object),
    ]
    present = [(v, dtype) for v, dtype in given if v is not None]
    if len(present) != 1:
        raise OpError(f"needs exactly one value attribute, has {len(present)}")
    content, dtype = present[0]
    return np.asarray(content, dtype)


def _filler(value: Array | None) -> Array:
    if value is None:
        return np.zeros(1, np.float32)
    if value.size != 1:
        raise OpError(f"value must have one element, has {value.size}")
    return value.reshape(1)


def _target(shape: Array) -> Shape:
    dims = integers(shape, "the shape")
    if any(d < 0 for d in dims):
        raise OpError(f"shape {dims} has a negative dimension")
    return tuple(dims)


@op(
    "ConstantOfShape",
    since=9,
    shape=lambda input, *, value=None: Info(
        _filler(value).dtype, None if input.value is None else _target(input.value)
    ),
)
def constant_of_shape(ctx: Context | None, input: Array, *, value: Array | None = None) -> Array:
    filler, shape = _filler(value), _target(input)
    if ctx is not None:
        ctx.check_size(shape, filler.dtype)
    if not any(filler.tobytes()):
        return np.zeros(shape, filler.dtype)  # memory that isn't written to takes no time
    return np.full(shape, filler[0], filler.dtype)


def _range_length(start: Any, limit: Any, delta: Any) -> int:
    values = [np.asarray(v).reshape(-1) for v in (start, limit, delta)]
    if any(v.size != 1 for v in values):
        raise OpError("start, limit and delta must be scalars")
    if len({v.dtype for v in values}) > 1:
        raise OpError(f"start, limit and delta are {', '.join(str(v.dtype) for v in values)}, must be of one type")
    first, last, step = (v[0].item() for v in values)
    if step == 0:
        raise OpError("delta is 0")
    if start.dtype.kind in "iu":
        return int(max(-((first - last) // step), 0))
    steps = (last - first) / step
    if not math.isfinite(steps):
        raise OpError(f"a range from {first} to {last} by {step} is infinite")
    return int(max(math.ceil(steps), 0))


def _range_rule(start: Info, limit: Info, delta: Info, *, stash_type: int = 1) -> Info:
    if start.value is None or limit.value is None or delta.value is None:
        return Info(start.dtype, None)
    return Info(start.dtype, (_range_length(start.value, limit.value, delta.value),))


@op("Range", since=11, shape=_range_rule)
def range_(ctx: Context | None, start: Array, limit: Array, delta: Array, *, stash_type: int = 1) -> Array:
    length = _range_length(start, limit, delta)
    if ctx is not None:
        ctx.check_size((length,), start.dtype)
    # half precision is computed in float32 (stash_type), other types in their own
    wide = np.dtype(np.float32) if start.dtype.itemsize < 4 and start.dtype.kind not in "iu" else start.dtype
    steps = np.arange(length).astype(wide)
    return np.asarray(start.reshape(()).astype(wide) + steps * delta.reshape(()).astype(wide)).astype(start.dtype)


# -- Concat, Split, Tile ------------------------------------------------------------------


def _concat_shape(shapes: Sequence[Shape], axis: int) -> Shape:
    if not shapes:
        raise OpError("needs at least one input")
    first = shapes[0]
    (axis,) = normalise_axes([axis], len(first))
    for shape in shapes[1:]:
        if len(shape) != len(first) or any(a != b for i, (a, b) in enumerate(zip(first, shape)) if i != axis):
            raise OpError(f"can't join {', '.join(str(list(s)) for s in shapes)} along axis {axis}")
    return (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])


def concat_rule(*inputs: Info, axis: int) -> Info:
    """Infer the output shape of Concat."""
    shapes = [i.shape for i in inputs if i.shape is not None]
    return Info(inputs[0].dtype, _concat_shape(shapes, axis) if len(shapes) == len(inputs) else None)


def _concat_1_rule(*inputs: Info, axis: int = 1) -> Info:
    return concat_rule(*inputs, axis=axis)


@op("Concat", since=1, shape=_concat_1_rule)
def concat_1(*inputs: Array, axis: int = 1) -> Array:
    return concat(*inputs, axis=axis)


@op("Concat", since=4, shape=concat_rule)
def concat(*inputs: Array, axis: int) -> Array:
    _concat_shape([x.shape for x in inputs], axis)
    dtypes = {x.dtype for x in inputs}
    if len(dtypes) > 1:
        raise OpError(f"inputs of different dtypes: {', '.join(sorted(map(str, dtypes)))}")
    return np.concatenate(inputs, axis)


def _split_sizes(length: int, parts: Sequence[int] | None, count: int, uneven: bool = False) -> list[int]:
    """Return sizes along the axis: the given ones, or `count` equal ones; with `uneven` the last may be smaller."""
    if parts is None:
        size = -(-length // count)
        sizes = [size] * (count - 1) + [length - size * (count - 1)]
        if sizes[-1] < 0 or (sizes[-1] != size and not uneven):
            raise OpError(f"can't split {length} elements into {count} equal parts")
        return sizes
    if sum(parts) != length or any(s < 0 for s in parts):
        raise OpError(f"split {list(parts)} doesn't add up to the {length} elements of the axis")
    if len(parts) != count:
        raise OpError(f"split {list(parts)} names {len(parts)} parts, there are {count} outputs")
    return list(parts)


def _cut(x: Array, sizes: list[int], axis: int) -> tuple[Array, ...]:
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def _split_infos(x: Info, sizes: list[int], axis: int) -> list[Info]:
    assert x.shape is not None
    return [Info(x.dtype, (*x.shape[:axis], s, *x.shape[axis + 1 :])) for s in sizes]


def _split_rule_2(ctx: Context, input: Info, *, axis: int = 0, split: Sequence[int] | None = None) -> list[Info] | None:
    if input.shape is None:
        return None
    (axis,) = normalise_axes([axis], len(input.shape))
    return _split_infos(input, _split_sizes(input.shape[axis], split, ctx.n_outputs), axis)


def _split_rule_1(
    ctx: Context, input: Info, split_input: Info | None = None, *, axis: int = 0, split: Sequence[int] | None = None
) -> list[Info] | None:
    if split_input is None:
        return _split_rule_2(ctx, input, axis=axis, split=split)
    if split_input.value is None:
        return None
    return _split_rule_2(ctx, input, axis=axis, split=integers(split_input.value.astype(np.int64), "split"))


@op("Split", since=1, shape=_split_rule_1)
def split_1(
    ctx: Context, input: Array, split_input: Array | None = None, *, axis: int = 0, split: Sequence[int] | None = None
) -> tuple[Array, ...]:
    if split_input is not None:  # the sizes have the dtype of the input
        split = integers(split_input.astype(np.int64), "split")
    return split_2(ctx, input, axis=axis, split=split)


@op("Split", since=2, shape=_split_rule_2)
def split_2(ctx: Context, input: Array, *, axis: int = 0, split: Sequence[int] | None = None) -> tuple[Array, ...]:
    (axis,) = normalise_axes([axis], input.ndim)
    return _cut(input, _split_sizes(input.shape[axis], split, ctx.n_outputs), axis)


def _count(ctx: Context, num_outputs: int | None) -> int:
    if num_outputs not in (None, ctx.n_outputs):
        raise OpError(f"num_outputs is {num_outputs}, there are {ctx.n_outputs} outputs")
    return ctx.n_outputs


def _split_rule(
    ctx: Context, input: Info, split: Info | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> list[Info] | None:
    if input.shape is None or (split is not None and split.value is None):
        return None
    (axis,) = normalise_axes([axis], len(input.shape))
    parts = None if split is None or split.value is None else integers(split.value, "split")
    sizes = _split_sizes(input.shape[axis], parts, _count(ctx, num_outputs), num_outputs is not None)
    return _split_infos(input, sizes, axis)


@op("Split", since=13, shape=_split_rule)
def split(
    ctx: Context, input: Array, split: Array | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Array, ...]:
    (axis,) = normalise_axes([axis], input.ndim)
    parts = None if split is None else integers(split, "split")
    count = _count(ctx, num_outputs)
    return _cut(input, _split_sizes(input.shape[axis], parts, count, num_outputs is not None), axis)


def _tiled(shape: Shape, repeats: list[int]) -> Shape:
    if len(repeats) != len(shape) or any(r < 0 for r in repeats):
        raise OpError(f"repeats {repeats} don't fit shape {list(shape)}")
    return tuple(d * r for d, r in zip(shape, repeats, strict=True))


def _tile_rule(input: Info, repeats: Info) -> Info:
    if input.shape is None or repeats.value is None:
        return Info(input.dtype, None)
    return Info(input.dtype, _tiled(input.shape, integers(repeats.value, "repeats")))


@op("Tile", since=1)
def tile_1(ctx: Context | None, input: Array, tiles: Array, axis: Array) -> Array:
    # both numbers have the dtype of the input
    (position,) = normalise_axes([integer(axis.astype(np.int64), "axis")], input.ndim)
    repeats = np.ones(input.ndim, np.int64)
    repeats[position] = integer(tiles.astype(np.int64), "tiles")
    return tile(ctx, input, repeats)


@op("Tile", since=6, shape=_tile_rule)
def tile(ctx: Context | None, input: Array, repeats: Array) -> Array:
    counts = integers(repeats, "repeats")
    shape = _tiled(input.shape, counts)
    if ctx is not None:
        ctx.check_size(shape, input.dtype)
    return np.tile(input, counts)


# -- Slice --------------------------------------------------------------------------------


def _slices(
    shape: Shape, starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None
) -> tuple[slice, ...]:
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise OpError(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps")
    if 0 in steps:
        raise OpError("a step is 0")
    result = [slice(None)] * len(shape)
    for axis, start, end, step in zip(normalise_axes(axes, len(shape)), starts, ends, steps, strict=True):
        length = shape[axis]
        start = start + length if start < 0 else start
        end = end + length if end < 0 else end
        if step > 0 or length == 0:
            result[axis] = slice(min(max(start, 0), length), min(max(end, 0), length), abs(step))
        else:  # the start is clamped to the axis
            stop = min(max(end, -1), length - 1)
            result[axis] = slice(min(max(start, 0), length - 1), None if stop < 0 else stop, step)
    return tuple(result)


def _sliced(shape: Shape, slices: tuple[slice, ...]) -> Shape:
    return tuple(d if s == slice(None) else _length(s, d) for s, d in zip(slices, shape, strict=True))


def _length(cut: slice, size: int) -> int:
    """Return the number of elements of a slice that `_slices` made, which lies within an axis of that size."""
    step = cut.step
    stop = -1 if cut.stop is None else cut.stop
    length: int = maximum(-((cut.start - stop) // step), 0)
    return length


def _cut_out(data: Array, slices: tuple[slice, ...]) -> Array:
    where: Any = (*slices, ...)  # with an ellipsis a scalar stays an array
    view: Array = data[where]
    return view


def _slice_1_rule(data: Info, *, starts: list[int], ends: list[int], axes: list[int] | None = None) -> Info:
    if data.shape is None:
        return data
    return Info(data.dtype, _sliced(data.shape, _slices(data.shape, starts, ends, axes, None)))


@op("Slice", since=1, shape=_slice_1_rule)
def slice_1(data: Array, *, starts: list[int], ends: list[int], axes: list[int] | None = None) -> Array:
    return _cut_out(data, _slices(data.shape, starts, ends, axes, None))


def _slice_rule(
    data: Info, starts: Info, ends: Info, axes: Info | None = None, steps: Info | None = None
) -> Info | None:
    given = [starts, ends, axes, steps]
    if data.shape is None or any(i is not None and i.value is None for i in given):
        return Info(data.dtype, None)
    numbers = [None if i is None or i.value is None else integers(i.value, "a bound") for i in given]
    first, last, which, by = numbers
    assert first is not None
    assert last is not None
    return Info(data.dtype, _sliced(data.shape, _slices(data.shape, first, last, which, by)))


@op("Slice", since=10, shape=_slice_rule)
def slice_(data: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    return _cut_out(
        data,
        _slices(
            data.shape,
            integers(starts, "starts"),
            integers(ends, "ends"),
            None if axes is None else integers(axes, "axes"),
            None if steps is None else integers(steps, "steps"),
        ),
    )


# -- Trilu --------------------------------------------------------------------------------


@op("Trilu", since=14, shape=lambda input, k=None, *, upper=1: Info(input.dtype, input.shape))
def trilu(input: Array, k: Array | None = None, *, upper: int = 1) -> Array:
    if input.ndim < 2:
        raise OpError(f"needs at least rank 2, got {input.ndim}")
    diagonal = 0 if k is None else integer(k, "k")
    limit = max(input.shape[-2:]) + 1
    diagonal = min(max(diagonal, -limit), limit)
    rows, columns = np.ogrid[: input.shape[-2], : input.shape[-1]]
    keep = columns - rows >= diagonal if upper else columns - rows <= diagonal
    return np.where(keep, input, np.zeros((), input.dtype))
