"""1×1 convolutions: every pixel of a channels-last image is a row of a matrix product."""

from __future__ import annotations

from tinyonnx.ir import Array
from tinyonnx.kernels._common import conv_refused, epilogue_of, image
from tinyonnx.kernels.gemm import bias_panels, multiply, pack_panels
from tinyonnx.ops.conv import ConvAttributes, conv, conv_windows
from tinyonnx.ops.fused import Activation, fused_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


def pointwise_refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, residual: Info | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    """Refuse what isn't a 1×1 convolution of stride 1 without padding."""
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


@fast(conv, when=pointwise_refused, by_item=True)
@fast(fused_conv, when=pointwise_refused, by_item=True)
def bind_pointwise(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None,
    *, geometry: ConvAttributes, activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """Weights [filters, channels, 1, 1] become panels."""
    (source, (batch, height, width, channels)), (target, (*_, filters)) = image(x), image(out)
    packed = pool.derive("pointwise", lambda w: pack_panels(w.reshape(w.shape[:2]).T), w)
    bias = bias_panels(pool, b, filters)
    other = target if residual is None else image(residual)[0]
    epilogue = epilogue_of(activation, residual is not None)
    m = batch * height * width
    return Call(multiply, (source, packed, bias, other, target, m, channels, filters, epilogue))
