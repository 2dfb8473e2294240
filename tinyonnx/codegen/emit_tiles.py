"""LLVM code of register tiles that keep all accumulators in registers and run at the peak rate of FMA instructions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numba
import numba.core.errors
from llvmlite import ir

from tinyonnx.codegen.emitter import F32, I32, INDEX, Emitter
from tinyonnx.codegen.primitives import HALF, LANES, MASKED, NARROW, PAIRS

# numba's own annotations cover only a part of it
types: Any = numba.types
errors: Any = numba.core.errors


def _opened(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Unpack a record to a namespace of its fields, an array to a pointer to its data, a number to int64 or float32."""
    if isinstance(kind, types.BaseNamedTuple):
        fields = enumerate(kind.fields)
        return SimpleNamespace(
            **{f: _opened(context, builder, kind[i], builder.extract_value(value, i)) for i, f in fields}
        )
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value).data
    return context.cast(builder, value, kind, types.intp if isinstance(kind, types.Integer) else types.float32)


def _literal(kind: Any) -> int:
    if not isinstance(kind, types.IntegerLiteral):
        raise errors.RequireLiteralValue("the shape of a tile must be made of constants")
    return int(kind.literal_value)


def tile(constants: int) -> Callable[[Callable[..., None]], Callable[..., Any]]:
    """Make a primitive of a function that emits code.

    The first `constants` parameters are Python ints; the others are unpacked arguments.
    """

    def decorate(emit: Callable[..., None]) -> Callable[..., Any]:
        def primitive(_context: Any, *kinds: Any) -> Any:
            shape = list(map(_literal, kinds[:constants]))

            def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                pairs = zip(signature.args[constants:], values[constants:], strict=True)
                emit(Emitter(builder), *shape, *(_opened(context, builder, *pair) for pair in pairs))
                return context.get_dummy_value()

            return types.void(*kinds), lower

        primitive.emit = emit  # type: ignore[attr-defined]
        primitive.__name__ = emit.__name__
        primitive.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]  # numba reads the parameters
        return primitive

    return decorate


def _over_tiles(e: Emitter, count: Any, size: int, emit: Callable[[Any, Any], None]) -> None:
    """Emit a loop over tiles of `size` of at least as many items; the last tile is moved up to end with the last item.

    `emit` gets the first item of a tile, and its first item that no tile before has.
    """
    b = e.builder

    def over_tiles(i: Any, _: list[Any]) -> list[Any]:
        first, last = e.times(i, size), b.sub(count, INDEX(size))
        emit(b.select(b.icmp_signed("<", first, last), first, last), first)
        return []

    e.loop(b.sdiv(b.add(count, INDEX(size - 1)), INDEX(size)), [], over_tiles)


def _moved(record: Any, **fields: Any) -> Any:
    """Return an unpacked record with other values of some fields."""
    return SimpleNamespace(**{**vars(record), **fields})


