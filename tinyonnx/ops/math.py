"""Elementwise arithmetic, comparison, logic, bits, rounding, transcendental functions, cumulative sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Info, broadcast, op, same_as

Shape = tuple[int, ...]
Ints = Sequence[int] | None
Function = Callable[..., Any]

quiet = np.errstate(all="ignore")
"""Decorator: compute inf and nan as IEEE 754 defines, without numpy's warnings."""


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype is floating-point; those of ml_dtypes have kind V."""
    return dtype.kind in "fV"


def widened(x: Array) -> Array:
    """Convert to the type to compute in: float32 for floating-point types of 16 bits or less, else unchanged.

    Raises OpError for strings.
    """
    if x.dtype == object:
        raise OpError("strings can't be computed with")
    return x.astype(np.float32) if is_float(x.dtype) and x.dtype.itemsize < 4 else x


def one_axis(axis: int, rank: int) -> int:
    """Return the axis counted from the front. Raises OpError if it is out of range."""
    if not -rank <= axis < rank:
        raise OpError(f"axis {axis} is out of range for an input of rank {rank}")
    return axis % rank


def _broadcasting(function: Function, *inputs: Array) -> Array:
    """Call a ufunc on arrays of one type. Raises OpError if types differ or shapes don't broadcast."""
    types = {x.dtype for x in inputs if x.dtype.kind not in "OSUT"}
    if len(types) > 1:
        raise OpError(f"inputs have different types: {', '.join(str(x.dtype) for x in inputs)}")
    try:
        return np.asarray(function(*inputs))
    except ValueError:
        raise OpError(f"shapes {', '.join(str(x.shape) for x in inputs)} don't broadcast") from None


# -- one input --------------------------------------------------------------------------


def _unary(name: str, function: Function, since: int = 1, dtype: Any = None) -> Function:
    def plain(x: Array) -> Array:
        return np.asarray(function(x))

    def with_hint(x: Array, *, consumed_inputs: Ints = None) -> Array:
        return np.asarray(function(x))

    return op(name, since=since, shape=same_as(0, dtype))(quiet(with_hint if since == 1 else plain))


absolute = _unary("Abs", np.abs)
negative = _unary("Neg", np.negative)
reciprocal = _unary("Reciprocal", np.reciprocal)
sqrt = _unary("Sqrt", np.sqrt)
exp = _unary("Exp", np.exp)
log = _unary("Log", np.log)
floor = _unary("Floor", np.floor)
ceil = _unary("Ceil", np.ceil)
round_ = _unary("Round", np.rint, since=11)
sign = _unary("Sign", np.sign, since=9)
sin = _unary("Sin", np.sin, since=7)
cos = _unary("Cos", np.cos, since=7)
tan = _unary("Tan", np.tan, since=7)
asin = _unary("Asin", np.arcsin, since=7)
acos = _unary("Acos", np.arccos, since=7)
atan = _unary("Atan", np.arctan, since=7)
sinh = _unary("Sinh", np.sinh, since=9)
cosh = _unary("Cosh", np.cosh, since=9)
asinh = _unary("Asinh", np.arcsinh, since=9)
acosh = _unary("Acosh", np.arccosh, since=9)
atanh = _unary("Atanh", np.arctanh, since=9)
bitwise_not = _unary("BitwiseNot", np.invert, since=18)
is_nan = _unary("IsNaN", np.isnan, since=9, dtype=bool)


@op("Not", shape=same_as())
def not_(x: Array) -> Array:
    return np.asarray(np.logical_not(x))


@op("IsInf", since=10, shape=same_as(0, bool))
@quiet
def is_inf(x: Array, *, detect_negative: int = 1, detect_positive: int = 1) -> Array:
    wanted = (x > 0) & bool(detect_positive) | (x < 0) & bool(detect_negative)
    return np.asarray(np.isinf(x) & wanted)


