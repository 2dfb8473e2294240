"""Primitives: functions that the compiler emits vector code for, their records and tile sizes.

The Python functions define the meaning, in numpy, and run with NUMBA_DISABLE_JIT=1: same parameters, same results up to
rounding. `emit_tiles` emits the machine code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinyonnx.codegen.kernel import DISABLED, Primitive, jit
from tinyonnx.codegen.processor import vector_shape
from tinyonnx.dtypes import round_to_bfloat16
from tinyonnx.ir import Array

LINEAR, CLIP, HARD_SWISH, POSTPONED = 0, 1, 2, 3
"""Codes of activations that tiles apply in registers; codes from POSTPONED on are linear in a tile, and
`kernels.elementwise.activate` applies them afterwards.
"""

LOOPED, PAIRS = 0, -1
"""Values of a GEMM tile's `run` other than the number of unrolled taps: a loop over floats, a loop over pairs."""

WHOLE, MASKED, NARROW = 0, 1, 2
"""Values of a depthwise tile's `lanes`: whole vectors, a mask of the first `out.lanes` lanes, vectors of HALF lanes."""

LANES, _REGISTERS = (4, 16) if DISABLED else vector_shape()
"""Number of floats in a vector, and number of vector registers."""

HALF = LANES // 2
"""Number of floats in half a vector. With registers of 512 bits, operations on it take half the time on Zen 4."""

ROWS_1, ROWS_2, ROWS_3 = (16, 8, 8) if _REGISTERS == 32 else (8, 6, 4)
"""Rows of a GEMM tile that is 1, 2 or 3 vectors wide, by measurement: 12 rows of 2 spill and take twice the time."""

FEW_1, FEW_2, FEW_3 = ROWS_1 // 2, ROWS_2 // 2, ROWS_3 // 2
"""Rows of the GEMM tile for matrices with fewer rows."""

PIXELS = 8 if _REGISTERS == 32 else 4
"""Neighbouring output pixels of a depthwise tile."""

FEW_PIXELS = PIXELS // 2
"""Pixels of the tile for narrower images."""


@jit
def tile_side(data: Array) -> int:
    """Return the side of a square of elements, a row per vector: one vector for 4 or 8 bytes, two or four for fewer."""
    return (LANES if data.itemsize > 2 else 16) // (2 if data.itemsize > 4 else 1)


# -- records ----------------------------------------------------------------------------


class Epilogue(NamedTuple):
    """The steps between a sum and its store: an optional residual (0 or 1), then an activation with its parameters."""

    residual: int
    activation: int
    alpha: Any
    beta: Any


class Rows(NamedTuple):
    """Rows of an array: row i starts at element start + i·step."""

    data: Array
    start: int
    step: int


class Taps(NamedTuple):
    """The runs of consecutive elements that make up a row of a matrix product.

    There are outer·inner runs of `run` elements, at o·outer_step + i·inner_step from the row's start. The weights of an
    outer tap start `w_rows` rows after those of the previous one; the weights of inner taps follow each other.
    """

    outer: int
    outer_step: int
    inner: int
    inner_step: int
    run: int
    w_rows: int


class Window(NamedTuple):
    """The taps of a depthwise convolution: rows and columns, and the elements between them.

    `w_row` is the number of weights in a row. In a ring of rows, those from `wrap_at` on are `wrap` elements further
    back.
    """

    rows: int
    row_step: int
    columns: int
    column_step: int
    w_row: int
    wrap_at: int
    wrap: int


class Weights(NamedTuple):
    """Packed weights and bias: arrays, and the index of the first element of each."""

    data: Array
    start: int
    bias: Array
    bias_start: int


class Lines(NamedTuple):
    """Rows of results: row i is at start + i·step, with vectors `column` elements apart; likewise in the residual."""

    data: Array
    residual: Array
    start: int
    step: int
    column: int


