"""Kernels and the functions that they call: the decorators, and kernels bound to arguments.

A kernel is a function of the arguments that `tinyonnx.codegen.arguments` describes; it returns
nothing, allocates nothing and checks nothing.  Its last two parameters, `part` and `parts`, are
its share of the work: shares may run at the same time and together do all of it.  A kernel is
compiled once per machine and combination of argument kinds, never per model, to machine code
with one C signature::

    int entry(void *ignored, void *ignored, const int64_t *row, int64_t part, int64_t parts)

With NUMBA_DISABLE_JIT=1 kernels run as plain Python.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, TypeVar, overload

import numpy as np

from tinyonnx.codegen.arguments import Static, encode, is_record, kinds_of

F = TypeVar("F", bound=Callable[..., Any])

DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
"""Whether kernels run as plain Python."""

ENTRY = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)
"""The C signature of compiled kernels; a call releases the GIL."""

_UNUSED = ctypes.addressof(_UNUSED_MEMORY := (ctypes.c_int64 * 8)())

_CONSTANT = (int, float, tuple, np.generic)


class Helper:
    """A function that kernels call and that is compiled into them; called from Python it runs as Python."""

    def __init__(self, function: Callable[..., Any], inline: bool = False) -> None:
        self.function, self.inline = function, inline
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    @property
    def statics(self) -> frozenset[str]:
        """Return the names of the parameters that are specialisation constants."""
        return frozenset(name for name, kind in self.function.__annotations__.items() if kind in ("Static", Static))

    def helpers(self) -> set[Helper]:
        """Return this function and all functions that it calls, directly or indirectly."""
        found: set[Helper] = set()
        new = {self}
        while new:
            found |= new
            known = [(helper.function.__globals__, helper.function.__code__.co_names) for helper in new]
            called = (names[name] for names, used in known for name in used if name in names)
            new = {helper for helper in called if isinstance(helper, Helper)} - found
        return found

    def constants(self) -> list[tuple[str, str]]:
        """Return the module constants and the fields of the record classes that become part of the machine code.

        Constants may have been computed at run time, so the source alone doesn't determine them.
        """
        values = [pair for helper in self.helpers() for pair in _globals_of(helper.function)]
        numbers = {(name, repr(value)) for name, value in values if isinstance(value, _CONSTANT)}
        return sorted(numbers | {(name, repr(value._fields)) for name, value in values if is_record(value)})


def _globals_of(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and values of the globals that a function uses, and of attributes of modules among them."""
    names, used = function.__globals__, function.__code__.co_names
    modules = [(f"{name}.", vars(names[name])) for name in used if isinstance(names.get(name), ModuleType)]
    for prefix, space in [("", names), *modules]:
        yield from ((prefix + name, space[name]) for name in used if name in space)


class Kernel(Helper):
    """A function with an entry point of its own; calling it from Python runs all of the work (part 0 of 1)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._addresses: dict[str, int] = {}

    def __call__(self, *args: Any) -> None:
        bound = BoundKernel(self, args)
        bound.run(0, 1)

    def address(self, kinds: str) -> int:
        """Return the address of the machine code for arguments of these kinds; compile it if this machine lacks it."""
        if kinds not in self._addresses:
            from tinyonnx.codegen import code_cache

            self._addresses[kinds] = code_cache.entry_point(self, kinds)
        return self._addresses[kinds]


class Primitive(Helper):
    """A function that the compiler emits its own code for; the Python function defines its meaning."""


class BoundKernel:
    """A kernel with its arguments; it keeps the arrays alive whose addresses it holds."""

    def __init__(self, kernel: Kernel, args: Sequence[Any]) -> None:
        self.kernel, self.args = kernel, args
        if not DISABLED:
            self.row = encode(args)
            self.row_address = self.row.ctypes.data
            self.entry_address = kernel.address(kinds_of(args))
            self._entry = ENTRY(self.entry_address)

    def run(self, part: int, parts: int) -> None:
        """Run a share without the GIL."""
        if DISABLED:
            with np.errstate(all="ignore"):
                self.kernel.function(*self.args, part, parts)
        else:
            self._entry(_UNUSED, _UNUSED, self.row_address, part, parts)


@overload
def jit(function: F) -> F: ...
@overload
def jit(*, inline: bool) -> Callable[[F], F]: ...
def jit(function: Any = None, *, inline: bool = False) -> Any:
    """Mark a function that kernels call; with `inline` it becomes part of each caller.

    Floating point is strict, except that a·b + c may become one FMA. Parameters annotated `Static` are specialisation
    constants.
    """
    return Helper(function) if function is not None else lambda function: Helper(function, inline)


def kernel(function: Callable[..., None]) -> Kernel:
    """Make a kernel of a function; the module's docstring describes its parameters."""
    return Kernel(function)


@jit
def share(n: int, part: int, parts: int) -> tuple[int, int]:
    """Return the range of `n` items that is share `part`."""
    return n * part // parts, n * (part + 1) // parts