# W. J. Cody, Rational Chebyshev approximations for the error function, Math. Comp. 23 (1969):
# erf(x) = x R(x²) near zero, erfc(x) = exp(-x²) R(x) from there on; highest power first.
_ERF_SPLIT = 0.46875
_ERF_ONE = 6.0
_ERF_BLOCK = 1 << 13  # its intermediates stay in the cache
_ERF_NEAR = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_ERF_FAR = (
    (
        *(2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0),
        *(6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2),
        *(1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    ),
    (
        *(1.0, 1.57449261107098347e1, 1.17693950891312499e2),
        *(5.37181101862009858e2, 1.62138957456669019e3, 3.29079923573345963e3),
        *(4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
    ),
)


def _rational(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    numerator, denominator = (
        reduce(lambda total, c: total * x + c, rest, np.full_like(x, c0)) for c0, *rest in coefficients
    )
    return np.asarray(numerator / denominator)


def _erf(x: Array) -> Array:
    size = np.minimum(np.abs(x), _ERF_ONE)
    near = size <= _ERF_SPLIT
    far = size[~near]
    result = np.empty_like(x)
    result[near] = x[near] * _rational(_ERF_NEAR, np.square(size[near]))
    result[~near] = np.copysign(1 - np.exp(-far * far) * _rational(_ERF_FAR, far), x[~near])
    return result


@op("Erf", since=9, shape=same_as())
@quiet
def erf(x: Array) -> Array:
    """Return the error function, exact to about an ulp of float64; nan stays nan."""
    flat = x.ravel()
    result = np.empty_like(flat)
    for start in range(0, flat.size, _ERF_BLOCK):
        block = slice(start, start + _ERF_BLOCK)
        result[block] = _erf(flat[block].astype(np.float64))
    return result.reshape(x.shape)


# -- two inputs -------------------------------------------------------------------------


def _binary(name: str, function: Function, since: int = 7, dtype: Any = None) -> Function:
    @op(name, since=since, shape=broadcast(dtype))
    @quiet
    def binary(a: Array, b: Array) -> Array:
        return _broadcasting(function, a, b)

    return binary


def _limited_shape(a: Shape, b: Shape, axis: int | None, enabled: int) -> Shape:
    """Return the shape of `b` for the broadcasting of opsets 1 to 6."""
    if not enabled:
        if a != b:
            raise OpError(f"shapes {a} and {b} differ, and the attribute broadcast isn't set")
        return b
    start = len(a) - len(b) if axis is None or axis == -1 else axis + len(a) * (axis < 0)
    trailing = len(a) - start - len(b)
    if start >= 0 and trailing >= 0 and all(n in (1, m) for n, m in zip(b, a[start:])):
        return b + (1,) * trailing
    if len(b) <= len(a) and all(n == 1 for n in b):
        return (1,) * len(a)
    raise OpError(f"shape {b} doesn't broadcast to {a}" + ("" if axis is None else f" at axis {axis}"))


def _limited(name: str, function: Function, dtype: Any = None, hint: bool = False) -> Function:
    """Register the opset 1 form of a binary operator: with `broadcast`, `b` is aligned with `a` from `axis` on."""

    def shape(a: Info, b: Info, *, axis: int | None = None, broadcast: int = 0, **_: Any) -> Info:
        if a.shape is not None and b.shape is not None:
            _limited_shape(a.shape, b.shape, axis, broadcast)
        return Info(a.dtype if dtype is None else np.dtype(dtype), a.shape)

    def plain(a: Array, b: Array, *, axis: int | None = None, broadcast: int = 0) -> Array:
        return np.asarray(function(a, b.reshape(_limited_shape(a.shape, b.shape, axis, broadcast))))

    def with_hint(
        a: Array, b: Array, *, axis: int | None = None, broadcast: int = 0, consumed_inputs: Ints = None
    ) -> Array:
        return plain(a, b, axis=axis, broadcast=broadcast)

    return op(name, since=1, shape=shape)(with_hint if hint else plain)


def _divide(a: Array, b: Array) -> Any:
    if is_float(a.dtype):
        return np.true_divide(a, b)
    quotient = np.floor_divide(a, b)
    inexact = np.multiply(quotient, b) != a
    return quotient + (inexact & (b != 0) & ((a < 0) != (b < 0)))


add = _binary("Add", np.add)
sub = _binary("Sub", np.subtract)
mul = _binary("Mul", np.multiply)
div = _binary("Div", _divide)
and_ = _binary("And", np.logical_and, dtype=bool)
or_ = _binary("Or", np.logical_or, dtype=bool)
xor = _binary("Xor", np.logical_xor, dtype=bool)
equal = _binary("Equal", np.equal, dtype=bool)
greater = _binary("Greater", np.greater, dtype=bool)
less = _binary("Less", np.less, dtype=bool)
greater_or_equal = _binary("GreaterOrEqual", np.greater_equal, since=12, dtype=bool)
less_or_equal = _binary("LessOrEqual", np.less_equal, since=12, dtype=bool)
bitwise_and = _binary("BitwiseAnd", np.bitwise_and, since=18)
bitwise_or = _binary("BitwiseOr", np.bitwise_or, since=18)
bitwise_xor = _binary("BitwiseXor", np.bitwise_xor, since=18)

add_1 = _limited("Add", add, hint=True)
sub_1 = _limited("Sub", sub, hint=True)
mul_1 = _limited("Mul", mul, hint=True)
div_1 = _limited("Div", div, hint=True)
and_1 = _limited("And", and_, dtype=bool)
or_1 = _limited("Or", or_, dtype=bool)
xor_1 = _limited("Xor", xor, dtype=bool)
equal_1 = _limited("Equal", equal, dtype=bool)
greater_1 = _limited("Greater", greater, dtype=bool)
less_1 = _limited("Less", less, dtype=bool)


def _integer_power(x: Array, y: Array) -> Array:
    """Compute an integer power, modulo the type's range; a negative exponent gives the real power, truncated."""
    exponent = np.clip(y, 0, np.iinfo(np.int64).max).astype(np.int64)
    power = np.power(x.astype(np.int64), exponent).astype(x.dtype)
    inverse = np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y & y.dtype.type(1)), 0)).astype(x.dtype)
    return np.where(y < 0, inverse, power)