class Block(NamedTuple):
    """Results of a panel: the last vector of each of `lines` starts `last` elements after the first.

    If there is only one vector, `lanes` of its elements are stored.
    """

    lines: Lines
    last: int
    lanes: int


class Pixels(NamedTuple):
    """Results of `pixels` neighbouring pixels, `step` apart, for one vector of `lanes` channels; likewise the residual.

    The sum over the pixels is added to sums[sums_start:], unless `sums_start` is negative.
    """

    data: Array
    residual: Array
    start: int
    step: int
    pixels: int
    lanes: int
    sums: Array
    sums_start: int


# -- meaning ----------------------------------------------------------------------------


def _window(x: Array, start: int, shape: tuple[int, ...], steps: tuple[int, ...]) -> Array:
    if 0 in shape:
        return np.empty(shape, np.float32)
    last = start + sum((size - 1) * step for size, step in zip(shape, steps))
    assert start >= 0
    assert last < len(x), "a kernel reads outside its array"
    return as_strided(x[start:], shape, [step * x.itemsize for step in steps])


def _finish(values: Array, out: Lines | Pixels, start: int, epilogue: Epilogue) -> Array:
    shape, steps = values.shape, (out.step, 1)
    if epilogue.residual:
        values = values + _window(out.residual, start, shape, steps)
    if epilogue.activation == CLIP:
        values = np.minimum(np.maximum(values, np.float32(epilogue.alpha)), np.float32(epilogue.beta))
    elif epilogue.activation == HARD_SWISH:
        values = values * np.clip(values * np.float32(1 / 6) + np.float32(0.5), np.float32(0), np.float32(1))
    _window(out.data, start, shape, steps)[...] = values
    return values


def _gemm_tile(
    rows: int, vectors: int, run: int, step: int, x: Rows, taps: Taps, w: Weights, out: Block, epilogue: Epilogue,
) -> None:  # fmt: skip
    """Multiply `rows` rows by a panel of `vectors` vectors of columns: out = epilogue(bias + Σ taps x · w).

    With `vectors` = 0 the panel is one vector wide, and its first HALF columns are computed.

    With `run` > 0 the taps of a run, of which there are that many, are unrolled, and elements read by several rows are
    loaded once; rows are then `step` apart. With `run` = PAIRS the elements of `x` and `w` are pairs of bfloat16 (see
    `round_to_pairs`), in `w` of two rows; sums are float32.
    """
    panel, lines = max(vectors, 1) * LANES, out.lines
    total = np.tile(w.bias[w.bias_start : w.bias_start + panel], (rows, 1))
    with np.errstate(all="ignore"):
        for o in range(taps.outer):
            for i in range(taps.inner):
                start = x.start + o * taps.outer_step + i * taps.inner_step
                elements = _window(x.data, start, (rows, taps.run), (x.step, 1))
                at = w.start + (o * taps.w_rows + i * taps.run) * panel
                factors = _window(w.data, at, (taps.run, panel), (panel, 1))
                if run == PAIRS:
                    halves = zip(_halves(elements), _halves(factors))
                    total += sum((left @ right for left, right in halves), np.float32(0))
                else:
                    total += elements @ factors
        for v in range(vectors - 1):
            _finish(total[:, v * LANES : (v + 1) * LANES], lines, lines.start + v * lines.column, epilogue)
        tail = total[:, panel - LANES : panel - LANES + (out.lanes if vectors <= 1 else LANES)]
        _finish(tail, lines, lines.start + out.last, epilogue)


def _first_of_tiles(count: int, size: int) -> list[int]:
    """Return the first item of each tile of `size` of at least as many items; the last one is moved up."""
    return [min(first, count - size) for first in range(0, count, size)]


