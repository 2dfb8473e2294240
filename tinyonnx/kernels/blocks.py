"""MatMulNBits: products with a constant matrix whose weights have 2, 4 or 8 bits and a scale for each block of them.

The packed weights are never unpacked as a whole. If the left matrix has many rows, a few rows of a panel (two vectors
of columns) at a time are unpacked to scratch memory; if it has few, weights are unpacked in registers for each of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.block_tiles import PANEL, BlockPanel, multiply_row, unpack_rows
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, LINEAR, Epilogue, Lines, Rows, Taps
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Product, flat, float32_refused
from tinyonnx.kernels.elementwise import ADD, combine
from tinyonnx.kernels.gemm import Panels, multiply_rows
from tinyonnx.ops.microsoft.blocks import default_blocks, matmul_n_bits, unpacked, zero_points_of
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.arena import allocate_lasting
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.integers import minimum

_ROWS = 96
"""Rows of a work item, which is not divided between threads."""

_FEW = 2
"""Up to this many rows, unpacking in registers for each row costs less than unpacking once to memory."""

_DEPTH = 128
"""Maximum number of rows of weights that are unpacked at a time, so that they stay in the L1 cache."""

_ZERO = np.float32(0)


class Blocks(NamedTuple):
    """Packed weights, scales and zero points by panel, the bias, and the rows of a block.

    `varied` is 0 if all zero points are the same; then only those of one block of one panel are stored.
    """

    data: Array
    scales: Array
    zeros: Array
    bias: Array
    size: int
    varied: int


class BlockRoom(NamedTuple):
    """Offsets in a share's scratch memory: total and partial sums, unpacked weights, and a bias of zeros."""

    sums: int
    more: int
    weights: int
    zeros: int