def _power(x: Array, y: Array) -> Array:
    if is_float(x.dtype) or is_float(y.dtype):
        base = widened(x) if is_float(x.dtype) else x.astype(np.float64)
        return np.asarray(np.power(base, widened(y)), x.dtype)
    return _integer_power(x, y)


@op("Pow", since=7, shape=broadcast())
@quiet
def pow_(x: Array, y: Array) -> Array:
    try:
        return _power(x, y)
    except ValueError:
        raise OpError(f"shapes {x.shape}, {y.shape} don't broadcast") from None


pow_1 = _limited("Pow", pow_)


@op("Mod", since=10, shape=broadcast())
@quiet
def mod(a: Array, b: Array, *, fmod: int = 0) -> Array:
    return _broadcasting(np.fmod if fmod else np.mod, a, b)


@op("BitShift", since=11, shape=broadcast())
def bit_shift(x: Array, y: Array, *, direction: str) -> Array:
    if direction not in ("LEFT", "RIGHT"):
        raise OpError(f"direction is {direction!r}, should be LEFT or RIGHT")
    return _broadcasting(np.left_shift if direction == "LEFT" else np.right_shift, x, y)


# -- any number of inputs ---------------------------------------------------------------


def _variadic_shape(*inputs: Info | None, **_: Any) -> Info:
    if not inputs:
        raise OpError("needs at least one input")
    return broadcast()(*inputs)


def _fold(function: Function, inputs: tuple[Array, ...]) -> Array:
    if not inputs:
        raise OpError("needs at least one input")
    return reduce(lambda a, b: _broadcasting(function, a, b), inputs[1:], inputs[0])


@op("Max", shape=_variadic_shape)
@quiet
def max_(*inputs: Array, consumed_inputs: Ints = None) -> Array:
    return _fold(np.maximum, inputs)


@op("Min", shape=_variadic_shape)
@quiet
def min_(*inputs: Array, consumed_inputs: Ints = None) -> Array:
    return _fold(np.minimum, inputs)


@op("Sum", shape=_variadic_shape)
@quiet
def sum_(*inputs: Array, consumed_inputs: Ints = None) -> Array:
    return _fold(np.add, tuple(map(widened, inputs))).astype(inputs[0].dtype)


