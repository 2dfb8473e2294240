"""Sequences, which are Python lists, and optionals, of which an absent one is None."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.dtypes import NUMBERS
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.shape import INT64, integer, integers, normalise_axes
from tinyonnx.ops.tensor import concat
from tinyonnx.registry import Context, Info, op


def _position(position: Array, length: int) -> int:
    """Return an index in [0, length); negative ones count from the end. Raises OpError."""
    index = integer(position, "position")
    if not -length <= index < length:
        raise OpError(f"position {index} is out of range for {length} places")
    return index % length


def _check_element(sequence: list[Any], element: Any) -> None:
    if sequence and isinstance(element, np.ndarray) and element.dtype != sequence[0].dtype:
        raise OpError(f"a sequence of {sequence[0].dtype} can't hold {element.dtype}")


@op("SequenceConstruct", since=11)
def sequence_construct(*inputs: Any) -> list[Any]:
    for element in inputs[1:]:
        _check_element([inputs[0]], element)
    return list(inputs)


@op("SequenceEmpty", since=11)
def sequence_empty(*, dtype: int | None = None) -> list[Any]:
    if dtype is not None and dtype not in NUMBERS.values():
        raise OpError(f"unknown data type {dtype}")
    return []


@op("SequenceAt", since=11)
def sequence_at(input_sequence: list[Any], position: Array) -> Any:
    return input_sequence[_position(position, len(input_sequence))]


@op("SequenceInsert", since=11)
def sequence_insert(input_sequence: list[Any], tensor: Any, position: Array | None = None) -> list[Any]:
    _check_element(input_sequence, tensor)
    length = len(input_sequence)
    if position is None:
        at = length
    else:  # inserting after the last element is allowed, but only by a non-negative position
        at = integer(position, "position")
        if not -length <= at <= length:
            raise OpError(f"position {at} is out of range for inserting into {length} elements")
    result = list(input_sequence)
    result.insert(at, tensor)
    return result


@op("SequenceErase", since=11)
def sequence_erase(input_sequence: list[Any], position: Array | None = None) -> list[Any]:
    last = np.array(-1) if position is None else position
    at = _position(last, len(input_sequence))
    return input_sequence[:at] + input_sequence[at + 1 :]


@op("SequenceLength", since=11, shape=lambda input_sequence: Info(INT64, ()))
def sequence_length(input_sequence: list[Any]) -> Array:
    return np.array(len(input_sequence), INT64)


@op("ConcatFromSequence", since=11)
def concat_from_sequence(ctx: Context, input_sequence: list[Array], *, axis: int, new_axis: int = 0) -> Array:
    if not input_sequence:
        raise OpError("the sequence is empty")
    parts = input_sequence
    if new_axis:
        (axis,) = normalise_axes([axis], parts[0].ndim + 1)
        if any(part.ndim != parts[0].ndim for part in parts):
            raise OpError("the sequence has tensors of different ranks")
        parts = [np.expand_dims(part, axis) for part in parts]
    ctx.check_size((sum(part.size for part in parts),), parts[0].dtype)
    return concat(*parts, axis=axis)


@op("SplitToSequence", since=11)
def split_to_sequence(input: Array, split: Array | None = None, *, axis: int = 0, keepdims: int = 1) -> list[Array]:
    (axis,) = normalise_axes([axis], input.ndim)
    length = input.shape[axis]
    if split is None:
        parts = np.split(input, length, axis) if length else []
        return parts if keepdims else [part.squeeze(axis) for part in parts]
    if split.ndim == 0:
        size = integer(split, "split")
        if size < 1:
            raise OpError(f"split is {size}, must be positive")
        bounds = list(range(size, length, size))
        return np.split(input, bounds, axis) if length else []
    sizes = integers(split, "split")
    if sum(sizes) != length or any(s < 0 for s in sizes):
        raise OpError(f"split {sizes} doesn't add up to the {length} elements of the axis")
    return np.split(input, np.cumsum(sizes)[:-1], axis) if sizes else []


@op("Optional", since=15)
def optional(input: Any = None, *, type: Any = None) -> Any:
    if input is None and type is None:
        raise OpError("needs an element or the type of the missing one")
    return input


@op("OptionalHasElement", since=15, shape=lambda input=None: Info(np.dtype(np.bool_), ()))
def optional_has_element(input: Any = None) -> Array:
    return np.array(input is not None)


@op("OptionalGetElement", since=15)
def optional_get_element(input: Any) -> Any:
    if input is None:
        raise OpError("the optional has no element")
    return input