@jit
def _multiply_many(
    bits: Static, x: Rows, count: int, k: int, w: Blocks, panel: int, scratch: Array, room: BlockRoom
) -> None:  # fmt: skip
    """Multiply `count` rows of `k` numbers with a panel; the products are added up at `room.sums`."""
    width, blocks = bits * PANEL // 8, (k + w.size - 1) // w.size
    run = min(w.size, _DEPTH)
    for first in range(0, k, _DEPTH):
        depth = min(_DEPTH, k - first)
        for row in range(first, first + depth, run):
            block = (panel * blocks + row // w.size) * PANEL
            here = BlockPanel(w.data, (panel * k + row) * width, w.scales, block, w.zeros, block * w.varied, 0)
            unpack_rows(bits, here, min(run, first + depth - row), scratch, room.weights + (row - first) * PANEL)
        target = room.sums if first == 0 else room.more
        multiply_rows(
            Rows(x.data, x.start + first, x.step), count, Taps(1, 0, 1, 0, depth, 0),
            Panels(scratch, room.weights, 0, depth, scratch, room.zeros), PANEL,
            Lines(scratch, scratch, target, PANEL, LANES), Epilogue(0, LINEAR, _ZERO, _ZERO),
        )  # fmt: skip
        if first > 0:
            more = scratch[room.more : room.more + count * PANEL]
            combine(scratch[room.sums : room.sums + count * PANEL], more, ADD)


@kernel
def multiply_blocks(
    bits: Static, x: Array, w: Blocks, out: Array, size: Product, scratch: Array, part: int, parts: int
) -> None:
    """Compute out[m, n] = x[m, k] · w + bias; all arrays flat. Scratch is divided as `BlockRoom` says."""
    m, k, n = size
    panels, rows = (n + PANEL - 1) // PANEL, min(m, _ROWS)
    width, blocks = bits * PANEL // 8, (k + w.size - 1) // w.size
    first, end = share((m + _ROWS - 1) // _ROWS * panels, part, parts)
    sums = scratch.shape[0] // parts * part
    room = BlockRoom(sums, sums + rows * PANEL, sums + 2 * rows * PANEL, sums + (2 * rows + _DEPTH) * PANEL)
    for i in range(PANEL):
        scratch[room.zeros + i] = _ZERO
    for item in range(first, end):
        row, panel = item // panels * _ROWS, item % panels
        count, column = min(_ROWS, m - row), panel * PANEL
        if m <= _FEW:
            block = panel * blocks * PANEL
            here = BlockPanel(
                w.data, column // PANEL * k * width, w.scales, block, w.zeros, block * w.varied, PANEL * w.varied
            )
            for r in range(count):
                multiply_row(bits, x, (row + r) * k, here, k, w.size, scratch, sums + r * PANEL)
        else:
            _multiply_many(bits, Rows(x, row * k, k), count, k, w, panel, scratch, room)
        columns = min(PANEL, n - column)
        bias = w.bias[column : column + columns]
        for r in range(count):
            at = (row + r) * n + column
            source, target = scratch[sums + r * PANEL : sums + r * PANEL + columns], out[at : at + columns]
            for c in range(columns):
                target[c] = source[c] + bias[c]


# -- packing ----------------------------------------------------------------------------


def _lasting(array: Array) -> Array:
    """Return a flat copy that starts at a cache line."""
    memory: Array = allocate_lasting(array.nbytes)[: array.nbytes].view(array.dtype)
    memory[...] = array.reshape(-1)
    return memory


def _by_panel(numbers: Array) -> Array:
    """Arrange numbers [n, count] as [panels, count, 2, LANES], padded with zeros."""
    n, count = numbers.shape
    filled = np.zeros((-(-n // PANEL) * PANEL, count), numbers.dtype)
    filled[:n] = numbers
    return filled.reshape(-1, 2, LANES, count).transpose(0, 3, 1, 2)


def _width(bits: int) -> int:
    """Return the number of bits that a packed weight takes."""
    return max(bits, 4)


def _pack(b: Array, n: int, k: int, bits: int) -> Array:
    """Pack weights [n, blocks, bytes] into panels."""
    panels = _by_panel(unpacked(b.reshape(n, -1), bits, k))
    return _lasting(panels[:, :, 0] | panels[:, :, 1] << np.uint8(4) if _width(bits) == 4 else panels)


def _pack_scales(scales: Array, n: int) -> Array:
    """Pack the scales of n columns into panels."""
    return _lasting(_by_panel(scales.reshape(n, -1)))


def _pack_zeros(given: Array | None, bits: int, n: int, blocks: int) -> Array:
    """Pack zero points into panels; a single block of one panel if they are all the same."""
    zeros = zero_points_of(given, np.dtype(np.float32), bits, n, blocks)
    if (zeros == zeros[0, 0]).all():
        return np.full(PANEL, zeros[0, 0], np.float32)
    return _lasting(_by_panel(zeros))


# -- operators --------------------------------------------------------------------------


def _operands(operands: tuple[Any, ...]) -> Any:
    """Return the inputs, None for absent ones: A, B, scales, zero points, g_idx, bias."""
    return (*operands, *[None] * (6 - len(operands)))


def _refused(
    out: Info, *operands: Info | None, K: int, N: int, block_size: int, bits: int = 4, weight_prepacked: int = 0,
    **_: int,
) -> str | None:  # fmt: skip
    a, b, scales, zero_points, g_idx, bias = _operands(operands)
    if any(i is not None and i.value is None for i in (b, scales, zero_points, g_idx, bias)):
        return "weights are not constant"
    if a is None or a.value is not None:
        return "the input is constant"
    if bits not in (2, 4, 8) or min(K, N) < 1 or block_size < 16 or block_size & (block_size - 1) or weight_prepacked:
        return "attributes are invalid"
    if g_idx is not None and g_idx.value is not None and not default_blocks(g_idx.value, K, block_size):
        return "g_idx assigns rows to other blocks than their own"
    blocks = -(-K // block_size)
    shapes: list[tuple[Info | None, list[tuple[int, ...]]]] = [
        (a, [(*(a.shape or ())[:-1], K)]),
        (b, [(N, blocks, block_size * bits // 8)]),
        (scales, [(N, blocks), (N * blocks,)]),
        (bias, [(N,)]),
    ]
    if zero_points is not None:
        count = -(-blocks * bits // 8) if zero_points.dtype == np.uint8 else blocks
        shapes.append((zero_points, [(N, count), (N * count,)]))
    if any(info is not None and info.shape not in allowed for info, allowed in shapes):
        return "the shape of an input contradicts the attributes"
    floats = zero_points if zero_points is not None and zero_points.dtype != np.uint8 else None
    return float32_refused(out, a, scales, bias, floats)


@fast(matmul_n_bits, when=_refused, layout="row_major")
def bind_blocks(
    pool: ConstantPool, out: Array, *operands: Array | None, K: int, N: int, block_size: int, bits: int = 4, **_: int
) -> Call:
    """Bind a product of [..., K] with packed weights."""
    a, b, scales, zero_points, _g_idx, bias = _operands(operands)
    data = pool.derive(("blocks", N, K, bits), lambda b: _pack(b, N, K, bits), b)
    factors = pool.derive(("scales of blocks", N), lambda scales: _pack_scales(scales, N), scales)
    blocks = -(-K // block_size)
    if zero_points is None:
        zeros = _pack_zeros(None, bits, N, blocks)
    else:
        zeros = pool.derive(("zeros of blocks", bits, N), lambda z: _pack_zeros(z, bits, N, blocks), zero_points)
    summand = np.full(N, -0.0, np.float32) if bias is None else flat(bias)  # adding -0 changes no number
    w = Blocks(data, factors, zeros, summand, block_size, int(zeros.size > PANEL))
    m = out.size // N
    scratch = (2 * minimum(m, _ROWS) + _DEPTH + 1) * PANEL
    return Call(multiply_blocks, (Specialised(_width(bits)), flat(a), w, flat(out), Product(m, K, N)), scratch=scratch)
