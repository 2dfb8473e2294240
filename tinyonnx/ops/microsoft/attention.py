"""com.microsoft: Attention, QAttention, MultiHeadAttention, RotaryEmbedding.

Shapes are written with B sequences of S queries and T keys, in N heads of H (values: V) numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import quiet, widened
from tinyonnx.ops.microsoft._common import check_dtypes, check_shape, microsoft, unsupported
from tinyonnx.ops.microsoft.matmul import matmul_integer_to_float
from tinyonnx.registry import Context, Info, same_as

MASKED = -10000.0
"""The default bias of masked scores."""


def _split(x: Array, heads: int) -> Array:
    """Split heads: [B, S, N · H] → [B, N, S, H]."""
    batch, length, hidden = x.shape
    return x.reshape(batch, length, heads, hidden // heads).swapaxes(1, 2)


def _joined(x: Array) -> Array:
    """Join heads: [B, N, S, H] → [B, S, N · H]."""
    batch, heads, length, size = x.shape
    return x.swapaxes(1, 2).reshape(batch, length, heads * size)


def _check_heads(name: str, hidden: int, heads: int) -> None:
    if heads < 1 or hidden % heads:
        raise OpError(f"{name} has {hidden} numbers, which can't be divided into {heads} heads")


def _check_rank(name: str, x: Any, *ranks: int) -> None:
    if x.ndim not in ranks:
        raise OpError(f"{name} has {x.ndim} dimensions, needs {' or '.join(map(str, ranks))}")


# -- shared by both attentions ------------------------------------------------------------


def _mask(mask: Array, batch: int, before: int, queries: int, keys: int, filtered: float) -> Array:
    """Return the bias for a mask, which broadcasts to the scores [B, N, S, T].

    The mask has one number per sequence (its length) or two (end and start), or zeros at hidden
    positions: [B, T], [B, S, T], or [B, 1, most, most].
    """
    position = np.arange(keys)
    if mask.shape == (batch,):
        allowed = position < mask[:, None]
    elif mask.shape == (2 * batch,):
        allowed = (position < mask[:batch, None]) & (position >= mask[batch:, None])
    elif mask.shape == (batch, keys):
        allowed = mask > 0
    elif mask.shape == (batch, queries, keys):
        return np.where(mask > 0, np.float32(0), np.float32(filtered))[:, None]
    elif (
        mask.ndim == 4
        and mask.shape[:2] == (batch, 1)
        and mask.shape[2] == mask.shape[3] >= max(keys, before + queries)
    ):
        return np.where(mask[:, :, before : before + queries, :keys] > 0, np.float32(0), np.float32(filtered))
    else:
        wanted = f"[{batch}], [{2 * batch}], [{batch}, {keys}], [{batch}, {queries}, {keys}] or [{batch}, 1, m, m]"
        raise OpError(f"the mask has shape {list(mask.shape)}, should be {wanted}")
    return np.where(allowed, np.float32(0), np.float32(filtered))[:, None, None]


def _attend(
    ctx: Context, q: Array, k: Array, v: Array, *, before: int, scale: float | None, mask: Array | None,
    bias: Array | None, unidirectional: int, filtered: float,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the output [B, N, S, V] and the scores [B, N, S, T] before Softmax, in the type of the operands.

    The first query is at position `before` of the keys.
    """
    batch, heads, queries, size = q.shape
    keys = k.shape[2]
    ctx.check_size((batch, heads, queries, keys), q.dtype)
    scores = (q @ k.swapaxes(2, 3)) * q.dtype.type(scale or 1 / math.sqrt(size))
    if mask is not None:
        scores += _mask(mask, batch, before, queries, keys, filtered)
    if bias is not None:
        if bias.ndim != 4 or any(n not in (1, m) for n, m in zip(bias.shape, (batch, heads))):
            raise OpError(f"attention_bias has shape {list(bias.shape)}, scores {[batch, heads, queries, keys]}")
        check_shape("attention_bias", bias, (*bias.shape[:2], queries, keys))
        scores += widened(bias)
    if unidirectional:
        allowed = np.arange(keys) <= before + np.arange(queries)[:, None]
        scores = np.where(allowed, scores, np.finfo(np.float32).min)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ v, scores


# -- Attention --------------------------------------------------------------------------


