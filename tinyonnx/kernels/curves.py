"""Activations that are not fused with other operators, on whole arrays in any memory order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels.elementwise import exp, share_lines, take
from tinyonnx.kernels.unary import log_near_one
from tinyonnx.ops.activation import selu, selu_1
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

ELU, SOFTPLUS, SOFTSIGN, MISH, THRESHOLD = range(5)

_ZERO, _HALF, _ONE, _TWO = (np.float32(n) for n in (0, 0.5, 1, 2))
_ROOT_2 = np.float32(math.sqrt(2) - 1)
_LARGE = np.float32(20)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(i)) for i in range(2, 8))


class Bend(NamedTuple):
    """A function by its code.

    ELU is slope · x above 0 and height · (e^(x · rate) - 1) below; THRESHOLD is x above `rate` and 0 below.
    """

    code: int
    slope: Any
    height: Any
    rate: Any


@jit
def exp_minus_one(x: Any) -> Any:
    """Return e^x - 1 within 2 ulp for negative x; NaN stays NaN. It vectorises."""
    near = x * (_ONE + x * (_C2 + x * (_C3 + x * (_C4 + x * (_C5 + x * (_C6 + x * _C7))))))
    return near if x > -_HALF else exp(x) - _ONE


@jit
def softplus(x: Any) -> Any:
    """Return log(1 + e^x); NaN stays NaN. It vectorises."""
    power = exp(-abs(x))
    large = power > _ROOT_2
    f = (power - _ONE) * _HALF if large else power
    result = log_near_one(f, _ONE if large else _ZERO)
    return result + x if x > _ZERO else result


@jit
def bend(out: Array, how: Bend) -> None:
    """Compute out[i] = f(out[i])."""
    n, code = out.shape[0], how.code
    if code == ELU:
        slope, height, rate = how.slope, how.height, how.rate
        for i in range(n):
            v = out[i]
            below = height * exp_minus_one(_ZERO if v > _ZERO else v * rate)
            out[i] = slope * v if v > _ZERO else below
    elif code == SOFTPLUS:
        for i in range(n):
            out[i] = softplus(out[i])
    elif code == SOFTSIGN:
        for i in range(n):
            out[i] /= _ONE + abs(out[i])
    elif code == MISH:
        for i in range(n):
            v = out[i]
            # tanh(log(1 + w)) = (w² + 2w) / (w² + 2w + 2); above the bound it is 1 in float32
            w = exp(_LARGE if v > _LARGE else v)
            w = w * (w + _TWO)
            out[i] = v * (w / (w + _TWO))
    else:
        for i in range(n):
            v = out[i]
            out[i] = v if v > how.rate else _ZERO


_CHUNK = 4096
"""Elements processed at a time: they are copied to the result and modified there while they are in the L1 cache."""


@kernel
def map_curve(x: Array, out: Array, how: Bend, part: int, parts: int) -> None:
    """Compute out[i] = f(x[i]); `out` may be `x`."""
    first, end = share_lines(out.shape[0], part, parts)
    for start in range(first, end, _CHUNK):
        stop = min(start + _CHUNK, end)
        take(x[start:stop], out[start:stop])
        bend(out[start:stop], how)


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, x: Info | None, **_: Any) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return float32_refused(out, x)


def _celu_refused(out: Info, x: Info | None, *, alpha: float = 1.0) -> str | None:
    return _refused(out, x) if alpha > 0 else "alpha is not positive"


def _bound(out: Array, x: Array, code: int, slope: float = 1, height: float = 1, rate: float = 1) -> Call:
    how = Bend(code, np.float32(slope), np.float32(height), np.float32(rate))
    return Call(map_curve, (flat(x), flat(out), how))


def _elu(pool: ConstantPool, out: Array, x: Array, *, alpha: float = 1.0, **_: Any) -> Call:
    return _bound(out, x, ELU, height=alpha)


def _selu(alpha: float, gamma: float) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, x: Array, *, alpha: float = alpha, gamma: float = gamma, **_: Any) -> Call:
        return _bound(out, x, ELU, slope=gamma, height=gamma * alpha)

    return bind


def _celu(pool: ConstantPool, out: Array, x: Array, *, alpha: float = 1.0) -> Call:
    return _bound(out, x, ELU, height=alpha, rate=1 / alpha)


def _thresholded_relu(pool: ConstantPool, out: Array, x: Array, *, alpha: float = 1.0) -> Call:
    return _bound(out, x, THRESHOLD, rate=alpha)


def _plain(code: int) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, x: Array) -> Call:
        return _bound(out, x, code)

    return bind


def _register() -> None:
    binders = {
        "Elu": _elu,
        "Celu": _celu,
        "ThresholdedRelu": _thresholded_relu,
        "Softplus": _plain(SOFTPLUS),
        "Softsign": _plain(SOFTSIGN),
        "Mish": _plain(MISH),
    }
    for name, bind in binders.items():
        for function in functions(name):
            refused = _celu_refused if name == "Celu" else _refused
            fast(function, when=refused, layout="any", in_place=True, by_item=True)(bind)
    for function, defaults in ((selu, (1.6732631921768188, 1.0507010221481323)), (selu_1, (1.6732, 1.0507))):
        fast(function, when=_refused, layout="any", in_place=True, by_item=True)(_selu(*defaults))


_register()
