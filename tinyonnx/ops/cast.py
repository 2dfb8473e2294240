"""Conversions between element types."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.dtypes import from_onnx_type, numpy_dtype
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Info, op

_GREATEST = {
    "float8_e4m3fn": 448.0,
    "float8_e4m3fnuz": 240.0,
    "float8_e5m2": 57344.0,
    "float8_e5m2fnuz": 57344.0,
}
"""The greatest finite number of each float8 type, to which conversions saturate."""

_E8M0 = "float8_e8m0fnu"
_SPECIAL = {"inf": "INF", "-inf": "-INF", "nan": "NaN", "True": "1", "False": "0"}


def dtype_of(to: int | str) -> np.dtype[Any]:
    """Return the numpy dtype of an element type given by number or name. Raises OpError if ONNX has no such type."""
    try:
        return from_onnx_type(f"tensor({to.lower()})") if isinstance(to, str) else numpy_dtype(to)
    except KeyError:
        raise OpError(f"unknown data type {to}") from None


def convert(x: Array, dtype: np.dtype[Any], saturate: bool = True, round_mode: str = "up") -> Array:
    """Convert `x` to `dtype` by ONNX's rules: truncated to integers, saturated to float8.

    Raises OpError for strings that aren't numbers and for complex numbers.
    """
    if dtype == x.dtype:
        return x.copy()
    if "c" in (x.dtype.kind, dtype.kind):
        raise OpError(f"can't cast {x.dtype} to {dtype}")
    if dtype.kind == "O":
        return _from_list([_to_text(v) for v in x.reshape(-1)], dtype, x)
    if x.dtype.kind == "O":
        return _parsed(x, dtype, saturate, round_mode)
    if dtype == np.bool_:
        return np.asarray(x != np.zeros((), x.dtype))
    with np.errstate(all="ignore"):
        if x.dtype.kind not in "fiub":  # the types of ml_dtypes don't convert to each other
            x = x.astype(np.int8 if "int" in x.dtype.name else np.float32)
        if dtype.name == _E8M0:
            return _to_power_of_two(x, saturate, round_mode)
        result = np.asarray(x.astype(dtype))
        if saturate and dtype.name in _GREATEST:
            greatest = _GREATEST[dtype.name]
            limited = np.clip(x.astype(np.promote_types(x.dtype, np.float32)), -greatest, greatest)
            return np.asarray(np.where(np.isnan(limited), result, limited.astype(dtype)))
        return result


def _from_list(values: list[Any], dtype: Any, like: Array) -> Array:
    result = np.empty(len(values), dtype)
    result[:] = values
    return result.reshape(like.shape)


def _to_text(value: Any) -> str:
    text = str(value).removesuffix(".0")
    return _SPECIAL.get(text, text)


def _parsed(x: Array, dtype: np.dtype[Any], saturate: bool, round_mode: str) -> Array:
    exact = dtype.kind in "iu"
    values: list[Any] = []
    for text in map(str, x.reshape(-1)):
        try:
            if "_" in text:
                raise ValueError(f"{text!r} is not a number")
            number = int(text) if exact and _is_integer(text) else float(text)
            values.append(int(number) if exact else number)
        except (ValueError, OverflowError) as error:
            raise OpError(f"can't cast the string {text!r} to {dtype}: {error}") from None
        if exact and not np.iinfo(dtype).min <= values[-1] <= np.iinfo(dtype).max:
            raise OpError(f"can't cast the string {text!r} to {dtype}: it is out of range")
    if exact:
        return _from_list(values, dtype, x)
    return convert(_from_list(values, np.float64, x), dtype, saturate, round_mode)


def _is_integer(text: str) -> bool:
    return text.strip().lstrip("+-").isdigit()


def _to_power_of_two(x: Array, saturate: bool, round_mode: str) -> Array:
    """Convert to float8e8m0: byte `b` is 2**(b - 127), 255 is NaN; zero and negative numbers don't exist."""
    # x = fraction * 2**exponent with fraction in [0.5, 1): a power of two has 0.5, the middle 0.75
    fraction, exponent = np.frexp(x.astype(np.promote_types(x.dtype, np.float32)))
    if round_mode not in ("up", "down", "nearest"):
        raise OpError(f"unknown round_mode {round_mode!r}")
    away = {"up": fraction > 0.5, "nearest": fraction >= 0.75, "down": False}[round_mode]
    code = np.where(x == 0, -1, np.where(np.isinf(x), 1000, exponent + away + 126))
    valid = (fraction >= 0) if saturate else (fraction >= 0) & (code >= 0) & (code <= 254)
    return np.where(valid, np.clip(code, 0, 254), 255).astype(np.uint8).view(from_onnx_type("tensor(float8e8m0)"))


@op("Cast", since=1, shape=lambda input, *, to, saturate=1, round_mode="up": Info(dtype_of(to), input.shape))
def cast(input: Array, *, to: int | str, saturate: int = 1, round_mode: str = "up") -> Array:
    return convert(input, dtype_of(to), bool(saturate), round_mode)


@op(
    "CastLike",
    since=15,
    shape=lambda input, target_type, *, saturate=1, round_mode="up": Info(target_type.dtype, input.shape),
)
def cast_like(input: Array, target_type: Array, *, saturate: int = 1, round_mode: str = "up") -> Array:
    return convert(input, target_type.dtype, bool(saturate), round_mode)


# -- BitCast ----------------------------------------------------------------------------


_NARROW = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "float4_e2m1fn": 4, "float6_e2m3fn": 6, "float6_e3m2fn": 6}


def _bits(dtype: np.dtype[Any]) -> int:
    """Return the number of bits of an element as ONNX stores it; numpy uses a whole byte for shorter types."""
    if dtype.kind == "O":
        raise OpError("strings have no bits to cast")
    return _NARROW.get(dtype.name, dtype.itemsize * 8)


def _same_bits(dtype: np.dtype[Any] | None, to: int) -> np.dtype[Any]:
    target = dtype_of(to)
    if dtype is not None and _bits(dtype) != _bits(target):
        raise OpError(f"{dtype} has {_bits(dtype)} bits, {target} has {_bits(target)}")
    return target


@op("BitCast", since=26, shape=lambda input, *, to: Info(_same_bits(input.dtype, to), input.shape))
def bit_cast(input: Array, *, to: int) -> Array:
    """Reinterpret the bits as another type of the same width; as bool every bit pattern but 0 is true."""
    target = _same_bits(input.dtype, to)
    bits = _bits(target)
    if target == np.bool_:
        return np.asarray(input.view(np.uint8) != 0)
    if bits >= 8:
        return np.asarray(input.view(target).copy())
    return np.asarray((input.view(np.uint8) & (2**bits - 1)).view(target))
