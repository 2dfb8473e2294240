"""Compare outputs by the rules of onnx's own runner, and count the floats between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx.ir import Array

BFLOAT16_RTOL = 2.0**-6
"""Two steps of bfloat16: the smallest relative tolerance that onnx's runner applies to it."""


def mismatch(actual: Any, expected: Any, rtol: float, atol: float, where: str = "output") -> str | None:
    """Return the difference between an output and the expected one, or None.

    Shapes, dtypes and strings must be equal; numbers may differ by atol + rtol·|expected|; NaN equals NaN. Sequences
    must have equal lengths, maps equal keys.
    """
    if expected is None or actual is None:
        return None if actual is expected else f"{where} is {_kind(actual)}, should be {_kind(expected)}"
    if isinstance(expected, (list, tuple)):
        if not isinstance(actual, (list, tuple)):
            return f"{where} is {_kind(actual)}, should be a sequence"
        if len(actual) != len(expected):
            return f"{where} has {len(actual)} elements, should have {len(expected)}"
        pairs = enumerate(zip(actual, expected, strict=True))
        return next((m for i, (a, e) in pairs if (m := mismatch(a, e, rtol, atol, f"{where}[{i}]"))), None)
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or actual.keys() != expected.keys():
            return f"{where} is {_kind(actual)} with other keys than the map that it should be"
        found = (
            mismatch(np.asarray(actual[k]), np.asarray(expected[k]), rtol, atol, f"{where}[{k!r}]") for k in expected
        )
        return next(filter(None, found), None)
    if not isinstance(actual, (np.ndarray, np.generic)):
        return f"{where} is {_kind(actual)}, should be an array"
    if actual.shape != expected.shape:
        return f"{where} has shape {list(actual.shape)}, should be {list(expected.shape)}"
    if _is_text(expected.dtype):
        return None if _is_text(actual.dtype) and np.array_equal(actual, expected) else f"{where} has other strings"
    if actual.dtype != expected.dtype:
        return f"{where} is {actual.dtype}, should be {expected.dtype}"
    return _numeric_mismatch(np.asarray(actual), expected, rtol, atol, where)


def _numeric_mismatch(actual: Array, expected: Array, rtol: float, atol: float, where: str) -> str | None:
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, BFLOAT16_RTOL)
    a, e = _wide(actual), _wide(expected)
    with np.errstate(all="ignore"):
        same = (a == e) | ((a != a) & (e != e))
        error = np.where(same, 0.0, np.abs(a - e))
        allowed = same | (error <= atol + rtol * np.abs(e))
        # the tolerance of an infinity is infinite
        allowed &= same | (np.isfinite(a) & np.isfinite(e))
    wrong = int(allowed.size - np.count_nonzero(allowed))
    if not wrong:
        return None
    first = tuple(int(i) for i in np.argwhere(~allowed)[0])
    return (
        f"{where}: {wrong} of {allowed.size} numbers differ, first at {list(first)}: "
        f"{a[first]} should be {e[first]}; greatest difference {np.nanmax(error[~allowed], initial=0):.3g}"
    )


def ulp_distance(actual: Any, expected: Any) -> float:
    """Return the greatest number of representable values between two outputs for which `mismatch` found nothing.

    Integers count by their difference. NaN is infinitely far from a number, and so are values without a distance.
    """
    if isinstance(expected, (list, tuple)):
        return max(map(ulp_distance, actual, expected), default=0.0)
    if isinstance(expected, dict):
        return max((ulp_distance(np.asarray(actual[k]), np.asarray(expected[k])) for k in expected), default=0.0)
    if expected is None or expected.size == 0 or _is_text(expected.dtype):
        return 0.0
    a, e = np.atleast_1d(actual), np.atleast_1d(expected)
    if a.dtype.kind == "c":
        part = np.float32 if a.dtype == np.complex64 else np.float64
        a, e = np.ascontiguousarray(a).view(part), np.ascontiguousarray(e).view(part)
    nan_a, nan_e = a != a, e != e
    if (nan_a != nan_e).any():
        return math.inf
    steps = (
        np.abs(_ordinal(a).astype(object) - _ordinal(e).astype(object))
        if a.dtype.itemsize == 8
        else np.abs(_ordinal(a) - _ordinal(e))
    )
    return float(np.max(np.where(nan_a, 0, steps)))


def _ordinal(array: Array) -> Array:
    """Return integers in the order of the numbers; adjacent numbers differ by one."""
    if array.dtype.kind in "iub":
        return array if array.dtype.itemsize == 8 else array.astype(np.int64)
    if array.dtype.itemsize == 1:
        with np.errstate(all="ignore"):
            every = np.arange(256, dtype=np.uint8).view(array.dtype).astype(np.float32)
        every = np.unique(every[np.isfinite(every) | np.isinf(every)])
        return np.searchsorted(every, np.nan_to_num(array.astype(np.float32), posinf=np.inf, neginf=-np.inf))
    bits = np.ascontiguousarray(array).view(f"i{array.dtype.itemsize}").astype(np.int64)
    least = np.int64(-(1 << (8 * array.dtype.itemsize - 1)))
    return np.where(bits < 0, least - bits, bits)


def _wide(array: Array) -> Array:
    """Return the numbers in a type that numpy calculates with; 64-bit integers stay exact if they are equal."""
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        return array.astype(np.longdouble)
    return array.astype(np.float32).astype(np.float64) if array.dtype.itemsize < 4 else array.astype(np.float64)


def _is_text(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "OUST"


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
