"""Products of bytes with a constant matrix of bytes.

The sums Σ (x - x₀) (w - w₀) are exact: Σ x w, computed in register tiles, minus x₀ Σ w and w₀ Σ x, which are
corrections per column and per row, plus k x₀ w₀. In a tile the left factors are unsigned and the right ones signed;
others are shifted by 128, together with their zero points.

The constant is packed into panels of 2 vectors of columns (1 in the last panel), each [words of 4 rows, columns, 4].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.byte_tiles import (
    BIAS,
    BYTES,
    CORRECTION,
    FLOATS,
    SCALE,
    SHORT,
    SUMS,
    TALL,
    WORD,
    ZERO,
    Columns,
    Finish,
    Panel,
    Quantum,
    RowSums,
    Target,
    byte_tile,
    bytes_of,
)
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, Rows, float_from_bits
from tinyonnx.ir import Array
from tinyonnx.kernels._common import Product, flat
from tinyonnx.registry import Call
from tinyonnx.runtime.arena import allocate_lasting
from tinyonnx.runtime.constants import ConstantPool

PANEL = 2 * LANES
"""Columns of a panel."""

BLOCK = 96
"""Maximum number of rows that are multiplied by all panels before the next rows; a multiple of the tiles' heights."""

_NEAR = 1 << 15
"""Maximum number of bytes in a block of rows that stays in the L1 cache."""


class Factor(NamedTuple):
    """Constant weights: packed, and for each column their sum, zero point, scale, and the addends of sums and results.

    `weighted` is 0 if all zero points are 0.
    """

    data: Array
    sums: Array
    zeros: Array
    scales: Array
    offsets: Array
    bias: Array
    weighted: int


class Scaling(NamedTuple):
    """Scales and zero points of left factors and results, one number each; `sign` is 128 for signed bytes, else 0."""

    alpha: Any
    x_scale: Array
    x_zero: Array
    x_sign: int
    y_scale: Array
    y_zero: Array
    y_sign: int


@jit
def padded(k: int) -> int:
    """Round `k` bytes up to whole words."""
    return (k + WORD - 1) // WORD * WORD


@jit
def columns_step(n: int) -> int:
    """Return the number of columns, rounded up to whole vectors."""
    return (n + LANES - 1) // LANES * LANES


@jit
def wrapped(number: Any) -> Any:
    """Reduce an integer modulo 2**32 to the range of int32."""
    return ((number + 2**31) & 0xFFFFFFFF) - 2**31


@jit
def prepare_columns(
    kind: Static, k: int, n: int, first: int, factor: Factor, scaling: Scaling, columns: Columns
) -> None:  # fmt: skip
    """Compute the numbers of `n` columns of `k` factors each, from column `first` on."""
    zero = np.int64(scaling.x_zero[0]) ^ scaling.x_sign
    start, step = columns.start, columns.step
    scale = scaling.alpha * scaling.x_scale[0]
    for c in range(step):
        inside = c < n
        w_zero = np.int64(factor.zeros[first + c]) if inside else 0
        correction = (
            zero * (k * w_zero - np.int64(factor.sums[first + c])) + np.int64(factor.offsets[first + c])
            if inside
            else 0
        )
        columns.data[start + CORRECTION * step + c] = float_from_bits(np.int32(wrapped(correction)))
        columns.data[start + ZERO * step + c] = float_from_bits(np.int32(w_zero))
        if kind != SUMS:
            product = scale * factor.scales[first + c] if inside else scale
            columns.data[start + SCALE * step + c] = product / scaling.y_scale[0] if kind == BYTES else product
        if kind == FLOATS:
            columns.data[start + BIAS * step + c] = factor.bias[first + c] if inside else scale


@jit
def quantum_of(scaling: Scaling) -> Quantum:
    """Return the zero point and range of results."""
    sign = scaling.y_sign
    zero = (np.int64(scaling.y_zero[0]) ^ sign) - sign
    return Quantum(np.float32(zero), np.float32(-sign), np.float32(255 - sign))


@jit(inline=True)
def multiply_tiles(
    rows: Static, vectors: Static, kind: Static, x: Rows, m: int, words: int, w: Panel, finish: Finish, out: Target
) -> None:
    """Multiply `m` rows, at least as many as a tile has, with a panel."""
    sums = finish.sums
    for i in range(0, m, rows):
        r = min(i, m - rows)
        byte_tile(
            rows, vectors, kind, Rows(x.data, x.start + r * x.step, x.step), words, w,
            Finish(finish.columns, RowSums(sums.data, sums.start + r, sums.used), finish.quantum),
            Target(out.data, out.start + r * out.step, out.step, out.lanes),
        )  # fmt: skip


