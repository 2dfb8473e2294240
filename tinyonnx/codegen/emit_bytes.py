"""LLVM code of the primitives on bytes.

Sums of products of an unsigned and a signed byte are exact with every instruction set: VNNI adds four of them to an
int32; without it bytes are widened first, because the instruction of SSE and AVX2 for bytes saturates.
"""

from __future__ import annotations

from typing import Any

import numba
import numba.np.arrayobj
from llvmlite import ir

from tinyonnx.codegen.byte_tiles import (
    BIAS,
    BYTES,
    CORRECTION,
    FLOATS,
    PRODUCT,
    SCALE,
    SUM,
    SUM_ROUNDED,
    SUMS,
    WORD,
    ZERO,
)
from tinyonnx.codegen.emit_tiles import tile
from tinyonnx.codegen.emitter import F32, I32, INDEX, VECTOR, Emitter
from tinyonnx.codegen.primitives import LANES
from tinyonnx.codegen.processor import byte_product

# numba's own annotations cover only a part of it
types: Any = numba.types
arrayobj: Any = numba.np.arrayobj

_I8, _I16 = ir.IntType(8), ir.IntType(16)
_WIDE = ir.VectorType(I32, LANES)
_HALVES = ir.VectorType(_I16, 2 * LANES)
_SHORT = ir.VectorType(_I8, LANES)

_VNNI = f"llvm.x86.avx512.vpdpbusd.{LANES * 32}"
_VNNI_HALVES = f"llvm.x86.avx512.vpdpwssd.{LANES * 32}"
_PAIRS = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


