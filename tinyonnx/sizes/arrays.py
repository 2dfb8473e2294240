"""Arrays whose shape and address are expressions: operands of kernels in plans for every size.

A `SizedArray` is a strided view of memory that is allocated later. It has the part of numpy's interface that
binders use; whatever else numpy may do with it raises SizeError, and the plan is made for one size alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.sizes.expressions import Size, SizeError, Trace
from tinyonnx.sizes.integers import broadcast_shapes

BYTE = np.dtype(np.uint8)


class SizedArray:
    """A view of memory at `address`, an expression in bytes, with a shape and strides of expressions."""

    __slots__ = ("address", "dtype", "is_contiguous", "shape", "strides")

    def __init__(self, address: Any, shape: Sequence[Any], dtype: np.dtype[Any], strides: Sequence[Any] = ()) -> None:
        self.address, self.shape, self.dtype = address, tuple(shape), dtype
        self.strides = tuple(strides) if strides else _strides(self.shape, dtype.itemsize)
        self.is_contiguous = not strides

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Any:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> Any:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def flags(self) -> _Flags:
        """Whether the elements lie in row-major order, as `c_contiguous`."""
        return _Flags(self)

    @property
    def ctypes(self) -> _Address:
        """The address, as `data`."""
        return _Address(self.address)

    def part(self, offset: Any, shape: Sequence[Any], dtype: np.dtype[Any]) -> SizedArray:
        """Return the array of this shape and dtype that starts `offset` bytes into this one and ends within it."""
        return SizedArray(self.address + offset, shape, dtype)

    def items(self, first: int, count: int) -> SizedArray:
        """Return `count` items of the first axis; whether they exist is not compared."""
        strides = () if self.is_contiguous else self.strides
        return SizedArray(self.address + first * self.strides[0], (count, *self.shape[1:]), self.dtype, strides)

    def reshape(self, *shape: Any) -> SizedArray:
        """Return the elements in row-major order in another shape. Raises SizeError if they aren't in that order."""
        wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        if any(type(n) is int and n == -1 for n in wanted):
            known = -math.prod(wanted)
            wanted = tuple(self.size // known if type(n) is int and n == -1 else n for n in wanted)
        if math.prod(wanted) != self.size:
            raise SizeError(f"{self.shape} can't become {wanted}")
        if not self.flags.c_contiguous:
            raise SizeError("elements that lie apart can't be reshaped")
        return SizedArray(self.address, wanted, self.dtype)

    def transpose(self, *order: Any) -> SizedArray:
        """Return the axes in another order."""
        axes = tuple(order[0]) if len(order) == 1 and isinstance(order[0], tuple | list) else order
        axes = axes or tuple(range(self.ndim))[::-1]
        return SizedArray(self.address, [self.shape[a] for a in axes], self.dtype, [self.strides[a] for a in axes])

    def view(self, dtype: Any) -> SizedArray:
        """View the memory as elements of another dtype of the same size."""
        dtype = np.dtype(dtype)
        if dtype.itemsize != self.itemsize:
            raise SizeError(f"{self.dtype} can't be seen as {dtype}")
        return SizedArray(self.address, self.shape, dtype, self.strides)

    def __getitem__(self, key: Any) -> SizedArray:
        keys = list(key) if isinstance(key, tuple) else [key]
        at = next((i for i, k in enumerate(keys) if k is Ellipsis), None)
        if at is not None:
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        keys += [slice(None)] * (self.ndim - len(keys))
        address, shape, strides = self.address, [], []
        for k, size, stride in zip(keys, self.shape, self.strides, strict=True):
            if isinstance(k, slice):
                first, length, step = _cut(k, size)
                address += first * stride
                shape.append(length)
                strides.append(stride * step)
            elif isinstance(k, int | Size):
                address += (k + size if k < 0 else k) * stride
            else:
                raise SizeError(f"indexed by {type(k).__name__}")
        return SizedArray(address, shape, self.dtype, strides)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise SizeError("an array of expressions has no content")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.broadcast_to and not kwargs:
            return broadcast_to(*args)
        raise SizeError(f"{function.__name__} of an array of expressions")

    def __repr__(self) -> str:
        return f"SizedArray({self.address}, {self.shape}, {self.dtype})"


class _Flags:
    def __init__(self, array: SizedArray) -> None:
        self._array = array

    @property
    def c_contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        if self._array.is_contiguous:
            return True
        expected: Any = self._array.itemsize
        for size, stride in zip(reversed(self._array.shape), reversed(self._array.strides)):
            if stride is not expected and stride != expected and size != 1:
                return False
            expected = expected * size
        self._array.is_contiguous = True
        return True


class _Address:
    def __init__(self, address: Any) -> None:
        self.data = address


def _strides(shape: Sequence[Any], itemsize: int) -> tuple[Any, ...]:
    strides: list[Any] = []
    step: Any = itemsize
    for size in reversed(shape):
        strides.insert(0, step)
        step = step * size
    return tuple(strides)


def _cut(cut: slice, size: Any) -> tuple[Any, Any, int]:
    """Return start, number of elements and step of a slice of an axis, as numpy defines them."""
    step = 1 if cut.step is None else cut.step
    if step <= 0:
        first = size - 1 if cut.start is None else _within(cut.start, size, -1, size - 1)
        stop = -1 if cut.stop is None else _within(cut.stop, size, -1, size - 1)
    else:
        first = 0 if cut.start is None else _within(cut.start, size, 0, size)
        stop = size if cut.stop is None else _within(cut.stop, size, 0, size)
    length = -((first - stop) // step)
    return first, length if length > 0 else 0, step


def _within(bound: Any, size: Any, low: Any, high: Any) -> Any:
    if bound < 0:
        bound = bound + size
    return low if bound < low else high if bound > high else bound


def memory(trace: Trace, name: str, nbytes: Any) -> SizedArray:
    """Return a 1-D array of `nbytes` bytes that are allocated later."""
    return SizedArray(trace.address(name), (nbytes,), BYTE)


def temporary_memory(size: Any, dtype: np.dtype[Any]) -> Any:
    """Return `size` elements of memory that only the kernels of one step use."""
    return SizedArray(size.trace.temporary(size * dtype.itemsize), (size,), dtype)


def is_sized(x: Any) -> bool:
    """Return whether it is an array of expressions."""
    return isinstance(x, SizedArray)


def broadcast_to(x: Any, shape: Sequence[Any]) -> Any:
    """Broadcast like `np.broadcast_to`; array and shape may have sizes that are expressions."""
    if isinstance(x, np.ndarray):
        if not any(isinstance(n, Size) for n in shape):
            return np.broadcast_to(x, shape)
        x = SizedArray(x.ctypes.data, x.shape, x.dtype, x.strides)
    if broadcast_shapes(x.shape, tuple(shape)) != tuple(shape):
        raise SizeError(f"{x.shape} doesn't broadcast to {shape}")
    added = len(shape) - x.ndim
    strides = [0] * added + [0 if n != m else s for n, m, s in zip(x.shape, shape[added:], x.strides)]
    return SizedArray(x.address, shape, x.dtype, strides)
