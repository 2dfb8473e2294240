"""Convolutions with computed weights, which are packed during the run for the kernels that take constant weights."""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Convolution,
    Layer,
    Product,
    conv_refused,
    epilogue_of,
    flat,
    geometry_of,
    image,
    is_depthwise,
    memory_or,
    temporary,
    zeros,
)
from tinyonnx.kernels.conv import convolve, convolve_gathered, gathered_rows
from tinyonnx.kernels.depthwise import convolve_depthwise
from tinyonnx.kernels.gemm import multiply, panel_start, panels_of
from tinyonnx.kernels.matmul import pack
from tinyonnx.kernels.pointwise import pointwise_refused
from tinyonnx.ops.conv import ConvAttributes, conv, conv_windows
from tinyonnx.ops.fused import Activation, fused_conv
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ZERO = np.float32(0)

_PRESENT = np.empty(0, np.float32)
"""Placeholder for the content of the weights when asking the kernels for constant weights whether they support a shape.
"""


@kernel
def pack_filters(w: Array, out: Array, groups: int, filters: int, size: int, part: int, parts: int) -> None:
    """Pack w[groups, filters, size] as `conv.pack` does."""
    panels, columns = panels_of(filters), (filters + LANES - 1) // LANES * LANES
    first, end = share(groups * panels, part, parts)
    for item in range(first, end):
        group, column = item // panels, panel_start(item % panels)
        count = filters - column if item % panels == panels - 1 else 2 * LANES
        pack(w, (group * filters + column) * size, 1, size, size, count, out, (group * columns + column) * size)


@kernel
def pack_taps(w: Array, out: Array, channels: int, taps: int, part: int, parts: int) -> None:
    """Pack w[channels, taps] as `depthwise.pack_depthwise` does."""
    first, end = share((channels + LANES - 1) // LANES, part, parts)
    width = min(channels, LANES)
    for block in range(first, end):
        begin = max(min(block * LANES, channels - LANES), 0)
        for t in range(taps):
            for lane in range(LANES):
                weight = w[(begin + lane % width) * taps + t]
                out[(block * taps + t) * LANES + lane] = weight if lane < LANES // width * width else _ZERO


# -- operators --------------------------------------------------------------------------


def _refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, residual: Info | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    if w is None or w.value is not None:
        return "constant weights have kernels of their own"
    w, b = w._replace(value=_PRESENT), None if b is None else b._replace(value=_PRESENT)
    return conv_refused(out, x, w, b, residual, geometry=geometry, activation=activation)


@fast(conv, when=_refused)
@fast(fused_conv, when=_refused)
def bind_computed_conv(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, residual: Array | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(),
) -> list[Call]:  # fmt: skip
    """Bind the packing of weights and bias, and the kernel that constant weights would get."""
    source, target, group = image(x), image(out), geometry.group
    numbers = geometry_of(conv_windows(x, w, b, geometry=geometry))
    epilogue, other = epilogue_of(activation, residual is not None), memory_or(residual, target.data)
    filters, size = w.shape[0] // group, w.size // w.shape[0]
    like_out, like_x, like_w = (Info(array.dtype, array.shape, _PRESENT) for array in (out, x, w))
    depthwise = is_depthwise(like_x, like_w, group)
    columns = -(-w.shape[0] // LANES) * LANES if depthwise else -(-filters // LANES) * LANES * group

    def packed(weights: Array, size: int) -> tuple[Array, Call]:
        memory = temporary(columns * size)
        if depthwise:
            return memory, Call(pack_taps, (flat(weights), memory, w.shape[0], size))
        return memory, Call(pack_filters, (flat(weights), memory, group, filters, size))

    data, call = packed(w, size)
    calls = [call]
    if b is None:
        bias = zeros(columns)
    else:
        bias, call = packed(b, 1)
        calls.append(call)
    layer = Convolution(data, bias, epilogue, numbers)
    if depthwise:
        return [*calls, Call(convolve_depthwise, (source, layer, other, target))]
    if pointwise_refused(like_out, like_x._replace(value=None), like_w, geometry=geometry) is None:
        product = Product(source.batch * source.height * source.width, source.channels, target.channels)
        return [*calls, Call(multiply, (source.data, Layer(data, bias, epilogue), other, target.data, product))]
    block = gathered_rows(source, target, numbers, group)
    if block:
        return [*calls, Call(convolve_gathered, (source, layer, block, other, target), scratch=block * size)]
    return [*calls, Call(convolve, (source, layer, group, other, target))]
