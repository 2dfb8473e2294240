"""Functions of one number other than activations, on whole arrays in any memory order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel
from tinyonnx.codegen.primitives import bits_from_float, float_from_bits
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels.elementwise import erf, exp, share_lines, take
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

NEGATE, ABSOLUTE, SQUARE, ROOT, INVERT, EXPONENTIAL, LOGARITHM, ERROR_FUNCTION, FLOOR, CEILING, ROUND, SIGN, CUBE = (
    range(13)
)

_ZERO, _ONE, _NAN = np.float32(0), np.float32(1), np.float32(math.nan)
_E, _NEARLY_LARGEST = np.float32(math.e), np.float32(88)


@jit
def full_exp(x: Any) -> Any:
    """Return e^x for every float32: infinite only above the largest float32, 0 for x below -88."""
    large = x > _NEARLY_LARGEST
    power = exp(x - (_ONE if large else _ZERO))
    return power * (_E if large else _ONE)


# fitted at Chebyshev nodes: (log(1 + f) - f + f²/2) / f³ for √½ ≤ 1 + f ≤ √2
_P0, _P1, _P2, _P3, _P4, _P5, _P6, _P7, _P8 = (
    np.float32(c)
    for c in (
        *(0.33333331, -0.2499999, 0.20000708, -0.16668481, 0.14249936),
        *(-0.1241105, 0.11661512, -0.11571201, 0.07149753),
    )
)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_ROOT_HALF_BITS = np.int32(np.float32(math.sqrt(0.5)).view(np.int32))
_MANTISSA = np.int32((1 << 23) - 1)
_SMALLEST_NORMAL, _INFINITY, _HALF = np.float32(2.0**-126), np.float32(math.inf), np.float32(0.5)
_UP, _UP_BITS = np.float32(2.0**23), np.float32(23)


@jit
def log_near_one(f: Any, n: Any) -> Any:
    """Return log((1 + f) · 2^n) for √½ ≤ 1 + f ≤ √2, within 2 ulp."""
    series = _P3 + f * (_P4 + f * (_P5 + f * (_P6 + f * (_P7 + f * _P8))))
    series = f * (_P0 + f * (_P1 + f * (_P2 + f * series)))
    return n * _LN_2_HIGH + (f + (f * f * (series - _HALF) + n * _LN_2_LOW))


@jit
def log(x: Any) -> Any:
    """Return the natural logarithm within 2 ulp, -∞ for 0, NaN for negative numbers. It vectorises."""
    tiny = x < _SMALLEST_NORMAL
    scaled = x * _UP if tiny else x
    above = np.int32(bits_from_float(scaled) - _ROOT_HALF_BITS)
    n = np.float32(np.int32(above >> np.int32(23))) - (_UP_BITS if tiny else _ZERO)
    f = float_from_bits(np.int32((above & _MANTISSA) + _ROOT_HALF_BITS)) - _ONE
    result = log_near_one(f, n)
    result = x if x == _INFINITY or x != x else result
    result = -_INFINITY if x == _ZERO else result
    return _NAN if x < _ZERO else result


@jit
def apply(out: Array, code: int) -> None:
    """Compute out[i] = f(out[i])."""
    n = out.shape[0]
    if code == NEGATE:
        for i in range(n):
            out[i] = -out[i]
    elif code == ABSOLUTE:
        for i in range(n):
            out[i] = abs(out[i])
    elif code == SQUARE:
        for i in range(n):
            out[i] *= out[i]
    elif code == CUBE:
        for i in range(n):
            out[i] *= out[i] * out[i]
    elif code == ROOT:
        for i in range(n):
            out[i] = np.sqrt(out[i])
    elif code == INVERT:
        for i in range(n):
            out[i] = _ONE / out[i]
    elif code == EXPONENTIAL:
        for i in range(n):
            out[i] = full_exp(out[i])
    elif code == LOGARITHM:
        for i in range(n):
            out[i] = log(out[i])
    elif code == FLOOR:
        for i in range(n):
            out[i] = np.floor(out[i])
    elif code == CEILING:
        for i in range(n):
            out[i] = np.ceil(out[i])
    elif code == ROUND:
        for i in range(n):
            out[i] = np.rint(out[i])
    elif code == SIGN:
        for i in range(n):
            v = out[i]
            s = _ONE if v > _ZERO else v
            s = -_ONE if v < _ZERO else s
            out[i] = _ZERO if v == _ZERO else s
    else:
        for i in range(n):
            out[i] = erf(out[i])


_CHUNK = 4096
"""Elements processed at a time: they are copied to the result and modified there while they are in the L1 cache."""


@kernel
def map_unary(x: Array, out: Array, code: int, part: int, parts: int) -> None:
    """Compute out[i] = f(x[i]); `out` may be `x`."""
    first, end = share_lines(out.shape[0], part, parts)
    for start in range(first, end, _CHUNK):
        stop = min(start + _CHUNK, end)
        take(x[start:stop], out[start:stop])
        apply(out[start:stop], code)


# -- operators --------------------------------------------------------------------------

_CODES = {
    "Neg": NEGATE,
    "Abs": ABSOLUTE,
    "Sqrt": ROOT,
    "Reciprocal": INVERT,
    "Exp": EXPONENTIAL,
    "Log": LOGARITHM,
    "Erf": ERROR_FUNCTION,
    "Floor": FLOOR,
    "Ceil": CEILING,
    "Round": ROUND,
    "Sign": SIGN,
}


def _refused(out: Info, x: Info | None, **_: Any) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return float32_refused(out, x)


def _bind(code: int) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, x: Array, **_: Any) -> Call:
        return Call(map_unary, (flat(x), flat(out), code))

    return bind


for _name, _code in _CODES.items():
    for _function in functions(_name):
        fast(_function, when=_refused, layout="any", in_place=True)(_bind(_code))
