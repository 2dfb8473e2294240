"""Normalisations, and Dropout.

Statistics of half precision are computed in float32, those of float64 always in float64:
`stash_type` is a lower bound.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import Ints, Shape, one_axis, quiet, widened
from tinyonnx.ops.reduce import mean_over, several_axes
from tinyonnx.registry import Context, Info, op, same_as
from tinyonnx.sizes.integers import broadcasts_to

Outputs = Array | tuple[Array, ...]


def _check_vectors(wanted: Shape, what: str, **vectors: Shape | None) -> None:
    for name, shape in vectors.items():
        if shape is not None and shape != wanted:
            raise OpError(f"{name} has shape {shape}, {what} needs {wanted}")


def _channels(shape: Shape) -> int:
    """Return the size of axis 1; a vector is a batch of one channel."""
    return shape[1] if len(shape) > 1 else 1


def _align(vector: Array, rank: int) -> Array:
    """Return a vector with one element per channel, perhaps with further axes, reshaped to broadcast to that rank."""
    return widened(vector).reshape(*vector.shape, *(1,) * (rank - 1 - vector.ndim))


def _moments(x: Array, axes: Shape) -> tuple[Array, Array, Array]:
    """Return x - mean, the mean and the variance, with reduced axes kept as ones."""
    mean = mean_over(x, axes, True)
    centered = x - mean
    return centered, mean, mean_over(np.square(centered), axes, True)


def _standardized(x: Array, axes: Shape, epsilon: float) -> tuple[Array, Array, Array]:
    """Return (x - mean) / deviation, the mean and 1 / deviation, with reduced axes kept as ones."""
    centered, mean, variance = _moments(x, axes)
    inverse = 1 / np.sqrt(variance + epsilon)
    return centered * inverse, mean, inverse


# -- BatchNormalization -----------------------------------------------------------------


def _batch_norm_check(x: Shape | None, *vectors: Shape | None, spatial: int = 1) -> None:
    if x is not None:
        wanted = (_channels(x),) if spatial else x[1:]
        _check_vectors(wanted, f"X of shape {x}", **dict(zip(("scale", "B", "mean", "var"), vectors)))


def _batch_norm_shape(x: Info, *vectors: Info, spatial: int = 1, **_: Any) -> list[Info]:
    _batch_norm_check(x.shape, *(v.shape for v in vectors), spatial=spatial)
    return [Info(i.dtype, i.shape) for i in (x, *(vectors[2], vectors[3]) * 2)]


def _batch_norm(x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float) -> Array:
    """Normalise with given statistics; vectors have one element per channel, or per element of a sample."""
    slope = widened(scale) / np.sqrt(widened(var) + epsilon)
    y = (widened(x) - _align(mean, x.ndim)) * _align(slope, x.ndim) + _align(b, x.ndim)
    return np.asarray(y, x.dtype)


def _batch_norm_training(
    x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float, momentum: float, spatial: int = 1
) -> tuple[Array, ...]:
    """Return Y, the running mean and variance after this batch, the batch's own mean and variance."""
    axes = (0, *range(2, x.ndim)) if spatial else (0,)
    _, *moments = _moments(widened(x), axes)
    batch_mean, batch_var = (moment.reshape(mean.shape) for moment in moments)
    running_mean = widened(mean) * momentum + batch_mean * (1 - momentum)
    running_var = widened(var) * momentum + batch_var * (1 - momentum)
    y = _batch_norm(x, scale, b, batch_mean, batch_var, epsilon)
    return y, *(v.astype(mean.dtype) for v in (running_mean, running_var, batch_mean, batch_var))


@op("BatchNormalization", since=14, shape=_batch_norm_shape)
@quiet
def batch_normalization(
    x: Array, scale: Array, b: Array, input_mean: Array, input_var: Array, *, epsilon: float = 1e-5,
    momentum: float = 0.9, training_mode: int = 0,
) -> Outputs:  # fmt: skip
    _batch_norm_check(x.shape, scale.shape, b.shape, input_mean.shape, input_var.shape)
    if training_mode:
        return _batch_norm_training(x, scale, b, input_mean, input_var, epsilon, momentum)[:3]
    return _batch_norm(x, scale, b, input_mean, input_var, epsilon)


