"""LLVM code of the primitives on rows of floats."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from tinyonnx.codegen.emit_tiles import tile
from tinyonnx.codegen.emitter import I32, INDEX, VECTOR, Emitter
from tinyonnx.codegen.primitives import LANES

_INTEGERS = ir.VectorType(I32, LANES)


def _all(number: float) -> Any:
    return ir.Constant(VECTOR, [number] * LANES)


def _greater(e: Emitter, a: Any, b: Any) -> Any:
    """Return the greater of two vectors; b where a is NaN."""
    return e.builder.select(e.builder.fcmp_ordered(">", a, b), a, b)


def _across(e: Emitter, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Reduce the lanes of a vector to one number, in pairs."""
    b, width = e.builder, LANES
    while width > 1:
        width //= 2
        order = [(i + width) % LANES for i in range(LANES)]
        moved = b.shuffle_vector(value, value, ir.Constant(_INTEGERS, order))
        value = combine(value, moved)
    return b.extract_element(value, I32(0))


def _in_vectors(e: Emitter, count: Any, carried: Any, body: Callable[[Any, Any, Any], Any]) -> Any:
    """Emit `carried = body(offset, carried, mask)` for each vector of `count` elements; only the last one is masked."""
    b = e.builder
    whole = b.sdiv(count, INDEX(LANES))
    (carried,) = e.loop(whole, [carried], lambda i, c: [body(e.times(i, LANES), c[0], None)])
    done = e.times(whole, LANES)
    rest = b.sub(count, done)

    def tail(values: list[Any]) -> list[Any]:
        return [body(done, values[0], e.first(rest))]

    return e.either([(b.icmp_signed(">", rest, INDEX(0)), tail)], [carried])[0]


@tile(constants=1)
def scaled_maximum(
    e: Emitter, biased: int, x: Any, start: Any, count: Any, scale: Any, bias: Any, bias_start: Any, out: Any, at: Any
) -> None:
    """Emit the code of `row_tiles.scaled_maximum`."""
    b = e.builder
    source, other, factor, least = e.at(x, start), e.at(bias, bias_start), e.splat(scale), _all(-math.inf)

    def step(offset: Any, top: Any, mask: Any) -> Any:
        value = e.load(e.at(source, offset))
        if biased:
            value = e.fma(value, factor, e.load(e.at(other, offset), mask))
            e.store(value, e.at(source, offset))
        if mask is not None:
            value = b.select(mask, value, least)
        return _greater(e, value, top)

    top = _in_vectors(e, count, least, step)
    b.store(_across(e, top, lambda u, v: _greater(e, u, v)), e.at(out, at))


@tile(constants=0)
def exponentials(e: Emitter, x: Any, start: Any, count: Any, scale: Any, shift: Any, out: Any, at: Any) -> None:
    """Emit the code of `row_tiles.exponentials`."""
    b = e.builder
    source, factor = e.at(x, start), e.splat(scale)
    back = e.splat(b.fneg(shift))

    def step(offset: Any, total: Any, mask: Any) -> Any:
        value = _exp(e, e.fma(e.load(e.at(source, offset)), factor, back))
        if mask is not None:
            value = b.select(mask, value, _all(0.0))
        e.store(value, e.at(source, offset))
        return b.fadd(total, value)

    total = _in_vectors(e, count, _all(0.0), step)
    b.store(_across(e, total, b.fadd), e.at(out, at))


def _exp(e: Emitter, x: Any) -> Any:
    """Compute e^x within 2 ulp for -87 ≤ x ≤ 88, 0 below; NaN stays NaN. Same method as `kernels.elementwise.exp`."""
    b = e.builder
    small = b.fcmp_ordered("<", x, _all(-87.0))
    x = b.select(small, _all(-87.0), x)
    rounding = _all(1.5 * 2**23)
    shifted = e.fma(x, _all(1.4426950408889634), rounding)
    n = b.fsub(shifted, rounding)
    r = e.fma(n, _all(-0.693359375), x)
    r = e.fma(n, _all(2.12194440e-4), r)
    series = _all(1 / math.factorial(6))
    for i in range(5, -1, -1):
        series = e.fma(r, series, _all(1 / math.factorial(i)))
    bits = b.add(b.bitcast(shifted, _INTEGERS), ir.Constant(_INTEGERS, [127] * LANES))
    power = b.bitcast(b.shl(bits, ir.Constant(_INTEGERS, [23] * LANES)), VECTOR)
    return b.select(small, _all(0.0), b.fmul(series, power))


@tile(constants=0)
def dots(
    e: Emitter, q: Any, q_start: Any, x: Any, start: Any, step: Any, rows: Any, count: Any, out: Any, at: Any
) -> None:
    """Emit the code of `row_tiles.dots`."""
    b = e.builder
    left, right, results = e.at(q, q_start), e.at(x, start), e.at(out, at)

    def row(r: Any, nothing: list[Any]) -> list[Any]:
        here = e.at(right, b.mul(r, step))

        def part(offset: Any, total: Any, mask: Any) -> Any:
            return e.fma(e.load(e.at(left, offset), mask), e.load(e.at(here, offset), mask), total)

        total = _in_vectors(e, count, _all(0.0), part)
        b.store(_across(e, total, b.fadd), e.at(results, r))
        return nothing

    e.loop(rows, [], row)


EMITTED = (scaled_maximum, exponentials, dots)
"""The primitives' code, by name."""
