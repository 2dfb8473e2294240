"""LLVM code of the primitives on weights that are quantised in blocks."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from tinyonnx.codegen.emit_tiles import tile
from tinyonnx.codegen.emitter import I32, INDEX, VECTOR, Emitter
from tinyonnx.codegen.primitives import LANES

_SHORT, _WIDE = ir.VectorType(ir.IntType(8), LANES), ir.VectorType(I32, LANES)

_AT_ONCE, _CHAINS = 4, 2
"""Rows per iteration of the loop, and number of sums that take turns: a single one would wait for each addition."""


def _load(e: Emitter, pointer: Any) -> Any:
    """Load LANES bytes as int32."""
    loaded = e.builder.load(e.builder.bitcast(pointer, _SHORT.as_pointer()))
    loaded.align = 1
    return e.builder.zext(loaded, _WIDE)


def _centred(e: Emitter, bits: int, row: Any, zeros: list[Any]) -> list[Any]:
    """Return the numbers of a row of a panel, minus their zero points, as two vectors of floats."""
    b = e.builder
    if bits == 8:
        wide = [_load(e, e.at(row, v * LANES)) for v in range(2)]
    else:
        both = _load(e, row)
        wide = [b.and_(both, ir.Constant(_WIDE, [15] * LANES)), b.lshr(both, ir.Constant(_WIDE, [4] * LANES))]
    return [b.fsub(b.sitofp(number, VECTOR), zero) for number, zero in zip(wide, zeros, strict=True)]


def _two(e: Emitter, pointer: Any) -> list[Any]:
    return [e.load(e.at(pointer, v * LANES)) for v in range(2)]


@tile(constants=1)
def unpack_rows(e: Emitter, bits: int, w: Any, rows: Any, out: Any, at: Any) -> None:
    """Emit the code of `block_tiles.unpack_rows`."""
    b = e.builder
    source, target = e.at(w.data, w.start), e.at(out, at)
    scales, zeros = _two(e, e.at(w.scales, w.scale_start)), _two(e, e.at(w.zeros, w.zero_start))

    def row(i: Any, nothing: list[Any]) -> list[Any]:
        numbers = _centred(e, bits, e.at(source, e.times(i, bits * LANES // 4)), zeros)
        here = e.at(target, e.times(i, 2 * LANES))
        for v, number in enumerate(numbers):
            e.store(b.fmul(number, scales[v]), e.at(here, v * LANES))
        return nothing

    e.loop(rows, [], row)


@tile(constants=1)
def multiply_row(
    e: Emitter, bits: int, x: Any, start: Any, w: Any, depth: Any, size: Any, out: Any, at: Any
) -> None:  # fmt: skip
    """Emit the code of `block_tiles.multiply_row`."""
    b = e.builder
    left, weights, target = e.at(x, start), e.at(w.data, w.start), e.at(out, at)
    width = bits * LANES // 4
    none = [ir.Constant(VECTOR, [0.0] * LANES)] * 2

    def block(i: Any, totals: list[Any]) -> list[Any]:
        first = b.mul(i, size)
        left_over = b.sub(depth, first)
        rows = b.select(b.icmp_signed("<", size, left_over), size, left_over)
        zeros = _two(e, e.at(w.zeros, w.zero_start, b.mul(i, w.zero_step)))
        scales = _two(e, e.at(w.scales, w.scale_start, e.times(i, 2 * LANES)))
        factors, numbers = e.at(left, first), e.at(weights, e.times(first, width))

        def add(row: Any, sums: list[Any]) -> list[Any]:
            factor = e.splat(b.load(e.at(factors, row)))
            found = _centred(e, bits, e.at(numbers, e.times(row, width)), zeros)
            return [e.fma(factor, number, total) for number, total in zip(found, sums, strict=True)]

        def several(step: Any, sums: list[Any]) -> list[Any]:
            sums = list(sums)
            for u in range(_AT_ONCE):
                chain = slice(2 * (u % _CHAINS), 2 * (u % _CHAINS) + 2)
                sums[chain] = add(b.add(e.times(step, _AT_ONCE), INDEX(u)), sums[chain])
            return sums

        whole = b.sdiv(rows, INDEX(_AT_ONCE))
        parts = e.loop(whole, none * _CHAINS, several)
        sums = parts[:2]
        for chain in range(1, _CHAINS):
            sums = [b.fadd(*pair) for pair in zip(sums, parts[2 * chain :])]
        done = e.times(whole, _AT_ONCE)
        sums = e.loop(b.sub(rows, done), sums, lambda row, sums: add(b.add(done, row), sums))
        return [e.fma(total, scale, before) for total, scale, before in zip(sums, scales, totals, strict=True)]

    blocks = b.sdiv(b.sub(b.add(depth, size), INDEX(1)), size)
    for v, total in enumerate(e.loop(blocks, none, block)):
        e.store(total, e.at(target, v * LANES))


EMITTED = (unpack_rows, multiply_row)
"""The primitives' code, by name."""
