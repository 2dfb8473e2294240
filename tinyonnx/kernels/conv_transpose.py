"""Transposed convolutions of channels-last images, row by row of the result.

What a row of the input sends into a row of the result is a matrix product, [width, channels]
times [channels, kernel columns · filters]; its columns are then added where they belong.
Kernels as wide as their stride need no addition: the product is the row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.codegen.primitives import LANES
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    NO_EPILOGUE,
    Geometry,
    Shape,
    float32_refused,
    geometry_of,
    geometry_refused,
    image,
)
from tinyonnx.kernels.conv import inside
from tinyonnx.kernels.gemm import multiply_rows, no_bias, pack_bias, pack_panels
from tinyonnx.ops.conv import ConvTransposeAttributes, conv_transpose, conv_transpose_windows
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


@kernel
def transposed(
    x: Array, x_shape: Shape, w: Array, packed_bias: Array, bias: Array, out: Array, out_shape: Shape,
    geometry: Geometry, groups: int, direct: int, epilogue: tuple[int, int, Any, Any], scratch: Array,
    part: int, parts: int,
) -> None:  # fmt: skip
    """`w` is packed by group and kernel row, `packed_bias` like the columns of a product (zeros unless `direct`)."""
    batch, height, width, channels = x_shape
    _, out_height, out_width, filters = out_shape
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    c, n = channels // groups, filters // groups
    across = k_w * n
    panel = (across + LANES - 1) // LANES * LANES * c
    taps = (1, 0, 1, 0, c, 0)
    room = scratch.shape[0] // parts * part
    first, end = share(batch * out_height, part, parts)
    for line in range(first, end):
        item, y = line // out_height, line % out_height
        o_line = line * out_width * filters
        row = out[o_line : o_line + out_width * filters]
        for z in range(out_width):
            for k in range(filters):
                row[z * filters + k] = bias[k]
        for i in range(k_h):
            shifted = y + p_h - i * d_h
            if shifted < 0 or shifted % s_h != 0 or shifted // s_h >= height:
                continue
            x_line = (item * height + shifted // s_h) * width * channels
            for g in range(groups):
                w_at = (g * k_h + i) * panel
                if direct:
                    multiply_rows(
                        x, x_line, channels, width, taps, w, w_at, 0, c, packed_bias, 0, across,
                        out, o_line, across, LANES, out, epilogue,
                    )  # fmt: skip
                    continue
                multiply_rows(
                    x, x_line + g * c, channels, width, taps, w, w_at, 0, c, packed_bias, 0, across,
                    scratch, room, across, LANES, scratch, epilogue,
                )  # fmt: skip
                for j in range(k_w):
                    start = j * d_w - p_w
                    q0, q1 = inside(start, s_w, width, out_width)
                    for q in range(q0, q1):
                        o = o_line + (q * s_w + start) * filters + g * n
                        s = room + q * across + j * n
                        target, source = out[o : o + n], scratch[s : s + n]
                        for k in range(n):
                            target[k] += source[k]


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
    """[channels, filters, rows, columns] becomes, by group and kernel row, panels of [channels, columns · filters]."""
    w = w.reshape(*w.shape[:2], -1, w.shape[-1]) if w.ndim == 4 else w[:, :, None]
    return np.concatenate([
        pack_panels(np.ascontiguousarray(group[:, :, i].transpose(0, 2, 1)).reshape(len(group), -1))
        for group in np.split(w, groups)
        for i in range(w.shape[2])
    ])  # fmt: skip


@fast(conv_transpose, when=_refused, by_item=True)
def bind_conv_transpose(
    pool: ConstantPool, out: Array, x: Array, w: Array, b: Array | None = None, *, geometry: ConvTransposeAttributes
) -> Call:
    """`output_padding` and `output_shape` only say how large `out` is."""
    numbers, group = geometry_of(conv_transpose_windows(x, w, b, geometry=geometry)), geometry.group
    (source, x_shape), (target, out_shape) = image(x), image(out)
    k_h, k_w, s_h, s_w, d_h, d_w, _, p_w = numbers
    exact = k_w == s_w and d_w == 1 and p_w == 0 and out.shape[-1] == x.shape[-1] * s_w
    direct = exact and k_h <= s_h and d_h == 1 and group == 1
    filters = out.shape[1]
    columns = k_w * filters // group
    packed = pool.derive(("conv transpose", group), lambda w: _pack(w, group), w)
    given = np.zeros(filters, np.float32) if b is None else b
    if direct and b is not None:
        product_bias = pool.derive(("conv transpose bias", columns), lambda b: pack_bias(np.tile(b, k_w)), b)
    else:
        product_bias = no_bias(columns)
    return Call(
        transposed,
        (source, x_shape, packed, product_bias, given, target, out_shape, numbers, group, int(direct), NO_EPILOGUE),
        scratch=1 if direct else x.shape[-1] * columns,
    )
