"""Conversions between element types, and tests of each element: Cast, CastLike, Not, IsNaN."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import kernel
from tinyonnx.codegen.primitives import bits_from_float, float_from_bits
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat
from tinyonnx.kernels.elementwise import copy, share_lines
from tinyonnx.ops.cast import cast, cast_like
from tinyonnx.ops.math import is_nan, not_
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

NONZERO, ZERO, UNORDERED = range(3)
"""Codes of tests: x ≠ 0 (true of NaN), x = 0, x is NaN."""

_LEAST_32, _END_32 = np.float32(-(2**31)), np.float32(2**31)
_LEAST_64, _END_64 = np.float32(-(2**63)), np.float32(2**63)
_LEAST_INT32, _LEAST_INT64 = np.int32(-(2**31)), np.int64(-(2**63))


@kernel
def map_test(code: Static, x: Array, out: Array, part: int, parts: int) -> None:
    """Compute out[i] = 1 if the test holds for x[i], else 0."""
    first, end = share_lines(out.shape[0], part, parts)
    source, target = x[first:end], out[first:end]
    for i in range(end - first):
        v = source[i]
        if code == NONZERO:
            target[i] = v != 0
        elif code == ZERO:
            target[i] = v == 0
        else:
            target[i] = v != v


@kernel
def truncate(x: Array, mask: int, out: Array, part: int, parts: int) -> None:
    """Compute out[i] = x[i] truncated to an int32, of which only the bits of `mask` are kept.

    Numbers beyond the range of int32, and NaN, become the lowest int32, as on x86-64.
    """
    first, end = share_lines(out.shape[0], part, parts)
    source, target = x[first:end], out[first:end]
    for i in range(end - first):
        v = source[i]
        target[i] = (np.int32(v) if v >= _LEAST_32 and v < _END_32 else _LEAST_INT32) & mask


@kernel
def truncate_long(x: Array, out: Array, part: int, parts: int) -> None:
    """Compute out[i] = x[i] truncated to int64; numbers beyond its range, and NaN, become the lowest int64."""
    first, end = share_lines(out.shape[0], part, parts)
    source, target = x[first:end], out[first:end]
    for i in range(end - first):
        v = source[i]
        target[i] = np.int64(v) if v >= _LEAST_64 and v < _END_64 else _LEAST_INT64


@kernel
def narrow(x: Array, mask: int, out: Array, part: int, parts: int) -> None:
    """Compute out[i] = x[i] & mask."""
    first, end = share_lines(out.shape[0], part, parts)
    source, target = x[first:end], out[first:end]
    for i in range(end - first):
        target[i] = source[i] & mask


_INFINITE = np.int32(0x7F800000)
_WIDER, _NARROWER = np.float32(2.0**112), np.float32(2.0**24)
"""Ratios of numbers with the same bits of exponent in float32 and float16, and of 1 to the least float16."""


@kernel
def widen_halves(x: Array, out: Array, part: int, parts: int) -> None:
    """out[i] = x[i], the bits of a float16, as float32."""
    first, end = share_lines(out.shape[0], part, parts)
    source, target = x[first:end], out[first:end]
    for i in range(end - first):
        bits = np.int32(source[i])
        shifted = (bits & np.int32(0x7FFF)) << np.int32(13)
        magnitude = float_from_bits(shifted) * _WIDER
        magnitude = float_from_bits(shifted | _INFINITE) if shifted >= np.int32(0x0F800000) else magnitude
        target[i] = -magnitude if bits >= np.int32(0x8000) else magnitude


@kernel
def round_to_halves(x: Array, out: Array, part: int, parts: int) -> None:
    """out[i] = the bits of x[i] rounded to float16, to the nearest even; NaN stays NaN."""
    first, end = share_lines(out.shape[0], part, parts)
    source, target = x[first:end], out[first:end]
    for i in range(end - first):
        bits = np.int32(bits_from_float(source[i]))
        magnitude = bits & np.int32(0x7FFFFFFF)
        finite = magnitude if magnitude < _INFINITE else _INFINITE
        odd = (finite >> np.int32(13)) & np.int32(1)
        half = ((finite + np.int32(0xFFF) + odd) >> np.int32(13)) - np.int32(112 << 10)
        small = magnitude < np.int32(113 << 23)
        # below the least normal number: a whole number of the least float16
        units = np.int32(np.rint(float_from_bits(magnitude if small else np.int32(0)) * _NARROWER))
        half = units if small else half
        half = half if half < np.int32(0x7C00) else np.int32(0x7C00)
        half = np.int32(0x7E00) if magnitude > _INFINITE else half
        target[i] = half | ((bits >> np.int32(16)) & np.int32(0x8000))


# -- operators --------------------------------------------------------------------------

_HALF = np.dtype(np.float16)
_FROM = frozenset(map(np.dtype, "?bBhHiIqQfd"))
_TO = frozenset(map(np.dtype, "?bBhHiqfd"))
"""Types that `_FROM` types are converted to; numpy's results for uint32 and uint64 depend on the processor."""


def unsigned_bools(x: Array) -> Array:
    """Return the memory of an array as a 1-D array, bools as bytes 0 and 1."""
    memory = flat(x)
    return memory.view(np.uint8) if x.dtype == np.bool_ else memory


def _cast_refused(out: Info, x: Info | None, *_: Info | None, **__: Any) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    halves = {x.dtype, out.dtype} == {_HALF, np.dtype(np.float32)}
    return None if halves or (x.dtype in _FROM and out.dtype in _TO) else f"{x.dtype} to {out.dtype}"


@fast(cast, when=_cast_refused, layout="any", by_item=True)
def bind_cast(pool: ConstantPool, out: Array, x: Array, *_: Array | None, **__: Any) -> Call:
    """Bind the conversion to the type of the result."""
    source, target = unsigned_bools(x), unsigned_bools(out)
    if x.dtype == _HALF:
        return Call(widen_halves, (source.view(np.uint16), target))
    if out.dtype == _HALF:
        return Call(round_to_halves, (source, target.view(np.uint16)))
    if out.dtype == np.bool_:
        return Call(map_test, (Specialised(NONZERO), source, target))
    if out.dtype.kind == "f":
        return Call(copy, (source, target))
    if out.dtype == np.int64 and x.dtype.kind == "f":
        return Call(truncate_long, (source, target))
    size = out.itemsize
    mask, low = (1 << 8 * size) - 1, target.view(np.dtype(f"u{size}"))
    if x.dtype.kind == "f":
        return Call(truncate, (source, -1, target) if size == 4 else (source, mask, low))
    if x.itemsize > size:
        return Call(narrow, (source.view(np.dtype(f"i{x.itemsize}")), mask, low))
    return Call(copy, (source.view(target.dtype) if x.itemsize == size else source, target))


fast(cast_like, when=_cast_refused, layout="any")(bind_cast)


def _test_refused(out: Info, x: Info | None) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return None if x.dtype in _FROM else str(x.dtype)


@fast(not_, when=_test_refused, layout="any", by_item=True)
def bind_not(pool: ConstantPool, out: Array, x: Array) -> Call:
    """Bind the negation of booleans."""
    return Call(map_test, (Specialised(ZERO), unsigned_bools(x), unsigned_bools(out)))


@fast(is_nan, when=_test_refused, layout="any", by_item=True)
def bind_is_nan(pool: ConstantPool, out: Array, x: Array) -> Call:
    """Bind the test for NaN."""
    return Call(map_test, (Specialised(UNORDERED), unsigned_bools(x), unsigned_bools(out)))