@tile(constants=4)
def gemm_tile(
    e: Emitter, rows: int, vectors: int, run: int, step: int, x: Any, taps: Any, w: Any, out: Any, epilogue: Any,
) -> None:  # fmt: skip
    """Emit the code of `primitives.gemm_tile`."""
    b = e.builder
    width, vectors = (LANES, vectors) if vectors > 0 else (HALF, 1)
    panel = vectors * LANES
    source, weights, bias = e.at(x.data, x.start), e.at(w.data, w.start), e.at(w.bias, w.bias_start)
    starts = [e.at(source, e.times(x.step, r)) for r in range(rows)]
    multiply_add = e.add_pair_products if run == PAIRS else e.fma
    bias_columns = [e.load(e.at(bias, v * LANES), None, width) for v in range(vectors)]

    def load_columns(weights: Any, k: Any) -> list[Any]:
        here = e.at(weights, k * panel if isinstance(k, int) else e.times(k, panel))
        return [e.load(e.at(here, v * LANES), None, width) for v in range(vectors)]

    def looped(offset: Any, weights: Any, acc: list[Any]) -> list[Any]:
        run_starts = [e.at(start, offset) for start in starts]

        def over_run(k: Any, acc: list[Any]) -> list[Any]:
            columns = load_columns(weights, k)
            new = []
            for r, start in enumerate(run_starts):
                value = e.splat(b.load(e.at(start, k)), width)
                new += [multiply_add(value, columns[v], acc[r * vectors + v]) for v in range(vectors)]
            return new

        return e.loop(taps.run, acc, over_run)

    def unrolled(offset: Any, weights: Any, acc: list[Any]) -> list[Any]:
        start = e.at(source, offset)
        columns = [load_columns(weights, k) for k in range(run)]
        loaded: dict[int, Any] = {}
        acc = list(acc)
        for r in range(rows):
            for k in range(run):
                place = r * step + k
                if place not in loaded:
                    loaded[place] = e.splat(b.load(e.at(start, place)), width)
                for v in range(vectors):
                    acc[r * vectors + v] = e.fma(loaded[place], columns[k][v], acc[r * vectors + v])
        return acc

    def over_outer(o: Any, acc: list[Any]) -> list[Any]:
        x_o, w_o = b.mul(o, taps.outer_step), b.mul(o, taps.w_rows)

        def over_inner(i: Any, acc: list[Any]) -> list[Any]:
            offset = b.add(x_o, b.mul(i, taps.inner_step))
            row = b.add(w_o, b.mul(i, taps.run))
            return (unrolled if run > 0 else looped)(offset, e.at(weights, e.times(row, panel)), acc)

        return e.loop(taps.inner, acc, over_inner)

    total = e.loop(taps.outer, bias_columns * rows, over_outer)
    lines = out.lines
    columns = [e.times(lines.column, v) for v in range(vectors - 1)] + [out.last]
    offsets = [b.add(b.add(lines.start, e.times(lines.step, r)), c) for r in range(rows) for c in columns]
    e.finish(total, offsets, lines, epilogue, e.first(out.lanes, width) if vectors == 1 else None)


@tile(constants=4)
def gemm_tiles(
    e: Emitter, rows: int, vectors: int, run: int, step: int, x: Any, m: Any, taps: Any, w: Any, out: Any,
    epilogue: Any,
) -> None:  # fmt: skip
    """Emit the code of `primitives.gemm_tiles`."""
    b, lines = e.builder, out.lines

    def emit_tile(r: Any, _: Any) -> None:
        here = _moved(x, start=b.add(x.start, b.mul(r, x.step)))
        block = _moved(out, lines=_moved(lines, start=b.add(lines.start, b.mul(r, lines.step))))
        gemm_tile.emit(e, rows, vectors, run, step, here, taps, w, block, epilogue)  # type: ignore[attr-defined]

    _over_tiles(e, m, rows, emit_tile)


@tile(constants=4)
def taps_tiles(
    e: Emitter, pixels: int, columns: int, stride: int, lanes: int, x: Any, taps: Any, w: Any, out: Any, epilogue: Any,
) -> None:  # fmt: skip
    """Emit the code of `primitives.taps_tiles`."""
    b = e.builder
    weights = e.at(w.data, w.start)
    mask = e.first(out.lanes) if lanes == MASKED else None
    width = HALF if lanes == NARROW else LANES

    def unrolled(row: Any, weights: Any, acc: list[Any]) -> list[Any]:
        factors = [e.load(e.at(weights, j * LANES), None, width) for j in range(columns)]
        places = [e.at(row, e.times(taps.column_step, q)) for q in range((pixels - 1) * stride + columns)]
        seen = [e.load(place, None, width) for place in places]
        for j in range(columns):
            acc = [e.fma(seen[p * stride + j], factors[j], acc[p]) for p in range(pixels)]
        return acc

    def looped(row: Any, weights: Any, acc: list[Any]) -> list[Any]:
        def over_columns(j: Any, acc: list[Any]) -> list[Any]:
            here = e.at(row, b.mul(j, taps.column_step))
            factor = e.load(e.at(weights, e.times(j, LANES)), mask)
            return [e.fma(e.load(e.at(here, e.times(x.step, p)), mask), factor, acc[p]) for p in range(pixels)]

        return e.loop(taps.columns, acc, over_columns)

    def emit_tile(first: Any, fresh: Any) -> None:
        source = e.at(x.data, b.add(x.start, b.mul(first, x.step)))

        def over_rows(i: Any, acc: list[Any]) -> list[Any]:
            back = b.select(b.icmp_signed(">=", i, taps.wrap_at), taps.wrap, INDEX(0))
            row = e.at(source, b.sub(b.mul(i, taps.row_step), back))
            return (unrolled if columns else looped)(row, e.at(weights, b.mul(i, taps.w_row)), acc)

        total = e.loop(taps.rows, [e.load(e.at(w.bias, w.bias_start), mask, width)] * pixels, over_rows)
        start = b.add(out.start, b.mul(first, out.step))
        offsets = [b.add(start, e.times(out.step, p)) for p in range(pixels)]
        results = e.finish(total, offsets, out, epilogue, mask)
        skip = b.select(b.icmp_signed("<", out.sums_start, INDEX(0)), INDEX(pixels), b.sub(fresh, first))
        e.add_up(results, skip, e.at(out.sums, out.sums_start), mask)

    _over_tiles(e, out.pixels, pixels, emit_tile)


