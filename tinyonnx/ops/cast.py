"""Conversions between element types."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tinyonnx.dtypes import NUMPY_DTYPE
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Info, op

_GREATEST = {
    np.dtype(ml_dtypes.float8_e4m3fn): 448.0,
    np.dtype(ml_dtypes.float8_e4m3fnuz): 240.0,
    np.dtype(ml_dtypes.float8_e5m2): 57344.0,
    np.dtype(ml_dtypes.float8_e5m2fnuz): 57344.0,
}
"""The greatest finite number of each float8 type, to which conversions saturate."""

_SPECIAL = {"inf": "INF", "-inf": "-INF", "nan": "NaN"}


def _dtype(to: int | str) -> np.dtype[Any]:
    if isinstance(to, str):
        to = {dtype.name.upper(): number for number, dtype in NUMPY_DTYPE.items()}.get(to.upper(), -1)
    if to not in NUMPY_DTYPE:
        raise OpError(f"can't cast to the unknown data type {to}")
    return NUMPY_DTYPE[to]


def _to_text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "1" if value else "0"
    if isinstance(value, (np.integer, int)):
        return str(int(value))
    text = f"{float(value):.9g}"
    return _SPECIAL.get(text, text)


def convert(x: Array, dtype: np.dtype[Any], saturate: bool = True) -> Array:
    """`x` as `dtype`, by ONNX's rules: towards zero to integers, saturating to float8.

    Raises OpError for a string that is no number.
    """
    if dtype == x.dtype:
        return x.copy()
    if dtype.kind == "O":
        return np.array([_to_text(v) for v in x.reshape(-1)], object).reshape(x.shape)
    if x.dtype.kind == "O":
        try:
            numbers = np.array([float(str(v)) for v in x.reshape(-1)], np.float64).reshape(x.shape)
            if dtype.kind in "iu":
                numbers = np.array([int(str(v)) if _is_integer(str(v)) else float(str(v)) for v in x.reshape(-1)])
                numbers = numbers.reshape(x.shape)
        except ValueError as error:
            raise OpError(f"can't cast a string to {dtype}: {error}") from None
        return convert(np.asarray(numbers), dtype, saturate)
    if dtype == np.bool_:
        return np.asarray(x != np.zeros((), x.dtype))
    with np.errstate(all="ignore"):
        if dtype in _GREATEST:
            return _to_float8(x, dtype, saturate)
        if x.dtype.kind == "V" or x.dtype.name in ("bfloat16", "float16"):
            return np.asarray(x.astype(np.float32).astype(dtype))
        return np.asarray(x.astype(dtype))


def _is_integer(text: str) -> bool:
    return text.strip().lstrip("+-").isdigit()


def _to_float8(x: Array, dtype: np.dtype[Any], saturate: bool) -> Array:
    wide = x.astype(np.float32)
    result = wide.astype(dtype)
    if not saturate:
        return np.asarray(result)
    greatest = _GREATEST[dtype]
    limited = np.clip(wide, -greatest, greatest).astype(dtype)
    return np.asarray(np.where(np.isnan(wide), result, limited))


@op(
    "Cast",
    since=1,
    shape=lambda input, *, to, saturate=1, round_mode="up": Info(_dtype(to), input.shape),
)
def cast(input: Array, *, to: int | str, saturate: int = 1, round_mode: str = "up") -> Array:
    return convert(input, _dtype(to), bool(saturate))


@op(
    "CastLike",
    since=15,
    shape=lambda input, target_type, *, saturate=1, round_mode="up": Info(target_type.dtype, input.shape),
)
def cast_like(input: Array, target_type: Array, *, saturate: int = 1, round_mode: str = "up") -> Array:
    return convert(input, target_type.dtype, bool(saturate))
