"""Quantisation of floats to bytes and back: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, with one scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.codegen.byte_tiles import extremes
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, bits_from_float
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused, temporary
from tinyonnx.kernels._quantized import bytes_refused, one_number_refused
from tinyonnx.kernels.elementwise import share_lines
from tinyonnx.kernels.quantized_gemm import NO_ZERO, raw, sign_of
from tinyonnx.ops.quantize import dequantize_linear, dynamic_quantize_linear, quantize_linear
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ROUNDING = np.float32(1.5 * 2**23)
"""Addend that leaves the nearest integer of a small float, ties to even, in the last bits of the sum."""

_CHUNK = 1 << 14
"""Elements per chunk, whose extremes are stored; a multiple of the elements of a cache line."""

_ZERO, _ONE, _LEVELS = np.float32(0), np.float32(1), np.float32(255)


@jit(inline=True)
def to_byte(value: Any, low: Any, high: Any, zero: Any) -> Any:
    """Round to the nearest even, clip to `low` and `high`, then add the zero point; NaN becomes `low`."""
    value = value if value > low else low
    value = value if value < high else high
    return (np.int64(bits_from_float(value + _ROUNDING)) + zero) & 255


@jit
def quantise(x: Array, scale: Any, zero: Any, sign: int, out: Array) -> None:
    """Compute out[i] = x[i] / scale, rounded, plus the zero point, saturated; signed bytes if `sign` is 128, else 0."""
    low, high = np.float32(-sign - zero), np.float32(255 - sign - zero)
    for i in range(out.shape[0]):
        out[i] = to_byte(x[i] / scale, low, high, zero)


@kernel
def map_quantise(x: Array, scale: Array, zero: Array, sign: int, out: Array, part: int, parts: int) -> None:
    """Quantise floats."""
    first, end = share_lines(out.shape[0], part, parts)
    quantise(x[first:end], scale[0], (np.int64(zero[0]) ^ sign) - sign, sign, out[first:end])


@kernel
def map_dequantise(x: Array, scale: Array, zero: Array, sign: int, out: Array, part: int, parts: int) -> None:
    """Compute out[i] = (x[i] - zero) · scale."""
    first, end = share_lines(out.shape[0], part, parts)
    factor, shift = scale[0], np.int64(zero[0]) ^ sign
    source, target = x[first:end], out[first:end]
    for i in range(end - first):
        target[i] = np.float32(np.int32((np.int64(source[i]) ^ sign) - shift)) * factor


@kernel
def find_extremes(x: Array, found: Array, part: int, parts: int) -> None:
    """Find the lowest and the highest number of each chunk and 0, a vector of each."""
    chunks = (x.shape[0] + _CHUNK - 1) // _CHUNK
    first, end = share(chunks, part, parts)
    for c in range(first, end):
        start = c * _CHUNK
        extremes(x, start, min(_CHUNK, x.shape[0] - start), found, 2 * LANES * c)


@jit
def range_of(found: Array) -> tuple[Any, Any]:
    """Return the lowest and the highest number of all chunks; NaN if a chunk has one."""
    least, greatest = _ZERO, _ZERO
    for i in range(found.shape[0]):
        v = found[i]
        if i // LANES % 2 == 0:
            least = v if v < least or v != v else least
        else:
            greatest = v if v > greatest or v != v else greatest
    return least, greatest


@jit
def scale_of(least: Any, greatest: Any) -> tuple[Any, Any]:
    """Return the scale and zero point of unsigned bytes that represent the numbers in a range."""
    step = _ONE if least == greatest else (greatest - least) / _LEVELS
    return step, to_byte(-least / step, _ZERO, _LEVELS, 0)


@kernel
def quantise_by_range(x: Array, found: Array, out: Array, scale: Array, zero: Array, part: int, parts: int) -> None:
    """Quantise floats with the scale that represents all of them."""
    step, point = scale_of(*range_of(found))
    if part == 0:
        scale[0] = step
        zero[0] = point
    first, end = share_lines(out.shape[0], part, parts)
    quantise(x[first:end], step, point, 0, out[first:end])


# -- operators --------------------------------------------------------------------------


def _scale_refused(x: Info | None, scale: Info | None, zero: Info | None) -> str | None:
    if x is None or scale is None or x.value is not None:
        return "the input is constant"
    if scale.dtype != np.float32:
        return f"the scale is {scale.dtype}"
    return one_number_refused(scale=scale, zero_point=zero)


def _quantize_refused(
    out: Info, x: Info | None, scale: Info | None, zero: Info | None = None, *, block_size: int = 0,
    precision: int = 0, **_: Any,
) -> str | None:  # fmt: skip
    if block_size or precision:
        return "scales of blocks, or another precision"
    return _scale_refused(x, scale, zero) or float32_refused(x) or bytes_refused(out)


@fast(quantize_linear, when=_quantize_refused, layout="any", by_item=True)
def bind_quantize(pool: ConstantPool, out: Array, x: Array, scale: Array, zero: Array | None = None, **_: Any) -> Call:
    """Bind `map_quantise`."""
    zeros = NO_ZERO if zero is None else raw(zero)
    return Call(map_quantise, (flat(x), flat(scale), zeros, sign_of(out.dtype), raw(out)))


def _dequantize_refused(
    out: Info, x: Info | None, scale: Info | None, zero: Info | None = None, *, block_size: int = 0, **_: Any
) -> str | None:
    if block_size:
        return "scales of blocks"
    return _scale_refused(x, scale, zero) or float32_refused(out) or bytes_refused(x, zero)


@fast(dequantize_linear, when=_dequantize_refused, layout="any", by_item=True)
def bind_dequantize(
    pool: ConstantPool, out: Array, x: Array, scale: Array, zero: Array | None = None, **_: Any
) -> Call:  # fmt: skip
    """Bind `map_dequantise`."""
    zeros = NO_ZERO if zero is None else raw(zero)
    return Call(map_dequantise, (raw(x), flat(scale), zeros, sign_of(x.dtype), flat(out)))


def _dynamic_refused(out: Info, x: Info | None) -> str | None:
    return "the input is constant" if x is None or x.value is not None else float32_refused(x)


@fast(dynamic_quantize_linear, when=_dynamic_refused, layout="any", outputs=True)
def bind_dynamic(pool: ConstantPool, outs: list[Array | None], x: Array) -> list[Call]:
    """Bind the search for the range and the quantisation after it."""
    out, scale, zero = (*outs, None, None)[:3]
    source = flat(x)
    found = temporary((source.size + _CHUNK - 1) // _CHUNK * 2 * LANES)
    quantised = temporary(source.size, np.uint8) if out is None else raw(out)
    scales = temporary(1) if scale is None else flat(scale)
    zeros = temporary(1, np.uint8) if zero is None else raw(zero)
    return [
        Call(find_extremes, (source, found)),
        Call(quantise_by_range, (source, found, quantised, scales, zeros)),
    ]
