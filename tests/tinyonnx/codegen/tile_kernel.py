"""A kernel with a register tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyonnx import kernel
from tinyonnx.codegen.primitives import LINEAR, Block, Epilogue, Lines, Rows, Taps, Weights, gemm_tile

if TYPE_CHECKING:
    from tinyonnx.ir import Array


@kernel
def tile(x: Array, w: Array, out: Array, depth: int, part: int, parts: int) -> None:
    """Multiply eight rows of `depth` elements with a panel of one vector of columns."""
    taps = Taps(1, 0, 1, 0, depth, depth)
    lines = Lines(out, out, 0, 8, 0)
    gemm_tile(
        8, 1, 0, 0, Rows(x, 0, depth), taps, Weights(w, 0, w, 0), Block(lines, 0, 8), Epilogue(0, LINEAR, 0.0, 0.0)
    )
