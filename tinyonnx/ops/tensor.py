"""Operators that make, join, cut and pad tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.shape import Shape, integers, normalise_axes
from tinyonnx.registry import Context, Info, by_running, op

# -- Constant, ConstantOfShape, Range -----------------------------------------------------


@op("Constant", since=1)
def constant(
    *,
    value: Array | None = None,
    sparse_value: Array | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
    value_string: str | None = None,
    value_strings: Sequence[str] | None = None,
) -> Array:
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
    return np.full(shape, filler[0], filler.dtype)


def _range_length(start: Any, limit: Any, delta: Any) -> int:
    values = [np.asarray(v).reshape(-1) for v in (start, limit, delta)]
    if any(v.size != 1 for v in values):
        raise OpError("start, limit and delta must be scalars")
    first, last, step = (v[0].item() for v in values)
    if step == 0:
        raise OpError("delta is 0")
    if isinstance(first, int):
        return int(max(-((first - last) // step), 0))
    steps = (last - first) / step
    if not math.isfinite(steps):
        raise OpError(f"a range from {first} to {last} by {step} has no end")
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
    # half precision is computed in float32 (stash_type), everything else in its own type
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


def _concat_rule(*inputs: Info, axis: int) -> Info:
    shapes = [i.shape for i in inputs if i.shape is not None]
    return Info(inputs[0].dtype, _concat_shape(shapes, axis) if len(shapes) == len(inputs) else None)


def _concat_1_rule(*inputs: Info, axis: int = 1) -> Info:
    return _concat_rule(*inputs, axis=axis)


@op("Concat", since=1, shape=_concat_1_rule)
def concat_1(*inputs: Array, axis: int = 1) -> Array:
    return concat(*inputs, axis=axis)


@op("Concat", since=4, shape=_concat_rule)
def concat(*inputs: Array, axis: int) -> Array:
    _concat_shape([x.shape for x in inputs], axis)
    dtypes = {x.dtype for x in inputs}
    if len(dtypes) > 1:
        raise OpError(f"inputs of different dtypes: {', '.join(sorted(map(str, dtypes)))}")
    return np.concatenate(inputs, axis)


def _split_sizes(length: int, parts: Sequence[int] | None, count: int) -> list[int]:
    """Sizes along the axis: as given, or `count` equal ones, the last smaller if it must be."""
    if parts is None:
        if count < 1:
            raise OpError("neither split nor num_outputs is given")
        size = -(-length // count)
        sizes = [size] * (count - 1) + [length - size * (count - 1)]
    else:
        sizes = list(parts)
    if sum(sizes) != length or any(s < 0 for s in sizes):
        raise OpError(f"split {sizes} doesn't add up to the {length} elements of the axis")
    return sizes


def _cut(x: Array, sizes: list[int], axis: int) -> tuple[Array, ...]:
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def _split_infos(x: Info, sizes: list[int], axis: int) -> list[Info]:
    assert x.shape is not None
    return [Info(x.dtype, (*x.shape[:axis], s, *x.shape[axis + 1 :])) for s in sizes]


def _equal_parts(length: int, split: Sequence[int] | None, count: int) -> list[int]:
    if split is None and (count < 1 or length % count):
        raise OpError(f"can't split {length} elements into {count} equal parts")
    return _split_sizes(length, split, count)


def _split_1_rule(
    ctx: Context, input: Info, split_input: Info | None = None, *, axis: int = 0, split: Sequence[int] | None = None
) -> list[Info] | None:
    if input.shape is None:
        return None
    (axis,) = normalise_axes([axis], len(input.shape))
    return _split_infos(input, _equal_parts(input.shape[axis], split, ctx.n_outputs), axis)


@op("Split", since=1, shape=_split_1_rule)
def split_1(
    ctx: Context, input: Array, split_input: Array | None = None, *, axis: int = 0, split: Sequence[int] | None = None
) -> tuple[Array, ...]:
    if split_input is not None:
        split = integers(split_input, "split")
    (axis,) = normalise_axes([axis], input.ndim)
    return _cut(input, _equal_parts(input.shape[axis], split, ctx.n_outputs), axis)


def _split_2_rule(ctx: Context, input: Info, *, axis: int = 0, split: Sequence[int] | None = None) -> list[Info] | None:
    return _split_1_rule(ctx, input, axis=axis, split=split)


@op("Split", since=2, shape=_split_2_rule)
def split_2(ctx: Context, input: Array, *, axis: int = 0, split: Sequence[int] | None = None) -> tuple[Array, ...]:
    return split_1(ctx, input, axis=axis, split=split)


def _split_rule(
    ctx: Context, input: Info, split: Info | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> list[Info] | None:
    if input.shape is None or (split is not None and split.value is None):
        return None
    (axis,) = normalise_axes([axis], len(input.shape))
    parts = None if split is None or split.value is None else integers(split.value, "split")
    sizes = _split_sizes(input.shape[axis], parts, num_outputs or ctx.n_outputs)
    return _split_infos(input, sizes, axis)


@op("Split", since=13, shape=_split_rule)
def split(
    ctx: Context, input: Array, split: Array | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Array, ...]:
    (axis,) = normalise_axes([axis], input.ndim)
    parts = None if split is None else integers(split, "split")
    return _cut(input, _split_sizes(input.shape[axis], parts, num_outputs or ctx.n_outputs), axis)


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
    (position,) = normalise_axes(integers(axis.astype(np.int64), "axis"), input.ndim)
    repeats = [1] * input.ndim
    repeats[position] = int(tiles.reshape(()))
    return tile(ctx, input, np.array(repeats))


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
        else:  # the start is clamped into the axis, so that one before it means the first element
            stop = min(max(end, -1), length - 1)
            result[axis] = slice(min(max(start, 0), length - 1), None if stop < 0 else stop, step)
    return tuple(result)


def _sliced(shape: Shape, slices: tuple[slice, ...]) -> Shape:
    return tuple(len(range(*s.indices(d))) for s, d in zip(slices, shape, strict=True))


def _slice_1_rule(data: Info, *, starts: list[int], ends: list[int], axes: list[int] | None = None) -> Info:
    if data.shape is None:
        return data
    return Info(data.dtype, _sliced(data.shape, _slices(data.shape, starts, ends, axes, None)))


@op("Slice", since=1, shape=_slice_1_rule)
def slice_1(data: Array, *, starts: list[int], ends: list[int], axes: list[int] | None = None) -> Array:
    return data[_slices(data.shape, starts, ends, axes, None)]


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
    return data[
        _slices(
            data.shape,
            integers(starts, "starts"),
            integers(ends, "ends"),
            None if axes is None else integers(axes, "axes"),
            None if steps is None else integers(steps, "steps"),
        )
    ]


# -- Pad ----------------------------------------------------------------------------------


def _padding(shape: Shape, pads: Sequence[int], axes: Sequence[int] | None) -> list[tuple[int, int]]:
    """(before, after) for every axis."""
    which = list(range(len(shape))) if axes is None else normalise_axes(axes, len(shape))
    if len(pads) != 2 * len(which):
        raise OpError(f"{len(pads)} pads for {len(which)} axes, expected {2 * len(which)}")
    result = [(0, 0)] * len(shape)
    for i, axis in enumerate(which):
        result[axis] = (pads[i], pads[i + len(which)])
    for axis, (before, after) in enumerate(result):
        if max(-before, 0) + max(-after, 0) > shape[axis]:
            raise OpError(f"pads {list(pads)} cut more than the {shape[axis]} elements of axis {axis}")
    return result


def _padded_shape(shape: Shape, padding: list[tuple[int, int]]) -> Shape:
    return tuple(d + before + after for d, (before, after) in zip(shape, padding, strict=True))


_NUMPY_MODE = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _pad(ctx: Context | None, data: Array, padding: list[tuple[int, int]], mode: str, value: Any) -> Array:
    if ctx is not None:
        ctx.check_size(_padded_shape(data.shape, padding), data.dtype)
    crop = tuple(slice(max(-b, 0), d - max(-a, 0)) for d, (b, a) in zip(data.shape, padding, strict=True))
    data = data[crop]
    grow = [(max(b, 0), max(a, 0)) for b, a in padding]
    if mode == "constant":
        return np.pad(data, grow, constant_values=value)
    if mode not in _NUMPY_MODE:
        raise OpError(f"unknown mode {mode!r}")
    if any(d == 0 and (b or a) for d, (b, a) in zip(data.shape, grow, strict=True)):
        raise OpError(f"mode {mode} can't pad an empty axis of {list(data.shape)}")
    return np.asarray(np.pad(data, grow, mode=_NUMPY_MODE[mode]))  # type: ignore[call-overload]


def _pad_attribute_rule(name: str) -> Any:
    def rule(data: Info, **attributes: Any) -> Info:
        if data.shape is None:
            return data
        return Info(data.dtype, _padded_shape(data.shape, _padding(data.shape, attributes[name], None)))

    return rule


@op("Pad", since=1, shape=_pad_attribute_rule("paddings"))
def pad_1(
    ctx: Context | None, data: Array, *, paddings: list[int], mode: str = "constant", value: float = 0.0
) -> Array:
    return _pad(ctx, data, _padding(data.shape, paddings, None), mode, value)


@op("Pad", since=2, shape=_pad_attribute_rule("pads"))
def pad_2(ctx: Context | None, data: Array, *, pads: list[int], mode: str = "constant", value: float = 0.0) -> Array:
    return _pad(ctx, data, _padding(data.shape, pads, None), mode, value)


def _pad_rule(
    data: Info, pads: Info, constant_value: Info | None = None, axes: Info | None = None, *, mode: str = "constant"
) -> Info:
    if data.shape is None or pads.value is None or (axes is not None and axes.value is None):
        return Info(data.dtype, None)
    which = None if axes is None or axes.value is None else integers(axes.value, "axes")
    return Info(data.dtype, _padded_shape(data.shape, _padding(data.shape, integers(pads.value, "pads"), which)))


@op("Pad", since=11, shape=_pad_rule)
def pad(
    ctx: Context | None,
    data: Array,
    pads: Array,
    constant_value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Array:
    padding = _padding(data.shape, integers(pads, "pads"), None if axes is None else integers(axes, "axes"))
    if constant_value is None or constant_value.size == 0:
        value: Any = "" if data.dtype == object else np.zeros((), data.dtype)
    else:
        value = constant_value.reshape(-1)[0]
    return _pad(ctx, data, padding, mode, value)


# -- Trilu, EyeLike -----------------------------------------------------------------------


@op("Trilu", since=14, shape=lambda input, k=None, *, upper=1: Info(input.dtype, input.shape))
def trilu(input: Array, k: Array | None = None, *, upper: int = 1) -> Array:
    if input.ndim < 2:
        raise OpError(f"needs at least rank 2, got {input.ndim}")
    diagonal = 0 if k is None else int(k.reshape(()))
    limit = max(input.shape[-2:]) + 1
    diagonal = min(max(diagonal, -limit), limit)
    rows, columns = np.ogrid[: input.shape[-2], : input.shape[-1]]
    keep = columns - rows >= diagonal if upper else columns - rows <= diagonal
    return np.where(keep, input, np.zeros((), input.dtype))


def _reversed_sequences(input: Array, sequence_lens: Array, *, batch_axis: int = 1, time_axis: int = 0) -> Array:
    if sorted((batch_axis, time_axis)) != [0, 1] or input.ndim < 2:
        raise OpError("batch_axis and time_axis must be 0 and 1")
    result = input.copy()
    if sequence_lens.shape != (input.shape[batch_axis],):
        raise OpError(f"{list(sequence_lens.shape)} lengths for a batch of {input.shape[batch_axis]}")
    for i, length in enumerate(integers(sequence_lens, "sequence_lens")):
        if not 0 <= length <= input.shape[time_axis]:
            raise OpError(f"length {length} of sequence {i} is out of range")
        view = result[:, i] if batch_axis == 1 else result[i]
        view[:length] = view[:length][::-1].copy()
    return result


op("ReverseSequence", since=10, shape=by_running(_reversed_sequences, "sequence_lens"))(_reversed_sequences)
