"""QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.cast import convert, dtype_of
from tinyonnx.ops.math import is_float, one_axis, quiet
from tinyonnx.registry import Info, op

Shape = tuple[int, ...]

_ROUNDED = ("float32", "float16", "bfloat16")
"""Types that quotients and products are rounded to."""

_SMALL_FLOATS = ("float8", "float6", "float4")


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is an integer type; those of ml_dtypes have kind V."""
    return "int" in dtype.name


def limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the smallest and the largest number of an integer type, including those of ml_dtypes."""
    info = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return int(info.min), int(info.max)


def _is_quantized(dtype: np.dtype[Any]) -> bool:
    return is_integer(dtype) or (dtype.name.startswith(_SMALL_FLOATS) and dtype != ml_dtypes.float8_e8m0fnu)


# -- scales and zero points -------------------------------------------------------------


def _check_zero_point(scale: Shape | None, zero_point: Shape | None) -> None:
    if scale is None or zero_point is None or scale == zero_point:
        return
    if any(n != 1 for n in (*scale, *zero_point)):
        raise OpError(f"the scale has shape {list(scale)}, the zero point {list(zero_point)}")


def _blocked_axis(x: Shape, scale: Shape, axis: int, block_size: int) -> int:
    """Return the axis counted from the front. Raises OpError unless there is a scale for each block along it."""
    axis = one_axis(axis, len(x))
    blocks = -(-x[axis] // block_size)
    wanted = (*x[:axis], blocks, *x[axis + 1 :])
    if scale != wanted:
        raise OpError(
            f"the scale has shape {list(scale)}; blocks of {block_size} along axis {axis} of {list(x)} "
            f"need {list(wanted)}"
        )
    return axis


def spread(parameter: Array, x: Shape, axis: int, block_size: int = 0) -> Array:
    """Return a scale or zero point, one number or one per index or block along `axis`, shaped to broadcast to `x`.

    Raises OpError for any other shape.
    """
    if block_size < 0:
        raise OpError(f"block_size is {block_size}, must not be negative")
    if block_size:
        axis = _blocked_axis(x, parameter.shape, axis, block_size)
        return parameter.take(np.arange(x[axis]) // block_size, axis)
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    if parameter.ndim != 1:
        raise OpError(f"the scale has shape {list(parameter.shape)} and block_size is 0: not one number, nor a vector")
    axis = one_axis(axis, len(x))
    if len(parameter) != x[axis]:
        raise OpError(f"the scale has {len(parameter)} numbers, axis {axis} of {list(x)} has size {x[axis]}")
    return parameter.reshape(-1, *(1,) * (len(x) - axis - 1))


# -- rounding ---------------------------------------------------------------------------


@quiet
def saturated(y: Array, zero_point: Array | None, dtype: np.dtype[Any], saturate: bool = True) -> Array:
    """Round `y` to the nearest even, add the zero point and convert to the quantised type `dtype`.

    Integers saturate; float8 saturates if `saturate`, float6 and float4 always.
    """
    if is_integer(dtype):
        wide = np.float32 if dtype.itemsize == 1 else np.float64
        rounded = np.rint(y.astype(wide))
        if zero_point is not None:
            rounded = rounded + zero_point.astype(wide)
        least, greatest = limits(dtype)
        # NaN and values that are too small become the smallest number
        return np.asarray(np.fmin(np.fmax(rounded, wide(least)), wide(greatest))).astype(dtype)
    if zero_point is not None:
        y = (y.astype(np.float32) + zero_point.astype(np.float32)).astype(y.dtype)
    return convert(y, dtype, saturate)


def centered(x: Array, zero_point: Array | None, wide: Any) -> Array:
    """Return x - zero_point in the type `wide`, which must be able to hold it."""
    shifted = x.astype(wide)
    return shifted if zero_point is None else np.asarray(shifted - zero_point.astype(wide))


def check_type(x: Array | Info, zero_point: Array | Info | None, name: str = "x") -> None:
    """Raise OpError unless a zero point has the type of its tensor."""
    if zero_point is not None and None not in (x.dtype, zero_point.dtype) and zero_point.dtype != x.dtype:
        raise OpError(f"{name} is {x.dtype}, its zero point {zero_point.dtype}")


# -- QuantizeLinear ---------------------------------------------------------------------


def _quantized_type(zero_point: Array | Info | None, output_dtype: int) -> np.dtype[Any]:
    given = None if zero_point is None else zero_point.dtype
    wanted = dtype_of(output_dtype) if output_dtype else given or np.dtype(np.uint8)
    if given is not None and given != wanted:
        raise OpError(f"output_dtype is {wanted}, the zero point is {given}")
    if not _is_quantized(wanted):
        raise OpError(f"can't quantise to {wanted}")
    return wanted


def _division_type(scale: np.dtype[Any], precision: int) -> np.dtype[Any]:
    """Return the type that x / scale is rounded to; float64 for scales of other types."""
    if precision:
        wanted = dtype_of(precision)
        if wanted.name not in _ROUNDED:
            raise OpError(f"precision is {wanted}, must be {', '.join(_ROUNDED)}")
        return wanted
    return scale if scale.name in _ROUNDED else np.dtype(np.float64)


def quantize_shape(
    x: Info, y_scale: Info, y_zero_point: Info | None = None, *, output_dtype: int = 0, **_: Any
) -> Info:
    """Infer the output shape of QuantizeLinear."""
    if y_zero_point is not None and y_zero_point.dtype is None:
        return Info(None, x.shape)
    return Info(_quantized_type(y_zero_point, output_dtype), x.shape)


@op("QuantizeLinear", since=10, shape=quantize_shape)
@quiet
def quantize_linear(
    x: Array, y_scale: Array, y_zero_point: Array | None = None, *, axis: int = 1, block_size: int = 0,
    output_dtype: int = 0, precision: int = 0, saturate: int = 1,
) -> Array:  # fmt: skip
    dtype = _quantized_type(y_zero_point, output_dtype)
    _check_zero_point(y_scale.shape, None if y_zero_point is None else y_zero_point.shape)
    if not is_float(x.dtype) and x.dtype != np.int32:
        raise OpError(f"x is {x.dtype}, must be floating-point or int32")
    division = _division_type(y_scale.dtype, precision)
    wide: Any = np.float64 if division == np.float64 else np.float32
    scale = spread(y_scale, x.shape, axis, block_size).astype(division).astype(wide)
    zero_point = None if y_zero_point is None else spread(y_zero_point, x.shape, axis, block_size)
    quotient = np.asarray(x.astype(division).astype(wide) / scale)
    return saturated(quotient.astype(division), zero_point, dtype, bool(saturate))


# -- DequantizeLinear -------------------------------------------------------------------


def _dequantized_type(scale: np.dtype[Any] | None, output_dtype: int) -> np.dtype[Any] | None:
    dtype = dtype_of(output_dtype) if output_dtype else scale
    if dtype is not None and dtype.name not in _ROUNDED:
        what = "output_dtype is" if output_dtype else "output_dtype is missing, the scale is"
        raise OpError(f"{what} {dtype}, must be {', '.join(_ROUNDED)}")
    return dtype


def dequantize_shape(
    x: Info, x_scale: Info, x_zero_point: Info | None = None, *, output_dtype: int = 0, **_: Any
) -> Info:
    """Infer the output shape of DequantizeLinear."""
    return Info(_dequantized_type(x_scale.dtype, output_dtype), x.shape)


@op("DequantizeLinear", since=10, shape=dequantize_shape)
@quiet
def dequantize_linear(
    x: Array, x_scale: Array, x_zero_point: Array | None = None, *, axis: int = 1, block_size: int = 0,
    output_dtype: int = 0,
) -> Array:  # fmt: skip
    dtype = _dequantized_type(x_scale.dtype, output_dtype)
    if not _is_quantized(x.dtype):
        raise OpError(f"x is {x.dtype}, must be a quantised type")
    check_type(x, x_zero_point)
    _check_zero_point(x_scale.shape, None if x_zero_point is None else x_zero_point.shape)
    scale = spread(x_scale, x.shape, axis, block_size).astype(np.float32)
    zero_point = None if x_zero_point is None else spread(x_zero_point, x.shape, axis, block_size)
    wide = np.int64 if x.dtype.itemsize > 2 else np.int32 if is_integer(x.dtype) else np.float32
    return np.asarray(centered(x, zero_point, wide).astype(np.float32) * scale).astype(dtype, copy=False)


# -- DynamicQuantizeLinear --------------------------------------------------------------


def _dynamic_shape(x: Info) -> list[Info]:
    byte = np.dtype(np.uint8)
    return [Info(byte, x.shape), Info(np.dtype(np.float32), ()), Info(byte, ())]


@op("DynamicQuantizeLinear", since=11, shape=_dynamic_shape)
@quiet
def dynamic_quantize_linear(x: Array) -> tuple[Array, Array, Array]:
    """Return `x` as bytes, the scale and the zero point; the scale is 1 if all elements are zero."""
    if x.dtype != np.float32:
        raise OpError(f"x is {x.dtype}, must be float32")
    least, greatest = x.min(initial=np.float32(0)), x.max(initial=np.float32(0))
    scale = np.float32(1) if least == greatest else (greatest - least) / np.float32(255)
    zero_point = saturated(np.asarray(-least / scale), None, np.dtype(np.uint8))
    return saturated(x / scale, zero_point, zero_point.dtype), np.asarray(scale), zero_point
