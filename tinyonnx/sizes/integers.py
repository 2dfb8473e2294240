"""Functions of integers that may be expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.sizes.expressions import MAXIMUM, MINIMUM, Array, Size


def maximum(*numbers: Any) -> Any:
    """Return the greatest of ints and sizes, without a condition."""
    return _extreme(numbers, MAXIMUM) if any(isinstance(n, Size) for n in numbers) else max(numbers)


def minimum(*numbers: Any) -> Any:
    """Return the least of ints and sizes, without a condition."""
    return _extreme(numbers, MINIMUM) if any(isinstance(n, Size) for n in numbers) else min(numbers)


def _extreme(numbers: Sequence[Any], kind: int) -> Any:
    result = numbers[0]
    for number in numbers[1:]:
        trace = next((n.trace for n in (result, number) if isinstance(n, Size)), None)
        if trace is not None:
            result = trace.extreme(result, number, kind)
        else:
            result = max(result, number) if kind == MAXIMUM else min(result, number)
    return result


def value_of(a: Any) -> int:
    """Return the value of an int or of a size now: for decisions that results don't depend on."""
    return a.value if isinstance(a, Size) else int(a)


def is_size(a: Any) -> bool:
    """Return whether it is an expression."""
    return isinstance(a, Size)


def vector(numbers: Sequence[Any]) -> Array:
    """Return the int64 array of ints; an array of objects where there are sizes among them."""
    known = not any(isinstance(n, Size) for n in numbers)
    return np.array(numbers, np.int64) if known else _objects(numbers)


def _objects(numbers: Sequence[Any]) -> Array:
    array = np.empty(len(numbers), object)
    array[:] = numbers
    return array


def broadcast_shapes(*shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the shape of arrays of these shapes together. Raises ValueError where they don't fit."""
    result: list[Any] = [1] * max(map(len, shapes), default=0)
    for shape in shapes:
        for i, size in enumerate(reversed(shape), 1):
            have = result[-i]
            if size is have or size == 1:
                continue
            if have == 1:
                result[-i] = size
            elif have != size:
                raise ValueError(f"shapes {shapes} don't broadcast")
    return tuple(result)


def broadcasts_to(shape: tuple[Any, ...], target: tuple[Any, ...]) -> bool:
    """Return whether arrays of a shape broadcast to another shape."""
    try:
        return broadcast_shapes(target, shape) == target
    except ValueError:
        return False


def are_sizes(array: Array) -> bool:
    """Return whether an array of objects holds integers, some of which are sizes."""
    return array.dtype == object and any(isinstance(n, Size) for n in array.flat)
