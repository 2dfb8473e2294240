"""The primitives of `_jit` in numpy, for NUMBA_DISABLE_JIT=1: same parameters, same results up to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinyonnx.ir import Array

LANES = 4
"""Floats in a vector, where there is none."""


def _window(x: Array, start: int, shape: tuple[int, ...], steps: tuple[int, ...]) -> Array:
    if 0 in shape:
        return np.empty(shape, np.float32)
    last = start + sum((size - 1) * step for size, step in zip(shape, steps))
    assert start >= 0
    assert last < len(x), "a kernel reads outside its array"
    return as_strided(x[start:], shape, [step * x.itemsize for step in steps])


def _finish(values: Array, out: Array, residual: Array, start: int, step: int, epilogue: Any) -> Array:
    has_residual, code, alpha, beta = epilogue
    shape, steps = values.shape, (step, 1)
    if has_residual:
        values = values + _window(residual, start, shape, steps)
    if code == 1:
        values = np.minimum(np.maximum(values, np.float32(alpha)), np.float32(beta))
    elif code == 2:
        values = values * np.clip(values * np.float32(1 / 6) + np.float32(0.5), np.float32(0), np.float32(1))
    _window(out, start, shape, steps)[...] = values
    return values


def gemm_tile(
    rows: int, vectors: int, x: Array, x_at: int, x_step: int, taps: Any, w: Array, w_at: int, bias: Array, b_at: int,
    out: Array, o_at: int, o_step: int, o_column: int, last: int, lanes: int, residual: Array, epilogue: Any,
) -> None:  # fmt: skip
    """See `_jit.gemm_tile`."""
    outer, outer_step, inner, inner_step, depth, w_outer = taps
    panel = vectors * LANES
    total = np.tile(bias[b_at : b_at + panel], (rows, 1))
    with np.errstate(all="ignore"):
        for o in range(outer):
            for i in range(inner):
                run = _window(x, x_at + o * outer_step + i * inner_step, (rows, depth), (x_step, 1))
                total += run @ _window(w, w_at + o * w_outer + i * depth * panel, (depth, panel), (panel, 1))
        for v in range(vectors - 1):
            _finish(total[:, v * LANES : (v + 1) * LANES], out, residual, o_at + v * o_column, o_step, epilogue)
        tail = total[:, panel - LANES : panel - LANES + (lanes if vectors == 1 else LANES)]
        _finish(tail, out, residual, o_at + last, o_step, epilogue)


def window_tile(
    pixels: int, vectors: int, height: int, run: int, step: int, x: Array, x_at: int, x_row: int, w: Array, w_at: int,
    bias: Array, b_at: int, out: Array, o_at: int, o_step: int, last: int, lanes: int, residual: Array, epilogue: Any,
) -> None:  # fmt: skip
    """See `_jit.window_tile`."""
    taps = (height, x_row, 1, 0, run, run * vectors * LANES)
    gemm_tile(
        pixels, vectors, x, x_at, step, taps, w, w_at, bias, b_at,
        out, o_at, o_step, LANES, last, lanes, residual, epilogue,
    )  # fmt: skip


def taps_tile(
    pixels: int, width: int, stride: int, masked: int, x: Array, x_at: int, x_step: int, taps: Any, w: Array, w_at: int,
    bias: Array, b_at: int, out: Array, o_at: int, o_step: int, lanes: int, residual: Array, epilogue: Any,
    sums: Array, s_at: int, skip: int,
) -> None:  # fmt: skip
    """See `_jit.taps_tile`."""
    outer, outer_step, inner, inner_step, w_outer, wrap_at, wrap = taps
    count = lanes if masked else LANES
    total = np.tile(bias[b_at : b_at + count], (pixels, 1))
    with np.errstate(all="ignore"):
        for i in range(outer):
            for j in range(inner):
                column = w[w_at + i * w_outer + j * LANES :][:count]
                at = x_at + i * outer_step - (wrap if i >= wrap_at else 0) + j * inner_step
                total += _window(x, at, (pixels, count), (x_step, 1)) * column
        results = _finish(total, out, residual, o_at, o_step, epilogue)
        if skip < pixels:
            sums[s_at : s_at + count] += results[skip:].sum(axis=0)


def float_from_bits(bits: Any) -> Any:
    """The float32 with these bits."""
    return np.int32(bits).view(np.float32)


def bits_from_float(value: Any) -> Any:
    """The bits of a float32 as int32."""
    return np.float32(value).view(np.int32)
