"""What a kernel is: the decorators, and the row of integers that one call becomes.

A kernel is a function of flat, contiguous arrays, integers, floats and flat tuples of
numbers; it returns nothing, allocates nothing and checks nothing.  Its last two parameters,
`part` and `parts`, are its share of the work: shares may run at the same time and together
do everything.  It is compiled once per machine and combination of argument types, never per
model, to machine code with one C signature::

    int entry(void *ignored, void *ignored, const int64_t *row, int64_t part, int64_t parts)

`row` holds the arguments: address and length of an array, an integer, the bits of a float.
With NUMBA_DISABLE_JIT=1 kernels run as the Python that they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.sizes.arrays import SizedArray
from tinyonnx.sizes.expressions import Size

F = TypeVar("F", bound=Callable[..., Any])

DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
"""Whether kernels run as plain Python."""

ENTRY = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)
"""The C signature of compiled kernels; a call lets other Python threads run."""

_UNUSED = ctypes.addressof(_UNUSED_MEMORY := (ctypes.c_int64 * 8)())


_CONSTANT = (int, float, tuple, np.generic)


class Helper:
    """A function that kernels call: compiled into them; called from Python it is Python."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def helpers(self) -> set[Helper]:
        """This one and all that it calls, directly or not."""
        found: set[Helper] = set()
        new = {self}
        while new:
            found |= new
            known = [(helper.function.__globals__, helper.function.__code__.co_names) for helper in new]
            called = (names[name] for names, used in known for name in used if name in names)
            new = {helper for helper in called if isinstance(helper, Helper)} - found
        return found

    def constants(self) -> list[tuple[str, str]]:
        """The numbers in modules that become part of the machine code: they may have been computed at run time."""
        values = [pair for helper in self.helpers() for pair in _globals_of(helper.function)]
        return sorted({(name, repr(value)) for name, value in values if isinstance(value, _CONSTANT)})


def _globals_of(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and values of the globals that a function uses, and of attributes of modules among them."""
    names, used = function.__globals__, function.__code__.co_names
    modules = [(f"{name}.", vars(names[name])) for name in used if isinstance(names.get(name), ModuleType)]
    for prefix, space in [("", names), *modules]:
        yield from ((prefix + name, space[name]) for name in used if name in space)


class Kernel(Helper):
    """A function with an entry point of its own; a call from Python does every share."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._addresses: dict[str, int] = {}

    def __call__(self, *args: Any) -> None:
        bound = Bound(self, args)
        bound.run(0, 1)

    def address(self, kinds: str) -> int:
        """Where the machine code for arguments of these kinds starts; compiled if this machine lacks it."""
        if kinds not in self._addresses:
            from tinyonnx.codegen import machine

            self._addresses[kinds] = machine.entry_point(self, kinds)
        return self._addresses[kinds]


class Primitive(Helper):
    """A function that the compiler emits by itself; here in its meaning."""


class Bound:
    """A kernel with its arguments; keeps the arrays alive whose addresses it holds."""

    def __init__(self, kernel: Kernel, args: Sequence[Any]) -> None:
        self.kernel, self.args = kernel, args
        if not DISABLED:
            self.row = encode(args)
            self.row_address = self.row.ctypes.data
            self.entry_address = kernel.address(kinds_of(args))
            self._entry = ENTRY(self.entry_address)

    def run(self, part: int, parts: int) -> None:
        """Do a share, without the GIL."""
        if DISABLED:
            with np.errstate(all="ignore"):
                self.kernel.function(*self.args, part, parts)
        else:
            self._entry(_UNUSED, _UNUSED, self.row_address, part, parts)


def jit(function: F) -> F:
    """Mark a function that kernels call. Floating point is strict but for a·b+c, which may become one FMA."""
    return cast(F, Helper(function))


def kernel(function: Callable[..., None]) -> Kernel:
    """Make a kernel of a function, as the module describes."""
    return Kernel(function)


@jit
def share(n: int, part: int, parts: int) -> tuple[int, int]:
    """The range of `n` items that is share `part`."""
    return n * part // parts, n * (part + 1) // parts


# -- arguments --------------------------------------------------------------------------


class _Number(NamedTuple):
    kind: str
    bits: Callable[[Any], int]


_INTEGER = _Number("i", int)
_SIZE = _Number("i", lambda value: value)
_FLOAT32 = _Number("f", lambda value: int(np.float32(value).view(np.int32)))
_FLOAT64 = _Number("d", lambda value: int(np.float64(value).view(np.int64)))


def _number(value: Any) -> _Number:
    if type(value) is int:  # most of them are
        return _INTEGER
    if isinstance(value, np.float32):
        return _FLOAT32
    if isinstance(value, float):
        return _FLOAT64
    if isinstance(value, Size):
        return _SIZE
    if isinstance(value, int | np.integer):
        return _INTEGER
    raise TypeError(f"a kernel takes no {type(value).__name__}")


def kinds_of(args: Sequence[Any]) -> str:
    """The types of arguments, as the compiler needs them: "<f4" for an array, "i", "f", "d", "(iif)"."""
    kinds = []
    for value in args:
        if isinstance(value, np.ndarray | SizedArray):
            assert value.ndim == 1, "arrays must be flat"
            assert value.flags.c_contiguous, "arrays must be contiguous"
            kinds.append(value.dtype.str)
        elif isinstance(value, tuple):
            kinds.append(f"({''.join([_number(item).kind for item in value])})")
        else:
            kinds.append(_number(value).kind)
    return " ".join(kinds)


def encode(args: Sequence[Any]) -> Array:
    """The row of int64 that a compiled kernel reads its arguments from."""
    return np.array(cells(args), np.int64)


def cells(args: Sequence[Any]) -> list[int]:
    """The numbers of a row; expressions where arguments are `tinyonnx.sizes`."""
    row: list[int] = []
    for value in args:
        if isinstance(value, np.ndarray | SizedArray):
            row += value.ctypes.data, value.size
        elif isinstance(value, tuple):
            row += [_number(item).bits(item) for item in value]
        else:
            row.append(_number(value).bits(value))
    return row
