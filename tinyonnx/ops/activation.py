"""Activations, and the Softmax family with its two meanings."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import Ints, Shape, erf, one_axis, quiet, widened
from tinyonnx.registry import Info, op, same_as
from tinyonnx.sizes.integers import broadcasts_to

F = TypeVar("F", bound=Callable[..., Any])


def _activation(name: str, since: int = 1) -> Callable[[F], Callable[..., Array]]:
    """Register an elementwise function; half precision is computed in float32 and rounded once."""

    def register(function: F) -> Callable[..., Array]:
        @wraps(function)
        @quiet
        def run(x: Array, **attributes: Any) -> Array:
            return np.asarray(function(widened(x), **attributes)).astype(x.dtype, copy=False)

        return op(name, since=since, shape=same_as())(run)

    return register


# -- piecewise linear -------------------------------------------------------------------


@_activation("Relu")
def relu(x: Array, *, consumed_inputs: Ints = None) -> Any:
    return np.maximum(x, 0)


@_activation("LeakyRelu")
def leaky_relu(x: Array, *, alpha: float = 0.01, consumed_inputs: Ints = None) -> Any:
    return np.where(x < 0, x * alpha, x)


@_activation("ThresholdedRelu", since=10)
def thresholded_relu(x: Array, *, alpha: float = 1.0) -> Any:
    return np.where(x > alpha, x, 0)


@_activation("HardSigmoid")
def hard_sigmoid(x: Array, *, alpha: float = 0.2, beta: float = 0.5, consumed_inputs: Ints = None) -> Any:
    return np.clip(x * alpha + beta, 0, 1)


@_activation("HardSwish", since=14)
def hard_swish(x: Array) -> Any:
    return x * np.clip(x * (1 / 6) + 0.5, 0, 1)


@_activation("Shrink", since=9)
def shrink(x: Array, *, bias: float = 0.0, lambd: float = 0.5) -> Any:
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))


def _channel_slope(x: Shape, slope: Shape) -> Shape:
    """Return the shape of the slope for the broadcasting of opsets 1 to 6: one per channel, or one for all."""
    if math.prod(slope) == 1:
        return ()
    if len(x) < 2 or len(slope) != 1 or slope[0] != x[1]:
        raise OpError(f"slope has shape {slope}, should have one element per channel of {x}")
    return (*slope, *(1,) * (len(x) - 2))


def _check_slope(x: Shape, slope: Shape) -> None:
    if not broadcasts_to(slope, x):
        raise OpError(f"slope of shape {slope} doesn't broadcast to {x}")


def _prelu_shape(check: Callable[[Shape, Shape], Any]) -> Callable[..., Info]:
    def rule(x: Info, slope: Info, **_: Any) -> Info:
        if x.shape is not None and slope.shape is not None:
            check(x.shape, slope.shape)
        return Info(x.dtype, x.shape)

    return rule


@op("PRelu", since=7, shape=_prelu_shape(_check_slope))
@quiet
def prelu(x: Array, slope: Array) -> Array:
    _check_slope(x.shape, slope.shape)
    return np.where(x < 0, x * slope, x).astype(x.dtype, copy=False)


@op("PRelu", since=1, shape=_prelu_shape(_channel_slope))
def prelu_1(x: Array, slope: Array, *, consumed_inputs: Ints = None) -> Array:
    return prelu(x, slope.reshape(_channel_slope(x.shape, slope.shape)))


# -- smooth -----------------------------------------------------------------------------


def _sigmoid(x: Array) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@_activation("Sigmoid")
def sigmoid(x: Array, *, consumed_inputs: Ints = None) -> Any:
    return _sigmoid(x)


@_activation("Tanh")
def tanh(x: Array, *, consumed_inputs: Ints = None) -> Any:
    return np.tanh(x)


@_activation("Softplus")
def softplus(x: Array) -> Any:
    return np.logaddexp(x, 0)


@_activation("Softsign")
def softsign(x: Array) -> Any:
    return x / (1 + np.abs(x))


@_activation("Elu")
def elu(x: Array, *, alpha: float = 1.0, consumed_inputs: Ints = None) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@_activation("Selu", since=6)
def selu(x: Array, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323) -> Any:
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


@_activation("Selu", since=1)
def selu_1(x: Array, *, alpha: float = 1.6732, gamma: float = 1.0507, consumed_inputs: Ints = None) -> Any:
    return selu(x, alpha=alpha, gamma=gamma)


@_activation("Celu", since=12)
def celu(x: Array, *, alpha: float = 1.0) -> Any:
    scale = alpha
    return np.maximum(x, 0) + np.minimum(scale * np.expm1(x / scale), 0)


@_activation("Gelu", since=20)
def gelu(x: Array, *, approximate: str = "none") -> Any:
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
        return x * (1 + np.tanh(inner)) / 2
    if approximate != "none":
        raise OpError(f"approximate is {approximate!r}, should be none or tanh")
    wide = np.asarray(x, np.float64)
    return wide * (1 + erf(wide / math.sqrt(2))) / 2


@_activation("Mish", since=18)
def mish(x: Array) -> Any:
    return x * np.tanh(np.logaddexp(x, 0))


@_activation("Swish", since=24)
def swish(x: Array, *, alpha: float = 1.0) -> Any:
    return x * _sigmoid(x * alpha)


def _check_gate(a: Shape | None, b: Shape | None) -> None:
    if a is not None and b is not None and a != b:
        raise OpError(f"A has shape {a}, B has {b}, they should be the same")


def _swiglu_shape(a: Info, b: Info, **_: Any) -> Info:
    _check_gate(a.shape, b.shape)
    return Info(a.dtype, a.shape)


@op("SwiGLU", since=28, shape=_swiglu_shape)
@quiet
def swiglu(a: Array, b: Array, *, alpha: float = 1.0) -> Array:
    _check_gate(a.shape, b.shape)
    gate = widened(a)
    return np.asarray(gate * _sigmoid(gate * alpha) * widened(b)).astype(a.dtype, copy=False)


# -- the Softmax family -----------------------------------------------------------------


def _softmax(x: Array, axes: Shape, dtype: np.dtype[Any]) -> Any:
    """Compute Softmax by the standard's function body, which rounds types shorter than float32 after each operator.

    Results that overflow the type, such as the sum, stay in float32: infinity would give zeros.
    """

    def rounded(y: Any) -> Any:
        if x.dtype == dtype:
            return y
        short = y.astype(dtype).astype(x.dtype)
        return np.where(np.isinf(short), y, short)

    e = rounded(np.exp(rounded(x - np.max(x, axis=axes, keepdims=True, initial=-np.inf))))
    return e / rounded(np.sum(e, axis=axes, keepdims=True))


def _log_softmax(x: Array, axes: Shape, _: np.dtype[Any]) -> Any:
    shifted = x - np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axes, keepdims=True))


def _hardmax(x: Array, axes: Shape, _: np.dtype[Any]) -> Any:
    """Return 1 at the first largest element of the adjacent `axes`, in row-major order, else 0."""
    inside = math.prod(x.shape[a] for a in axes)
    rows = x.reshape(*x.shape[: axes[0]], inside, *x.shape[axes[-1] + 1 :])
    result = np.zeros_like(rows)
    if rows.size:
        np.put_along_axis(result, np.argmax(rows, axes[0], keepdims=True), 1, axes[0])
    return result.reshape(x.shape)


def _softmax_family(
    name: str, function: Callable[[Array, Shape, np.dtype[Any]], Any]
) -> tuple[Callable[..., Array], ...]:
    """Register both forms: over one axis since opset 13, before that over all axes from `axis` on."""

    def rule(default: int) -> Callable[..., Info]:
        def shape(x: Info, *, axis: int = default) -> Info:
            if x.shape is not None:
                one_axis(axis, x.ndim)
            return Info(x.dtype, x.shape)

        return shape

    def apply(x: Array, axes: Shape) -> Array:
        return np.asarray(function(widened(x), axes, x.dtype)).astype(x.dtype, copy=False)

    @op(name, since=13, shape=rule(-1))
    @quiet
    def over_axis(x: Array, *, axis: int = -1) -> Array:
        return apply(x, (one_axis(axis, x.ndim),))

    @op(name, since=1, shape=rule(1))
    @quiet
    def over_rest(x: Array, *, axis: int = 1) -> Array:
        return apply(x, tuple(range(one_axis(axis, x.ndim), x.ndim)))

    return over_axis, over_rest


softmax, softmax_1 = _softmax_family("Softmax", _softmax)
log_softmax, log_softmax_1 = _softmax_family("LogSoftmax", _log_softmax)
hardmax, hardmax_1 = _softmax_family("Hardmax", _hardmax)