@op("Mean", shape=_variadic_shape)
@quiet
def mean(*inputs: Array, consumed_inputs: Ints = None) -> Array:
    return np.asarray(_fold(np.add, tuple(map(widened, inputs))) / len(inputs), inputs[0].dtype)


@op("Where", since=9, shape=broadcast(dtype_of=1))
def where(condition: Array, x: Array, y: Array) -> Array:
    if x.dtype != y.dtype and x.dtype.kind not in "OSUT":
        raise OpError(f"inputs have different types: {x.dtype}, {y.dtype}")
    try:
        return np.where(condition, x, y)
    except ValueError:
        raise OpError(f"shapes {condition.shape}, {x.shape}, {y.shape} don't broadcast") from None


# -- clipping ---------------------------------------------------------------------------

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def _clip(x: Array, low: Any, high: Any) -> Array:
    bounded = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    return np.asarray(bounded if high is None else np.minimum(bounded, np.asarray(high, x.dtype)))


def _bound(name: str, value: Array | None) -> Array | None:
    if value is None:
        return None
    if value.size != 1:
        raise OpError(f"{name} should be a scalar, has shape {value.shape}")
    return value.reshape(())


def _attribute_bound(bound: float | None, dtype: np.dtype[Any]) -> float | int | None:
    """Return a bound clipped to the range of the input's type; old versions have float defaults for integers, too."""
    if bound is None or dtype.kind not in "iu":
        return bound
    if np.isnan(bound):
        raise OpError(f"a bound of {dtype} can't be NaN")
    limits = np.iinfo(dtype)
    return int(min(max(bound, limits.min), limits.max))


@op("Clip", since=11, shape=same_as())
@quiet
def clip(input: Array, min: Array | None = None, max: Array | None = None) -> Array:
    return _clip(input, _bound("min", min), _bound("max", max))


@op("Clip", since=6, shape=same_as())
@quiet
def clip_6(input: Array, *, min: float = -_FLOAT32_MAX, max: float = _FLOAT32_MAX) -> Array:
    return _clip(input, *(_attribute_bound(bound, input.dtype) for bound in (min, max)))


@op("Clip", since=1, shape=same_as())
@quiet
def clip_1(input: Array, *, min: float | None = None, max: float | None = None, consumed_inputs: Ints = None) -> Array:
    return _clip(input, *(_attribute_bound(bound, input.dtype) for bound in (min, max)))


# -- along an axis ----------------------------------------------------------------------


def _cumulative(ufunc: np.ufunc, x: Array, axis: Array, exclusive: int, reverse: int) -> Array:
    if axis.size != 1:
        raise OpError(f"axis should be a scalar, has shape {axis.shape}")
    along = one_axis(int(axis.item()), x.ndim)
    source = np.flip(x, along) if reverse else x
    result = ufunc.accumulate(widened(source), along)
    if exclusive:
        first = np.full_like(np.take(result, [], along), 0, shape=(*x.shape[:along], 1, *x.shape[along + 1 :]))
        first += ufunc.identity
        result = np.concatenate([first, result], along).take(range(x.shape[along]), along)
    return np.asarray(np.flip(result, along) if reverse else result, x.dtype)


@op("CumSum", since=11, shape=same_as())
@quiet
def cum_sum(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    return _cumulative(np.add, x, axis, exclusive, reverse)


@op("CumProd", since=26, shape=same_as())
@quiet
def cum_prod(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    return _cumulative(np.multiply, x, axis, exclusive, reverse)


# -- matrices ---------------------------------------------------------------------------


def _check_square(shape: Shape) -> None:
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise OpError(f"X has shape {shape}, needs square matrices in the last two axes")


def _det_shape(x: Info) -> Info:
    if x.shape is None:
        return x
    _check_square(x.shape)
    return Info(x.dtype, x.shape[:-2])


@op("Det", since=11, shape=_det_shape)
@quiet
def det(x: Array) -> Array:
    _check_square(x.shape)
    return np.asarray(np.linalg.det(widened(x)), x.dtype)
