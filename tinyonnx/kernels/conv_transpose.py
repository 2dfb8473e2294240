"""Transposed convolutions of channels-last images, row by row of the result.

The contribution of an input row to a row of the result is a matrix product, [width, channels] times [channels, kernel
columns · filters], whose columns are then added to the pixels that they belong to. If the kernel is as wide as its
stride, no addition is needed: the product is the row.
"""

from __future__ import annotations

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import LANES, Lines, Rows
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    NO_EPILOGUE,
    Convolution,
    Geometry,
    Image,
    flat,
    float32_refused,
    geometry_of,
    geometry_refused,
    image,
)
from tinyonnx.kernels.conv import inside
from tinyonnx.kernels.gemm import Panels, multiply_matrix, no_bias, pack_bias, pack_panels
from tinyonnx.ops.conv import ConvTransposeAttributes, conv_transpose, conv_transpose_windows
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


@jit
def add_columns(product: Array, groups: int, g: int, width: int, geometry: Geometry, row: Array) -> None:
    """Add a product [width, k_w, filters of group g] to the pixels of row[out_width, filters]."""
    n = product.shape[0] // (width * geometry.k_w)
    filters = groups * n
    for j in range(geometry.k_w):
        start = j * geometry.d_w - geometry.p_w
        q0, q1 = inside(start, geometry.s_w, width, row.shape[0] // filters)
        for q in range(q0, q1):
            o, s = (q * geometry.s_w + start) * filters + g * n, (q * geometry.k_w + j) * n
            target, source = row[o : o + n], product[s : s + n]
            for k in range(n):
                target[k] += source[k]


@kernel
def transposed(
    x: Image, layer: Convolution, groups: int, bias: Array, direct: int, out: Image, scratch: Array, part: int,
    parts: int,
) -> None:  # fmt: skip
    """Convolve; weights are packed by group and kernel row, the layer's bias like the columns of a product.

    Scratch holds the product of one row of the input and one kernel row per share. With `direct`
    the product, with the bias, is the result; otherwise it is added to rows that begin with `bias`.
    """
    k_h, k_w, s_h, _, d_h, _, p_h, _ = layer.geometry
    c, n = x.channels // groups, out.channels // groups
    across = k_w * n
    panel = (across + LANES - 1) // LANES * LANES * c
    room = scratch.shape[0] // parts * part
    product = scratch[room : room + x.width * across]
    first, end = share(out.batch * out.height, part, parts)
    for line in range(first, end):
        item, y = line // out.height, line % out.height
        o_line = line * out.width * out.channels
        row = out.data[o_line : o_line + out.width * out.channels]
        for z in range(out.width):
            for k in range(out.channels):
                row[z * out.channels + k] = bias[k]
        for i in range(k_h):
            shifted = y + p_h - i * d_h
            if shifted < 0 or shifted % s_h != 0 or shifted // s_h >= x.height:
                continue
            x_line = (item * x.height + shifted // s_h) * x.width * x.channels
            for g in range(groups):
                target = Lines(row, row, 0, across, LANES)
                if not direct:
                    target = Lines(scratch, scratch, room, across, LANES)
                multiply_matrix(
            Rows(x.data, x_line + g * c, x.channels), x.width,
                    Panels(layer.data, (g * k_h + i) * panel, 0, c, layer.bias, 0), across, target, layer.epilogue,
                )  # fmt: skip
                if not direct:
                    add_columns(product, groups, g, x.width, layer.geometry, row)


@kernel
def transposed_depthwise(x: Image, layer: Convolution, out: Image, part: int, parts: int) -> None:
    """Convolve each channel with a filter of its own; weights are [kernel rows, kernel columns, channels]."""
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = layer.geometry
    c = x.channels
    first, end = share(out.batch * out.height, part, parts)
    for line in range(first, end):
        item, y = line // out.height, line % out.height
        row = out.data[line * out.width * c : (line + 1) * out.width * c]
        for z in range(out.width):
            pixel = row[z * c : z * c + c]
            for k in range(c):
                pixel[k] = layer.bias[k]
        for i in range(k_h):
            shifted = y + p_h - i * d_h
            if shifted < 0 or shifted % s_h != 0 or shifted // s_h >= x.height:
                continue
            x_line = (item * x.height + shifted // s_h) * x.width * c
            for j in range(k_w):
                start, w = j * d_w - p_w, (i * k_w + j) * c
                weights = layer.data[w : w + c]
                q0, q1 = inside(start, s_w, x.width, out.width)
                for q in range(q0, q1):
                    o, at = (q * s_w + start) * c, x_line + q * c
                    target, source = row[o : o + c], x.data[at : at + c]
                    for k in range(c):
                        target[k] += source[k] * weights[k]


# -- operators --------------------------------------------------------------------------


def _refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, *, geometry: ConvTransposeAttributes
) -> str | None:
    if x is None or w is None or w.value is None or (b is not None and b.value is None):
        return "weights are not constant"
    if x.value is not None or x.shape is None or len(x.shape) not in (3, 4):
        return "not one or two spatial axes, or a constant"
    try:
        windows = conv_transpose_windows(x, w, b, geometry=geometry)
    except OpError as error:
        return str(error)
    return geometry_refused(windows) or float32_refused(out, x, w, b)


def _pack(w: Array, groups: int) -> Array:
    """Pack weights [channels, filters, rows, columns] by group and kernel row, as [channels, columns · filters]."""
    w = w.reshape(*w.shape[:2], -1, w.shape[-1]) if w.ndim == 4 else w[:, :, None]
    return np.concatenate([
        pack_panels(np.ascontiguousarray(group[:, :, i].transpose(0, 2, 1)).reshape(len(group), -1))
        for group in np.split(w, groups)
        for i in range(w.shape[2])
    ])  # fmt: skip


def _depthwise_refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None = None, *, geometry: ConvTransposeAttributes
) -> str | None:
    reason = _refused(out, x, w, b, geometry=geometry)
    if reason is not None or x is None or w is None or x.shape is None or w.shape is None:
        return reason
    return None if w.shape[1] == 1 and 1 < geometry.group == x.shape[1] else "several channels or filters in a group"


@fast(conv_transpose, when=_depthwise_refused, by_item=True)
def bind_depthwise(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, *, geometry: ConvTransposeAttributes
) -> Call:
    """Bind a transposed convolution with one filter for each channel."""
    numbers = geometry_of(conv_transpose_windows(x, w, b, geometry=geometry))
    channels = x.shape[1]
    packed = pool.derive(("conv transpose by channel",), lambda w: w.reshape(channels, -1).T.reshape(-1).copy(), w)
    bias = np.zeros(channels, np.float32) if b is None else b
    return Call(transposed_depthwise, (image(x), Convolution(packed, flat(bias), NO_EPILOGUE, numbers), image(out)))


@fast(conv_transpose, when=_refused, by_item=True)
def bind_conv_transpose(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, *, geometry: ConvTransposeAttributes
) -> Call:
    """Bind a transposed convolution; `output_padding` and `output_shape` affect the shape of `out` only."""
    numbers, group = geometry_of(conv_transpose_windows(x, w, b, geometry=geometry)), geometry.group
    source, target = image(x), image(out)
    k_h, k_w, s_h, s_w, d_h, d_w, _, p_w = numbers
    exact = k_w == s_w and d_w == 1 and p_w == 0 and out.shape[-1] == x.shape[-1] * s_w
    direct = exact and k_h <= s_h and d_h == 1 and group == 1
    filters = target.channels
    columns = k_w * filters // group
    packed = pool.derive(("conv transpose", group), lambda w: _pack(w, group), w)
    given = np.zeros(filters, np.float32) if b is None else b
    if direct and b is not None:
        product_bias = pool.derive(("conv transpose bias", columns), lambda b: pack_bias(np.tile(b, k_w)), b)
    else:
        product_bias = no_bias(columns)
    layer = Convolution(packed, product_bias, NO_EPILOGUE, numbers)
    arguments = (source, layer, group, given, int(direct), target)
    return Call(transposed, arguments, scratch=1 if direct else x.shape[-1] * columns)
