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
from tinyonnx.kernels.elementwise import erf, exp, share_lines, take
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

NEGATE, ABSOLUTE, SQUARE, ROOT, INVERT, EXPONENTIAL, LOGARITHM, ERROR_FUNCTION, FLOOR, CEILING, ROUND, SIGN = range(12)

_ZERO, _ONE = np.float32(0), np.float32(1)
_E, _NEARLY_LARGEST = np.float32(math.e), np.float32(88)


@jit
def full_exp(x: Any) -> Any:
    """Return e^x for every float32: infinite only above the largest float32, 0 for x below -88."""
    large = x > _NEARLY_LARGEST
    power = exp(x - (_ONE if large else _ZERO))
    return power * (_E if large else _ONE)


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
