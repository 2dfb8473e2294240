"""Shared by the operators of com.microsoft, whose meaning is defined by ONNX Runtime's CPU provider."""

from __future__ import annotations

from functools import partial
from typing import Any

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import op

MICROSOFT = "com.microsoft"

microsoft = partial(op, domain=MICROSOFT)
"""Register an operator of that domain."""


def unsupported(**attributes: Any) -> None:
    """Raise OpError if one of the attributes, which only other execution providers implement, is set."""
    for name, value in attributes.items():
        if value:
            raise OpError(f"{name} {value} is not supported")


def check_shape(name: str, value: Any, *shapes: tuple[int, ...]) -> None:
    """Raise OpError unless an array (or an `Info`, or None) has one of the shapes."""
    if value is not None and value.shape is not None and tuple(value.shape) not in shapes:
        raise OpError(f"{name} has shape {list(value.shape)}, should be {' or '.join(str(list(s)) for s in shapes)}")


def check_dtypes(x: Any, **others: Any) -> None:
    """Raise OpError unless the others (arrays, or None) have the type of `x`."""
    for name, other in others.items():
        if other is not None and other.dtype != x.dtype:
            raise OpError(f"{name} is {other.dtype}, should be {x.dtype}")


def present(**inputs: Array | None) -> list[Array]:
    """Return the inputs, as required ones although optional ones come before them. Raises OpError if one is absent."""
    missing = [name for name, value in inputs.items() if value is None]
    if missing:
        raise OpError(f"input {missing[0]} is missing")
    return [value for value in inputs.values() if value is not None]
