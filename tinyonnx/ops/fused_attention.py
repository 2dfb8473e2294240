"""Attention as the passes fuse it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.activation import softmax
from tinyonnx.ops.matmul import matmul, matmul_shape
from tinyonnx.registry import FUSED, Attributes, Info, op
from tinyonnx.sizes.integers import broadcast_shapes

Order = Sequence[int] | None
"""The order of axes, as Transpose's `perm`; None leaves them alone."""


class Orders(Attributes):
    """The order of the axes in which each operand is read and the result is written."""

    q_perm: Order = None
    k_perm: Order = None
    v_perm: Order = None
    out_perm: Order = None


def _moved(info: Info, perm: Order, last: int = 0) -> Info:
    """Return the description of a transposed tensor, its last two axes swapped with `last`."""
    assert info.shape is not None
    shape = [info.shape[axis] for axis in perm] if perm else list(info.shape)
    return Info(info.dtype, (*shape[:-2], shape[-1], shape[-2]) if last else tuple(shape))


FROM_FIRST, FROM_LAST = 1, 2
"""Causal attention whose queries stand at the positions of the first keys, or of the last ones."""


def first_reach(causal: int, queries: int, keys: int) -> int:
    """Return the number of keys that the first query attends to; each further one attends to one more."""
    return keys if not causal else 1 if causal == FROM_FIRST else keys - queries + 1


def _check_bias(bias: tuple[int, ...], scores: tuple[int, ...]) -> None:
    if broadcast_shapes(bias, scores) != scores:
        raise OpError(f"the bias of shape {list(bias)} doesn't broadcast to {list(scores)}")


def fused_attention_shape(
    q: Info, k: Info, v: Info, bias: Info | None = None, *, scale: float = 1.0, orders: Orders = Orders(),
    causal: int = 0, lenient: int = 0,
) -> Info:  # fmt: skip
    """Infer the output shape of FusedAttention."""
    if q.shape is None or k.shape is None or v.shape is None:
        return Info(q.dtype, None)
    scores = matmul_shape(_moved(q, orders.q_perm), _moved(k, orders.k_perm, last=1))
    shape = scores.shape
    if bias is not None and bias.shape is not None and shape is not None:
        _check_bias(bias.shape, shape)
    return _moved(matmul_shape(scores, _moved(v, orders.v_perm)), orders.out_perm)


@op("FusedAttention", domain=FUSED, shape=fused_attention_shape)
def fused_attention(
    q: Array, k: Array, v: Array, bias: Array | None = None, *, scale: float = 1.0, orders: Orders = Orders(),
    causal: int = 0, lenient: int = 0,
) -> Array:  # fmt: skip
    """Compute softmax(scale · q · kᵀ + bias) · v, transposed by `out_perm`.

    Operands are first transposed by their own `perm`, to queries [..., L, H], keys [..., T, H] and values [..., T, V];
    the bias broadcasts to the scores [..., L, T]. With `causal` FROM_FIRST query i attends to the keys up to i, with
    FROM_LAST up to i + T - L. With `lenient` the result of a query that attends to no key is 0, else NaN.
    """
    moves = zip((q, k, v), (orders.q_perm, orders.k_perm, orders.v_perm))
    q, k, v = (x if perm is None else x.transpose(perm) for x, perm in moves)
    with np.errstate(all="ignore"):
        scores = matmul(q, k.swapaxes(-1, -2)) * q.dtype.type(scale)
        if bias is not None:
            scores = scores + bias
        if causal:
            last = np.arange(scores.shape[-2])[:, None] + first_reach(causal, *scores.shape[-2:]) - 1
            scores = np.where(np.arange(scores.shape[-1]) <= last, scores, q.dtype.type(-np.inf))
        weights = softmax(scores, axis=-1)
        if lenient:
            weights = np.where(np.isneginf(scores).all(axis=-1, keepdims=True), weights.dtype.type(0), weights)
        y = matmul(weights, v)
    return y if orders.out_perm is None else np.ascontiguousarray(y.transpose(orders.out_perm))
