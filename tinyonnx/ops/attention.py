"""Scaled dot-product attention, its rotary embeddings and its cache.

Shapes are written with B sequences of L queries and T keys, in N heads of H (values: V)
numbers. Half precision is computed in float32; only results are rounded.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx.dtypes import numpy_dtype
from tinyonnx.errors import OpError
from tinyonnx.ir import Array, Graph
from tinyonnx.ops.math import quiet, widened
from tinyonnx.ops.microsoft._common import check_shape
from tinyonnx.registry import Attributes, Context, Info, op, same_as
from tinyonnx.sizes.integers import broadcasts_to


def _in_heads(name: str, x: Array, heads: int | None) -> Array:
    """Split heads: [B, L, N · H] → [B, N, L, H]; rank 4 is returned unchanged."""
    if x.ndim == 4:
        if heads is not None:
            raise OpError(f"{name} has its heads in an axis of its own: q_num_heads and kv_num_heads are for rank 3")
        return x
    if x.ndim != 3:
        raise OpError(f"{name} has rank {x.ndim}, needs 3 or 4")
    if heads is None:
        raise OpError(f"{name} has rank 3: q_num_heads and kv_num_heads are needed")
    if heads < 1 or x.shape[2] % heads:
        raise OpError(f"{name} has {x.shape[2]} numbers, which {heads} heads can't share")
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def _repeated(x: Array, heads: int) -> Array:
    """Return keys or values, repeated so that each key head serves a group of adjacent query heads."""
    if heads % x.shape[1]:
        raise OpError(f"the number of query heads, {heads}, must be a multiple of that of key heads, {x.shape[1]}")
    return x if heads == x.shape[1] else np.repeat(x, heads // x.shape[1], axis=1)


def _softmax(scores: Array) -> Array:
    """Compute softmax over the last axis; a fully masked row becomes zeros."""
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isneginf(top), scores.dtype.type(0), top))
    total = weights.sum(axis=-1, keepdims=True, dtype=weights.dtype)
    return np.asarray(weights / np.where(total == 0, total.dtype.type(1), total))


def _check_operands(q: Array, k: Array, v: Array) -> None:
    if q.shape[3] != k.shape[3]:
        raise OpError(f"Q has heads of {q.shape[3]} numbers, K of {k.shape[3]}")
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0]:
        raise OpError(f"Q, K and V, as [B, N, length, size], are {[list(x.shape) for x in (q, k, v)]}")
    if not k.shape[1]:
        raise OpError("K has no heads")


# -- Attention --------------------------------------------------------------------------


def _bias(
    mask: Array | None, shape: tuple[int, int, int, int], before: Array, causal: bool, window: tuple[int, int],
    lengths: Array | None, dtype: Any,
) -> Array | None:  # fmt: skip
    """Return the bias of the scores [B, N, L, T], or None.

    `before` [1] or [B] is the number of keys before the queries.
    """
    _, _, queries, keys = shape
    bias: Array | None = None
    allowed = np.ones((1, 1, 1, 1), np.bool_)
    if mask is not None:
        missing = keys - mask.shape[-1] if mask.ndim else 0
        if missing < 0:
            raise OpError(f"attn_mask has shape {list(mask.shape)} for {keys} keys")
        if missing and mask.ndim:
            fill = False if mask.dtype == np.bool_ else -np.inf
            mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)], constant_values=fill)
        if not broadcasts_to(mask.shape, shape):
            raise OpError(f"attn_mask of shape {list(mask.shape)} doesn't broadcast to {list(shape)}")
        if mask.dtype == np.bool_:
            allowed = allowed & mask
        else:
            bias = mask.astype(dtype)
    place = np.arange(queries)[:, None] + before.reshape(-1, 1, 1, 1)
    key = np.arange(keys)
    if causal:
        allowed = allowed & (key <= place)
    left, right = window
    if left >= 0:
        allowed = allowed & (key >= place - left)
    if right >= 0:
        allowed = allowed & (key <= place + right)
    if lengths is not None:
        allowed = allowed & (key < lengths.reshape(-1, 1, 1, 1))
    if allowed.all():
        return bias
    hidden = np.where(allowed, np.asarray(0, dtype), np.asarray(-np.inf, dtype))
    return hidden if bias is None else bias + hidden


class AttentionAttributes(Attributes):
    """The attributes of Attention, without its windows."""

    is_causal: int = 0
    kv_num_heads: int | None = None
    q_num_heads: int | None = None
    qk_matmul_output_mode: int = 0
    scale: float | None = None
    softcap: float = 0.0
    softmax_precision: int | None = None


def _attention_shape(
    ctx: Context, q: Info, k: Info, v: Info, mask: Info | None = None, past_key: Info | None = None, *_: Info | None,
    options: AttentionAttributes, **__: Any,
) -> Any:  # fmt: skip
    shapes = [info.shape for info in (q, k, v) if info.shape is not None]
    past = 0
    if past_key is not None:
        if past_key.shape is None or len(past_key.shape) != 4:
            return None
        past = past_key.shape[2]
    if len(shapes) < 3 or len({len(s) for s in shapes}) > 1 or len(shapes[0]) not in (3, 4):
        return None
    flat = len(shapes[0]) == 3
    if flat:
        if not options.q_num_heads or not options.kv_num_heads:
            return None
        heads = options.q_num_heads, options.kv_num_heads, options.kv_num_heads
        shapes = [(s[0], n, s[1], s[2] // n) for s, n in zip(shapes, heads)]
    (batch, n, queries, _size), (_batch, kv, keys, size), (*_rest, value) = shapes
    total = past + keys
    out = (batch, queries, n * value) if flat else (batch, n, queries, value)
    results = [
        Info(q.dtype, out), Info(k.dtype, (batch, kv, total, size)), Info(v.dtype, (batch, kv, total, value)),
        Info(q.dtype, (batch, n, queries, total)),
    ]  # fmt: skip
    return results[: ctx.n_outputs]


def _attention(
    ctx: Context, Q: Array, K: Array, V: Array, attn_mask: Array | None, past_key: Array | None,
    past_value: Array | None, nonpad_kv_seqlen: Array | None, options: AttentionAttributes,
    window: tuple[int, int] = (-1, -1),
) -> Any:  # fmt: skip
    if not Q.ndim == K.ndim == V.ndim:
        raise OpError(f"Q, K and V have ranks {Q.ndim}, {K.ndim} and {V.ndim}")
    if not 0 <= options.qk_matmul_output_mode <= 3:
        raise OpError(f"qk_matmul_output_mode is {options.qk_matmul_output_mode}, must be 0 to 3")
    if min(window) < -1:
        raise OpError(f"window sizes {window} must be at least -1")
    q = _in_heads("Q", Q, options.q_num_heads)
    k, v = _in_heads("K", K, options.kv_num_heads), _in_heads("V", V, options.kv_num_heads)
    _check_operands(q, k, v)
    if (past_key is None) != (past_value is None):
        raise OpError("past_key and past_value must be given together")
    before = np.zeros(1, np.int64)
    if past_key is not None and past_value is not None:
        if nonpad_kv_seqlen is not None:
            raise OpError("nonpad_kv_seqlen, of an external cache, can't be given together with past_key")
        past = past_key.shape[2] if past_key.ndim == 4 else 0
        check_shape("past_key", past_key, (k.shape[0], k.shape[1], past, k.shape[3]))
        check_shape("past_value", past_value, (v.shape[0], v.shape[1], past, v.shape[3]))
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
        before = before + past
    if nonpad_kv_seqlen is not None:
        check_shape("nonpad_kv_seqlen", nonpad_kv_seqlen, (q.shape[0],))
        before = nonpad_kv_seqlen.astype(np.int64) - q.shape[2]
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    ctx.check_size(shape, np.float32)
    dtype = widened(q).dtype
    bias = _bias(attn_mask, shape, before, bool(options.is_causal), window, nonpad_kv_seqlen, dtype)
    stages = _scores(q, k, bias, options.scale, options.softcap)
    precision = _softmax_dtype(options.softmax_precision, dtype)
    weights = _softmax(stages[-1].astype(precision, copy=False)).astype(dtype)
    y = (weights @ widened(_repeated(v, q.shape[1]))).astype(Q.dtype)
    if Q.ndim == 3:
        y = y.swapaxes(1, 2).reshape(y.shape[0], y.shape[2], -1)
    shown = [*stages, weights][options.qk_matmul_output_mode].astype(Q.dtype)
    return (y, k, v, np.broadcast_to(shown, shape).copy())[: max(ctx.n_outputs, 1)]


def _scores(q: Array, k: Array, bias: Array | None, scale: float | None, softcap: float) -> tuple[Array, Array, Array]:
    """Return the scores [B, N, L, T]: raw, capped, with the bias."""
    if scale is None:
        scale = 1 / math.sqrt(q.shape[3]) if q.shape[3] else 1.0
    if scale < 0:
        raise OpError(f"scale is {scale:g}, must not be negative")
    root = q.dtype.type(math.sqrt(scale))  # in the operands' type, as in the standard's function body
    left, right = widened(q * root), widened(_repeated(k, q.shape[1]) * root)
    raw = left @ right.swapaxes(-1, -2)
    capped = np.tanh(raw / softcap) * softcap if softcap > 0 else raw
    capped = capped.astype(raw.dtype, copy=False)
    return raw, capped, capped if bias is None else capped + bias


def _softmax_dtype(number: int | None, dtype: Any) -> Any:
    if number is None:
        return dtype
    if number not in (1, 10, 11, 16):
        raise OpError(f"softmax_precision is {number}, must be 1, 10, 11 or 16")
    return numpy_dtype(number)


@op("Attention", since=25, shape=_attention_shape)
@quiet
def attention(
    ctx: Context, Q: Array, K: Array, V: Array, attn_mask: Array | None = None, past_key: Array | None = None,
    past_value: Array | None = None, nonpad_kv_seqlen: Array | None = None, *, options: AttentionAttributes,
    left_window_size: int = -1, right_window_size: int = -1,
) -> Any:  # fmt: skip
    """Compute attention (Vaswani et al. 2017) with grouped heads, a cache, masks, windows and a soft cap."""
    window = left_window_size, right_window_size
    return _attention(ctx, Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen, options, window)


@op("Attention", since=24, shape=_attention_shape)
@quiet
def attention_24(
    ctx: Context, Q: Array, K: Array, V: Array, attn_mask: Array | None = None, past_key: Array | None = None,
    past_value: Array | None = None, nonpad_kv_seqlen: Array | None = None, *, options: AttentionAttributes,
) -> Any:  # fmt: skip
    """Compute attention without windows."""
    return _attention(ctx, Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen, options)


@op("Attention", since=23, shape=_attention_shape)
@quiet
def attention_23(
    ctx: Context, Q: Array, K: Array, V: Array, attn_mask: Array | None = None, past_key: Array | None = None,
    past_value: Array | None = None, *, options: AttentionAttributes,
) -> Any:  # fmt: skip
    """Compute attention without windows and without an external cache."""
    return _attention(ctx, Q, K, V, attn_mask, past_key, past_value, None, options)


# -- FlexAttention ----------------------------------------------------------------------


def _flex_shape(q: Info, k: Info, v: Info, **_: Any) -> Info:
    known = q.shape is not None and v.shape is not None and len(q.shape) == len(v.shape) == 4
    return Info(q.dtype, (*q.shape[:3], v.shape[3]) if known and q.shape and v.shape else None)


@op("FlexAttention", domain="ai.onnx.preview", shape=_flex_shape)
@quiet
def flex_attention(
    ctx: Context, Q: Array, K: Array, V: Array, *, prob_mod: Graph | None = None, scale: float | None = None,
    score_mod: Graph | None = None, softmax_precision: int | None = None,
) -> Array:  # fmt: skip
    """Compute attention whose scores and probabilities can be modified by subgraphs."""
    if not Q.ndim == K.ndim == V.ndim == 4:
        raise OpError(f"Q, K and V have ranks {Q.ndim}, {K.ndim} and {V.ndim}, not 4")
    _check_operands(Q, K, V)
    shape = (*Q.shape[:3], K.shape[2])
    ctx.check_size(shape, np.float64)
    precision = _softmax_dtype(softmax_precision, np.dtype(np.float64 if Q.dtype == np.float64 else np.float32))
    if scale is None:
        scale = 1 / math.sqrt(Q.shape[3]) if Q.shape[3] else 1.0
    scores = (widened(Q) @ widened(_repeated(K, Q.shape[1])).swapaxes(-1, -2)) * scale
    scores = _modified(ctx, "score_mod", score_mod, scores.astype(precision))
    weights = _modified(ctx, "prob_mod", prob_mod, _softmax(scores))
    return np.asarray(widened(weights) @ widened(_repeated(V, Q.shape[1]))).astype(Q.dtype)


def _modified(ctx: Context, name: str, graph: Graph | None, values: Array) -> Array:
    if graph is None:
        return values
    results = ctx.run_graph(graph, [values])
    given = [(r.dtype, r.shape) for r in results if isinstance(r, np.ndarray)]
    if len(results) != 1 or given != [(values.dtype, values.shape)]:
        raise OpError(f"{name} must give one tensor like its input, {values.dtype}{list(values.shape)}")
    return np.asarray(results[0])


# -- RotaryEmbedding --------------------------------------------------------------------


@op("RotaryEmbedding", since=23, shape=same_as())
@quiet
def rotary_embedding(
    X: Array, cos_cache: Array, sin_cache: Array, position_ids: Array | None = None, *, interleaved: int = 0,
    num_heads: int | None = None, rotary_embedding_dim: int = 0,
) -> Array:  # fmt: skip
    """Rotate pairs of features by an angle proportional to the position (Su et al. 2021)."""
    x = _in_heads("X", X, (num_heads or None) if X.ndim == 3 else None)
    turned = rotary_embedding_dim or x.shape[3]
    if turned < 0 or turned > x.shape[3] or turned % 2:
        raise OpError(f"rotary_embedding_dim is {turned}, must be even and at most {x.shape[3]}")
    cos, sin = (_angles(n, c, position_ids, x, turned) for n, c in (("cos", cos_cache), ("sin", sin_cache)))
    wide = widened(x)
    first = wide[..., 0:turned:2] if interleaved else wide[..., : turned // 2]
    second = wide[..., 1:turned:2] if interleaved else wide[..., turned // 2 : turned]
    real, imaginary = cos * first - sin * second, sin * first + cos * second
    rotated = np.stack([real, imaginary], axis=-1) if interleaved else np.concatenate([real, imaginary], axis=-1)
    y = np.concatenate([rotated.reshape(*x.shape[:3], turned), wide[..., turned:]], axis=-1).astype(X.dtype)
    return y if X.ndim == 4 else y.swapaxes(1, 2).reshape(X.shape)


def _angles(name: str, cache: Array, positions: Array | None, x: Array, turned: int) -> Array:
    """Return [B, 1, L, turned / 2] of a cache [positions, turned / 2], or [B, L, turned / 2] without positions."""
    batch, _, length, _ = x.shape
    if positions is not None:
        check_shape("position_ids", positions, (batch, length))
        if cache.ndim != 2:
            raise OpError(f"{name}_cache has rank {cache.ndim}, needs 2 beside position_ids")
        if positions.size and not 0 <= positions.min() <= positions.max() < len(cache):
            raise OpError(f"position_ids go from {positions.min()} to {positions.max()}, the cache has {len(cache)}")
        cache = cache[positions]
    check_shape(f"{name}_cache", cache, (batch, length, turned // 2))
    return widened(cache)[:, None]


# -- TensorScatter ----------------------------------------------------------------------


@op("TensorScatter", since=24, shape=same_as())
def tensor_scatter(
    past_cache: Array, update: Array, write_indices: Array | None = None, *, axis: int = -2, mode: str = "linear"
) -> Array:
    """Return a copy of the cache [B, …] with new entries along `axis`, starting at `write_indices` in each sample."""
    if not -past_cache.ndim <= axis < past_cache.ndim or axis % past_cache.ndim == 0:
        raise OpError(f"axis is {axis}, must be one after the batch axis of a cache of rank {past_cache.ndim}")
    if mode not in ("linear", "circular"):
        raise OpError(f"mode is {mode!r}, must be linear or circular")
    axis %= past_cache.ndim
    most, count = past_cache.shape[axis], update.shape[axis] if update.ndim == past_cache.ndim else -1
    check_shape("update", update, (*past_cache.shape[:axis], count, *past_cache.shape[axis + 1 :]))
    if count > most:
        raise OpError(f"update has {count} entries, the cache {most}")
    starts = np.zeros(len(past_cache), np.int64) if write_indices is None else write_indices.astype(np.int64)
    check_shape("write_indices", starts, (len(past_cache),))
    if (starts < 0).any() or (mode == "linear" and (starts + count > most).any()):
        raise OpError(f"write_indices {starts.tolist()} and {count} entries leave a cache of {most}")
    result = past_cache.copy()
    target, source = np.moveaxis(result, axis, 1), np.moveaxis(update, axis, 1)
    places = (starts[:, None] + np.arange(count)) % max(most, 1)
    target[np.arange(len(result))[:, None], places] = source
    return result
