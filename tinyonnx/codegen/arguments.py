"""Arguments of kernels: their kinds, which the compiled code depends on, and the row of integers that holds them.

An argument is a flat contiguous array, an integer, a float, or a tuple of arguments; a named tuple is a record, whose
fields kernels read by name. The kinds of a call's arguments are a string: `<f4` for an array (numpy's name of the
dtype), `i`, `f` and `d` for an integer, a float32 and a float64, `#3` for the specialisation constant 3, `(i i)` for a
tuple and `package.module:Name(first=i second=f)` for a record.

A row has two cells for an array (address and length), one for a number (floats by their bits) and none for a
specialisation constant; the members of a tuple follow each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.sizes.arrays import SizedArray
from tinyonnx.sizes.expressions import Size

Static: TypeAlias = Annotated[int, "specialisation constant"]
"""Annotation of a parameter whose value becomes part of the compiled code, like its type.

Callers pass literals, constants of a module, or `Static` parameters of their own; the function is compiled once for
each combination of values.
"""


class Specialised(int):
    """An argument for a `Static` parameter of a kernel, or a field of a record that is likewise compiled in."""


class _Number(NamedTuple):
    kind: str
    bits: Callable[[Any], int]


_INTEGER = _Number("i", int)
_SIZE = _Number("i", lambda value: value)
_FLOAT32 = _Number("f", lambda value: int(np.float32(value).view(np.int32)))
_FLOAT64 = _Number("d", lambda value: int(np.float64(value).view(np.int64)))


def _number(value: Any) -> _Number:
    if type(value) is int:  # the most frequent case first
        return _INTEGER
    if isinstance(value, np.float32):
        return _FLOAT32
    if isinstance(value, float):
        return _FLOAT64
    if isinstance(value, Size):
        return _SIZE
    if isinstance(value, int | np.integer):
        return _INTEGER
    raise TypeError(f"an argument of a kernel can't be a {type(value).__name__}")


def is_record(kind: Any) -> bool:
    """Return whether a class is a named tuple."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


_records: dict[str, Any] = {}


def record_named(name: str) -> Any:
    """Return the record class that kinds call `package.module:Name`."""
    if name not in _records:
        module, _, path = name.partition(":")
        found = sys.modules[module] if module in sys.modules else import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        _records[name] = found
    return _records[name]


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray | SizedArray):
        assert value.ndim == 1, "arrays must be flat"
        assert value.flags.c_contiguous, "arrays must be contiguous"
        return str(value.dtype.str)
    if isinstance(value, Specialised):
        return f"#{value}"
    if not isinstance(value, tuple):
        return _number(value).kind
    if not is_record(type(value)):
        return f"({' '.join(map(_kind, value))})"
    name = f"{type(value).__module__}:{type(value).__qualname__}"
    _records[name] = type(value)
    return f"{name}({' '.join([f'{f}={_kind(v)}' for f, v in zip(type(value)._fields, value)])})"  # type: ignore[attr-defined]


def kinds_of(args: Sequence[Any]) -> str:
    """Return the kinds of arguments, separated by spaces."""
    return " ".join(map(_kind, args))


def leaves(args: Sequence[Any]) -> Iterator[Any]:
    """Return the arrays and numbers of arguments in the order of their row, without specialisation constants."""
    for value in args:
        if isinstance(value, tuple):
            yield from leaves(value)
        elif not isinstance(value, Specialised):
            yield value


def encode(args: Sequence[Any]) -> Array:
    """Return the row of int64 that a compiled kernel reads its arguments from."""
    return np.array(cells(args), np.int64)


def cells(args: Sequence[Any]) -> list[int]:
    """Return the integers of a row; expressions for arguments that depend on a size (see `tinyonnx.sizes`)."""
    row: list[int] = []
    for value in leaves(args):
        if isinstance(value, np.ndarray | SizedArray):
            row += value.ctypes.data, value.size
        else:
            row.append(_number(value).bits(value))
    return row
