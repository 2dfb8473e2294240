"""Squeeze-and-excitation as the passes fuse it: a gate per channel, and the convolution of a gated image."""

from __future__ import annotations

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.fused import Activation, fused_conv, fused_conv_shape, fused_gemm
from tinyonnx.ops.reduce import mean_over
from tinyonnx.registry import FUSED, Context, Info, op


def _check_gate(
    x: Array | Info, w1: Array | Info, b1: Array | Info | None, w2: Array | Info, b2: Array | Info | None
) -> None:
    if x.shape is None or w1.shape is None or w2.shape is None:
        return
    if len(x.shape) < 3:
        raise OpError(f"x has {len(x.shape)} dimensions, needs at least 3: batch, channels, spatial axes")
    if len(w1.shape) != 2 or w1.shape[0] != x.shape[1]:
        raise OpError(f"x has {x.shape[1]} channels, w1 has shape {list(w1.shape)}")
    if tuple(w2.shape) != tuple(w1.shape[::-1]):
        raise OpError(f"w1 has shape {list(w1.shape)}, w2 has {list(w2.shape)}, not {list(w1.shape[::-1])}")
    for name, bias, units in (("b1", b1, w1.shape[1]), ("b2", b2, x.shape[1])):
        if bias is not None and bias.shape is not None and tuple(bias.shape) != (units,):
            raise OpError(f"{name} has shape {list(bias.shape)}, not {[units]}")


def squeeze_gate_shape(
    x: Info, w1: Info, b1: Info | None, w2: Info, b2: Info | None = None, **attributes: object
) -> Info:
    """Infer the output shape of SqueezeGate."""
    _check_gate(x, w1, b1, w2, b2)
    return Info(x.dtype, None if x.shape is None else (*x.shape[:2], *(1,) * (len(x.shape) - 2)))


@op("SqueezeGate", domain=FUSED, shape=squeeze_gate_shape)
def squeeze_gate(
    x: Array, w1: Array, b1: Array | None, w2: Array, b2: Array | None = None, *,
    activation: Activation = Activation(name="Relu"), gate: Activation = Activation(name="Sigmoid"),
) -> Array:  # fmt: skip
    """Compute gate(activation(mean(x) @ w1 + b1) @ w2 + b2), [N, C, 1, …], of `x` [N, C, *spatial].

    `w1` is [C, S], `b1` [S], `w2` [S, C], `b2` [C].
    """
    _check_gate(x, w1, b1, w2, b2)
    with np.errstate(all="ignore"):  # the mean of an empty image is NaN, like that of ReduceMean
        mean = mean_over(x, tuple(range(2, x.ndim)), False).astype(x.dtype, copy=False)
    hidden = fused_gemm(mean, w1, b1, activation=activation)
    scale = fused_gemm(hidden, w2, b2, activation=gate)
    return scale.reshape(*scale.shape, *(1,) * (x.ndim - 2))


def _check_gated(x: Array | Info, gate: Array | Info) -> None:
    if x.shape is None or gate.shape is None:
        return
    wanted = (*x.shape[:2], *(1,) * (len(x.shape) - 2))
    if tuple(gate.shape) != wanted:
        raise OpError(f"the gate has shape {list(gate.shape)}, not {list(wanted)}")


def gated_conv_shape(
    x: Info, gate: Info, w: Info, b: Info | None = None, residual: Info | None = None, **attributes: object
) -> Info:
    """Infer the output shape of GatedConv."""
    _check_gated(x, gate)
    return fused_conv_shape(x, w, b, residual)


@op("GatedConv", domain=FUSED, shape=gated_conv_shape)
def gated_conv(
    ctx: Context | None, x: Array, gate: Array, w: Array, b: Array | None = None, residual: Array | None = None, *,
    activation: Activation = Activation(),
) -> Array:  # fmt: skip
    """Compute FusedConv of x · gate; the gate has one number per item and channel."""
    _check_gated(x, gate)
    with np.errstate(all="ignore"):
        gated = np.multiply(x, gate)
    return fused_conv(ctx, gated, w, b, residual, activation=activation)