def _gemm_tiles(
    rows: int, vectors: int, run: int, step: int, x: Rows, m: int, taps: Taps, w: Weights, out: Block,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    """Multiply `m` rows, at least as many as a tile has, with a panel, tile by tile; see `gemm_tile`."""
    for r in _first_of_tiles(m, rows):
        here = x._replace(start=x.start + r * x.step)
        block = out._replace(lines=out.lines._replace(start=out.lines.start + r * out.lines.step))
        _gemm_tile(rows, vectors, run, step, here, taps, w, block, epilogue)


def _taps_tiles(
    pixels: int, columns: int, stride: int, lanes: int, x: Rows, taps: Window, w: Weights, out: Pixels,
    epilogue: Epilogue,
) -> None:  # fmt: skip
    """Convolve the pixels of `out`, at least `pixels` of them, for one vector of channels, `pixels` at a time.

    With `columns` > 0 the taps of a row are unrolled: `columns` is their number, and pixels of
    the input are `stride` columns apart. `lanes` is WHOLE, MASKED or NARROW: with MASKED only the first `out.lanes`
    lanes are read and written, with NARROW the first HALF.
    """
    count, added = (LANES, out.lanes, HALF)[lanes], 0
    for p in _first_of_tiles(out.pixels, pixels):
        total = np.tile(w.bias[w.bias_start : w.bias_start + count], (pixels, 1))
        with np.errstate(all="ignore"):
            for i in range(taps.rows):
                for j in range(taps.columns):
                    column = w.data[w.start + i * taps.w_row + j * LANES :][:count]
                    at = x.start + i * taps.row_step - (taps.wrap if i >= taps.wrap_at else 0) + j * taps.column_step
                    total += _window(x.data, at + p * x.step, (pixels, count), (x.step, 1)) * column
            results = _finish(total, out, out.start + p * out.step, epilogue)
            if out.sums_start >= 0:
                out.sums[out.sums_start : out.sums_start + count] += results[added - p :].sum(axis=0)
        added = p + pixels


def _halves(pairs: Array) -> tuple[Array, Array]:
    """Return the first and the second number of each pair of bfloat16, as float32."""
    bits = np.ascontiguousarray(pairs).view(np.uint32)
    return (bits << np.uint32(16)).view(np.float32), (bits & np.uint32(0xFFFF0000)).view(np.float32)


def _round_to_pairs(x: Array, start: int, count: int, out: Array, at: int) -> None:
    """Round `count` floats of x[start:] to bfloat16, to nearest even, and store them as pairs in out[at:].

    A pair is the 32 bits of one element; the first number is in the lower half. If `count` is odd the last pair ends
    with 0. `out` may be `x` with `at` <= `start`. Subnormal numbers become 0.
    """
    bits = np.zeros(count + count % 2, np.uint32)
    bits[:count] = round_to_bfloat16(x[start : start + count]).view(np.uint32)
    out[at : at + len(bits) // 2] = (bits[::2] >> np.uint32(16) | bits[1::2]).view(np.float32)


def _transpose_tile(source: Rows, target: Rows) -> None:
    """Store the columns of a square of `tile_side` rows of the source as rows of the target."""
    side = tile_side(source.data)
    square = _window(source.data, source.start, (side, side), (source.step, 1))
    _window(target.data, target.start, (side, side), (target.step, 1))[...] = square.T


def _float_from_bits(bits: Any) -> Any:
    """Return the float32 with these bits."""
    return np.int32(bits).view(np.float32)


def _bits_from_float(value: Any) -> Any:
    """Return the bits of a float32 as int32."""
    return np.float32(value).view(np.int32)


def _primitive(function: Any) -> Primitive:
    function.__name__ = function.__name__.removeprefix("_")
    return Primitive(function)


gemm_tile, gemm_tiles, taps_tiles = map(_primitive, (_gemm_tile, _gemm_tiles, _taps_tiles))
round_to_pairs, transpose_tile = map(_primitive, (_round_to_pairs, _transpose_tile))
float_from_bits, bits_from_float = map(_primitive, (_float_from_bits, _bits_from_float))
