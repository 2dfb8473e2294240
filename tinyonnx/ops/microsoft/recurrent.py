"""com.microsoft: DynamicQuantizeLSTM, the LSTM of dynamically quantised models."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import quiet
from tinyonnx.ops.microsoft._common import check_shape, microsoft, present
from tinyonnx.ops.quantize import centered, check_type, dynamic_quantize_linear
from tinyonnx.ops.quantized import exact_factor
from tinyonnx.ops.recurrent import LayerAttributes, RecurrentAttributes, lstm_cell, run_layer, shape_rule
from tinyonnx.registry import Context, Info


class _QuantizedFactor:
    """Weights [features, columns] of bytes; the other operand of `@` is quantised dynamically, by its own range."""

    __array_ufunc__ = None  # numpy then calls __rmatmul__

    def __init__(self, weights: Array, scale: Array, zero_point: Array | None) -> None:
        self._weights = exact_factor(weights, zero_point, 0)
        self._scale = scale

    def __rmatmul__(self, x: Array) -> Array:
        small, scale, zero_point = dynamic_quantize_linear(x)
        sums = centered(small, zero_point, self._weights.dtype) @ self._weights
        return np.asarray(sums.astype(np.float32) * (scale * self._scale))


def _factors(name: str, w: Array, scale: Array | None, zero_point: Array | None) -> list[_QuantizedFactor]:
    """Return one factor per direction of `w` [directions, features, columns], with scales per direction or column."""
    if w.ndim != 3 or w.dtype not in (np.int8, np.uint8):
        raise OpError(f"{name} is {w.dtype} with {w.ndim} dimensions, must be int8 or uint8 with 3")
    (scale,) = present(**{f"{name}_scale": scale})
    if scale.dtype != np.float32:
        raise OpError(f"{name}_scale is {scale.dtype}, must be float32")
    check_type(w, zero_point, name)
    shapes = w.shape[:1], (w.shape[0], w.shape[2])
    check_shape(f"{name}_scale", scale, *shapes)
    check_shape(f"{name}_zero_point", zero_point, *shapes)
    return [_QuantizedFactor(w[d], scale[d], None if zero_point is None else zero_point[d]) for d in range(len(w))]


def _shape(x: Info, w: Info, r: Info, *_: Info | None, layer: RecurrentAttributes, **__: Any) -> list[Info] | None:
    def transposed(info: Info) -> Info:
        return Info(x.dtype, info.shape and (info.shape[0], info.shape[2], info.shape[1]))

    return shape_rule(gates=4, states=2)(x, transposed(w), transposed(r), layer=LayerAttributes(**vars(layer)))


@microsoft("DynamicQuantizeLSTM", shape=_shape)
@quiet
def dynamic_quantize_lstm(
    ctx: Context, x: Array, w: Array, r: Array, b: Array | None = None, sequence_lens: Array | None = None,
    initial_h: Array | None = None, initial_c: Array | None = None, p: Array | None = None,
    w_scale: Array | None = None, w_zero_point: Array | None = None, r_scale: Array | None = None,
    r_zero_point: Array | None = None, *, layer: RecurrentAttributes = RecurrentAttributes(), input_forget: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    """Run an LSTM with bytes `w` [directions, features, 4 · hidden] and `r` [directions, hidden, 4 · hidden]."""
    if x.dtype != np.float32:
        raise OpError(f"X is {x.dtype}, must be float32")
    factors = list(zip(_factors("W", w, w_scale, w_zero_point), _factors("R", r, r_scale, r_zero_point)))
    return run_layer(
        ctx,
        lstm_cell(bool(input_forget)),
        ("Sigmoid", "Tanh", "Tanh"),
        4,
        LayerAttributes(**vars(layer)),
        (w.swapaxes(1, 2), r.swapaxes(1, 2), b, p),
        x,
        sequence_lens,
        factors=factors,
        initial_h=initial_h,
        initial_c=initial_c,
    )
