"""Activations and arithmetic on whole arrays, in any memory order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import CLIP, HARD_SWISH, Epilogue, bits_from_float, float_from_bits
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    FAST_GELU,
    GELU,
    HARD_SIGMOID,
    LEAKY_RELU,
    SIGMOID,
    SWISH,
    TANH,
    epilogue_of,
    flat,
    float32_refused,
)
from tinyonnx.ops.fused import Activation
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

# exp(x) = 2^n · exp(r), |r| ≤ ln 2 / 2; ln 2 in two parts, the first exact in float32 times n
_LOG2_E = np.float32(1.4426950408889634)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_ROUNDING = np.float32(1.5 * 2**23)
_HALF, _ZERO, _ONE = np.float32(0.5), np.float32(0), np.float32(1)
_SIXTH = np.float32(1 / 6)
_ROOT_HALF = np.float32(math.sqrt(0.5))
_LARGEST, _INFINITY = np.float32(88), np.float32(math.inf)
_C2, _C3, _C4, _C5, _C6 = (np.float32(1 / math.factorial(i)) for i in range(2, 7))


@jit
def exp(x: Any) -> Any:
    """Return e^x in float32 within 2 ulp for |x| ≤ 87, 0 or infinite from 88 on; NaN stays NaN. It vectorises."""
    large, small = x > _LARGEST, x < -_LARGEST
    x = _LARGEST if large else x
    x = -_LARGEST if small else x
    shifted = x * _LOG2_E + _ROUNDING
    n = shifted - _ROUNDING
    r = x - n * _LN_2_HIGH - n * _LN_2_LOW
    series = _ONE + r * (_ONE + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6)))))
    power = (bits_from_float(shifted) + np.int32(127)) << np.int32(23)
    result = series * float_from_bits(np.int32(power))
    result = _INFINITY if large else result
    return _ZERO if small else result


# fitted at Chebyshev nodes: tanh(x)/x in powers of x² below the split
_SPLIT, _TWO = np.float32(0.625), np.float32(2)
_T1, _T2, _T3, _T4, _T5 = (np.float32(c) for c in (-0.33333263, 0.1333115, -0.05372268, 0.020595679, -0.0056647751))


@jit
def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent within 2 ulp of 1; NaN stays NaN. It vectorises."""
    size = -x if x < _ZERO else x
    s = x * x
    near = x + x * s * (_T1 + s * (_T2 + s * (_T3 + s * (_T4 + s * _T5))))
    far = _ONE - _TWO / (exp(_TWO * size) + _ONE)
    far = -far if x < _ZERO else far
    return near if size < _SPLIT else far


# Fitted at Chebyshev nodes: erf(x)/x in powers of x² below the split, -log(1 - erf(x)) in powers of x
# from there to the point where erf is 1 in float32. The error is below 1.3e-7.
_ERF_SPLIT, _LAST = np.float32(0.9), np.float32(4)
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
def erf(x: Any) -> Any:
    """Return the error function within 2 ulp of 1; NaN stays NaN. It vectorises."""
    size = -x if x < _ZERO else x
    s = size * size
    near = x * (_N0 + s * (_N1 + s * (_N2 + s * (_N3 + s * (_N4 + s * (_N5 + s * _N6))))))
    z = _LAST if size > _LAST else size
    tail = _F5 + z * (_F6 + z * (_F7 + z * (_F8 + z * _F9)))
    far = _ONE - exp(-(_F0 + z * (_F1 + z * (_F2 + z * (_F3 + z * (_F4 + z * tail))))))
    far = -far if x < _ZERO else far
    return near if size < _ERF_SPLIT else far


# (1 + tanh(u)) / 2 = 1 / (1 + e^(-2u)) with u = √(2/π) · (x + 0.044715 x³)
_TANH_1, _TANH_3 = np.float32(math.sqrt(8 / math.pi)), np.float32(math.sqrt(8 / math.pi) * 0.044715)


# All functions work in place: with a second array that may be the same one, LLVM's check for
# overlap would take the scalar loop in every in-place call.


