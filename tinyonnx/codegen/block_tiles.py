"""Primitives on weights that are quantised in blocks, with 4 or 8 bits each.

The Python functions define the meaning, in numpy; `emit_blocks` has the machine code. Weights are packed in panels of
two vectors of columns. A row of a panel is LANES bytes of two 4-bit weights (the low half belongs to the first
vector), or 2 · LANES bytes of one 8-bit weight. A block of rows has a scale and a zero point for each column.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyonnx.codegen.kernel import Primitive
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array

PANEL = 2 * LANES
"""Columns of a panel."""


class BlockPanel(NamedTuple):
    """Rows of a panel: the first byte, and where scales and zero points of the first block begin.

    Those of the next block follow, scales after `PANEL` floats, zero points after `zero_step`.
    """

    data: Array
    start: int
    scales: Array
    scale_start: int
    zeros: Array
    zero_start: int
    zero_step: int


def _weights(bits: int, w: BlockPanel, first: int, rows: int, block: int) -> Array:
    """Return the rows from `first` on, minus their zero points, as float32 [rows, PANEL]."""
    width = bits * PANEL // 8
    start = w.start + first * width
    assert start + rows * width <= len(w.data), "a kernel reads outside its array"
    data = w.data[start : start + rows * width].reshape(rows, width)
    numbers = np.concatenate([data & 15, data >> 4], axis=1) if bits == 4 else data
    zero = w.zero_start + block * w.zero_step
    return numbers.astype(np.float32) - w.zeros[zero : zero + PANEL]


def unpack_rows(bits: int, w: BlockPanel, rows: int, out: Array, at: int) -> None:
    """Store the first `rows` rows of a panel, all of one block, as floats [rows, PANEL] at out[at:]."""
    result = _weights(bits, w, 0, rows, 0) * w.scales[w.scale_start : w.scale_start + PANEL]
    out[at : at + result.size] = result.reshape(-1)


def multiply_row(bits: int, x: Array, start: int, w: BlockPanel, depth: int, size: int, out: Array, at: int) -> None:
    """Store the product [PANEL] of x[start : start + depth] with a panel in blocks of `size` rows at out[at:]."""
    total = np.zeros(PANEL, np.float32)
    for block, first in enumerate(range(0, depth, size)):
        rows = min(size, depth - first)
        scale = w.scale_start + block * PANEL
        with np.errstate(all="ignore"):
            product = x[start + first : start + first + rows] @ _weights(bits, w, first, rows, block)
            total += product * w.scales[scale : scale + PANEL]
    out[at : at + PANEL] = total


unpack_rows, multiply_row = Primitive(unpack_rows), Primitive(multiply_row)  # type: ignore[assignment]
