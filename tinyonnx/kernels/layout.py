"""Copies from one memory order to the other: a transposed matrix per item of the batch."""

from __future__ import annotations

import math

from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.ir import Array
from tinyonnx.registry import Call
from tinyonnx.runtime.arena import channels_innermost

_BLOCK = 16
"""Rows and columns of a block: all of both arrays' cache lines is used while in the L1 cache."""


@kernel
def transpose(x: Array, out: Array, batch: int, rows: int, columns: int, part: int, parts: int) -> None:
    """out[batch, columns, rows] = x[batch, rows, columns]."""
    blocks = (columns + _BLOCK - 1) // _BLOCK
    first, end = share(batch * blocks, part, parts)
    for block in range(first, end):
        item, begin = block // blocks, block % blocks * _BLOCK
        stop = min(begin + _BLOCK, columns)
        source, target = item * rows * columns, item * rows * columns
        for start in range(0, rows, _BLOCK):
            for c in range(begin, stop):
                for r in range(start, min(start + _BLOCK, rows)):
                    out[target + c * rows + r] = x[source + r * columns + c]


def copy_layout(source: Array, target: Array) -> Call:
    """Copy an array of rank 3 or more to one of the same shape in the other memory order."""
    batch, channels = source.shape[:2]
    pixels = math.prod(source.shape[2:])
    if source.flags.c_contiguous:
        flat = source.reshape(-1), channels_innermost(target).reshape(-1)
        return Call(transpose, (*flat, batch, channels, pixels))
    flat = channels_innermost(source).reshape(-1), target.reshape(-1)
    return Call(transpose, (*flat, batch, pixels, channels))
