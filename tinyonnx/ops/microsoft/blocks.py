"""com.microsoft: weights quantised in blocks, with a few bits each, as in language models."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.index import gather, gather_shape
from tinyonnx.ops.math import one_axis, quiet, widened
from tinyonnx.ops.microsoft._common import check_dtypes, check_shape, microsoft
from tinyonnx.ops.quantize import centered, check_type, spread
from tinyonnx.registry import Context, Info


def unpacked(packed: Array, bits: int, count: int) -> Array:
    """Unpack the first `count` numbers of `bits` bits along the last axis of bytes, lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return numbers.reshape(*packed.shape[:-1], -1)[..., :count]


# -- MatMulNBits ------------------------------------------------------------------------


def _n_bits_shape(a: Info, *_: Info | None, K: int, N: int, **__: Any) -> Info:
    return Info(a.dtype, None if a.shape is None else (*a.shape[:-1], N))


@microsoft("MatMulNBits", shape=_n_bits_shape)
@quiet
def matmul_n_bits(
    ctx: Context, a: Array, b: Array, scales: Array, zero_points: Array | None = None, g_idx: Array | None = None,
    bias: Array | None = None, *, K: int, N: int, block_size: int, accuracy_level: int = 0, bits: int = 4,
    weight_prepacked: int = 0,
) -> Array:  # fmt: skip
    """Multiply `a` [..., K] by the transpose of weights [N, K], which are quantised in blocks along K.

    `b` is [N, blocks, block_size · bits / 8] bytes. Of each block there is a scale and perhaps
    a zero point (packed like the weights, or a number of the type of `a`); `g_idx` tells each
    of the K columns its block. Computed in float32, whatever `accuracy_level` allows.
    """
    if bits not in (2, 4, 8):
        raise OpError(f"bits is {bits}, must be 2, 4 or 8")
    if min(K, N) < 1 or block_size < 16 or block_size & (block_size - 1):
        raise OpError(f"K is {K}, N is {N}, block_size is {block_size}: must be positive, a power of two from 16 on")
    if weight_prepacked:
        raise OpError("prepacked weights are not supported")
    if a.ndim < 1 or a.shape[-1] != K:
        raise OpError(f"A has shape {list(a.shape)}, its last axis should be {K}")
    check_dtypes(a, scales=scales, bias=bias)
    blocks = -(-K // block_size)
    check_shape("B", b, (N, blocks, block_size * bits // 8))
    check_shape("scales", scales, (N, blocks), (N * blocks,))
    check_shape("bias", bias, (N,))
    ctx.check_size((N, blocks * block_size), np.float32)
    ctx.check_size((*a.shape[:-1], N), np.float32)
    which = _blocks_of(g_idx, K, block_size, blocks)
    weights = unpacked(b.reshape(N, -1), bits, K).astype(np.float32)
    weights -= zero_points_of(zero_points, a.dtype, bits, N, blocks)[:, which]
    weights *= widened(scales).reshape(N, blocks)[:, which]
    y = widened(a) @ weights.T
    return np.asarray(y if bias is None else y + widened(bias)).astype(a.dtype, copy=False)


def default_blocks(g_idx: Array, K: int, block_size: int) -> bool:
    """Return whether `g_idx` is the default: the first `block_size` columns are the first block, and so on."""
    return g_idx.ndim == 1 and np.array_equal(g_idx[:K], np.arange(K) // block_size)


def _blocks_of(g_idx: Array | None, K: int, block_size: int, blocks: int) -> Array:
    if g_idx is None:
        return np.arange(K) // block_size
    if g_idx.ndim != 1 or len(g_idx) < K:
        raise OpError(f"g_idx has shape {list(g_idx.shape)}, needs {K} numbers")
    which = g_idx[:K].astype(np.int64)
    if which.min() < 0 or which.max() >= blocks:
        raise OpError(f"g_idx is {which.min()} to {which.max()}, there are {blocks} blocks")
    return which


def zero_points_of(zero_points: Array | None, dtype: np.dtype[Any], bits: int, rows: int, blocks: int) -> Array:
    """Return zero points [rows, blocks] in float32; the middle of the range if they are absent."""
    if zero_points is None:
        return np.full((rows, blocks), 1 << (bits - 1), np.float32)
    if zero_points.dtype != np.uint8:
        check_dtypes(Info(dtype, None), zero_points=zero_points)
        check_shape("zero_points", zero_points, (rows, blocks), (rows * blocks,))
        return widened(zero_points).reshape(rows, blocks)
    packed = -(-blocks * bits // 8)
    check_shape("zero_points", zero_points, (rows, packed), (rows * packed,))
    return unpacked(zero_points.reshape(rows, packed), bits, blocks).astype(np.float32)


# -- GatherBlockQuantized ---------------------------------------------------------------


def _per_byte(data: Array | Info, bits: int) -> int:
    """Return the number of values in one element; only bytes are packed."""
    if data.dtype != np.uint8:
        return 1
    if bits not in (2, 4, 8):
        raise OpError(f"bits is {bits}, must be 2, 4 or 8")
    return 8 // bits


def _gather_blocks_shape(
    data: Info, indices: Info, scales: Info, *_: Info | None, bits: int = 4, gather_axis: int = 0, **__: Any
) -> Info:
    if data.shape is None or not data.shape:
        return Info(scales.dtype, None)
    whole = (*data.shape[:-1], data.shape[-1] * _per_byte(data, bits))
    return Info(scales.dtype, gather_shape(Info(data.dtype, whole), indices, axis=gather_axis).shape)


@microsoft("GatherBlockQuantized", shape=_gather_blocks_shape)
@quiet
def gather_block_quantized(
    ctx: Context, data: Array, indices: Array, scales: Array, zero_points: Array | None = None, *, bits: int = 4,
    block_size: int = 128, gather_axis: int = 0, quantize_axis: int = 1,
) -> Array:  # fmt: skip
    """Gather dequantised elements of `data`, which has a scale per block along `quantize_axis`.

    Bytes hold numbers of `bits` bits along the last axis, lowest first, whose zero point is by default the middle.
    """
    along, axis = one_axis(gather_axis, data.ndim), one_axis(quantize_axis, data.ndim)
    if along == axis:
        raise OpError(f"gather_axis and quantize_axis are both {axis}")
    if block_size < 16 or block_size & (block_size - 1):
        raise OpError(f"block_size is {block_size}, must be a power of two from 16 on")
    check_type(data, zero_points, "data")
    packed = _per_byte(data, bits)
    if packed > 1 and along == data.ndim - 1:
        raise OpError("can't gather along the last axis, where bytes hold several numbers")
    whole = (*data.shape[:-1], data.shape[-1] * packed)
    check_shape("scales", scales, (*whole[:axis], -(-whole[axis] // block_size), *whole[axis + 1 :]))
    check_shape("zero_points", zero_points, (*scales.shape[:-1], -(-scales.shape[-1] // packed)))
    x, scale = (gather(part, indices, axis=along) for part in (data, scales))
    zero = None if zero_points is None else gather(zero_points, indices, axis=along)
    ctx.check_size((*x.shape[:-1], x.shape[-1] * packed), np.float32)
    if data.dtype == np.uint8:
        x = unpacked(x, bits, x.shape[-1] * packed)
        middle = np.full(scale.shape, 1 << (bits - 1), np.uint8)
        zero = middle if zero is None else unpacked(zero, bits, scale.shape[-1])
    axis += indices.ndim - 1 if along < axis else 0
    scale = spread(scale, x.shape, axis, block_size)
    zero = None if zero is None else spread(zero, x.shape, axis, block_size)
    return np.asarray(centered(x, zero, np.float32) * widened(scale)).astype(scales.dtype, copy=False)
