"""Attention: products of queries with keys, softmax and products with values, in blocks of keys.

Scratch memory holds the scores of one block of queries with one block of keys, never all scores. A running maximum and
sum for each query correct the results of earlier blocks (Milakov & Gimelshein, Online normalizer calculation for
softmax, 2018; Dao et al., FlashAttention, 2022).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, LINEAR, Block, Epilogue, Lines, Rows, Taps, Weights, gemm_tile
from tinyonnx.codegen.row_tiles import dots, exponentials, scaled_maximum
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels._strided import position
from tinyonnx.kernels.elementwise import ADD, combine, exp
from tinyonnx.kernels.gemm import Panels, multiply_rows
from tinyonnx.kernels.matmul import pack
from tinyonnx.ops.fused_attention import Orders, first_reach, fused_attention
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.arrays import broadcast_to
from tinyonnx.sizes.integers import maximum, minimum

_QUERIES = 48
"""Queries per work item; an item is not divided between threads, because each share packs keys and values itself."""

_KEYS = 512
"""Maximum number of keys in a block; a multiple of two vectors."""

_FEW = 4
"""Up to this many queries, packing keys and values would cost more than the products."""

_ZERO, _ONE = np.float32(0), np.float32(1)
_LEAST = np.float32(-np.inf)


class Heads(NamedTuple):
    """A view [outer, inner, rows, columns] of an array: its first element and its steps."""

    data: Array
    start: int
    outer: int
    inner: int
    row: int
    column: int


class AttentionSizes(NamedTuple):
    """Sizes, the factor of scores, and whether they have a bias.

    The first query attends to `reach` keys, each further query to one more. `lenient` is 1 if a query without keys
    gives zeros, not NaN.
    """

    outer: int
    inner: int
    queries: int
    keys: int
    depth: int
    width: int
    scale: Any
    biased: int
    reach: int
    lenient: int


class AttentionRoom(NamedTuple):
    """Offsets of the parts of a share's scratch memory.

    `line` is the step between the scores of two queries, `wide` the step between their results from one block of keys.
    """

    keys: int
    values: int
    zeros: int
    scores: int
    line: int
    results: int
    wide: int
    top: int
    total: int
    correction: int
    number: int


@jit
def _whole(n: int) -> int:
    """Round `n` up to whole vectors."""
    return (n + LANES - 1) // LANES * LANES


@jit
def _room(a: AttentionSizes, base: int) -> AttentionRoom:
    """Compute the offsets in scratch memory, of which `bind_attention` reserves enough."""
    keys, wide = _whole(a.keys), _whole(a.width)
    line = keys if a.queries <= _FEW else min(keys, _KEYS)
    values = base + keys * a.depth
    zeros = values + a.keys * wide
    scores = zeros + max(min(keys, _KEYS), wide)
    results = scores + min(_QUERIES, a.queries) * line
    top = results + _QUERIES * wide
    rows = top + _QUERIES, top + 2 * _QUERIES, top + 3 * _QUERIES
    return AttentionRoom(base, values, zeros, scores, line, results, wide, top, rows[0], rows[1], rows[2])


@jit
def _pack_head(a: AttentionSizes, k: Heads, v: Heads, scratch: Array, room: AttentionRoom) -> None:
    """Pack the keys of a head, transposed and in blocks, and its values."""
    for first in range(0, a.keys, _KEYS):
        count = min(_KEYS, a.keys - first)
        start = k.start + first * k.row
        pack(k.data, start, k.column, k.row, a.depth, count, scratch, room.keys + first * a.depth)
    pack(v.data, v.start, v.row, v.column, a.keys, a.width, scratch, room.values)


@jit
def _weigh(
    a: AttentionSizes, bias: Heads, bias_at: int, scratch: Array, at: int, keys: int, room: AttentionRoom, row: int
) -> None:
    """Turn the scores of a query with a block of keys into weights; store the factor for its earlier results."""
    before = scratch[room.top + row]
    if a.biased:
        scaled_maximum(1, scratch, at, keys, a.scale, bias.data, bias_at, scratch, room.number)
        factor, here = _ONE, scratch[room.number]
    else:
        scaled_maximum(0, scratch, at, keys, a.scale, bias.data, bias_at, scratch, room.number)
        factor, here = a.scale, scratch[room.number] * a.scale
    top = here if here > before else before
    # while all scores are -∞ nothing is subtracted, so that their weights e^-∞ are 0
    shift = top if top > _LEAST else _ZERO
    exponentials(scratch, at, keys, factor, shift, scratch, room.number)
    correction = exp(before - shift)
    scratch[room.top + row] = top
    scratch[room.total + row] = scratch[room.total + row] * correction + scratch[room.number]
    scratch[room.correction + row] = correction


@jit
def _divide_row(out: Array, total: Any, lenient: int) -> None:
    """Divide by the sum of weights."""
    if lenient and total == _ZERO:
        for i in range(out.shape[0]):
            out[i] = _ZERO
    else:
        _scale_row(out, _ONE / total)


@jit
def _scale_row(out: Array, factor: Any) -> None:
    for i in range(out.shape[0]):
        out[i] *= factor


@jit
def _attend_block(
    a: AttentionSizes, q: Heads, query: int, rows: int, bias: Heads, out: Heads, scratch: Array, room: AttentionRoom
) -> None:
    """Attend with `rows` queries from `query` on to the packed keys and values of their head."""
    most = min(a.keys, max(a.reach + query + rows - 1, 1))
    for r in range(rows):
        scratch[room.top + r] = _LEAST
        scratch[room.total + r] = _ZERO
    for first in range(0, most, _KEYS):
        keys = min(_KEYS, a.keys - first)
        multiply_rows(
            Rows(q.data, q.start, q.row), rows, Taps(1, 0, 1, 0, a.depth, 0),
            Panels(scratch, room.keys + first * a.depth, 0, a.depth, scratch, room.zeros), keys,
            Lines(scratch, scratch, room.scores, room.line, LANES), Epilogue(0, LINEAR, _ZERO, _ZERO),
        )  # fmt: skip
        for r in range(rows):
            at = room.scores + r * room.line
            for i in range(max(a.reach + query + r - first, 0), keys):
                scratch[at + i] = _LEAST
            _weigh(a, bias, bias.start + r * bias.row + first, scratch, at, keys, room, r)
        # added here and not in the tiles, because some tiles overlap
        here = Lines(out.data, out.data, out.start, out.row, LANES)
        if first > 0:
            here = Lines(scratch, scratch, room.results, room.wide, LANES)
        multiply_rows(
            Rows(scratch, room.scores, room.line), rows, Taps(1, 0, 1, 0, min(keys, most - first), 0),
            Panels(scratch, room.values, first, a.keys, scratch, room.zeros), a.width, here,
            Epilogue(0, LINEAR, _ZERO, _ZERO),
        )  # fmt: skip
        if first > 0:
            for r in range(rows):
                start, more = out.start + r * out.row, room.results + r * room.wide
                _scale_row(out.data[start : start + a.width], scratch[room.correction + r])
                combine(out.data[start : start + a.width], scratch[more : more + a.width], ADD)
    for r in range(rows):
        start = out.start + r * out.row
        _divide_row(out.data[start : start + a.width], scratch[room.total + r], a.lenient)


@jit
def _head(x: Heads, i: int, j: int, row: int) -> Heads:
    """Return a view of a head from row `row` on."""
    return Heads(x.data, x.start + i * x.outer + j * x.inner + row * x.row, x.outer, x.inner, x.row, x.column)


@jit
def _attend_few(
    a: AttentionSizes, q: Heads, k: Heads, v: Heads, bias: Heads, out: Heads, scratch: Array, room: AttentionRoom
) -> None:
    """Attend with a few queries of a head, without packing its keys and values."""
    for r in range(a.queries):
        scratch[room.top + r] = _LEAST
        scratch[room.total + r] = _ZERO
        at, keys = room.scores + r * room.line, min(a.keys, a.reach + r)
        dots(q.data, q.start + r * q.row, k.data, k.start, k.row, keys, a.depth, scratch, at)
        _weigh(a, bias, bias.start + r * bias.row, scratch, at, keys, room, r)
        start = out.start + r * out.row
        for column in range(0, a.width, 2 * LANES):
            gemm_tile(
                1, 2, 0, 0, Rows(scratch, at, 0), Taps(keys, 1, 1, 0, 1, v.row // (2 * LANES)),
                Weights(v.data, v.start + column, scratch, room.zeros),
                Block(Lines(out.data, out.data, start + column, 0, LANES), LANES, LANES),
                Epilogue(0, LINEAR, _ZERO, _ZERO),
            )  # fmt: skip
        _divide_row(out.data[start : start + a.width], scratch[room.total + r], a.lenient)


@kernel
def attend(
    q: Heads, k: Heads, v: Heads, bias: Heads, out: Heads, a: AttentionSizes, scratch: Array, part: int, parts: int
) -> None:
    """Compute out = softmax(scale · q · kᵀ + bias) · v for each head [outer, inner]; scratch is divided by `_room`."""
    blocks = (a.queries + _QUERIES - 1) // _QUERIES
    first, end = share(a.outer * a.inner * blocks, part, parts)
    room = _room(a, scratch.shape[0] // parts * part)
    for i in range(max(min(_KEYS, _whole(a.keys)), _whole(a.width))):
        scratch[room.zeros + i] = _ZERO
    panel = 2 * LANES
    direct = k.column == 1 and v.column == 1 and v.row % panel == 0 and a.width % panel == 0
    packed = -1
    for item in range(first, end):
        head, query = item // blocks, item % blocks * _QUERIES
        i, j = head // a.inner, head % a.inner
        q_here, bias_here, out_here = _head(q, i, j, query), _head(bias, i, j, query), _head(out, i, j, query)
        k_here, v_here = _head(k, i, j, 0), _head(v, i, j, 0)
        if direct and a.queries <= _FEW:
            _attend_few(a, q_here, k_here, v_here, bias_here, out_here, scratch, room)
            continue
        if head != packed:
            packed = head
            _pack_head(a, k_here, v_here, scratch, room)
        _attend_block(a, q_here, query, min(_QUERIES, a.queries - query), bias_here, out_here, scratch, room)


# -- operators --------------------------------------------------------------------------


def _refused(
    out: Info, q: Info | None, k: Info | None, v: Info | None, bias: Info | None = None, *, scale: float = 1.0,
    orders: Orders = Orders(), causal: int = 0, lenient: int = 0,
) -> str | None:  # fmt: skip
    if q is None or k is None or v is None or any(x.value is not None for x in (q, k, v)):
        return "queries, keys or values are constant"
    if not 0 < scale < np.inf:
        return f"the scale is {scale}"
    if any(perm and perm[-1] != len(perm) - 1 for perm in (orders.q_perm, orders.out_perm)):
        return "the elements of a query or of a result are not contiguous"
    if q.shape is None or v.shape is None:
        return "shapes are unknown"
    queries, keys = q.shape[_order(orders.q_perm, q.ndim)[-2]], v.shape[_order(orders.v_perm, v.ndim)[-2]]
    if first_reach(causal, queries, keys) < 1:
        return "the first query attends to no key"
    if bias is not None and bias.shape is not None and (not bias.shape or bias.shape[-1] != keys):
        return "the bias is the same for all keys"
    return float32_refused(out, q, k, v, bias)


def _heads(view: Array, base: Array) -> Heads:
    """Describe a view of rank 4."""
    steps = [stride // view.itemsize for stride in view.strides]
    return Heads(flat(base), position(view, base), *steps)


def _order(perm: Any, rank: int) -> tuple[int, ...]:
    return tuple(perm) if perm else tuple(range(rank))


@fast(fused_attention, when=_refused, layout="row_major")
def bind_attention(
    pool: ConstantPool, out: Array, q: Array, k: Array, v: Array, bias: Array | None = None, *, scale: float = 1.0,
    orders: Orders = Orders(), causal: int = 0, lenient: int = 0,
) -> Call:  # fmt: skip
    """Bind attention to views of the operands, in the order of axes before the transposes that it replaces."""
    operands = [
        x.transpose(_order(perm, x.ndim)) for x, perm in zip((q, k, v), (orders.q_perm, orders.k_perm, orders.v_perm))
    ]
    order = _order(orders.out_perm, out.ndim)
    result = out.transpose(tuple(order.index(axis) for axis in range(out.ndim)))
    queries, depth = operands[0].shape[-2:]
    keys, width = operands[2].shape[-2:]
    outer, inner = (1, 1, *result.shape[:-2])[-2:]
    shapes = ((queries, depth), (keys, depth), (keys, width), (queries, width))
    views = [
        _heads(broadcast_to(x, (outer, inner, *shape)), base)
        for x, shape, base in zip((*operands, result), shapes, (q, k, v, out), strict=True)
    ]
    if bias is None:
        other = views[0]
    else:
        bias = bias if bias.flags.c_contiguous else np.ascontiguousarray(bias)
        other = _heads(broadcast_to(bias, (outer, inner, queries, keys)), bias)
    sizes = AttentionSizes(
        *(outer, inner, queries, keys, depth, width, np.float32(scale), int(bias is not None)),
        *(first_reach(causal, queries, keys), int(bool(lenient))),
    )
    whole, columns = (-(-n // LANES) * LANES for n in (keys, width))
    scratch = whole * depth + keys * columns + maximum(minimum(whole, _KEYS), columns) + 2 * _QUERIES + LANES
    scratch += _QUERIES * (minimum(whole, _KEYS) + columns + 1) + _FEW * whole
    return Call(attend, (*views[:3], other, views[3], sizes), scratch=scratch)