@jit(inline=True)
def multiply_panel(
    vectors: Static, kind: Static, x: Rows, m: int, words: int, w: Panel, finish: Finish, out: Target
) -> None:
    """Multiply `m` rows with a panel in the highest tiles that they fill."""
    if m >= TALL:
        multiply_tiles(TALL, vectors, kind, x, m, words, w, finish, out)
    elif m >= SHORT:
        multiply_tiles(SHORT, vectors, kind, x, m, words, w, finish, out)
    else:
        multiply_tiles(1, vectors, kind, x, m, words, w, finish, out)


@jit
def multiply_rows(
    kind: Static, x: Rows, m: int, words: int, w: Panel, n: int, finish: Finish, out: Target
) -> None:  # fmt: skip
    """Multiply `m` rows of `words` words with `n` columns."""
    columns = finish.columns
    for column in range(0, n, PANEL):
        here = Finish(Columns(columns.data, columns.start + column, columns.step), finish.sums, finish.quantum)
        panel = Panel(w.data, w.start + column * words * WORD)
        left = n - column
        if left > LANES:
            target = Target(out.data, out.start + column, out.step, min(left - LANES, LANES))
            multiply_panel(2, kind, x, m, words, panel, here, target)
        else:
            target = Target(out.data, out.start + column, out.step, left)
            multiply_panel(1, kind, x, m, words, panel, here, target)


@jit
def take_bytes(x: Array, start: int, count: int, sign: int, out: Array, at: int) -> None:
    """Copy bytes to out[at:]; signed ones (`sign` is 128) are shifted to unsigned."""
    source, target = x[start : start + count], out[at : at + count]
    if sign != 0:
        for i in range(count):
            target[i] = source[i] ^ sign
    else:
        for i in range(count):
            target[i] = source[i]


@jit
def sum_rows(x: Rows, m: int, k: int, sums: RowSums) -> None:
    """Store the sum of the first `k` bytes of each of `m` rows, if sums are used."""
    if sums.used != 0:
        for r in range(m):
            at = x.start + r * x.step
            row = x.data[at : at + k]
            total = np.int64(0)
            for i in range(k):
                total += np.int64(row[i])
            sums.data[sums.start + r] = float_from_bits(np.int32(total))


