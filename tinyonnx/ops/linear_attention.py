"""Linear attention, whose state has a fixed size, and the causal convolution before it.

Shapes are written with B sequences of T tokens, in N heads of K (values: V) numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import quiet, widened
from tinyonnx.ops.microsoft._common import check_shape
from tinyonnx.registry import Context, Info, op

_RULES = ("linear", "gated", "delta", "gated_delta")


def _in_heads(name: str, x: Array, batch: int, tokens: int, heads: int) -> Array:
    """Split heads, time first: [B, T, N · K] → [T, B, N, K]."""
    if x.ndim != 3 or x.shape[:2] != (batch, tokens) or x.shape[2] % heads:
        raise OpError(f"{name} has shape {list(x.shape)}, not [{batch}, {tokens}, a multiple of {heads}]")
    return widened(x).reshape(batch, tokens, heads, x.shape[2] // heads).swapaxes(0, 1)


def _linear_shape(
    query: Info, key: Info, value: Info, past: Info | None = None, *_: Info | None, kv_num_heads: int, q_num_heads: int,
    **__: Any,
) -> list[Info] | None:  # fmt: skip
    shapes = query.shape, key.shape, value.shape
    if any(s is None or len(s) != 3 for s in shapes) or kv_num_heads < 1 or q_num_heads < 1:
        return None
    (batch, tokens, _queries), (*_rest, keys), (*_more, values) = (s for s in shapes if s is not None)
    size = values // kv_num_heads
    state = (batch, kv_num_heads, keys // kv_num_heads, size)
    dtype = query.dtype if past is None else past.dtype
    return [Info(query.dtype, (batch, tokens, q_num_heads * size)), Info(dtype, state)]


@op("LinearAttention", since=27, shape=_linear_shape)
@quiet
def linear_attention(
    ctx: Context, query: Array, key: Array, value: Array, past_state: Array | None = None, decay: Array | None = None,
    beta: Array | None = None, *, chunk_size: int = 64, kv_num_heads: int, q_num_heads: int, scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Array, Array]:  # fmt: skip
    """Update the state token by token: decay, subtract the delta rule's correction, add k ⊗ v; then read it with q.

    Linear attention of Katharopoulos et al. 2020, gated as in Yang et al. 2024.
    """
    if update_rule not in _RULES:
        raise OpError(f"update_rule is {update_rule!r}, must be one of {', '.join(_RULES)}")
    if kv_num_heads < 1 or q_num_heads < 1 or q_num_heads % kv_num_heads:
        raise OpError(f"{q_num_heads} query heads are not a multiple of {kv_num_heads} key heads")
    if query.ndim != 3:
        raise OpError(f"query has rank {query.ndim}, needs 3")
    batch, tokens, _ = query.shape
    q = _in_heads("query", query, batch, tokens, q_num_heads)
    k, v = (_in_heads(n, x, batch, tokens, kv_num_heads) for n, x in (("key", key), ("value", value)))
    if q.shape[3] != k.shape[3]:
        raise OpError(f"query has heads of {q.shape[3]} numbers, key of {k.shape[3]}")
    keep = _gate("decay", decay, "gated" in update_rule, batch, tokens, kv_num_heads, (1, k.shape[3]))
    rate = _gate("beta", beta, "delta" in update_rule, batch, tokens, kv_num_heads, (1,))
    shape = (batch, kv_num_heads, k.shape[3], v.shape[3])
    ctx.check_size(shape, np.float32)
    check_shape("past_state", past_state, shape)
    state = np.zeros(shape, q.dtype) if past_state is None else widened(past_state).astype(q.dtype)
    factor = scale or (1 / math.sqrt(k.shape[3]) if k.shape[3] else 1.0)
    grouped = q.reshape(tokens, batch, kv_num_heads, q_num_heads // kv_num_heads, q.shape[3])
    out = np.empty((tokens, batch, kv_num_heads, grouped.shape[3], v.shape[3]), q.dtype)
    for t in range(tokens):
        ctx.tick()
        if keep is not None:
            state = np.exp(keep[t])[..., None] * state
        new = v[t]
        if rate is not None:
            new = rate[t] * (new - (k[t][..., None, :] @ state)[..., 0, :])
        state = state + k[t][..., None] * new[..., None, :]
        out[t] = factor * (grouped[t] @ state)
    y = out.transpose(1, 0, 2, 3, 4).reshape(batch, tokens, q_num_heads * v.shape[3])
    return y.astype(query.dtype), state.astype(query.dtype if past_state is None else past_state.dtype)


def _gate(
    name: str, gate: Array | None, needed: bool, batch: int, tokens: int, heads: int, sizes: tuple[int, ...],
) -> Array | None:  # fmt: skip
    """Return a gate as [T, B, N or 1, a size of `sizes`]; None if the rule doesn't need it."""
    if not needed:
        return None
    if gate is None:
        raise OpError(f"this update_rule needs {name}")
    allowed = {heads * size for size in sizes} | ({1} if name == "beta" else set())
    if gate.ndim != 3 or gate.shape[:2] != (batch, tokens) or gate.shape[2] not in allowed:
        sizes_text = " or ".join(map(str, sorted(allowed)))
        raise OpError(f"{name} has shape {list(gate.shape)}, not [{batch}, {tokens}, {sizes_text}]")
    count = min(heads, gate.shape[2])
    return widened(gate).reshape(batch, tokens, count, gate.shape[2] // max(count, 1)).swapaxes(0, 1)


# -- CausalConvWithState ----------------------------------------------------------------


def _causal_shape(x: Info, weight: Info, bias: Info | None = None, past: Info | None = None, **_: Any) -> Any:
    if x.shape is None or weight.shape is None or len(x.shape) != 3 or len(weight.shape) != 3:
        return None
    dtype = x.dtype if past is None else past.dtype
    return [Info(x.dtype, x.shape), Info(dtype, (*x.shape[:2], max(weight.shape[2] - 1, 0)))]


@op("CausalConvWithState", since=27, shape=_causal_shape)
@quiet
def causal_conv_with_state(
    x: Array, weight: Array, bias: Array | None = None, past_state: Array | None = None, *, activation: str = "none"
) -> tuple[Array, Array]:
    """Compute a causal depthwise convolution of [B, C, length]; the last inputs are the state for the next call."""
    if x.ndim != 3 or weight.ndim != 3:
        raise OpError(f"input and weight have ranks {x.ndim} and {weight.ndim}, not 3")
    batch, channels, length = x.shape
    taps = weight.shape[2]
    if not taps:
        raise OpError("weight has no taps")
    check_shape("weight", weight, (channels, 1, taps))
    check_shape("bias", bias, (channels,))
    check_shape("past_state", past_state, (batch, channels, taps - 1))
    if activation not in ("none", "silu", "swish"):
        raise OpError(f"activation is {activation!r}, must be none, silu or swish")
    past = np.zeros((batch, channels, taps - 1), x.dtype) if past_state is None else past_state
    whole = np.concatenate([widened(past), widened(x)], axis=2)
    y = np.zeros((batch, channels, length), whole.dtype)
    for tap in range(taps):
        y += whole[:, :, tap : tap + length] * widened(weight)[:, 0, tap, None]
    if bias is not None:
        y += widened(bias)[:, None]
    if activation != "none":
        y = y / (1 + np.exp(-y))
    return y.astype(x.dtype), whole[:, :, length:].astype(past.dtype)
