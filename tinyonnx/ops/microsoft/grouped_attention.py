"""com.microsoft: GroupQueryAttention, the attention of language models with a cache.

Shapes are written with B sequences of S queries, N heads of queries and K of keys, of H numbers, and caches of P
positions before and M after the node.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import quiet, widened
from tinyonnx.ops.microsoft._common import check_dtypes, check_shape, microsoft, unsupported
from tinyonnx.ops.microsoft.attention import rotary_embedding
from tinyonnx.registry import Attributes, Context, Info


class GroupAttributes(Attributes):
    """The attributes of GroupQueryAttention."""

    num_heads: int
    kv_num_heads: int
    do_rotary: int = 0
    local_window_size: int = -1
    rotary_interleaved: int = 0
    scale: float | None = None
    smooth_softmax: int = 0
    softcap: float = 0.0
    k_quant_type: str = "NONE"
    kv_cache_bit_width: int = 0
    qk_output: int = 0
    v_quant_type: str = "NONE"


def _head_size(query: Any, key: Any, options: GroupAttributes) -> int:
    """Return H; the query holds keys and values too if `key` is None."""
    heads, shared = options.num_heads, options.kv_num_heads
    if heads < 1 or shared < 1 or heads % shared:
        raise OpError(f"num_heads is {heads}, must be a multiple of kv_num_heads, which is {shared}")
    together = heads if key is not None else heads + 2 * shared
    size, rest = divmod(query.shape[-1], together)
    if len(query.shape) != 3 or rest or not size:
        raise OpError(f"query has shape {list(query.shape)}, needs three axes, the last for {together} heads")
    return int(size)


def _shape(
    ctx: Context, query: Info, key: Info | None = None, value: Info | None = None, past_key: Info | None = None,
    past_value: Info | None = None, seqlens_k: Info | None = None, total_sequence_length: Info | None = None,
    *_: Info | None, options: GroupAttributes,
) -> list[Info] | None:  # fmt: skip
    if query.shape is None or len(query.shape) != 3:
        return None
    size = _head_size(query, key, options)
    results = [Info(query.dtype, (*query.shape[:2], options.num_heads * size))]
    total = None if total_sequence_length is None else total_sequence_length.value
    before: Any = 0 if past_key is None else past_key.shape and past_key.shape[2]
    cache = None
    if total is not None and total.size == 1 and total.dtype.kind == "i" and isinstance(before, int):
        cache = (query.shape[0], options.kv_num_heads, max(int(total.reshape(())), before), size)
    return [*results, Info(query.dtype, cache), Info(query.dtype, cache)][: max(ctx.n_outputs, 1)]


@microsoft("GroupQueryAttention", shape=_shape)
@quiet
def group_query_attention(
    ctx: Context, query: Array, key: Array | None = None, value: Array | None = None, past_key: Array | None = None,
    past_value: Array | None = None, seqlens_k: Array | None = None, total_sequence_length: Array | None = None,
    cos_cache: Array | None = None, sin_cache: Array | None = None, position_ids: Array | None = None,
    attention_bias: Array | None = None, head_sink: Array | None = None, k_scale: Array | None = None,
    v_scale: Array | None = None, *, options: GroupAttributes,
) -> tuple[Array, ...]:  # fmt: skip
    """Return the output [B, S, N · H] and the caches of keys and values [B, K, M, H].

    `seqlens_k` is the number of keys of each sequence minus 1. If S is `total_sequence_length`, the queries are the
    first ones, else the last of each sequence; their keys are stored at the same positions of the cache.
    """
    unsupported(kv_cache_bit_width=options.kv_cache_bit_width, qk_output=options.qk_output)
    unsupported(k_scale=k_scale is not None, v_scale=v_scale is not None)
    if (key is None) != (value is None) or (past_key is None) != (past_value is None):
        raise OpError("key and value, and past_key and past_value, must be given together")
    if seqlens_k is None or total_sequence_length is None or total_sequence_length.size != 1:
        raise OpError("seqlens_k and total_sequence_length, one number, are needed")
    floats = {"key": key, "value": value, "past_key": past_key, "past_value": past_value}
    check_dtypes(query, **floats, cos_cache=cos_cache, sin_cache=sin_cache, attention_bias=attention_bias)
    size, shared = _head_size(query, key, options), options.kv_num_heads
    batch, queries, _ = query.shape
    lengths = seqlens_k.reshape(-1).astype(np.int64) + 1
    check_shape("seqlens_k", lengths, (batch,))
    total = int(total_sequence_length.reshape(()))
    before = np.zeros(batch, np.int64) if queries == total else lengths - queries
    q, k, v = _in_heads(query, key, value, size, options)
    if options.do_rotary:
        if cos_cache is None or sin_cache is None:
            raise OpError("do_rotary needs cos_cache and sin_cache")
        positions = before[:, None] + np.arange(queries) if position_ids is None else position_ids
        turn = {"interleaved": options.rotary_interleaved}
        q, k = (rotary_embedding(x, positions, widened(cos_cache), widened(sin_cache), **turn) for x in (q, k))
    caches = [
        _cached(ctx, name, past, new, before, total)
        for name, past, new in (("past_key", past_key, k), ("past_value", past_value, v))
    ]
    keys = total if queries == total else int(max(lengths.max(initial=0), 1))
    ctx.check_size((batch, options.num_heads, queries, keys), np.float32)
    k, v = (cache[:, :, :keys] for cache in caches)
    # the heads of a group follow each other: their queries are rows of one product
    grouped = (batch, shared, options.num_heads // shared * queries)
    scores = (q.reshape(*grouped, size) @ k.swapaxes(2, 3)) * np.float32(options.scale or 1 / math.sqrt(size))
    scores = scores.reshape(batch, options.num_heads, queries, keys)
    if options.softcap > 0:
        scores = np.tanh(scores / np.float32(options.softcap)) * np.float32(options.softcap)
    if attention_bias is not None:
        _check_bias(attention_bias, (batch, options.num_heads, queries, keys))
        scores = scores + widened(attention_bias)[..., :keys]
    if options.local_window_size > 0 or (before < keys - 1).any():
        scores = np.where(_visible(before, queries, keys, options.local_window_size), scores, np.float32(-np.inf))
    y = _weights(scores, head_sink, options).reshape(*grouped, keys) @ v
    outputs = [y.reshape(batch, options.num_heads, queries, size).swapaxes(1, 2).reshape(batch, queries, -1), *caches]
    return tuple(output.astype(query.dtype, copy=False) for output in outputs)


def _in_heads(
    query: Array, key: Array | None, value: Array | None, size: int, options: GroupAttributes
) -> tuple[Array, Array, Array]:
    """Return queries, keys and values as [B, heads, S, H], at least in float32."""
    heads, shared = options.num_heads, options.kv_num_heads
    if key is None or value is None:
        parts = np.split(query, [heads * size, (heads + shared) * size], axis=-1)
    else:
        parts = [query, key, value]
        for name, x in (("key", key), ("value", value)):
            check_shape(name, x, (*query.shape[:2], shared * size))
    q, k, v = (widened(x).reshape(*x.shape[:2], -1, size).swapaxes(1, 2) for x in parts)
    return q, k, v


def _cached(ctx: Context, name: str, past: Array | None, new: Array, before: Array, total: int) -> Array:
    """Return a cache with new entries [B, K, S, H] behind the first `before` [B] of each sequence."""
    batch, heads, count, size = new.shape
    room = 0 if past is None else past.shape[2] if past.ndim == 4 else -1
    check_shape(name, past, (batch, heads, room, size))
    most = max(total, room)
    if batch and not 0 <= before.min() <= before.max() <= min(room, most - count):
        raise OpError(f"{name} has {room} positions, seqlens_k puts {count} new ones at {before.tolist()} of {most}")
    ctx.check_size((batch, heads, most, size), np.float32)
    cache = np.empty((batch, heads, most, size), new.dtype)
    cache[:, :, room:] = 0
    if past is not None:
        cache[:, :, :room] = past
    for item, at in enumerate(before):
        cache[item, :, at : at + count] = new[item]
    return cache


def _check_bias(bias: Array, scores: tuple[int, int, int, int]) -> None:
    batch, heads, queries, keys = scores
    fits = bias.ndim == 4 and bias.shape[0] in (1, batch) and bias.shape[1] in (1, heads)
    if not fits or bias.shape[2] != queries or bias.shape[3] < keys:
        raise OpError(f"attention_bias has shape {list(bias.shape)}, scores {list(scores)}")


def _visible(before: Array, queries: int, keys: int, window: int) -> Array:
    """Return the keys that each query sees, [B, 1, S, T]: up to its own position, and at most `window` of them."""
    own = (before[:, None] + np.arange(queries))[:, None, :, None]
    key = np.arange(keys)
    seen = key <= own
    return seen & (key > own - window) if window > 0 else seen


def _weights(scores: Array, sink: Array | None, options: GroupAttributes) -> Array:
    """Return the softmax of scores and of one more, `sink` [N] or 0, which has no value."""
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    extra = None
    if sink is not None:
        check_shape("head_sink", sink, (options.num_heads,))
        extra = widened(sink).reshape(1, -1, 1, 1)
    elif options.smooth_softmax:
        extra = np.zeros((1, 1, 1, 1), np.float32)
    top = top if extra is None else np.maximum(top, extra)
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights / (total if extra is None else total + np.exp(extra - top)))
