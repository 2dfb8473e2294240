"""Operators that change, read or broadcast shapes without computing elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Context, Info, op, same_as
from tinyonnx.sizes.integers import are_sizes, vector

INT64 = np.dtype(np.int64)
Shape = tuple[int, ...]


def integers(values: Any, what: str) -> list[int]:
    """Return the integers of an attribute or input. Raises OpError unless it is a list of integers."""
    array = np.asarray(values)
    if array.ndim > 1 or (array.dtype.kind not in "iu" and array.size and not are_sizes(array)):
        raise OpError(f"{what} must be a list of integers, is {array.dtype}{list(array.shape)}")
    numbers: list[int] = array.reshape(-1).tolist()
    return numbers


def integer(value: Any, what: str) -> int:
    """Return the integer of an attribute or one-element input. Raises OpError unless it is one integer."""
    array = np.asarray(value)
    if array.size != 1 or (array.dtype.kind not in "iu" and not are_sizes(array)):
        raise OpError(f"{what} must be one integer, is {array.dtype}{list(array.shape)}")
    number: int = array.reshape(-1).tolist()[0]
    return number


def normalise_axes(axes: Sequence[int], rank: int) -> list[int]:
    """Return the non-negative axes. Raises OpError if one is out of range or given twice."""
    result = []
    for axis in axes:
        if not -rank <= axis < rank:
            raise OpError(f"axis {axis} is out of range for rank {rank}")
        result.append(axis % rank)
    if len(set(result)) < len(result):
        raise OpError(f"axes contain duplicates: {list(axes)}")
    return result


def _renamed(x: Info, shape: Shape | None) -> Info:
    return Info(x.dtype, shape)


# -- Reshape ------------------------------------------------------------------------------


def _reshape_target(shape: Shape, target: list[int], allowzero: int) -> Shape:
    if any(d < -1 for d in target) or target.count(-1) > 1:
        raise OpError(f"target shape {target} has more than one unknown dimension, or a negative one")
    if allowzero and 0 in target and -1 in target:
        raise OpError(f"target shape {target} has both 0 and -1, with allowzero their sizes are undefined")
    dims = []
    for i, d in enumerate(target):
        if d == 0 and not allowzero:
            if i >= len(shape):
                raise OpError(f"target shape {target} copies dimension {i}, the input has rank {len(shape)}")
            d = shape[i]
        dims.append(d)
    size = math.prod(shape)
    if -1 in dims:
        known = math.prod(d for d in dims if d != -1)
        if known == 0 or size % known:
            raise OpError(f"can't reshape {list(shape)} to {target}")
        dims[dims.index(-1)] = size // known
    if math.prod(dims) != size:
        raise OpError(f"can't reshape {list(shape)} ({size} elements) to {target} ({math.prod(dims)} elements)")
    return tuple(dims)


def _reshape_rule(data: Info, shape: Info, *, allowzero: int = 0) -> Info:
    if data.shape is None or shape.value is None:
        return _renamed(data, None)
    return _renamed(data, _reshape_target(data.shape, integers(shape.value, "the target shape"), allowzero))


def _reshape_1_target(data: Shape, shape: Sequence[int] | None) -> Shape:
    if shape is None:
        raise OpError("attribute shape is missing")
    return _reshape_target(data, list(shape), 0)


def _reshape_1_rule(
    data: Info, *, consumed_inputs: list[int] | None = None, shape: Sequence[int] | None = None
) -> Info:
    return _renamed(data, None if data.shape is None else _reshape_1_target(data.shape, shape))


@op("Reshape", since=1, shape=_reshape_1_rule)
def reshape_1(data: Array, *, consumed_inputs: list[int] | None = None, shape: Sequence[int] | None = None) -> Array:
    return data.reshape(_reshape_1_target(data.shape, shape))


@op("Reshape", since=5, shape=_reshape_rule)
def reshape(data: Array, shape: Array, *, allowzero: int = 0) -> Array:
    return data.reshape(_reshape_target(data.shape, integers(shape, "the target shape"), allowzero))


# -- Squeeze, Unsqueeze, Flatten ----------------------------------------------------------


def _squeezed(shape: Shape, axes: Sequence[int] | None) -> Shape:
    if axes is None:
        return tuple(d for d in shape if d != 1)
    dropped = normalise_axes(axes, len(shape))
    wrong = [a for a in dropped if shape[a] != 1]
    if wrong:
        raise OpError(f"can't squeeze axis {wrong[0]} of {list(shape)}: its size is not 1")
    return tuple(d for i, d in enumerate(shape) if i not in dropped)


def _unsqueezed(shape: Shape, axes: Sequence[int]) -> Shape:
    new = set(normalise_axes(axes, len(shape) + len(axes)))
    rest = iter(shape)
    return tuple(1 if i in new else next(rest) for i in range(len(shape) + len(axes)))


def _flattened(shape: Shape, axis: int) -> Shape:
    if not -len(shape) <= axis <= len(shape):
        raise OpError(f"axis {axis} is out of range for rank {len(shape)}")
    axis = axis + len(shape) if axis < 0 else axis
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _squeeze_rule(data: Info, axes: Info | None = None) -> Info:
    if data.shape is None or (axes is not None and axes.value is None):
        return _renamed(data, None)
    numbers = None if axes is None or axes.value is None else integers(axes.value, "axes")
    return _renamed(data, _squeezed(data.shape, numbers))


@op(
    "Squeeze",
    since=1,
    shape=lambda data, *, axes=None: _renamed(data, None if data.shape is None else _squeezed(data.shape, axes)),
)
def squeeze_1(data: Array, *, axes: Sequence[int] | None = None) -> Array:
    return data.reshape(_squeezed(data.shape, axes))


@op("Squeeze", since=13, shape=_squeeze_rule)
def squeeze(data: Array, axes: Array | None = None) -> Array:
    return data.reshape(_squeezed(data.shape, None if axes is None else integers(axes, "axes")))


def _unsqueeze_rule(data: Info, axes: Info) -> Info:
    if data.shape is None or axes.value is None:
        return _renamed(data, None)
    return _renamed(data, _unsqueezed(data.shape, integers(axes.value, "axes")))


@op(
    "Unsqueeze",
    since=1,
    shape=lambda data, *, axes: _renamed(data, None if data.shape is None else _unsqueezed(data.shape, axes)),
)
def unsqueeze_1(data: Array, *, axes: Sequence[int]) -> Array:
    return data.reshape(_unsqueezed(data.shape, axes))


@op("Unsqueeze", since=13, shape=_unsqueeze_rule)
def unsqueeze(data: Array, axes: Array) -> Array:
    return data.reshape(_unsqueezed(data.shape, integers(axes, "axes")))


@op("Flatten", since=1, shape=lambda x, *, axis=1: _renamed(x, None if x.shape is None else _flattened(x.shape, axis)))
def flatten(x: Array, *, axis: int = 1) -> Array:
    return x.reshape(_flattened(x.shape, axis))


# -- Transpose, Expand --------------------------------------------------------------------


def _order(perm: Sequence[int] | None, rank: int) -> list[int]:
    order = list(range(rank))[::-1] if perm is None else list(perm)
    if sorted(order) != list(range(rank)):
        raise OpError(f"perm {order} is not a permutation of {rank} axes")
    return order


def _transpose_rule(data: Info, *, perm: Sequence[int] | None = None) -> Info:
    if data.shape is None:
        return data
    return _renamed(data, tuple(data.shape[a] for a in _order(perm, len(data.shape))))


@op("Transpose", since=1, shape=_transpose_rule)
def transpose(data: Array, *, perm: Sequence[int] | None = None) -> Array:
    return data.transpose(_order(perm, data.ndim))


def _expanded(shape: Shape, target: list[int]) -> Shape:
    if any(d < 0 for d in target):
        raise OpError(f"target shape {target} has a negative dimension")
    rank = max(len(shape), len(target))
    pairs = [*zip((*[1] * (rank - len(shape)), *shape), (*[1] * (rank - len(target)), *target))]
    if any(size != wanted and 1 not in (size, wanted) for size, wanted in pairs):
        raise OpError(f"can't expand {list(shape)} to {target}")
    return tuple(wanted if size == 1 else size for size, wanted in pairs)


def _expand_rule(x: Info, shape: Info) -> Info:
    if x.shape is None or shape.value is None:
        return _renamed(x, None)
    return _renamed(x, _expanded(x.shape, integers(shape.value, "the target shape")))


@op("Expand", since=8, shape=_expand_rule)
def expand(ctx: Context | None, x: Array, shape: Array) -> Array:
    target = _expanded(x.shape, integers(shape, "the target shape"))
    if ctx is not None:
        ctx.check_size(target, x.dtype)
    return np.broadcast_to(x, target).copy()


# -- Shape, Size, Identity ----------------------------------------------------------------


def _shape_rule(data: Info, *, start: int = 0, end: int | None = None) -> Info | None:
    if data.shape is None:
        return None
    value = vector(data.shape[start:end])
    return Info(INT64, value.shape, value)


def _size_rule(data: Info) -> Info:
    return Info(INT64, (), None if data.shape is None else vector([math.prod(data.shape)]).reshape(()))


@op("Shape", since=1, shape=_shape_rule)
def shape(data: Array, *, start: int = 0, end: int | None = None) -> Array:
    return np.array(data.shape[start:end], INT64)


@op("Size", since=1, shape=_size_rule)
def size(data: Array) -> Array:
    return np.array(data.size, INT64)


@op("Identity", since=1, shape=same_as())
def identity(x: Any) -> Any:
    return x