@jit
def activate(out: Array, epilogue: Epilogue) -> None:
    """Compute out[i] = activation(out[i])."""
    n, code, alpha, beta = out.shape[0], epilogue.activation, epilogue.alpha, epilogue.beta
    if code == CLIP:
        for i in range(n):
            v = out[i]
            v = alpha if alpha > v else v
            out[i] = beta if beta < v else v
    elif code == HARD_SWISH:
        for i in range(n):
            v = out[i] * _SIXTH + _HALF
            v = _ZERO if v < _ZERO else v
            out[i] *= _ONE if v > _ONE else v
    elif code == HARD_SIGMOID:
        for i in range(n):
            v = out[i] * alpha + beta
            v = _ZERO if v < _ZERO else v
            out[i] = _ONE if v > _ONE else v
    elif code == SIGMOID:
        for i in range(n):
            out[i] = _ONE / (_ONE + exp(-out[i]))
    elif code == TANH:
        for i in range(n):
            out[i] = tanh(out[i])
    elif code == SWISH:
        for i in range(n):
            v = out[i]
            out[i] = v / (_ONE + exp(-alpha * v))
    elif code == LEAKY_RELU:
        for i in range(n):
            v = out[i]
            out[i] = v * alpha if v < _ZERO else v
    elif code == GELU:
        for i in range(n):
            out[i] = _HALF * out[i] * (_ONE + erf(out[i] * _ROOT_HALF))
    elif code == FAST_GELU:
        for i in range(n):
            v = out[i]
            out[i] = v / (_ONE + exp(-v * (_TANH_1 + _TANH_3 * v * v)))


ADD, SUBTRACT, MULTIPLY, DIVIDE, SUBTRACT_FROM, DIVIDE_INTO = range(6)


@jit
def combine(out: Array, b: Array, code: int) -> None:
    """Compute out[i] = out[i] ∘ b[i]."""
    n = out.shape[0]
    if code == ADD:
        for i in range(n):
            out[i] += b[i]
    elif code == SUBTRACT:
        for i in range(n):
            out[i] -= b[i]
    elif code == MULTIPLY:
        for i in range(n):
            out[i] *= b[i]
    else:
        for i in range(n):
            out[i] /= b[i]


@jit
def combine_scalar(out: Array, b: Any, code: int) -> None:
    """Compute out[i] = out[i] ∘ b, or b ∘ out[i] for the last two codes."""
    n = out.shape[0]
    if code == ADD:
        for i in range(n):
            out[i] += b
    elif code == SUBTRACT:
        for i in range(n):
            out[i] -= b
    elif code == MULTIPLY:
        for i in range(n):
            out[i] *= b
    elif code == DIVIDE:
        for i in range(n):
            out[i] /= b
    elif code == SUBTRACT_FROM:
        for i in range(n):
            out[i] = b - out[i]
    else:
        for i in range(n):
            out[i] = b / out[i]


@jit
def take(x: Array, out: Array) -> None:
    """Copy x to out, unless they are the same memory."""
    if x.ctypes.data != out.ctypes.data:
        for i in range(out.shape[0]):
            out[i] = x[i]


_CHUNK = 4096
"""Elements processed at a time: they are copied to the result and modified there while they are in the L1 cache."""


_LINE = 16
"""Elements of a work item, which is not divided between threads: a cache line."""