def _hidden_sizes(weights: Any, heads: int, sizes: list[int] | None) -> tuple[int, int, int]:
    total = int(weights.shape[1])
    if sizes is None:
        if total % 3:
            raise OpError(f"weights have {total} columns, which aren't those of queries, keys and values")
        sizes = [total // 3] * 3
    if len(sizes) != 3 or sizes[0] != sizes[1] or sum(sizes) != total or min(sizes) < 1:
        raise OpError(f"qkv_hidden_sizes {sizes} should be those of queries, keys and values, together {total}")
    _check_heads("a query", sizes[0], heads)
    _check_heads("a value", sizes[2], heads)
    return sizes[0], sizes[1], sizes[2]


def _attention_shape(
    x: Info, weights: Info, bias: Info | None = None, mask: Info | None = None, past: Info | None = None,
    *_: Info | None, num_heads: int, qkv_hidden_sizes: list[int] | None = None, **__: Any,
) -> list[Info] | None:  # fmt: skip
    if x.shape is None or weights.shape is None or (past is not None and past.shape is None):
        return None
    batch, length, _input = x.shape
    sizes = _hidden_sizes(weights, num_heads, qkv_hidden_sizes)
    before = 0 if past is None or past.shape is None else past.shape[3]
    present = (2, batch, num_heads, before + length, sizes[0] // num_heads)
    return [Info(x.dtype, (batch, length, sizes[2])), Info(x.dtype, present)]


@microsoft("Attention", shape=_attention_shape)
@quiet
def attention(
    ctx: Context, input: Array, weights: Array, bias: Array | None = None, mask_index: Array | None = None,
    past: Array | None = None, attention_bias: Array | None = None, past_sequence_length: Array | None = None, *,
    num_heads: int, do_rotary: int = 0, mask_filter_value: float = MASKED, past_present_share_buffer: int = 0,
    qkv_hidden_sizes: list[int] | None = None, rotary_embedding_dim: int = 0, scale: float | None = None,
    unidirectional: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    """Compute self attention of `input` [B, S, D]; `weights` [D, 3 · N · H] project it.

    `past` and the second output are keys and values, [2, B, N, T, H].
    """
    unsupported(do_rotary=do_rotary, past_present_share_buffer=past_present_share_buffer)
    _check_rank("input", input, 3)
    _check_rank("weights", weights, 2)
    check_dtypes(input, weights=weights, bias=bias, past=past, attention_bias=attention_bias)
    batch, length, features = input.shape
    if weights.shape[0] != features:
        raise OpError(f"input has {features} features, weights {weights.shape[0]} rows")
    sizes = _hidden_sizes(weights, num_heads, qkv_hidden_sizes)
    check_shape("bias", bias, (sum(sizes),))
    ctx.check_size((batch, length, sum(sizes)), np.float32)
    projected = widened(input) @ widened(weights)
    if bias is not None:
        projected = projected + widened(bias)
    outputs = _self_attention(
        ctx,
        projected,
        sizes,
        num_heads,
        past,
        scale=scale,
        mask=mask_index,
        bias=attention_bias,
        unidirectional=unidirectional,
        filtered=mask_filter_value,
    )
    return tuple(output.astype(input.dtype, copy=False) for output in outputs)


def _self_attention(
    ctx: Context, projected: Array, sizes: tuple[int, int, int], heads: int, past: Array | None, **settings: Any
) -> tuple[Array, ...]:
    """Return the outputs of Attention from its projected input; `settings` are passed on to `_attend`."""
    parts = np.split(projected, [sizes[0], 2 * sizes[0]], axis=-1)
    q, k, v = (_split(widened(part), heads) for part in parts)
    equal = sizes[0] == sizes[2]
    if past is not None:
        if not equal or past.ndim != 5:
            raise OpError(f"past has shape {list(past.shape)}, needs five axes, and values as long as keys")
        check_shape("past", past, (2, len(projected), heads, past.shape[3], k.shape[3]))
        k, v = (np.concatenate([widened(old), new], axis=2) for old, new in zip(past, (k, v)))
    if ctx.n_outputs > 1 and not equal:
        raise OpError(f"present needs values as long as keys, they have {sizes[2]} and {sizes[0]} numbers")
    y, _ = _attend(ctx, q, k, v, before=0 if past is None else past.shape[3], **settings)
    return _joined(y), *([np.stack([k, v])] if equal else [])


# -- QAttention -------------------------------------------------------------------------


def _quantized_shape(
    x: Info, weights: Info, bias: Info, input_scale: Info, weight_scale: Info, *others: Info | None, num_heads: int,
    **_: Any,
) -> list[Info] | None:  # fmt: skip
    past = others[3] if len(others) > 3 else None
    return _attention_shape(Info(bias.dtype, x.shape), weights, bias, None, past, num_heads=num_heads)


@microsoft("QAttention", shape=_quantized_shape)
@quiet
def quantized_attention(
    ctx: Context, input: Array, weight: Array, bias: Array, input_scale: Array, weight_scale: Array,
    mask_index: Array | None = None, input_zero_point: Array | None = None, weight_zero_point: Array | None = None,
    past: Array | None = None, *, num_heads: int, do_rotary: int = 0, mask_filter_value: float = MASKED,
    past_present_share_buffer: int = 0, scale: float | None = None, unidirectional: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    """Compute attention whose input and weights are quantised to bytes."""
    unsupported(do_rotary=do_rotary, past_present_share_buffer=past_present_share_buffer)
    _check_rank("input", input, 3)
    _check_rank("weight", weight, 2)
    check_dtypes(bias, past=past)
    sizes = _hidden_sizes(weight, num_heads, None)
    ctx.check_size((*input.shape[:2], sum(sizes)), np.float32)
    return _self_attention(
        ctx,
        matmul_integer_to_float(input, weight, input_scale, weight_scale, input_zero_point, weight_zero_point, bias),
        sizes,
        num_heads,
        past,
        scale=scale,
        mask=mask_index,
        bias=None,
        unidirectional=unidirectional,
        filtered=mask_filter_value,
    )


# -- MultiHeadAttention -----------------------------------------------------------------


def _heads(
    query: Array, key: Array | None, value: Array | None, bias: Array | None, heads: int
) -> tuple[Array, Array, Array]:
    """Return queries, keys and values as [B, N, S or T, H], with their bias added, at least in float32."""
    if query.ndim == 5:  # packed, [B, S, N, 3, H]
        check_shape("query", query, (*query.shape[:2], heads, 3, query.shape[4]))
        if key is not None or value is not None:
            raise OpError("key and value must be absent if query holds all three")
        packed = widened(query).transpose(3, 0, 2, 1, 4)
        parts = [packed[0], packed[1], packed[2]]
    else:
        _check_rank("query", query, 3)
        _check_heads("query", query.shape[2], heads)
        if key is None:
            raise OpError("input key is missing")
        if key.ndim == 5:  # packed, [B, T, N, 2, H]
            check_shape("key", key, (query.shape[0], key.shape[1], heads, 2, query.shape[2] // heads))
            if value is not None:
                raise OpError("value must be absent if key holds keys and values")
            packed = widened(key).transpose(3, 0, 2, 1, 4)
            rest = [packed[0], packed[1]]
        elif value is None:
            raise OpError("input value is missing")
        else:
            rest = [_in_heads(name, part, heads) for name, part in (("key", key), ("value", value))]
        parts = [_split(widened(query), heads), *rest]
    if bias is not None:
        sizes = [part.shape[1] * part.shape[3] for part in parts]
        check_shape("bias", bias, (sum(sizes),))
        offsets = np.split(widened(bias), np.cumsum(sizes)[:2])
        parts = [part + b.reshape(heads, 1, -1) for part, b in zip(parts, offsets)]
    q, k, v = parts
    if k.shape[:2] != q.shape[:2] or k.shape[3] != q.shape[3]:
        raise OpError(f"queries are {list(q.shape)}, keys {list(k.shape)} (batch, heads, length, size)")
    if v.shape[:3] != k.shape[:3]:
        raise OpError(f"keys are {list(k.shape)}, values {list(v.shape)} (batch, heads, length, size)")
    return q, k, v


def _in_heads(name: str, x: Array, heads: int) -> Array:
    _check_rank(name, x, 3, 4)
    if x.ndim == 4:  # cached by a cross attention
        return widened(x)
    _check_heads(name, x.shape[2], heads)
    return _split(widened(x), heads)


def _multi_head_shape(ctx: Context, query: Info, *others: Info | None, num_heads: int, **_: Any) -> Any:
    """Infer the output shape in the common case only: queries of rank 3, and separate keys and values."""
    key, value, past = (*others, *[None] * 6)[0], (*others, *[None] * 6)[1], (*others, *[None] * 6)[5]
    shapes = [None if x is None else x.shape for x in (key, value)]
    if query.shape is None or len(query.shape) != 3 or None in shapes or ctx.n_outputs > 3 or num_heads < 1:
        return None
    if past is not None and (past.shape is None or len(past.shape) != 4):
        return None
    before = 0 if past is None or past.shape is None else past.shape[2]
    batch, sizes, lengths = query.shape[0], [], []
    for shape in shapes:
        assert shape is not None
        if len(shape) not in (3, 4):
            return None
        sizes.append(shape[2] // num_heads if len(shape) == 3 else shape[3])
        lengths.append(before + (shape[1] if len(shape) == 3 else shape[2]))
    y = Info(query.dtype, (*query.shape[:2], num_heads * sizes[1]))
    return [y, *(Info(query.dtype, (batch, num_heads, n, size)) for n, size in zip(lengths, sizes))][: ctx.n_outputs]


@microsoft("MultiHeadAttention", shape=_multi_head_shape)
@quiet
def multi_head_attention(
    ctx: Context, query: Array, key: Array | None = None, value: Array | None = None, bias: Array | None = None,
    key_padding_mask: Array | None = None, attention_bias: Array | None = None, past_key: Array | None = None,
    past_value: Array | None = None, past_sequence_length: Array | None = None, cache_indirection: Array | None = None,
    *, num_heads: int, mask_filter_value: float = MASKED, scale: float | None = None, unidirectional: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    """Return the output [B, S, N · V], all keys and values [B, N, T, H], and the scores."""
    if past_sequence_length is not None or cache_indirection is not None:
        raise OpError("past_sequence_length and cache_indirection, of buffers that are shared, are not supported")
    floats = {"key": key, "value": value, "bias": bias, "past_key": past_key, "past_value": past_value}
    check_dtypes(query, attention_bias=attention_bias, **floats)
    q, k, v = _heads(query, key, value, bias, num_heads)
    if (past_key is None) != (past_value is None):
        raise OpError("past_key and past_value must be given together")
    if past_key is not None and past_value is not None:
        for name, past, new in (("past_key", past_key, k), ("past_value", past_value, v)):
            _check_rank(name, past, 4)
            check_shape(name, past, (*new.shape[:2], past_key.shape[2], new.shape[3]))
        k, v = np.concatenate([widened(past_key), k], 2), np.concatenate([widened(past_value), v], 2)
    y, scores = _attend(
        ctx,
        *(q, k, v),
        before=0 if past_key is None else past_key.shape[2],
        scale=scale,
        mask=key_padding_mask,
        bias=attention_bias,
        unidirectional=unidirectional,
        filtered=mask_filter_value,
    )
    return tuple(o.astype(query.dtype) for o in (_joined(y), k, v, scores))


# -- RotaryEmbedding --------------------------------------------------------------------


@microsoft("RotaryEmbedding", shape=same_as())
@quiet
def rotary_embedding(
    input: Array, position_ids: Array, cos_cache: Array, sin_cache: Array, *, interleaved: int = 0,
    is_packed_batching: int = 0, num_heads: int = 0, rotary_embedding_dim: int = 0, scale: float = 1.0,
) -> Array:  # fmt: skip
    """Rotate pairs of features, adjacent or half a head apart, by an angle proportional to the position.

    `input` is [B, S, N · H] or [B, N, S, H]; `position_ids` is [B, S], or one number, the first.
    """
    unsupported(is_packed_batching=is_packed_batching)
    if scale != 1:
        raise OpError(f"scale {scale} is not supported")
    _check_rank("input", input, 3, 4)
    _check_rank("cos_cache", cos_cache, 2)
    check_shape("sin_cache", sin_cache, cos_cache.shape)
    check_dtypes(input, cos_cache=cos_cache, sin_cache=sin_cache)
    rotated = 2 * cos_cache.shape[1]
    if rotary_embedding_dim and rotary_embedding_dim != rotated:
        raise OpError(f"rotary_embedding_dim is {rotary_embedding_dim}, cos_cache rotates {rotated} features")
    if rotary_embedding_dim and input.ndim == 3 and not num_heads:
        raise OpError("rotary_embedding_dim needs num_heads")
    if input.ndim == 3:
        heads = num_heads if rotary_embedding_dim else input.shape[2] // max(1, rotated)
        _check_heads("input", input.shape[2], heads)
        x = _split(widened(input), heads)
    else:
        x = widened(input)
    if x.shape[3] < rotated:
        raise OpError(f"a head has {x.shape[3]} features, cos_cache rotates {rotated}")
    positions = _positions(position_ids, x.shape[0], x.shape[2], len(cos_cache))
    cos, sin = (widened(cache)[positions][:, None] for cache in (cos_cache, sin_cache))
    y = x.copy()
    half = rotated // 2
    pairs = (slice(0, rotated, 2), slice(1, rotated, 2)), (slice(0, half), slice(half, rotated))
    first, second = pairs[0 if interleaved else 1]
    real, imaginary = x[..., first], x[..., second]
    y[..., first] = real * cos - imaginary * sin
    y[..., second] = real * sin + imaginary * cos
    return (_joined(y) if input.ndim == 3 else y).astype(input.dtype, copy=False)


def _positions(position_ids: Array, batch: int, length: int, most: int) -> Array:
    if position_ids.dtype.kind not in "iu":
        raise OpError(f"position_ids is {position_ids.dtype}, must be int64")
    if position_ids.shape == (1,):
        positions = np.broadcast_to(position_ids + np.arange(length), (batch, length))
    else:
        check_shape("position_ids", position_ids, (batch, length), (1,))
        positions = position_ids
    if positions.size and (positions.min() < 0 or positions.max() >= most):
        raise OpError(f"positions are {positions.min()} to {positions.max()}, cos_cache has {most} rows")
    return positions
