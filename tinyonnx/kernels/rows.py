"""Row-wise operators: softmax, normalisation and reductions over the last axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels.elementwise import exp
from tinyonnx.ops.activation import softmax, softmax_1
from tinyonnx.ops.norm import layer_normalization, rms_normalization
from tinyonnx.registry import Call, Info, fast, functions
from tinyonnx.runtime.constants import ConstantPool

_ZERO, _ONE = np.float32(0), np.float32(1)
_LANES = 16
"""Number of partial sums; they vectorise, unlike a single sum, and have smaller rounding errors."""

_BLOCK = 256 * _LANES
"""Numbers per block: a block is summed in float32, the sums of blocks in float64."""


@jit
def total(row: Array, partial: Array) -> Any:
    """Return the sum of a row; `partial` has room for _LANES numbers."""
    n = row.shape[0]
    whole = n // _LANES * _LANES
    result = 0.0
    for start in range(0, whole, _BLOCK):
        for k in range(_LANES):
            partial[k] = _ZERO
        for i in range(start, min(start + _BLOCK, whole), _LANES):
            here = row[i : i + _LANES]
            for k in range(_LANES):
                partial[k] += here[k]
        for k in range(_LANES):
            result += partial[k]
    for i in range(whole, n):
        result += row[i]
    return np.float32(result)


@jit
def extreme(row: Array, partial: Array, sign: Any) -> Any:
    """Return the maximum of a row, or the minimum if `sign` is -1; NaN if it has a NaN. `partial` as in `total`."""
    n = row.shape[0]
    for k in range(_LANES):
        partial[k] = sign * row[0]
    whole = n // _LANES * _LANES
    for i in range(0, whole, _LANES):
        here = row[i : i + _LANES]
        for k in range(_LANES):
            a, b = sign * here[k], partial[k]
            partial[k] = b if b > a or b != b else a
    result = sign * row[0]
    for i in range(whole, n):
        v = sign * row[i]
        result = result if result > v or result != result else v
    for k in range(_LANES):
        result = result if result > partial[k] or result != result else partial[k]
    return sign * result


@kernel
def softmax_rows(x: Array, out: Array, rows: int, n: int, scratch: Array, part: int, parts: int) -> None:
    """Compute out[r] = e^(x[r] - max x[r]) divided by its sum, for rows of `n`; scratch is for partial sums."""
    first, end = share(rows, part, parts)
    room = scratch.shape[0] // parts * part
    partial = scratch[room : room + _LANES]
    for r in range(first, end):
        source, row = x[r * n : r * n + n], out[r * n : r * n + n]
        top = extreme(source, partial, _ONE)
        for i in range(n):
            row[i] = source[i] - top
        for i in range(n):
            row[i] = exp(row[i])
        scale = _ONE / total(row, partial)
        for i in range(n):
            row[i] *= scale


class NormalisedRows(NamedTuple):
    """The number of rows, their length, and whether their mean is subtracted."""

    rows: int
    n: int
    centred: int


@kernel
def normalise_rows(
    x: Array,
    scale: Array,
    shift: Array,
    out: Array,
    size: NormalisedRows,
    epsilon: Any,
    scratch: Array,
    part: int,
    parts: int,
) -> None:
    """Compute out[r] = (x[r] - mean) / √(variance + epsilon) · scale + shift; without centring the mean is 0.

    Scratch holds partial sums and a row of squares per share.
    """
    rows, n, centred = size
    first, end = share(rows, part, parts)
    room = scratch.shape[0] // parts * part
    partial, squares = scratch[room : room + _LANES], scratch[room + _LANES : room + _LANES + n]
    count = np.float32(n)
    for r in range(first, end):
        source, row = x[r * n : r * n + n], out[r * n : r * n + n]
        mean = total(source, partial) / count if centred else _ZERO
        for i in range(n):
            row[i] = source[i] - mean
        for i in range(n):
            squares[i] = row[i] * row[i]
        inverse = _ONE / np.sqrt(total(squares, partial) / count + epsilon)
        for i in range(n):
            row[i] *= inverse
        for i in range(n):
            row[i] *= scale[i]
        for i in range(n):
            row[i] += shift[i]


SUM, MEAN, MAXIMUM, MINIMUM = range(4)


@kernel
def reduce_rows(x: Array, out: Array, n: int, code: int, scratch: Array, part: int, parts: int) -> None:
    """Compute out[r] = sum, mean, maximum or minimum of x[r], for rows of `n`; scratch holds partial sums per share."""
    first, end = share(out.shape[0], part, parts)
    room = scratch.shape[0] // parts * part
    partial = scratch[room : room + _LANES]
    for r in range(first, end):
        row = x[r * n : r * n + n]
        if code == SUM:
            out[r] = total(row, partial)
        elif code == MEAN:
            out[r] = total(row, partial) / np.float32(n)
        else:
            out[r] = extreme(row, partial, _ONE if code == MAXIMUM else -_ONE)


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, x: Info | None, *others: Info | None) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return float32_refused(out, x, *others)


def _softmax_refused(out: Info, x: Info | None, *, axis: int = -1) -> str | None:
    if x is None or x.shape is None or axis not in (-1, x.ndim - 1):
        return "not over the last axis"
    return _refused(out, x)


@fast(softmax, when=_softmax_refused, layout="row_major")
def bind_softmax(pool: ConstantPool, out: Array, x: Array, **_: Any) -> Call:
    """Bind softmax over the last axis."""
    return _softmax(out, x, x.shape[-1])


def _softmax_1_refused(out: Info, x: Info | None, *, axis: int = 1) -> str | None:
    if x is None or x.shape is None or not -x.ndim <= axis < x.ndim:
        return "the axis is out of range"
    return _refused(out, x)


@fast(softmax_1, when=_softmax_1_refused, layout="row_major")
def bind_softmax_1(pool: ConstantPool, out: Array, x: Array, *, axis: int = 1) -> Call:
    """Bind softmax as before opset 13: over all axes from `axis` on, taken as one."""
    return _softmax(out, x, math.prod(x.shape[axis % x.ndim :]))


def _softmax(out: Array, x: Array, n: int) -> Call:
    return Call(softmax_rows, (flat(x), flat(out), x.size // n, n), scratch=_LANES)


def _normalisation_refused(
    out: Info, x: Info | None, scale: Info | None, b: Info | None = None, *, axis: int = -1, stash_type: int = 1,
    **_: Any,
) -> str | None:  # fmt: skip
    if scale is None or scale.value is None or (b is not None and b.value is None):
        return "scale or shift is not constant"
    if x is None or x.shape is None or not -x.ndim <= axis < x.ndim:
        return "the axis is out of range"
    if any(v is not None and v.ndim > x.ndim - axis % x.ndim for v in (scale, b)):
        return "scale or shift has axes that are not normalised"
    return _refused(out, x, scale, b)


def _normalisation(
    pool: ConstantPool, out: Array, x: Array, scale: Array, b: Array | None, axis: int, epsilon: float, centred: bool
) -> Call:  # fmt: skip
    """Bind a normalisation; scale and shift are broadcast to the normalised axes."""
    normal = x.shape[axis % x.ndim :]
    n = math.prod(normal)

    def spread(factors: Array) -> Array:
        return np.broadcast_to(factors, normal).reshape(-1).copy()

    key = ("layer normalization", normal)
    shift = np.zeros(n, np.float32) if b is None else pool.derive(key, spread, b)
    size = NormalisedRows(x.size // n, n, int(centred))
    arguments = (flat(x), pool.derive(key, spread, scale), shift, flat(out), size, np.float32(epsilon))
    return Call(normalise_rows, arguments, scratch=_LANES + n)


@fast(layer_normalization, when=_normalisation_refused, layout="row_major")
def bind_layer_normalization(
    pool: ConstantPool, out: Array, x: Array, scale: Array, b: Array | None = None, *, axis: int = -1,
    epsilon: float = 1e-5, **_: Any,
) -> Call:  # fmt: skip
    """Bind the normalisation by mean and variance."""
    return _normalisation(pool, out, x, scale, b, axis, epsilon, centred=True)


@fast(rms_normalization, when=_normalisation_refused, layout="row_major")
def bind_rms_normalization(
    pool: ConstantPool, out: Array, x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, **_: Any
) -> Call:
    """Bind the normalisation by the mean square."""
    return _normalisation(pool, out, x, scale, None, axis, epsilon, centred=False)


REDUCTIONS = {"ReduceSum": SUM, "ReduceMean": MEAN, "ReduceMax": MAXIMUM, "ReduceMin": MINIMUM}


def reduced_axes(x: Info | None, given: Info | None, axes: Any, noop_with_empty_axes: int) -> set[int] | str:
    """Return the axes that a reduction reduces, or the reason why they are not known.

    `given` is the input for them, `axes` the attribute.
    """
    if x is None or x.shape is None or (given is not None and given.value is None):
        return "axes are not constant"
    if given is not None and given.value is not None:
        axes = given.value.ravel()
    if axes is not None and len(axes):
        return {int(a) % x.ndim for a in axes}
    return "nothing is reduced" if noop_with_empty_axes else set(range(x.ndim))


def _reduction_refused(
    out: Info, x: Info | None, given: Info | None = None, *, axes: Any = None, noop_with_empty_axes: int = 0, **_: Any
) -> str | None:
    reduced = reduced_axes(x, given, axes, noop_with_empty_axes)
    if isinstance(reduced, str):
        return reduced
    assert x is not None
    if reduced != set(range(x.ndim - len(reduced), x.ndim)):
        return "not the last axes"
    return _refused(out, x)


def _bind_reduction(code: int) -> Callable[..., Call]:
    def bind(pool: ConstantPool, out: Array, x: Array, *_: Array | None, **__: Any) -> Call:
        return Call(reduce_rows, (flat(x), flat(out), x.size // out.size, code), scratch=_LANES)

    return bind


for _name, _code in REDUCTIONS.items():
    for _function in functions(_name):
        fast(_function, when=_reduction_refused, layout="row_major")(_bind_reduction(_code))
