"""Primitives on rows of floats, for the softmax within attention.

The Python functions define the meaning, in numpy; `emit_rows` emits the machine code. A result that is a single number
is written to an array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.codegen.kernel import Primitive
from tinyonnx.ir import Array


def _scaled_maximum(
    biased: int, x: Array, start: int, count: int, scale: Any, bias: Array, bias_start: int, out: Array, at: int
) -> None:
    """Store the maximum of x[start : start + count] in out[at], -∞ if all are NaN.

    With `biased`, x[i] · scale + bias[i] replaces x[i] first. The memory of x must be readable and writable up to
    the next multiple of LANES; the numbers there become arbitrary.
    """
    row = x[start : start + count]
    if biased:
        row[...] = row * np.float32(scale) + bias[bias_start : bias_start + count]
    out[at] = np.fmax.reduce(row, initial=np.float32(-np.inf))


def _exponentials(x: Array, start: int, count: int, scale: Any, shift: Any, out: Array, at: int) -> None:
    """Replace `count` elements x[i] from `start` on by e^(x[i] · scale - shift); store their sum in out[at].

    Powers must be below the largest float32. The memory of x must be readable and writable up to the next multiple of
    LANES.
    """
    row = x[start : start + count]
    with np.errstate(all="ignore"):
        row[...] = np.exp(row * np.float32(scale) - np.float32(shift))
    out[at] = row.sum(dtype=np.float32)


def _dots(q: Array, q_start: int, x: Array, start: int, step: int, rows: int, count: int, out: Array, at: int) -> None:
    """Compute out[at + r] = Σ q[q_start + i] · x[start + r·step + i] for i below `count`, for each of `rows` rows."""
    with np.errstate(all="ignore"):
        for r in range(rows):
            out[at + r] = q[q_start : q_start + count] @ x[start + r * step : start + r * step + count]


def _primitive(function: Any) -> Primitive:
    function.__name__ = function.__name__.removeprefix("_")
    return Primitive(function)


scaled_maximum, exponentials, dots = map(_primitive, (_scaled_maximum, _exponentials, _dots))