@op("BatchNormalization", since=7, shape=_batch_norm_shape)
@quiet
def batch_normalization_7(
    ctx: Context, x: Array, scale: Array, b: Array, mean: Array, var: Array, *, epsilon: float = 1e-5,
    momentum: float = 0.9, spatial: int = 1,
) -> Outputs:  # fmt: skip
    """Normalise as before opset 9: more than one output selects training mode."""
    _batch_norm_check(x.shape, scale.shape, b.shape, mean.shape, var.shape, spatial=spatial)
    if ctx.n_outputs > 1:
        return _batch_norm_training(x, scale, b, mean, var, epsilon, momentum, spatial)
    return _batch_norm(x, scale, b, mean, var, epsilon)


@op("BatchNormalization", since=6, shape=_batch_norm_shape)
@quiet
def batch_normalization_6(
    ctx: Context, x: Array, scale: Array, b: Array, mean: Array, var: Array, *, epsilon: float = 1e-5, is_test: int = 0,
    momentum: float = 0.9, spatial: int = 1,
) -> Outputs:  # fmt: skip
    """Normalise as before opset 7: a single output selects inference even if `is_test` is 0, as exporters left it."""
    _batch_norm_check(x.shape, scale.shape, b.shape, mean.shape, var.shape, spatial=spatial)
    if ctx.n_outputs > 1 and not is_test:
        return _batch_norm_training(x, scale, b, mean, var, epsilon, momentum, spatial)
    return _batch_norm(x, scale, b, mean, var, epsilon), mean, var, mean, var


@op("BatchNormalization", since=1, shape=_batch_norm_shape)
def batch_normalization_1(
    ctx: Context, x: Array, scale: Array, b: Array, mean: Array, var: Array, *, consumed_inputs: Ints,
    epsilon: float = 1e-5, is_test: int = 0, momentum: float = 0.9, spatial: int = 1,
) -> Outputs:  # fmt: skip
    return batch_normalization_6(
        ctx, x, scale, b, mean, var, epsilon=epsilon, is_test=is_test, momentum=momentum, spatial=spatial
    )


# -- per sample -------------------------------------------------------------------------


def _instance_norm_shape(input: Info, scale: Info, b: Info, **_: Any) -> Info:
    if input.shape is not None:
        _instance_norm_check(input.shape, scale.shape, b.shape)
    return Info(input.dtype, input.shape)


def _instance_norm_check(x: Shape, scale: Shape | None, b: Shape | None) -> None:
    if len(x) < 3:
        raise OpError(f"input has shape {x}, needs a batch, channels and at least one more axis")
    _check_vectors((x[1],), f"input of shape {x}", scale=scale, B=b)


@op("InstanceNormalization", shape=_instance_norm_shape)
@quiet
def instance_normalization(
    input: Array, scale: Array, b: Array, *, epsilon: float = 1e-5, consumed_inputs: Ints = None
) -> Array:
    _instance_norm_check(input.shape, scale.shape, b.shape)
    y, _, _ = _standardized(widened(input), tuple(range(2, input.ndim)), epsilon)
    return np.asarray(y * _align(scale, input.ndim) + _align(b, input.ndim), input.dtype)


def _group_norm_check(x: Shape, scale: Shape | None, bias: Shape | None, groups: int, per_group: bool) -> None:
    if len(x) < 2:
        raise OpError(f"X has shape {x}, needs a batch and channels")
    if groups < 1 or x[1] % groups:
        raise OpError(f"{x[1]} channels can't be divided into {groups} groups")
    _check_vectors((groups if per_group else x[1],), f"X of shape {x}", scale=scale, bias=bias)


def _group_norm_shape(per_group: bool) -> Any:
    def rule(x: Info, scale: Info, bias: Info, *, num_groups: int, **_: Any) -> Info:
        if x.shape is not None:
            _group_norm_check(x.shape, scale.shape, bias.shape, num_groups, per_group)
        return Info(x.dtype, x.shape)

    return rule