@jit
def block_rows(k: int) -> int:
    """Return the number of rows in a block."""
    return max(min(_NEAR // k // TALL * TALL, BLOCK), TALL)


@jit
def share_product(m: int, n: int, part: int, parts: int) -> tuple[int, int, int, int]:
    """Return a share of a product [m, n], whole tiles of rows or whole panels: (first row, end, first column, end)."""
    if m >= TALL * parts:
        row, end = share((m + TALL - 1) // TALL, part, parts)
        return row * TALL, min(end * TALL, m), 0, n
    column, column_end = share((n + PANEL - 1) // PANEL, part, parts)
    return 0, m, min(column * PANEL, n), min(column_end * PANEL, n)


@kernel
def multiply_bytes(
    kind: Static, x: Array, factor: Factor, scaling: Scaling, out: Array, size: Product, scratch: Array, part: int,
    parts: int,
) -> None:  # fmt: skip
    """Compute out[m, n], the result of this `kind` of x[m, k] · w; all arrays are flat.

    Scratch holds the numbers of the columns, the sums of a block of rows, and a block of rows in whole words.
    """
    m, k, n = size
    row, end, column, column_end = share_product(m, n, part, parts)
    room = scratch.shape[0] // parts * part
    columns = Columns(scratch, room, columns_step(column_end - column))
    prepare_columns(kind, k, column_end - column, column, factor, scaling, columns)
    sums = RowSums(scratch, room + 4 * columns_step(n), factor.weighted)
    quantum = quantum_of(scaling)
    block, depth = block_rows(k), padded(k)
    memory, start = bytes_of(scratch), (sums.start + BLOCK) * 4
    for first in range(row, end, block):
        count = min(block, end - first)
        target = Target(out, first * n + column, n, 0)
        if depth == k and scaling.x_sign == 0:
            rows = Rows(x, first * k, k)
        else:
            rows = Rows(memory, start, depth)
            for r in range(count):
                take_bytes(x, (first + r) * k, k, scaling.x_sign, memory, start + r * depth)
        sum_rows(rows, count, k, sums)
        multiply_rows(
            kind, rows, count, depth // WORD, Panel(factor.data, column * depth), column_end - column,
            Finish(columns, sums, quantum), target,
        )  # fmt: skip


# -- packing ----------------------------------------------------------------------------


def pack_bytes(w: Array, zero: Array, runs: int = 1) -> list[Array]:
    """Pack weights [groups, k, n] with zero points that broadcast to [groups, 1, n]; return data, sums and zero points.

    Each of `runs` equal parts of the rows is filled up to whole words. Weights become signed. If all weights of a
    column minus its zero point fit into a byte, the zero point becomes 0.
    """
    shift = 128 if w.dtype == np.uint8 else 0
    whole, zeros = w.astype(np.int16) - np.int16(shift), zero.astype(np.int16) - np.int16(shift)
    zeros = np.broadcast_to(zeros, (len(w), 1, w.shape[2]))
    centred = whole - zeros
    fits = (centred.min(1, keepdims=True) >= -128) & (centred.max(1, keepdims=True) <= 127)
    whole, zeros = np.where(fits, centred, whole), np.where(fits, np.int16(0), zeros)
    sums = whole.sum(1, dtype=np.int32)
    packed = np.concatenate([_pack_panels(group.astype(np.int8), runs) for group in whole])
    memory: Array = allocate_lasting(packed.size)[: packed.size]
    memory[...] = packed.view(np.uint8)
    return [memory, sums.reshape(-1), zeros.astype(np.int32).reshape(-1)]


def _pack_panels(w: Array, runs: int) -> Array:
    """Arrange a matrix [k, n] as panels."""
    k, n = w.shape[0] // runs, w.shape[1]
    spaced = np.zeros((runs, padded(k), columns_step(n)), np.int8)
    spaced[:, :k, :n] = w.reshape(runs, k, n)
    filled = spaced.reshape(-1, columns_step(n))
    panels = [filled[:, i : i + PANEL] for i in range(0, filled.shape[1], PANEL)]
    return np.concatenate(
        [panel.reshape(-1, WORD, panel.shape[1]).transpose(0, 2, 1).reshape(-1) for panel in panels]
    )  # fmt: skip


# -- binding ----------------------------------------------------------------------------

ONE, NO_ZERO = np.ones(1, np.float32), np.zeros(1, np.uint8)


def factor_of(
    pool: ConstantPool, tag: str, pack: Any, w: Array, zero: Array | None, scale: Array | None = None,
    offset: Array | None = None, bias: Array | None = None, runs: int = 1,
) -> Factor:  # fmt: skip
    """Describe constant weights, which `pack` arranges as [groups, k, n], with rows in so many runs of whole words.

    Scales and biases are one number or one for each column.
    """
    zeros = np.zeros(1, w.dtype) if zero is None else zero

    def make(w: Array, zero: Array) -> list[Array]:
        groups = pack(w)
        whole = zero.reshape(len(groups), 1, -1) if zero.size > 1 else zero.reshape(1, 1, 1)
        return pack_bytes(groups, whole, runs)

    packed, sums, zeros = pool.derive(("bytes", tag, runs), make, w, zeros)
    return Factor(packed, sums, zeros, *numbers_of(pool, len(sums), scale, offset, bias), int(zeros.any()))


def numbers_of(
    pool: ConstantPool, n: int, scale: Array | None, offset: Array | None, bias: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return scales, offsets and biases of `n` columns, each given as one number, one for each column, or None."""
    return (
        _for_each(pool, "scales", np.float32(1), scale, n),
        _for_each(pool, "offsets", np.int32(0), offset, n),
        _for_each(pool, "bias", np.float32(-0.0), bias, n),  # adding -0 changes no number
    )


def _for_each(pool: ConstantPool, name: str, default: Any, given: Array | None, n: int) -> Array:
    """Return one number for each of `n` columns."""
    if given is None:
        return np.full(n, default)
    if given.size == n:
        return flat(given)
    return np.asarray(pool.derive((name, n), lambda x: np.full(n, x.reshape(())), given))


def sign_of(dtype: Any) -> int:
    """Return 128 for signed bytes, which are ordered like unsigned bytes with this bit flipped; else 0."""
    return 128 if dtype == np.int8 else 0


def raw(x: Array) -> Array:
    """Return the memory of bytes as a 1-D array of unsigned bytes."""
    return flat(x).view(np.uint8)


def scaling_of(
    x: Array, x_zero: Array | None, x_scale: Array | None = None, y_scale: Array | None = None,
    y_zero: Array | None = None, alpha: float = 1.0,
) -> Scaling:  # fmt: skip
    """Describe scales and zero points; an absent zero point is 0."""
    sign = sign_of(x.dtype)
    return Scaling(
        np.float32(alpha), ONE if x_scale is None else flat(x_scale), NO_ZERO if x_zero is None else raw(x_zero), sign,
        ONE if y_scale is None else flat(y_scale), NO_ZERO if y_zero is None else raw(y_zero),
        0 if y_zero is None else sign_of(y_zero.dtype),
    )  # fmt: skip


def scratch_of(k: int, n: int) -> int:
    """Return the elements of scratch that `multiply_bytes` needs for each share."""
    return 4 * columns_step(n) + BLOCK + block_rows(k) * padded(k) // 4


def product(pool: ConstantPool, kind: int, a: Array, out: Array, factor: Factor, scaling: Scaling) -> Call:
    """Bind a product of a [..., k] with a constant."""
    k, n = a.shape[-1], out.shape[-1]
    target = raw(out) if kind == BYTES else flat(out)
    arguments = (Specialised(kind), raw(a), factor, scaling, target, Product(out.size // n, k, n))
    return Call(multiply_bytes, arguments, scratch=scratch_of(k, n))