@jit
def share_lines(n: int, part: int, parts: int) -> tuple[int, int]:
    """Return the range of `n` elements that is share `part`, in whole cache lines."""
    first, end = share((n + _LINE - 1) // _LINE, part, parts)
    return first * _LINE, min(end * _LINE, n)


@kernel
def copy(x: Array, out: Array, part: int, parts: int) -> None:
    """Copy an array."""
    first, end = share_lines(out.shape[0], part, parts)
    take(x[first:end], out[first:end])


@kernel
def map_activation(x: Array, out: Array, epilogue: Epilogue, part: int, parts: int) -> None:
    """Compute out[i] = activation(x[i]); `out` may be `x`."""
    first, end = share_lines(out.shape[0], part, parts)
    for start in range(first, end, _CHUNK):
        stop = min(start + _CHUNK, end)
        take(x[start:stop], out[start:stop])
        activate(out[start:stop], epilogue)


@kernel
def map_pair(a: Array, b: Array, out: Array, code: int, part: int, parts: int) -> None:
    """Compute out[i] = a[i] ∘ b[i]; `out` may be `a`."""
    first, end = share_lines(out.shape[0], part, parts)
    for start in range(first, end, _CHUNK):
        stop = min(start + _CHUNK, end)
        take(a[start:stop], out[start:stop])
        combine(out[start:stop], b[start:stop], code)


@kernel
def map_scalar(a: Array, b: Any, out: Array, code: int, part: int, parts: int) -> None:
    """Compute out[i] = a[i] ∘ b, or b ∘ a[i]; `out` may be `a`."""
    first, end = share_lines(out.shape[0], part, parts)
    for start in range(first, end, _CHUNK):
        stop = min(start + _CHUNK, end)
        take(a[start:stop], out[start:stop])
        combine_scalar(out[start:stop], b, code)


# -- operators --------------------------------------------------------------------------

_DEFAULTS = {"LeakyRelu": (0.01, 0.0), "HardSigmoid": (0.2, 0.5), "Swish": (1.0, 0.0)}


def _activation_refused(out: Info, x: Info | None, **_: Any) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return float32_refused(out, x)


def _bind_activation(name: str) -> Callable[..., Call]:
    default = _DEFAULTS.get(name, (0.0, 0.0))

    def bind(
        pool: ConstantPool, out: Array, x: Array, *, alpha: float = default[0], beta: float = default[1], **_: Any
    ) -> Call:
        activation = Activation(name=name, alpha=alpha, beta=beta)
        return Call(map_activation, (flat(x), flat(out), epilogue_of(activation)))

    return bind


def _gelu_refused(out: Info, x: Info | None, *, approximate: str = "none") -> str | None:
    return _activation_refused(out, x) if approximate in ("none", "tanh") else f"the approximation by {approximate}"


def _bind_gelu(pool: ConstantPool, out: Array, x: Array, *, approximate: str = "none") -> Call:
    activation = Activation(name="FastGelu" if approximate == "tanh" else "Gelu")
    return Call(map_activation, (flat(x), flat(out), epilogue_of(activation)))


def _clip_refused(out: Info, x: Info | None, *bounds: Info | None, **_: Any) -> str | None:
    if any(b is not None and (b.value is None or b.value.size != 1) for b in bounds):
        return "bounds are not constant"
    if any(b is not None and b.value is not None and np.isnan(b.value).any() for b in bounds):
        return "a bound is NaN"
    return _activation_refused(out, x) or float32_refused(*bounds)


def _bind_clip(
    pool: ConstantPool, out: Array, x: Array, low: Array | None = None, high: Array | None = None, *,
    min: float = -math.inf, max: float = math.inf, **_: Any,
) -> Call:  # fmt: skip
    lower = min if low is None else float(low.reshape(()))
    upper = max if high is None else float(high.reshape(()))
    activation = Activation(name="Clip", alpha=lower, beta=upper)
    return Call(map_activation, (flat(x), flat(out), epilogue_of(activation)))


def _combine_refused(out: Info, a: Info | None, b: Info | None, *, axis: int | None = None, **_: Any) -> str | None:
    operands = [i for i in (a, b) if i is not None]
    if all(i.value is not None for i in operands):
        return "both operands are constant"
    for operand in operands:
        scalar = operand.value is not None and operand.value.size == 1
        if not scalar and (operand.value is not None or operand.shape != out.shape):
            return "operands differ in shape, or one is a constant array"
    return float32_refused(out, *operands)


_REVERSED = {ADD: ADD, SUBTRACT: SUBTRACT_FROM, MULTIPLY: MULTIPLY, DIVIDE: DIVIDE_INTO}


def _bind_combine(code: int) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, a: Array, b: Array, **_: Any) -> Call:
        if b.shape != out.shape:
            return Call(map_scalar, (flat(a), np.float32(b.reshape(())), flat(out), code))
        if a.shape != out.shape:
            return Call(map_scalar, (flat(b), np.float32(a.reshape(())), flat(out), _REVERSED[code]))
        return Call(map_pair, (flat(a), flat(b), flat(out), code))

    return bind


def _register() -> None:
    binders: dict[str, tuple[Callable[..., Call], Callable[..., str | None]]] = {
        name: (_bind_activation(name), _activation_refused)
        for name in ("Relu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu", "Swish")
    }
    binders["Gelu"] = _bind_gelu, _gelu_refused
    binders["Clip"] = _bind_clip, _clip_refused
    for code, name in enumerate(("Add", "Sub", "Mul", "Div")):
        binders[name] = _bind_combine(code), _combine_refused
    for name, (bind, refused) in binders.items():
        for function in functions(name):
            fast(function, when=refused, layout="any", in_place=True, by_item=True)(bind)


_register()
