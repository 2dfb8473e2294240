"""Functions of one number other than activations, on whole arrays in any memory order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels.elementwise import exp, share_lines, take
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

NEGATE, ABSOLUTE, SQUARE, ROOT, INVERT, EXPONENTIAL, LOGARITHM, ERROR_FUNCTION, GELU = range(9)

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_E, _NEARLY_LARGEST = np.float32(math.e), np.float32(88)
_ROOT_HALF = np.float32(math.sqrt(0.5))

# Fitted at Chebyshev nodes: erf(x)/x in powers of x² below the split, -log(1 - erf(x)) in powers of x
# from there to the point where erf is 1 in float32. The error is below 1.3e-7.
_SPLIT, _LAST = np.float32(0.9), np.float32(4)
_N0, _N1, _N2, _N3, _N4, _N5, _N6 = (
    np.float32(c)
    for c in (1.1283792, -0.37612635, 0.11283719, -0.026860708, 0.0052043316, -0.0008180781, 8.5341206e-05)
)
_F0, _F1, _F2, _F3, _F4, _F5, _F6, _F7, _F8, _F9 = (
    np.float32(c)
    for c in (
        *(-0.00033454088, 1.1303177, 0.631626, 0.11033815, -0.026622739),
        *(0.0048593203, -0.00062823965, 5.2177864e-05, -2.3078014e-06, 3.163542e-08),
    )
)


@jit
def full_exp(x: Any) -> Any:
    """e^x for every float32: infinite only above the largest float32, 0 for x below -88."""
    large = x > _NEARLY_LARGEST
    power = exp(x - (_ONE if large else _ZERO))
    return power * (_E if large else _ONE)


@jit
def erf(x: Any) -> Any:
    """The error function within 2 ulp of 1; NaN stays NaN. Vectorises."""
    size = -x if x < _ZERO else x
    s = size * size
    near = x * (_N0 + s * (_N1 + s * (_N2 + s * (_N3 + s * (_N4 + s * (_N5 + s * _N6))))))
    z = _LAST if size > _LAST else size
    tail = _F5 + z * (_F6 + z * (_F7 + z * (_F8 + z * _F9)))
    far = _ONE - exp(-(_F0 + z * (_F1 + z * (_F2 + z * (_F3 + z * (_F4 + z * tail))))))
    far = -far if x < _ZERO else far
    return near if size < _SPLIT else far


@jit
def apply(out: Array, code: int) -> None:
    """out[i] = f(out[i])."""
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
            out[i] = np.log(out[i])
    elif code == ERROR_FUNCTION:
        for i in range(n):
            out[i] = erf(out[i])
    else:
        for i in range(n):
            out[i] = _HALF * out[i] * (_ONE + erf(out[i] * _ROOT_HALF))


_CHUNK = 4096
"""Elements at a time: they are copied to the result, then worked on there while they are in the L1 cache."""


@kernel
def map_unary(x: Array, out: Array, code: int, part: int, parts: int) -> None:
    """out[i] = f(x[i]); `out` may be `x`."""
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
    "Gelu": GELU,
}


def _refused(out: Info, x: Info | None, *, approximate: str = "none", **_: Any) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return float32_refused(out, x) if approximate == "none" else f"the approximation by {approximate}"


def _bind(code: int) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, x: Array, **_: Any) -> Call:
        return Call(map_unary, (flat(x), flat(out), code))

    return bind


for _name, _code in _CODES.items():
    for _function in functions(_name):
        fast(_function, when=_refused, layout="any", in_place=True)(_bind(_code))
