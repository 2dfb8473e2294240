"""ONNX Runtime's normalisations: com.microsoft's fused with additions, and two in ONNX's domain."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import one_axis, quiet, widened
from tinyonnx.ops.microsoft._common import check_dtypes, check_shape, microsoft, present
from tinyonnx.ops.reduce import mean_over
from tinyonnx.registry import Info, op

Shape = tuple[int, ...]
FLOAT32 = np.dtype(np.float32)


def _normalised(
    x: Array, scale: Array, b: Array | None, first: int, epsilon: float, center: bool
) -> tuple[Array, Array, Array]:
    """Return (x - mean) / deviation * scale + b over the axes from `first` on, the mean and 1 / deviation.

    Without `center` the mean is taken as 0, and the deviation is the root mean square.
    """
    axes = tuple(range(first, x.ndim))
    mean = mean_over(x, axes, True) if center else np.zeros((), x.dtype)
    centered = x - mean
    inverse = 1 / np.sqrt(mean_over(np.square(centered), axes, True) + epsilon)
    y = centered * inverse * widened(scale)
    return (y if b is None else y + widened(b)), mean, inverse


# -- in ONNX's domain -------------------------------------------------------------------


def _first_axis(x: Any, axis: int, **vectors: Any) -> int:
    """Return the non-negative axis. Raises OpError unless the vectors have the shape of the axes from it on."""
    first = one_axis(axis, x.ndim)
    for name, vector in vectors.items():
        check_shape(name, vector, tuple(x.shape[first:]))
    return first


def _statistics(x: Info | Array) -> np.dtype[Any]:
    return np.dtype(np.float64) if x.dtype == np.float64 else FLOAT32


def _layer_norm_shape(x: Info, scale: Info, b: Info | None = None, *, axis: int = -1, **_: Any) -> list[Info]:
    if x.shape is None:
        return [Info(scale.dtype, None)] + [Info(_statistics(x), None)] * 2
    first = _first_axis(x, axis, Scale=scale, B=b)
    reduced = Info(_statistics(x), x.shape[:first] + (1,) * (x.ndim - first))
    return [Info(scale.dtype, x.shape), reduced, reduced]


@op("LayerNormalization", since=1, shape=_layer_norm_shape)
@quiet
def layer_normalization(
    x: Array, scale: Array, b: Array | None = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Array, ...]:
    """Compute LayerNormalization as exporters wrote it before opset 17; Y has the type of the scale."""
    first = _first_axis(x, axis, Scale=scale, B=b)
    y, *statistics = _normalised(widened(x), scale, b, first, epsilon, center=True)
    return y.astype(scale.dtype), *(s.astype(_statistics(x)) for s in statistics)


@op("SimplifiedLayerNormalization", since=1, shape=lambda x, scale, **kw: _layer_norm_shape(x, scale, **kw)[:2])
@quiet
def simplified_layer_normalization(
    x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Array, Array]:
    """Return Y and the inverse of the root of the mean square."""
    first = _first_axis(x, axis, scale=scale)
    y, _, inverse = _normalised(widened(x), scale, None, first, epsilon, center=False)
    return y.astype(scale.dtype), inverse.astype(_statistics(x))


# -- with a residual --------------------------------------------------------------------


def _check_skip(x: Any, skip: Any, **vectors: Any) -> None:
    if x.shape is None:
        return
    if x.ndim not in (2, 3):
        raise OpError(f"input has shape {list(x.shape)}, needs [batch, length, hidden] or [tokens, hidden]")
    shape = tuple(x.shape)
    check_shape("skip", skip, shape, *([(1, *shape[1:]), shape[1:]] if x.ndim == 3 else []))
    for name, vector in vectors.items():
        check_shape(name, vector, shape[-1:])


def _skip_shape(x: Info, skip: Info, *vectors: Info | None, **_: Any) -> list[Info]:
    _check_skip(x, skip, **{f"input {i + 2}": v for i, v in enumerate(vectors)})
    reduced = Info(FLOAT32, None if x.shape is None else (*x.shape[:-1], 1))
    return [Info(x.dtype, x.shape), reduced, reduced, Info(x.dtype, x.shape)]


def _skip_normalised(
    x: Array, skip: Array, gamma: Array, beta: Array | None, bias: Array | None, epsilon: float, center: bool
) -> tuple[Array, ...]:
    """Return the normalised sum, its mean and 1 / deviation, and the sum."""
    _check_skip(x, skip, gamma=gamma, beta=beta, bias=bias)
    check_dtypes(x, skip=skip, gamma=gamma, beta=beta, bias=bias)
    total = widened(x) + widened(skip)
    if bias is not None:
        total = total + widened(bias)
    y, mean, inverse = _normalised(total, gamma, beta, x.ndim - 1, epsilon, center)
    mean = np.broadcast_to(mean, inverse.shape)
    return y.astype(x.dtype), mean.astype(FLOAT32), inverse.astype(FLOAT32), total.astype(x.dtype)


@microsoft("SkipLayerNormalization", shape=_skip_shape)
@quiet
def skip_layer_normalization(
    input: Array, skip: Array, gamma: Array, beta: Array | None = None, bias: Array | None = None, *,
    epsilon: float = 1e-12,
) -> tuple[Array, ...]:  # fmt: skip
    return _skip_normalised(input, skip, gamma, beta, bias, epsilon, center=True)


@microsoft("SkipSimplifiedLayerNormalization", shape=_skip_shape)
@quiet
def skip_simplified_layer_normalization(
    input: Array, skip: Array, gamma: Array, bias: Array | None = None, *, epsilon: float = 1e-12
) -> tuple[Array, ...]:
    return _skip_normalised(input, skip, gamma, None, bias, epsilon, center=False)


# -- EmbedLayerNormalization ------------------------------------------------------------


def _embed_shape(ids: Info, segments: Info | None, words: Info, *_: Info | None, **__: Any) -> list[Info] | None:
    if ids.shape is None or words.shape is None:
        return None
    y = Info(words.dtype, (*ids.shape, *words.shape[1:]))
    return [y, Info(np.dtype(np.int32), ids.shape[:1]), y]


def _looked_up(name: str, table: Array, ids: Array) -> Array:
    if ids.dtype.kind not in "iu":
        raise OpError(f"the ids of {name} are {ids.dtype}, must be int32")
    if ids.size and not (ids.min() >= 0 and ids.max() < len(table)):
        raise OpError(f"{name} has {len(table)} rows, the ids are {ids.min()} to {ids.max()}")
    return widened(table[ids])


@microsoft("EmbedLayerNormalization", shape=_embed_shape)
@quiet
def embed_layer_normalization(
    input_ids: Array, segment_ids: Array | None = None, words: Array | None = None, positions: Array | None = None,
    segments: Array | None = None, gamma: Array | None = None, beta: Array | None = None, mask: Array | None = None,
    position_ids: Array | None = None, *, epsilon: float = 1e-12, mask_index_type: int = 0,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Return the normalised sum of the embeddings, the number of unmasked tokens per sequence, and the sum."""
    if input_ids.ndim != 2:
        raise OpError(f"input_ids has shape {list(input_ids.shape)}, needs [batch, length]")
    words, positions = present(word_embedding=words, position_embedding=positions)
    gamma, beta = present(gamma=gamma, beta=beta)
    if words.ndim != 2:
        raise OpError(f"word_embedding has shape {list(words.shape)}, needs [rows, hidden]")
    for name, table in (("position_embedding", positions), ("segment_embedding", segments)):
        if table is not None and (table.ndim != 2 or table.shape[1] != words.shape[1]):
            raise OpError(f"{name} has shape {list(table.shape)}, word_embedding {list(words.shape)}")
    check_dtypes(words, position_embedding=positions, segment_embedding=segments, gamma=gamma, beta=beta)
    for name, vector in (("gamma", gamma), ("beta", beta)):
        check_shape(name, vector, words.shape[1:])
    batch, length = input_ids.shape
    if position_ids is None:
        position_ids = np.arange(length)[None]
    for name, ids in (("segment_ids", segment_ids), ("position_ids", position_ids), ("mask", mask)):
        check_shape(name, ids, (batch, length), *([(1, length)] if name == "position_ids" else []))
    total = _looked_up("word_embedding", words, input_ids)
    total = total + _looked_up("position_embedding", positions, position_ids)
    if segment_ids is not None:
        (segments,) = present(segment_embedding=segments)
        total = total + _looked_up("segment_embedding", segments, segment_ids)
    y, _, _ = _normalised(total, gamma, beta, 2, epsilon, center=True)
    kept = np.zeros(batch, np.int32) if mask is None else np.sum(mask == 1, axis=1).astype(np.int32)
    return y.astype(words.dtype), kept, total.astype(words.dtype)