@tile(constants=0)
def round_to_pairs(e: Emitter, x: Any, start: Any, count: Any, out: Any, at: Any) -> None:
    """Emit the code of `primitives.round_to_pairs`."""
    b = e.builder
    source, target = e.at(x, start), e.at(out, at)

    def whole(i: Any, _: list[Any]) -> list[Any]:
        first = e.at(source, e.times(i, 2 * LANES))
        e.store(e.pairs(e.load(first), e.load(e.at(first, LANES))), e.at(target, e.times(i, LANES)))
        return []

    vectors = b.sdiv(count, INDEX(2 * LANES))
    e.loop(vectors, [], whole)
    done = e.times(vectors, 2 * LANES)
    rest = b.sub(count, done)
    with b.if_then(b.icmp_signed(">", rest, INDEX(0))):
        first = e.at(source, done)
        values = [e.load(e.at(first, v * LANES), e.first(b.sub(rest, INDEX(v * LANES)))) for v in range(2)]
        words = b.sdiv(b.add(rest, INDEX(1)), INDEX(2))
        e.store(e.pairs(*values), e.at(target, e.times(vectors, LANES)), e.first(words))


@tile(constants=0)
def transpose_tile(e: Emitter, source: Any, target: Any) -> None:
    """Emit the code of `primitives.transpose_tile`; each round exchanges one bit of the row and column numbers."""
    b = e.builder
    kind = source.data.type.pointee
    width = kind.width // 8
    side = (LANES if width > 2 else 16) // (2 if width > 4 else 1)
    vector = ir.VectorType(kind, side)

    def place(view: Any, row: int) -> Any:
        return b.bitcast(e.at(view.data, view.start, e.times(view.step, row)), vector.as_pointer())

    rows = []
    for row in range(side):
        rows.append(b.load(place(source, row)))
        rows[-1].align = width
    for bit in (1 << i for i in range(side.bit_length() - 1)):
        low = [lane if not lane & bit else side + lane - bit for lane in range(side)]
        high = [lane + bit if not lane & bit else side + lane for lane in range(side)]
        for row in range(side):
            if not row & bit:
                pair = rows[row], rows[row + bit]
                rows[row], rows[row + bit] = (
                    b.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, side), lanes)) for lanes in (low, high)
                )
    for row, values in enumerate(rows):
        b.store(values, place(target, row)).align = width


def float_from_bits(_context: Any, bits: Any) -> Any:
    """Emit the code of `primitives.float_from_bits`."""
    return types.float32(types.int32), lambda _c, builder, _s, args: builder.bitcast(args[0], F32)


def bits_from_float(_context: Any, value: Any) -> Any:
    """Emit the code of `primitives.bits_from_float`."""
    return types.int32(types.float32), lambda _c, builder, _s, args: builder.bitcast(args[0], I32)


EMITTED = (gemm_tile, gemm_tiles, taps_tiles, round_to_pairs, transpose_tile, float_from_bits, bits_from_float)
"""The primitives' types and code, by name; their parameters are those of numba's intrinsics."""
