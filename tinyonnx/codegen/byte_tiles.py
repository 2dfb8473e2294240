"""Primitives on bytes: register tiles of quantised products, with exact sums in int32.

The Python functions define the meaning, in numpy; `emit_bytes` emits the machine code. Left factors are unsigned bytes
and right factors signed ones; four of each make a word.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.kernel import Primitive
from tinyonnx.codegen.primitives import LANES, ROWS_2, Rows, Window
from tinyonnx.ir import Array

SUMS, FLOATS, BYTES = range(3)
"""Kinds of results of a tile: the sums as int32; sum · scale + bias as float32; the sum requantised to a byte."""

WORD = 4
"""Bytes of a word."""

TALL, SHORT = (8, 4) if ROWS_2 == 8 else (4, 2)
"""Rows of a tile, and rows of the tile for matrices with fewer rows."""

CORRECTION, SCALE, BIAS, ZERO = range(4)
"""Rows of the numbers per column: an addend of the sum (int32), scale, bias, zero point of the weights (int32)."""


class Columns(NamedTuple):
    """Numbers of each column in the order of panels: row r (`CORRECTION`, …) begins at start + r·step.

    Integers are stored as the floats with the same bits.
    """

    data: Array
    start: int
    step: int


class RowSums(NamedTuple):
    """The sum of the left factors of each row, an int32 stored as the float with its bits.

    `used` unless all `ZERO` are 0.
    """

    data: Array
    start: int
    used: int


class Target(NamedTuple):
    """Results: row i is at start + i·step; `lanes` elements of the last vector of columns are stored."""

    data: Array
    start: int
    step: int
    lanes: int


class Quantum(NamedTuple):
    """The zero point and the range of quantised results."""

    zero: Any
    low: Any
    high: Any


class Panel(NamedTuple):
    """Packed weights, and the index of the first one."""

    data: Array
    start: int


class Line(NamedTuple):
    """Windows in rows of `width`: the column of the first one, and the bytes to skip at the end of each row."""

    first: int
    width: int
    skip: int


class Runs(NamedTuple):
    """The bytes under a kernel: a run of `words` words for each of its `rows`, `step` bytes apart."""

    rows: int
    words: int
    step: int


class Finish(NamedTuple):
    """The numbers that turn sums into results."""

    columns: Columns
    sums: RowSums
    quantum: Quantum


SUM, PRODUCT, SUM_ROUNDED, PRODUCT_ROUNDED = range(4)
"""Operations of `byte_pairs`; the last two round before they add the zero point, as QuantizeLinear does."""


class ByteLine(NamedTuple):
    """A line of bytes: its memory, its first byte, and the step to the next one, 0 or 1."""

    data: Array
    start: int
    step: int


class PairNumbers(NamedTuple):
    """Scales and zero points of two operands and of their result; `sign` is 128 for signed bytes, else 0."""

    a_scale: Any
    a_zero: Any
    b_scale: Any
    b_zero: Any
    scale: Any
    zero: Any
    sign: int


def _words(data: Array, start: int, rows: int, step: int, size: int) -> Array:
    """Return bytes [rows, size] as int64."""
    assert start >= 0
    assert start + (rows - 1) * step + size <= len(data), "a kernel reads outside its array"
    return np.stack([data[start + r * step : start + r * step + size] for r in range(rows)]).astype(np.int64)


def _store(values: Array, kind: int, numbers: Array, target: Any, at: int, quantum: Quantum) -> None:
    """Store a row of sums of one vector."""
    sums = (values + numbers[CORRECTION].view(np.int32)).astype(np.int32)
    if kind == SUMS:
        target[at : at + len(sums)] = sums
        return
    scaled = sums.astype(np.float32) * numbers[SCALE]
    if kind == FLOATS:
        target[at : at + len(sums)] = scaled + numbers[BIAS]
        return
    shifted = np.rint(scaled) + quantum.zero
    target[at : at + len(sums)] = np.fmin(np.fmax(shifted, quantum.low), quantum.high).astype(np.int32).astype(np.uint8)


def _byte_tile(
    rows: int, vectors: int, kind: int, x: Rows, words: int, w: Panel, finish: Finish, out: Target
) -> None:  # fmt: skip
    """Multiply `rows` rows of `words` words by a panel of `vectors` vectors of columns; compute results of `kind`."""
    panel, columns, sums = vectors * LANES, finish.columns, finish.sums
    left = _words(x.data, x.start, rows, x.step, words * WORD)
    right = w.data[w.start : w.start + words * panel * WORD].view(np.int8).astype(np.int64)
    total = left @ right.reshape(words, panel, WORD).transpose(0, 2, 1).reshape(words * WORD, panel)
    for r in range(rows):
        for v in range(vectors):
            first = columns.start + v * LANES
            count = out.lanes if v == vectors - 1 else LANES
            numbers = np.stack([columns.data[first + i * columns.step :][:count] for i in range(4)])
            values = total[r, v * LANES : v * LANES + count]
            if sums.used:
                values = values - int(sums.data.view(np.int32)[sums.start + r]) * numbers[ZERO].view(np.int32)
            _store(values, kind, numbers, out.data, out.start + r * out.step + v * LANES, finish.quantum)


def _byte_rows_tile(
    rows: int, vectors: int, kind: int, x: Rows, line: Line, runs: Runs, w: Panel, finish: Finish, out: Target
) -> None:
    """Multiply the bytes under `rows` windows by a panel of `vectors` vectors of columns; compute results of `kind`.

    The windows are x.step bytes apart, in rows as `line` says. Zero points of columns are 0.
    """
    panel, columns, size = vectors * LANES, finish.columns, runs.words * WORD
    at, column, found = x.start, line.first, []
    for _ in range(rows):
        found.append(_words(x.data, at, runs.rows, runs.step, size).reshape(-1))
        column = (column + 1) % line.width
        at += x.step + (line.skip if column == 0 else 0)
    depth = runs.rows * size
    right = w.data[w.start : w.start + depth * panel].view(np.int8).astype(np.int64)
    total = np.stack(found) @ right.reshape(-1, panel, WORD).transpose(0, 2, 1).reshape(depth, panel)
    for r in range(rows):
        for v in range(vectors):
            count = out.lanes if v == vectors - 1 else LANES
            numbers = np.stack([columns.data[columns.start + v * LANES + i * columns.step :][:count] for i in range(4)])
            values = total[r, v * LANES : v * LANES + count]
            _store(values, kind, numbers, out.data, out.start + r * out.step + v * LANES, finish.quantum)


def _byte_taps_tile(
    pixels: int, unrolled: int, stride: int, kind: int, x: Rows, taps: Window, w: Panel, finish: Finish, out: Target
) -> None:
    """Convolve `pixels` pixels of a depthwise convolution for one vector of channels and compute results of `kind`.

    Weights are int16, `taps.w_row` of them for each row of the kernel. If `unrolled` > 0, it is the number of taps in a
    row, and pixels of the input are `stride` taps apart.
    """
    total = np.zeros((pixels, LANES), np.int64)
    for i in range(taps.rows):
        for j in range(taps.columns):
            at = x.start + i * taps.row_step - (taps.wrap if i >= taps.wrap_at else 0) + j * taps.column_step
            factors = w.data[w.start + i * taps.w_row + j * LANES :][:LANES].astype(np.int64)
            total += _words(x.data, at, pixels, x.step, LANES) * factors
    columns = finish.columns
    numbers = np.stack([columns.data[columns.start + i * columns.step :][: out.lanes] for i in range(4)])
    for p in range(pixels):
        _store(total[p, : out.lanes], kind, numbers, out.data, out.start + p * out.step, finish.quantum)


def _byte_pairs(code: int, count: int, a: ByteLine, b: ByteLine, out: ByteLine, numbers: PairNumbers) -> None:
    """Combine two lines of quantised numbers: out = (a - a₀) s_a ∘ (b - b₀) s_b over the scale, plus the zero point.

    Results are rounded to the nearest even and saturated.
    """
    kind = np.int8 if numbers.sign else np.uint8
    reals = []
    for line, scale, zero in ((a, numbers.a_scale, numbers.a_zero), (b, numbers.b_scale, numbers.b_zero)):
        size = count if line.step else 1
        reals.append((line.data[line.start : line.start + size].view(kind).astype(np.float32) - zero) * scale)
    value = (reals[0] + reals[1] if code in (SUM, SUM_ROUNDED) else reals[0] * reals[1]) / numbers.scale
    value = np.rint(value + numbers.zero) if code in (SUM, PRODUCT) else np.rint(value) + numbers.zero
    low, high = np.float32(-numbers.sign), np.float32(255 - numbers.sign)
    rounded = np.fmin(np.fmax(value, low), high).astype(np.int32).astype(np.uint8)
    out.data[out.start : out.start + count] = rounded


def _extremes(x: Array, start: int, count: int, out: Array, at: int) -> None:
    """Store the lowest and the highest of x[start : start + count] and 0, as LANES floats at out[at:] each.

    NaN stays NaN.
    """
    values = x[start : start + count]
    out[at : at + LANES] = values.min(initial=np.float32(0))
    out[at + LANES : at + 2 * LANES] = values.max(initial=np.float32(0))


def _bytes_of(data: Array) -> Array:
    """Return the memory of float32 as bytes."""
    return data.view(np.uint8)


def _primitive(function: Any) -> Primitive:
    function.__name__ = function.__name__.removeprefix("_")
    return Primitive(function)


byte_tile, byte_rows_tile, byte_taps_tile = map(_primitive, (_byte_tile, _byte_rows_tile, _byte_taps_tile))
byte_pairs, extremes, bytes_of = map(_primitive, (_byte_pairs, _extremes, _bytes_of))
