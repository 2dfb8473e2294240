"""The first three convolutions of a mobile network as one operator, which only the passes create."""

from __future__ import annotations

from typing import Any

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import Ints, Windows
from tinyonnx.ops.conv import ConvAttributes, conv_shape, conv_windows
from tinyonnx.ops.fused import Activation, depthwise_pointwise, fused_conv
from tinyonnx.registry import FUSED, Attributes, Context, Info, op


class StemAttributes(Attributes):
    """Strides and pads of the first convolution, and whether its result is added to that of the last one."""

    stem_strides: Ints
    stem_pads: Ints
    residual: int = 0

    @property
    def geometry(self) -> ConvAttributes:
        """The attributes of the first convolution."""
        return ConvAttributes(strides=self.stem_strides, pads=self.stem_pads)


def stem_windows(x: Array | Info, first: Array | Info, stem: StemAttributes) -> Windows:
    """Return the windows of the first convolution. Raises OpError."""
    return conv_windows(x, first, geometry=stem.geometry)


def stem_shape(
    x: Info, first: Info, first_b: Info | None, taps: Info, taps_b: Info | None, w: Info, b: Info | None = None, *,
    stem: StemAttributes, geometry: ConvAttributes, **_: Any,
) -> Info:  # fmt: skip
    """Infer the output shape of Stem."""
    middle = conv_shape(x, first, first_b, geometry=stem.geometry)
    return conv_shape(conv_shape(middle, taps, taps_b, geometry=geometry), w, b)


@op("Stem", domain=FUSED, shape=stem_shape)
def stem(
    ctx: Context | None, x: Array, first: Array, first_b: Array | None, taps: Array, taps_b: Array | None, w: Array,
    b: Array | None = None, *, stem: StemAttributes, geometry: ConvAttributes,
    stem_activation: Activation = Activation(), depthwise_activation: Activation = Activation(),
    activation: Activation = Activation(),
) -> Array:  # fmt: skip
    """Compute FusedConv with the filters `first`, then DepthwisePointwise, whose residual may be the first result."""
    if x.ndim != 4:
        raise OpError(f"x has {x.ndim} dimensions, not 4")
    middle = fused_conv(ctx, x, first, first_b, geometry=stem.geometry, activation=stem_activation)
    return depthwise_pointwise(
        ctx,
        middle,
        taps,
        taps_b,
        w,
        b,
        middle if stem.residual else None,
        geometry=geometry,
        activation=activation,
        depthwise_activation=depthwise_activation,
    )
