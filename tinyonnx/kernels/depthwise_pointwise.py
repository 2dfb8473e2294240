"""A depthwise and a 1×1 convolution, fused row by row, so that the rows in between stay in the cache."""

from __future__ import annotations

from typing import Any

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.codegen.primitives import LANES, LOOPED, PAIRS, POSTPONED, Lines, Rows
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Convolution,
    Image,
    Layer,
    activation_refused,
    conv_refused,
    epilogue_of,
    float32_refused,
    geometry_of,
    image,
    memory_or,
)
from tinyonnx.kernels.depthwise import depthwise_layer, depthwise_row
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.gemm import Panels, multiply_typed, pack_panels, pack_rounded, pointwise_layer, round_rows
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.ops.fused import Activation, depthwise_pointwise
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


@kernel
def convolve_both(
    run: Static, x: Image, depthwise: Convolution, pointwise: Layer, residual: Array, out: Image,
    scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Convolve twice; scratch holds one row between the two convolutions for each share.

    With `run` = PAIRS the operands of the second convolution are rounded to bfloat16.
    """
    n, c = out.channels, x.channels
    depth = (c + 1) // 2 if run == PAIRS else c
    room = (out.width * c + LANES - 1) // LANES * LANES * part
    middle = Image(scratch, out.batch, out.height, out.width, c)
    first, end = share(out.batch * out.height, part, parts)
    for row in range(first, end):
        depthwise_row(x, depthwise, scratch, middle, room, row)
        at = row * out.width * n
        if run == PAIRS:
            round_rows(scratch, room, out.width, c, scratch, room)
        multiply_typed(
            run, Rows(scratch, room, depth), out.width,
            Panels(pointwise.data, 0, 0, depth, pointwise.bias, 0), n,
            Lines(out.data, residual, at, n, LANES), pointwise.epilogue,
        )  # fmt: skip
        if pointwise.epilogue.activation >= POSTPONED:
            activate(out.data[at : at + out.width * n], pointwise.epilogue)


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


@fast(depthwise_pointwise, when=_refused, by_item=True, rounds=True)
def bind_depthwise_pointwise(
    pool: ConstantPool, out: Array, x: Array, *others: Any, geometry: ConvAttributes,
    activation: Activation = Activation(), depthwise_activation: Activation = Activation(), rounded: bool = False,
) -> Call:  # fmt: skip
    """Bind both convolutions; the residual is added to the result of the second one."""
    taps, taps_b, w, b, residual = (*others, None, None)[:5]
    source, target = image(x), image(out)
    numbers = geometry_of(conv_windows(x, taps, taps_b, geometry=geometry))
    depthwise = depthwise_layer(pool, taps, taps_b, epilogue_of(depthwise_activation), numbers)
    pointwise = pointwise_layer(
        pool, w, b, epilogue_of(activation, residual is not None), pack_rounded if rounded else pack_panels
    )
    args = (
        Specialised(PAIRS if rounded else LOOPED),
        source,
        depthwise,
        pointwise,
        memory_or(residual, target.data),
        target,
    )
    return Call(convolve_both, args, scratch=-(-target.width * source.channels // LANES) * LANES)
