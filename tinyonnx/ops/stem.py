"""The first layers of a mobile network as one of our own operators."""

from __future__ import annotations

from typing import Any

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import Ints, Windows
from tinyonnx.ops.conv import conv_shape, conv_windows
from tinyonnx.ops.fused import depthwise_pointwise, depthwise_pointwise_shape, fused_conv
from tinyonnx.registry import FUSED, Context, Info, op


def stem_windows(x: Array | Info, first: Array | Info, stem_strides: Ints, stem_pads: Ints) -> Windows:
    """The windows of the first convolution. Raises OpError."""
    return conv_windows(x, first, strides=stem_strides, pads=stem_pads)


def stem_shape(
    x: Info, first: Info, first_b: Info | None, taps: Info, taps_b: Info | None, w: Info, b: Info | None = None, *,
    stem_strides: Ints, stem_pads: Ints, residual: int = 0, stem_activation: str = "",
    stem_activation_alpha: float = 0.0, stem_activation_beta: float = 0.0, **attributes: Any,
) -> Info:  # fmt: skip
    """Shape rule of Stem."""
    middle = conv_shape(x, first, first_b, strides=stem_strides, pads=stem_pads)
    return depthwise_pointwise_shape(middle, taps, taps_b, w, b, middle if residual else None, **attributes)


@op("Stem", domain=FUSED, shape=stem_shape)
def stem(
    ctx: Context | None,
    x: Array,
    first: Array,
    first_b: Array | None,
    taps: Array,
    taps_b: Array | None,
    w: Array,
    b: Array | None = None,
    *,
    stem_strides: Ints,
    stem_pads: Ints,
    residual: int = 0,
    stem_activation: str = "",
    stem_activation_alpha: float = 0.0,
    stem_activation_beta: float = 0.0,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
    depthwise_activation: str = "",
    depthwise_activation_alpha: float = 0.0,
    depthwise_activation_beta: float = 0.0,
) -> Array:
    """FusedConv with the filters `first`, then DepthwisePointwise; its residual is the former's result if wanted."""
    if x.ndim != 4:
        raise OpError(f"x has {x.ndim} dimensions, not 4")
    middle = fused_conv(
        ctx,
        x,
        first,
        first_b,
        strides=stem_strides,
        pads=stem_pads,
        activation=stem_activation,
        activation_alpha=stem_activation_alpha,
        activation_beta=stem_activation_beta,
    )
    return depthwise_pointwise(
        ctx,
        middle,
        taps,
        taps_b,
        w,
        b,
        middle if residual else None,
        auto_pad=auto_pad,
        dilations=dilations,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
        activation=activation,
        activation_alpha=activation_alpha,
        activation_beta=activation_beta,
        depthwise_activation=depthwise_activation,
        depthwise_activation_alpha=depthwise_activation_alpha,
        depthwise_activation_beta=depthwise_activation_beta,
    )