class _Bytes:
    """Emits vectors of LANES words."""

    def __init__(self, e: Emitter) -> None:
        self.e, self.b, self.how = e, e.builder, byte_product()

    def constant(self, number: int) -> Any:
        return ir.Constant(_WIDE, [number] * LANES)

    def splat(self, word: Any) -> Any:
        undefined = ir.Constant(_WIDE, ir.Undefined)
        one = self.b.insert_element(undefined, word, I32(0))
        return self.b.shuffle_vector(one, undefined, ir.Constant(_WIDE, None))

    def load(self, pointer: Any) -> Any:
        loaded = self.b.load(self.b.bitcast(pointer, _WIDE.as_pointer()))
        loaded.align = 1
        return loaded

    def load_word(self, pointer: Any) -> Any:
        loaded = self.b.load(self.b.bitcast(pointer, I32.as_pointer()))
        loaded.align = 1
        return loaded

    def _halves(self, word: Any) -> Any:
        return self.b.bitcast(word, _HALVES)

    def left(self, word: Any) -> list[Any]:
        """Prepare unsigned bytes for `add`."""
        b = self.b
        if self.how == "vnni":
            return [word]
        if self.how == "pairs":
            even = b.and_(word, self.constant(0x00FF00FF))
            eight = ir.Constant(_HALVES, [8] * (2 * LANES))
            return [self._halves(even), b.lshr(self._halves(word), eight)]
        return [b.and_(b.lshr(word, self.constant(8 * i)), self.constant(255)) for i in range(WORD)]

    def right(self, word: Any) -> list[Any]:
        """Prepare signed bytes for `add`."""
        b = self.b
        if self.how == "vnni":
            return [word]
        if self.how == "pairs":
            halves, eight = self._halves(word), ir.Constant(_HALVES, [8] * (2 * LANES))
            return [b.ashr(b.shl(halves, eight), eight), b.ashr(halves, eight)]
        return [b.ashr(b.shl(word, self.constant(24 - 8 * i)), self.constant(24)) for i in range(WORD)]

    def add(self, total: Any, left: list[Any], right: list[Any]) -> Any:
        """Add the products of the bytes of each word."""
        for x, w in zip(left, right, strict=True):
            if self.how == "vnni":
                total = self.e.intrinsic(_VNNI, _WIDE, total, x, w)
            elif self.how == "pairs":
                total = self.b.add(total, self.e.intrinsic(_PAIRS[LANES], _WIDE, x, w))
            else:
                total = self.b.add(total, self.b.mul(x, w))
        return total

    def load_wide(self, pointer: Any, kind: Any) -> Any:
        """Load LANES unsigned bytes or signed 16-bit integers as int32."""
        short = ir.VectorType(kind, LANES)
        loaded = self.b.load(self.b.bitcast(pointer, short.as_pointer()))
        loaded.align = 1
        return (self.b.zext if kind is _I8 else self.b.sext)(loaded, _WIDE)

    def add_product(self, total: Any, x: Any, w: Any) -> Any:
        """Return total + x · w for int32 lanes that hold an unsigned byte and a signed 16-bit integer."""
        if self.how == "vnni":
            return self.e.intrinsic(_VNNI_HALVES, _WIDE, total, x, w)
        if self.how == "pairs":
            return self.b.add(total, self.e.intrinsic(_PAIRS[LANES], _WIDE, self._halves(x), self._halves(w)))
        return self.b.add(total, self.b.mul(x, w))

    # -- results ------------------------------------------------------------------------

    def requantise(self, scaled: Any, quantum: Any) -> Any:
        """Round, add the zero point, and clip; NaN becomes the lowest number."""
        b, e = self.b, self.e
        value = b.fadd(self.round(scaled), e.splat(quantum.zero))
        return self.saturate(value, e.splat(quantum.low), e.splat(quantum.high))

    def round(self, value: Any) -> Any:
        """Round to the nearest integers, ties to even."""
        return self.e.intrinsic(f"llvm.rint.v{LANES}f32", VECTOR, value)

    def saturate(self, value: Any, low: Any, high: Any) -> Any:
        """Clip whole numbers and convert them to bytes; NaN becomes the lowest byte."""
        b = self.b
        value = b.select(b.fcmp_ordered(">", value, low), value, low)
        value = b.select(b.fcmp_ordered("<", value, high), value, high)
        return b.trunc(b.fptosi(value, _WIDE), _SHORT)

    def store(self, value: Any, pointer: Any, lanes: Any = None) -> None:
        """Store a vector, or its first `lanes` lanes."""
        b, kind = self.b, value.type
        pointer = b.bitcast(pointer, kind.as_pointer())
        align = 1 if kind is _SHORT else 4
        if lanes is None:
            b.store(value, pointer).align = align
            return
        name = "i8" if kind is _SHORT else "i32" if kind is _WIDE else "f32"
        with b.if_else(b.icmp_signed("==", lanes, INDEX(LANES))) as (whole, cut):
            with whole:
                b.store(value, pointer).align = align
            with cut:
                arguments = value, pointer, I32(align), self.e.first(lanes)
                self.e.intrinsic(f"llvm.masked.store.v{LANES}{name}.p0", ir.VoidType(), *arguments)

    def number(self, columns: Any, which: int, v: int) -> Any:
        """Return the address of a number of vector `v` of columns."""
        return self.e.at(columns.data, columns.start, self.e.times(columns.step, which), v * LANES)

    def finish(self, total: list[Any], vectors: int, kind: int, numbers: Any, out: Any) -> None:
        """Store the sums of rows of `vectors` vectors as results of this kind."""
        b, e, columns = self.b, self.e, numbers.columns
        corrections = [self.load(self.number(columns, CORRECTION, v)) for v in range(vectors)]
        scales = [e.load(self.number(columns, SCALE, v)) for v in range(vectors)] if kind != SUMS else []
        biases = [e.load(self.number(columns, BIAS, v)) for v in range(vectors)] if kind == FLOATS else []
        for i, value in enumerate(total):
            r, v = divmod(i, vectors)
            result = b.add(value, corrections[v])
            if kind != SUMS:
                result = b.fmul(b.sitofp(result, VECTOR), scales[v])
            if kind == FLOATS:
                # the fence keeps the compiler from fusing two operations into one with a single rounding
                product = e.intrinsic(f"llvm.arithmetic.fence.v{LANES}f32", VECTOR, result)
                result = b.fadd(product, biases[v])
            elif kind == BYTES:
                result = self.requantise(result, numbers.quantum)
            place = e.at(out.data, out.start, e.times(out.step, r), v * LANES)
            self.store(result, place, out.lanes if v == vectors - 1 else None)


