"""A kernel that rounds floats to pairs of bfloat16."""

from __future__ import annotations

from tinyonnx.codegen.kernel import kernel
from tinyonnx.codegen.primitives import round_to_pairs
from tinyonnx.ir import Array


@kernel
def round_floats(x: Array, start: int, count: int, out: Array, at: int, part: int, parts: int) -> None:
    """Round x[start : start + count] into out[at:]."""
    round_to_pairs(x, start, count, out, at)