@op("GroupNormalization", since=21, shape=_group_norm_shape(per_group=False))
@quiet
def group_normalization(
    x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Array:
    """Normalise groups of channels; `scale` and `bias` have one element per channel."""
    _group_norm_check(x.shape, scale.shape, bias.shape, num_groups, per_group=False)
    grouped = widened(x).reshape(x.shape[0], num_groups, x.shape[1] // num_groups, math.prod(x.shape[2:]))
    y = _standardized(grouped, (2, 3), epsilon)[0].reshape(x.shape)
    return np.asarray(y * _align(scale, x.ndim) + _align(bias, x.ndim), x.dtype)


@op("GroupNormalization", since=18, shape=_group_norm_shape(per_group=True))
def group_normalization_18(x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5) -> Array:
    """Normalise groups as before opset 21: `scale` and `bias` have one element per group."""
    _group_norm_check(x.shape, scale.shape, bias.shape, num_groups, per_group=True)
    size = x.shape[1] // num_groups
    return group_normalization(x, np.repeat(scale, size), np.repeat(bias, size), num_groups=num_groups, epsilon=epsilon)


# -- over the last axes -----------------------------------------------------------------

_STASH_FLOAT, _STASH_BFLOAT16 = 1, 16


def _stash_dtype(stash_type: int, x: np.dtype[Any] | None) -> np.dtype[Any] | None:
    if stash_type == _STASH_FLOAT:
        return np.dtype(np.float32)
    if stash_type == _STASH_BFLOAT16:
        return x
    raise OpError(f"stash_type is {stash_type}, should be 1 (float) or 16 (bfloat16)")


def _check_last(x: Shape, axis: int, **vectors: Shape | None) -> int:
    """Return the non-negative axis. Raises OpError unless scale and bias broadcast to `x`."""
    first = one_axis(axis, len(x))
    for name, shape in vectors.items():
        if shape is not None and not broadcasts_to(shape, x):
            raise OpError(f"{name} of shape {shape} doesn't broadcast to {x}")
    return first


def _layer_norm_shape(
    x: Info, scale: Info, b: Info | None = None, *, axis: int = -1, stash_type: int = 1, **_: Any
) -> list[Info]:
    statistics = _stash_dtype(stash_type, x.dtype)
    if x.shape is None:
        return [Info(x.dtype, None), Info(statistics, None), Info(statistics, None)]
    first = _check_last(x.shape, axis, Scale=scale.shape, B=None if b is None else b.shape)
    outer = Info(statistics, x.shape[:first] + (1,) * (x.ndim - first))
    return [Info(x.dtype, x.shape), outer, outer]


@op("LayerNormalization", since=17, shape=_layer_norm_shape)
@quiet
def layer_normalization(
    x: Array, scale: Array, b: Array | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Array, Array, Array]:
    """Return Y, the mean and the inverse of the standard deviation."""
    stash = _stash_dtype(stash_type, x.dtype)
    first = _check_last(x.shape, axis, Scale=scale.shape, B=None if b is None else b.shape)
    y, mean, inverse = _standardized(widened(x), tuple(range(first, x.ndim)), epsilon)
    y = y * widened(scale)
    if b is not None:
        y = y + widened(b)
    return np.asarray(y, x.dtype), np.asarray(mean, stash), np.asarray(inverse, stash)


def _rms_norm_shape(x: Info, scale: Info, *, axis: int = -1, stash_type: int = 1, **_: Any) -> Info:
    return Info(x.dtype, x.shape) if x.shape is None else _layer_norm_shape(x, scale, axis=axis)[0]


@op("RMSNormalization", since=23, shape=_rms_norm_shape)
@quiet
def rms_normalization(x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Array:
    first = _check_last(x.shape, axis, scale=scale.shape)
    wide = widened(x)
    power = mean_over(np.square(wide), tuple(range(first, x.ndim)), True)
    y = (wide / np.sqrt(power + epsilon)).astype(x.dtype)
    return np.asarray(widened(y) * widened(scale), scale.dtype)


# -- others -----------------------------------------------------------------------------


def _axis_shape(input: Info, *, axis: int = -1, **_: Any) -> Info:
    if input.shape is not None:
        one_axis(axis, input.ndim)
    return Info(input.dtype, input.shape)


@op("LpNormalization", shape=_axis_shape)
@quiet
def lp_normalization(input: Array, *, axis: int = -1, p: int = 2) -> Array:
    """Divide by the norm along an axis; vectors of norm zero stay zero."""
    if p not in (1, 2):
        raise OpError(f"p is {p}, should be 1 or 2")
    along, wide = one_axis(axis, input.ndim), widened(input)
    if p == 1:
        norm = np.sum(np.abs(wide), axis=along, keepdims=True)
    else:
        norm = np.sqrt(np.sum(np.square(wide), axis=along, keepdims=True))
    return np.where(norm == 0, 0, wide / norm).astype(input.dtype)


@op("LRN", shape=same_as())
@quiet
def lrn(x: Array, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    """Divide by a power of the mean square over the `size` channels around each channel."""
    if x.ndim < 2:
        raise OpError(f"X has shape {x.shape}, needs a batch and channels")
    if size < 1:
        raise OpError(f"size is {size}, should be positive")
    channels = x.shape[1]
    wide = widened(x)
    squares = np.square(wide)
    total = np.zeros_like(squares)
    for shift in range(-min((size - 1) // 2, channels), min(size // 2, channels) + 1):
        low, high = max(0, -shift), max(0, min(channels, channels - shift))
        total[:, low:high] += squares[:, low + shift : high + shift]
    scale = total * (alpha / size) + bias
    return np.asarray(wide / scale**beta, x.dtype)


def _mean_variance_shape(x: Info, *, axes: Ints = (0, 2, 3)) -> Info:
    if x.shape is not None:
        several_axes(axes or (), x.ndim)
    return Info(x.dtype, x.shape)


@op("MeanVarianceNormalization", since=9, shape=_mean_variance_shape)
@quiet
def mean_variance_normalization(x: Array, *, axes: Ints = (0, 2, 3)) -> Array:
    chosen = several_axes(axes, x.ndim) if axes else tuple(range(x.ndim))
    centered, _, variance = _moments(widened(x), chosen)
    return np.asarray(centered / (np.sqrt(variance) + 1e-9), x.dtype)


# -- Dropout ----------------------------------------------------------------------------


def _dropout_shape(mask: Any = None) -> Any:
    def rule(data: Info, *_: Info | None, **__: Any) -> list[Info]:
        return [Info(data.dtype, data.shape), Info(data.dtype if mask is None else np.dtype(mask), data.shape)]

    return rule


@op("Dropout", since=12, shape=_dropout_shape(bool), pure=False)
@quiet
def dropout(
    data: Array, ratio: Array | None = None, training_mode: Array | None = None, *, seed: int | None = None
) -> tuple[Array, Array]:
    """Return the data and the mask of kept elements; outside of training mode all are kept."""
    if training_mode is None or not np.any(training_mode):
        return data, np.ones(data.shape, bool)
    if ratio is not None and ratio.size != 1:
        raise OpError(f"ratio has shape {ratio.shape}, should be one number")
    share = 0.5 if ratio is None else float(ratio.item())
    if not 0 <= share < 1:
        raise OpError(f"ratio is {share}, should be at least 0 and less than 1")
    state = np.random.RandomState(None if seed is None else seed % 2**32)
    kept = np.asarray(state.uniform(0, 1, data.shape) >= share)
    return np.asarray(kept * widened(data) / (1 - share), data.dtype), kept


@op("Dropout", since=10, shape=_dropout_shape(bool))
def dropout_10(data: Array, *, ratio: float = 0.5) -> tuple[Array, Array]:
    return data, np.ones(data.shape, bool)


@op("Dropout", since=1, shape=_dropout_shape())
def dropout_1(
    data: Array, *, ratio: float = 0.5, is_test: int = 0, consumed_inputs: Ints = None
) -> tuple[Array, Array]:
    return data, np.ones_like(data)
