"""Random numbers, different in every run unless `seed` is given.

The numbers of a seed differ from those of other runtimes: the standard doesn't specify the generator.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.cast import convert, dtype_of
from tinyonnx.ops.math import is_float, quiet
from tinyonnx.ops.shape import INT64, Shape, integers
from tinyonnx.registry import Context, Info, op

_of_process: np.random.SeedSequence | None = None


def set_seed(seed: int) -> None:
    """Seed the generator of operators that have no seed of their own. Raises ValueError if it is negative."""
    global _of_process
    _of_process = np.random.SeedSequence(seed)


def _generator(seed: float | None) -> np.random.Generator:
    """Return the generator of a seed; seeds that differ as float32 give different numbers."""
    if seed is not None:
        return np.random.default_rng(int.from_bytes(struct.pack("<f", seed), "little"))
    return np.random.default_rng(_of_process and _of_process.spawn(1)[0])


def _float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if not is_float(dtype) or dtype.itemsize < 2:
        raise OpError(f"random numbers should be of a floating-point type of 16 bits or more, not {dtype}")
    return dtype


def _declared(dtype: int | None, input: Array | Info) -> np.dtype[Any]:
    """Return the type of the output: that of the attribute, else that of the input."""
    if dtype is not None:
        return dtype_of(dtype)
    assert input.dtype is not None
    return input.dtype


def _dims(shape: Sequence[int]) -> Shape:
    dims = tuple(integers(shape, "shape"))
    if any(d < 0 for d in dims):
        raise OpError(f"shape {list(dims)} has a negative dimension")
    return dims


# -- RandomNormal, RandomUniform --------------------------------------------------------


def _normal(ctx: Context, shape: Shape, dtype: np.dtype[Any], mean: float, scale: float, seed: float | None) -> Array:
    if not (scale >= 0 and math.isfinite(scale) and math.isfinite(mean)):
        raise OpError(f"mean is {mean} and scale {scale}; both should be finite, scale not negative")
    ctx.check_size(shape, np.float64)
    return _generator(seed).normal(mean, scale, shape).astype(_float_dtype(dtype))


def _uniform(ctx: Context, shape: Shape, dtype: np.dtype[Any], low: float, high: float, seed: float | None) -> Array:
    if not (low <= high and math.isfinite(low) and math.isfinite(high)):
        raise OpError(f"low is {low} and high {high}; both should be finite, low not above high")
    ctx.check_size(shape, np.float64)
    drawn = (low + (high - low) * _generator(seed).random(shape)).astype(_float_dtype(dtype))
    first, end = np.array([low, high]).astype(dtype)
    # values rounded up to the end are replaced by the largest number below it
    return np.where(drawn < end, drawn, np.nextafter(end, first)).astype(dtype)


def _shape_rule(*, shape: Sequence[int], dtype: int = 1, **_: Any) -> Info:
    return Info(dtype_of(dtype), _dims(shape))


def _like_rule(input: Info, *, dtype: int | None = None, **_: Any) -> Info:
    return Info(_declared(dtype, input), input.shape)


@op("RandomNormal", since=1, shape=_shape_rule, pure=False)
@quiet
def random_normal(
    ctx: Context, *, shape: Sequence[int], dtype: int = 1, mean: float = 0.0, scale: float = 1.0,
    seed: float | None = None,
) -> Array:  # fmt: skip
    return _normal(ctx, _dims(shape), dtype_of(dtype), mean, scale, seed)


@op("RandomNormalLike", since=1, shape=_like_rule, pure=False)
@quiet
def random_normal_like(
    ctx: Context, input: Array, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0,
    seed: float | None = None,
) -> Array:  # fmt: skip
    return _normal(ctx, input.shape, _declared(dtype, input), mean, scale, seed)


@op("RandomUniform", since=1, shape=_shape_rule, pure=False)
@quiet
def random_uniform(
    ctx: Context, *, shape: Sequence[int], dtype: int = 1, high: float = 1.0, low: float = 0.0,
    seed: float | None = None,
) -> Array:  # fmt: skip
    return _uniform(ctx, _dims(shape), dtype_of(dtype), low, high, seed)


@op("RandomUniformLike", since=1, shape=_like_rule, pure=False)
@quiet
def random_uniform_like(
    ctx: Context, input: Array, *, dtype: int | None = None, high: float = 1.0, low: float = 0.0,
    seed: float | None = None,
) -> Array:  # fmt: skip
    return _uniform(ctx, input.shape, _declared(dtype, input), low, high, seed)


# -- Bernoulli, Multinomial -------------------------------------------------------------


@op("Bernoulli", since=15, shape=_like_rule, pure=False)
@quiet
def bernoulli(ctx: Context, input: Array, *, dtype: int | None = None, seed: float | None = None) -> Array:
    """Draw 1 with the given probabilities, else 0."""
    probabilities = input.astype(np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise OpError("input has a probability that isn't between 0 and 1")
    return convert(_generator(seed).random(input.shape) < probabilities, _declared(dtype, input))


def _sample_shape(input: Shape, sample_size: int) -> Shape:
    if len(input) != 2 or not input[1]:
        raise OpError(f"input has shape {list(input)}, should be [batch, classes]")
    if sample_size < 0:
        raise OpError(f"sample_size is {sample_size}, should not be negative")
    return (input[0], sample_size)


def _index_dtype(dtype: int) -> np.dtype[Any]:
    result = dtype_of(dtype)
    if result not in (np.dtype(np.int32), INT64):
        raise OpError(f"dtype is {result}, should be int32 or int64")
    return result


def _multinomial_rule(input: Info, *, dtype: int = 6, sample_size: int = 1, **_: Any) -> Info:
    return Info(_index_dtype(dtype), None if input.shape is None else _sample_shape(input.shape, sample_size))


@op("Multinomial", since=7, shape=_multinomial_rule, pure=False)
@quiet
def multinomial(
    ctx: Context, input: Array, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None
) -> Array:
    """Draw classes drawn with replacement; each row of `input` holds logarithms of unnormalised probabilities."""
    shape = _sample_shape(input.shape, sample_size)
    ctx.check_size(shape, np.float64)
    logs = input.astype(np.float64)
    top = logs.max(axis=1, keepdims=True)
    if not np.isfinite(top).all():
        raise OpError("a row of input has no finite greatest logarithm, so it gives no probabilities")
    bounds = np.cumsum(np.exp(logs - top), axis=1)
    drawn = _generator(seed).random(shape) * bounds[:, -1:]
    result = np.empty(shape, _index_dtype(dtype))
    for row, limits, places in zip(result, bounds, drawn):
        last = np.searchsorted(limits, limits[-1])  # the last class with a probability above 0
        row[:] = np.minimum(np.searchsorted(limits, places, side="right"), last)
    return result
