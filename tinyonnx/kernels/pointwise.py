"""1×1 convolutions: every pixel of a channels-last image is a row of a matrix product."""

from __future__ import annotations

from tinyonnx.ir import Array
from tinyonnx.kernels._common import Product, conv_refused, epilogue_of, image, memory_or
from tinyonnx.kernels.gemm import pack_panels, pack_rounded, pointwise_layer, product_call
from tinyonnx.ops.conv import ConvAttributes, conv, conv_windows
from tinyonnx.ops.fused import Activation, fused_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


def pointwise_refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, residual: Info | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    """Refuse all but a 1×1 convolution of stride 1 without padding."""
    refused = conv_refused(out, x, w, b, residual, geometry=geometry, activation=activation)
    if refused is not None:
        return refused
    assert x is not None
    assert x.shape is not None
    assert w is not None
    assert w.shape is not None
    windows = conv_windows(x, w, geometry=geometry)
    if geometry.group != 1 or set(windows.kernel + windows.strides) != {1}:
        return "not a 1×1 convolution of stride 1"
    return None if windows.out == x.shape[2:] and not any(windows.begin) else "a 1×1 convolution with padding"


@fast(conv, when=pointwise_refused, by_item=True, rounds=True)
@fast(fused_conv, when=pointwise_refused, by_item=True, rounds=True)
def bind_pointwise(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(), rounded: bool = False,
) -> Call:  # fmt: skip
    """Bind `gemm.multiply`: each pixel is a row of the product."""
    source, target = image(x), image(out)
    pack = pack_rounded if rounded else pack_panels
    layer = pointwise_layer(pool, w, b, epilogue_of(activation, residual is not None), pack)
    size = Product(source.batch * source.height * source.width, source.channels, target.channels)
    return product_call(source.data, layer, memory_or(residual, target.data), target.data, size, rounded)
