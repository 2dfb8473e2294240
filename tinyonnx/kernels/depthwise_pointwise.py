"""A depthwise convolution and the 1×1 one that follows it, row by row: what is in between stays in the cache."""

from __future__ import annotations

from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.codegen.primitives import LANES, POSTPONED
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Epilogue,
    Geometry,
    Shape,
    activation_refused,
    conv_refused,
    epilogue_of,
    float32_refused,
    geometry_of,
    image,
)
from tinyonnx.kernels.depthwise import depthwise_bias, depthwise_row, pack_depthwise
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.gemm import bias_panels, multiply_rows, pack_panels
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.ops.fused import Activation, depthwise_pointwise
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


@kernel
def convolve_both(
    x: Array, x_shape: Shape, taps_w: Array, taps_bias: Array, w: Array, bias: Array, residual: Array, out: Array,
    out_shape: Shape, geometry: Geometry, first_epilogue: Epilogue, epilogue: Epilogue, scratch: Array, part: int,
    parts: int,
) -> None:  # fmt: skip
    """Channels-last images, shapes (batch, height, width, channels); scratch holds a row between the two."""
    batch, out_height, out_width, n = out_shape
    c = x_shape[3]
    room = (out_width * c + LANES - 1) // LANES * LANES * part
    middle = (batch, out_height, out_width, c)
    first, end = share(batch * out_height, part, parts)
    for row in range(first, end):
        depthwise_row(
            x, x_shape, taps_w, taps_bias, scratch, scratch, room, middle, geometry, first_epilogue, row
        )  # fmt: skip
        at = row * out_width * n
        multiply_rows(
            scratch, room, c, out_width, (1, 0, 1, 0, c, 0), w, 0, 0, c,
            bias, 0, n, out, at, n, LANES, residual, epilogue,
        )  # fmt: skip
        if epilogue[1] >= POSTPONED:
            activate(out[at : at + out_width * n], epilogue[1], epilogue[2], epilogue[3])


# -- the operator -----------------------------------------------------------------------


def _refused(
    out: Info, x: Info | None, taps: Info | None, taps_b: Info | None, w: Info | None, b: Info | None = None,
    residual: Info | None = None, *, geometry: ConvAttributes, activation: Activation = Activation(),
    depthwise_activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if x is None or w is None or taps is None or x.shape is None or taps.shape is None or out.shape is None:
        return "shapes are not known"
    if w.value is None or (b is not None and b.value is None):
        return "weights are not constant"
    if residual is not None and (residual.value is not None or residual.shape != out.shape):
        return "the residual is constant or of another shape"
    middle = Info(out.dtype, (x.shape[0], taps.shape[0], *out.shape[2:]))
    return (
        conv_refused(middle, x, taps, taps_b, geometry=geometry, activation=depthwise_activation)
        or activation_refused(activation)
        or float32_refused(out, w, b, residual)
    )


@fast(depthwise_pointwise, when=_refused, by_item=True)
def bind_depthwise_pointwise(
    pool: ConstantPool, out: Array, x: Array, taps: Array, taps_b: Array | None, w: Array, b: Array | None = None,
    residual: Array | None = None, *, geometry: ConvAttributes, activation: Activation = Activation(),
    depthwise_activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """Weights are packed as for a depthwise and a 1×1 convolution."""
    (source, x_shape), (target, out_shape) = image(x), image(out)
    args = (
        source, x_shape, pack_depthwise(pool, taps), depthwise_bias(pool, taps_b, len(taps)),
        pool.derive("pointwise", lambda w: pack_panels(w.reshape(w.shape[:2]).T), w), bias_panels(pool, b, len(w)),
        target if residual is None else image(residual)[0], target, out_shape,
        geometry_of(conv_windows(x, taps, taps_b, geometry=geometry)),
        epilogue_of(depthwise_activation), epilogue_of(activation, residual is not None),
    )  # fmt: skip
    return Call(convolve_both, args, scratch=-(-out_shape[2] * x_shape[3] // LANES) * LANES)