@tile(constants=3)
def byte_tile(
    e: Emitter, rows: int, vectors: int, kind: int, x: Any, words: Any, w: Any, finish: Any, out: Any
) -> None:
    """Emit the code of `byte_tiles.byte_tile`."""
    b, by = e.builder, _Bytes(e)
    panel = vectors * LANES * WORD
    columns, sums = finish.columns, finish.sums
    source, weights = e.at(x.data, x.start), e.at(w.data, w.start)
    starts = [e.at(source, e.times(x.step, r)) for r in range(rows)]
    # a few chains of additions leave the multiplier idle, so several words at a time have sums of their own
    at_once = max(8 // (rows * vectors), 1)

    def multiply(at: Any, word: Any, total: list[Any]) -> list[Any]:
        here = e.at(weights, e.times(word, panel))
        factors = [by.right(by.load(e.at(here, v * LANES * WORD))) for v in range(vectors)]
        new = []
        for r, start in enumerate(starts):
            left = by.left(by.splat(by.load_word(e.at(start, at))))
            new += [by.add(total[r * vectors + v], left, factors[v]) for v in range(vectors)]
        return new

    def several(i: Any, totals: list[Any]) -> list[Any]:
        new = []
        for u in range(at_once):
            word = b.add(e.times(i, at_once), INDEX(u))
            part = totals[u * rows * vectors : (u + 1) * rows * vectors]
            new += multiply(e.times(word, WORD), word, part)
        return new

    none = [by.constant(0)] * (rows * vectors)
    if at_once == 1:
        total = e.loop(words, none, lambda i, total: multiply(e.times(i, WORD), i, total))
    else:
        whole = b.sdiv(words, INDEX(at_once))
        parts = e.loop(whole, none * at_once, several)
        total = parts[: rows * vectors]
        for u in range(1, at_once):
            total = [b.add(*pair) for pair in zip(total, parts[u * rows * vectors :])]
        done = e.times(whole, at_once)

        def rest(i: Any, total: list[Any]) -> list[Any]:
            word = b.add(done, i)
            return multiply(e.times(word, WORD), word, total)

        total = e.loop(b.sub(words, done), total, rest)

    def weigh(total: list[Any]) -> list[Any]:
        zeros = [by.load(by.number(columns, ZERO, v)) for v in range(vectors)]
        row_sums = [by.splat(by.load_word(e.at(sums.data, sums.start, r))) for r in range(rows)]
        return [b.sub(t, b.mul(row_sums[i // vectors], zeros[i % vectors])) for i, t in enumerate(total)]

    total = e.either([(b.icmp_signed("!=", sums.used, INDEX(0)), weigh)], total)
    by.finish(total, vectors, kind, finish, out)


@tile(constants=3)
def byte_rows_tile(
    e: Emitter, rows: int, vectors: int, kind: int, x: Any, line: Any, runs: Any, w: Any, finish: Any, out: Any
) -> None:
    """Emit the code of `byte_tiles.byte_rows_tile`."""
    b, by = e.builder, _Bytes(e)
    panel, weights = vectors * LANES * WORD, e.at(w.data, w.start)
    at, column, starts = e.at(x.data, x.start), line.first, []
    for _ in range(rows):
        starts.append(at)
        column = b.add(column, INDEX(1))
        ends = b.icmp_signed("==", column, line.width)
        at = e.at(at, x.step, b.select(ends, line.skip, INDEX(0)))
        column = b.select(ends, INDEX(0), column)

    def over_run(i: Any, total: list[Any]) -> list[Any]:
        first, of_run = b.mul(i, runs.step), e.at(weights, e.times(b.mul(i, runs.words), panel))

        def multiply(word: Any, total: list[Any]) -> list[Any]:
            here, place = e.at(of_run, e.times(word, panel)), b.add(first, e.times(word, WORD))
            factors = [by.right(by.load(e.at(here, v * LANES * WORD))) for v in range(vectors)]
            new = []
            for r, start in enumerate(starts):
                left = by.left(by.splat(by.load_word(e.at(start, place))))
                new += [by.add(total[r * vectors + v], left, factors[v]) for v in range(vectors)]
            return new

        return e.loop(runs.words, total, multiply)

    total = e.loop(runs.rows, [by.constant(0)] * (rows * vectors), over_run)
    by.finish(total, vectors, kind, finish, out)


@tile(constants=4)
def byte_taps_tile(
    e: Emitter, pixels: int, unrolled: int, stride: int, kind: int, x: Any, taps: Any, w: Any, finish: Any, out: Any
) -> None:
    """Emit the code of `byte_tiles.byte_taps_tile`."""
    b, by = e.builder, _Bytes(e)
    source, weights = e.at(x.data, x.start), e.at(w.data, w.start)

    def over_unrolled(row: Any, weights: Any, total: list[Any]) -> list[Any]:
        factors = [by.load_wide(e.at(weights, j * LANES), _I16) for j in range(unrolled)]
        places = range((pixels - 1) * stride + unrolled)
        seen = [by.load_wide(e.at(row, e.times(taps.column_step, q)), _I8) for q in places]
        for j in range(unrolled):
            total = [by.add_product(t, seen[p * stride + j], factors[j]) for p, t in enumerate(total)]
        return total

    def over_columns(row: Any, weights: Any, total: list[Any]) -> list[Any]:
        def tap(j: Any, total: list[Any]) -> list[Any]:
            here = e.at(row, b.mul(j, taps.column_step))
            factor = by.load_wide(e.at(weights, e.times(j, LANES)), _I16)
            seen = [by.load_wide(e.at(here, e.times(x.step, p)), _I8) for p in range(pixels)]
            return [by.add_product(t, seen[p], factor) for p, t in enumerate(total)]

        return e.loop(taps.columns, total, tap)

    def over_rows(i: Any, total: list[Any]) -> list[Any]:
        back = b.select(b.icmp_signed(">=", i, taps.wrap_at), taps.wrap, INDEX(0))
        row = e.at(source, b.sub(b.mul(i, taps.row_step), back))
        return (over_unrolled if unrolled else over_columns)(row, e.at(weights, b.mul(i, taps.w_row)), total)

    total = e.loop(taps.rows, [by.constant(0)] * pixels, over_rows)
    by.finish(total, 1, kind, finish, out)


@tile(constants=1)
def byte_pairs(e: Emitter, code: int, count: Any, a: Any, b: Any, out: Any, numbers: Any) -> None:
    """Emit the code of `byte_tiles.byte_pairs`."""
    build, by = e.builder, _Bytes(e)
    sign = by.splat(build.trunc(numbers.sign, I32))
    zero_sign = build.sitofp(build.sub(INDEX(0), numbers.sign), F32)
    low, high = e.splat(zero_sign), e.splat(build.fadd(zero_sign, F32(255.0)))
    operands = (
        (a, e.splat(numbers.a_scale), e.splat(numbers.a_zero)),
        (b, e.splat(numbers.b_scale), e.splat(numbers.b_zero)),
    )
    scale, zero = e.splat(numbers.scale), e.splat(numbers.zero)

    def real(line: Any, factor: Any, origin: Any, i: Any, lanes: Any) -> Any:
        place = e.at(line.data, line.start, build.mul(i, line.step))
        one = build.zext(build.load(place), I32)

        def spread(_: list[Any]) -> list[Any]:
            return [by.splat(one)]

        def several(_: list[Any]) -> list[Any]:
            if lanes is None:
                return [by.load_wide(place, _I8)]
            none = ir.Constant(_SHORT, None)
            pointer = build.bitcast(place, _SHORT.as_pointer())
            name = f"llvm.masked.load.v{LANES}i8.p0"
            return [build.zext(e.intrinsic(name, _SHORT, pointer, I32(1), e.first(lanes), none), _WIDE)]

        is_one = build.icmp_signed("==", line.step, INDEX(0))
        cases: list[Any] = [(is_one, spread), (build.not_(is_one), several)]
        (found,) = e.either(cases, [by.constant(0)])
        whole = build.sub(build.xor(found, sign), sign)
        value = build.fmul(build.fsub(build.sitofp(whole, VECTOR), origin), factor)
        # the fence keeps the compiler from fusing this and a sum into one operation with a single rounding
        return e.intrinsic(f"llvm.arithmetic.fence.v{LANES}f32", VECTOR, value)

    def combine(i: Any, lanes: Any) -> None:
        x, y = (real(line, factor, origin, i, lanes) for line, factor, origin in operands)
        value = build.fadd(x, y) if code in (SUM, SUM_ROUNDED) else build.fmul(x, y)
        value = build.fdiv(value, scale)
        value = by.round(build.fadd(value, zero)) if code in (SUM, PRODUCT) else build.fadd(by.round(value), zero)
        by.store(by.saturate(value, low, high), e.at(out.data, out.start, i), lanes)

    def whole_vector(i: Any, _: list[Any]) -> list[Any]:
        combine(e.times(i, LANES), None)
        return []

    vectors = build.sdiv(count, INDEX(LANES))
    e.loop(vectors, [], whole_vector)
    done = e.times(vectors, LANES)
    with build.if_then(build.icmp_signed("<", done, count)):
        combine(done, build.sub(count, done))


@tile(constants=0)
def extremes(e: Emitter, x: Any, start: Any, count: Any, out: Any, at: Any) -> None:
    """Emit the code of `byte_tiles.extremes`."""
    b = e.builder
    source, zero = e.at(x, start), ir.Constant(VECTOR, [0.0] * LANES)

    def combine(found: list[Any], value: Any) -> list[Any]:
        names = (f"llvm.minimum.v{LANES}f32", f"llvm.maximum.v{LANES}f32")
        return [e.intrinsic(name, VECTOR, old, value) for name, old in zip(names, found)]

    whole = b.sdiv(count, INDEX(LANES))
    found = e.loop(whole, [zero, zero], lambda i, found: combine(found, e.load(e.at(source, e.times(i, LANES)))))
    done = e.times(whole, LANES)
    # lanes beyond the end are loaded as 0
    found = combine(found, e.load(e.at(source, done), e.first(b.sub(count, done))))
    for i, value in enumerate(found):
        e.store(value, e.at(out, at, i * LANES))


def bytes_of(_context: Any, data: Any) -> Any:
    """Emit the code of `byte_tiles.bytes_of`."""
    result = types.Array(types.uint8, 1, "C")

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, values[0])
        array = context.make_array(result)(context, builder)
        size = builder.mul(source.nitems, INDEX(signature.args[0].dtype.bitwidth // 8))
        pointer = builder.bitcast(source.data, _I8.as_pointer())
        arrayobj.populate_array(array, pointer, [size], [INDEX(1)], INDEX(1), meminfo=None)
        return array._getvalue()

    return result(data), lower


EMITTED = (byte_tile, byte_rows_tile, byte_taps_tile, byte_pairs, extremes, bytes_of)
"""The primitives' types and code, by name."""
