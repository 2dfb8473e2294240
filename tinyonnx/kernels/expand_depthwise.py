"""A 1×1 convolution and the depthwise one that follows it, without the wide image in between.

The expanded image of an inverted bottleneck is many times larger than what goes in and
comes out. Here it exists only as a ring of as many rows as the depthwise kernel is high,
for one panel of channels at a time: small enough to stay in a near cache, with the pixels of
one vector of channels side by side, and with margins of zeros, so that there are no borders.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import FEW_PIXELS, LANES, PIXELS, POSTPONED, ROWS_2, taps_tile
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Epilogue,
    Geometry,
    Shape,
    activation_refused,
    epilogue_of,
    flat,
    float32_refused,
    geometry_of,
    geometry_refused,
    image,
)
from tinyonnx.kernels.conv import inside
from tinyonnx.kernels.depthwise import RowTaps, convolve_pixels, depthwise_bias, pack_depthwise
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.gemm import bias_panels, multiply_rows, pack_panels, panel_start, panel_width, panels_of
from tinyonnx.ops.conv import ConvAttributes
from tinyonnx.ops.fused import Activation, depthwise_windows, expand_depthwise
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool


@jit
def margin(width: int, out_width: int, taps: int, stride: int, dilation: int, pad: int) -> int:
    """Pixels to the right of the image that a row of windows sees."""
    return max((out_width - 1) * stride + (taps - 1) * dilation + 1 - pad - width, 0)


@jit
def convolve_ring(
    x: Array, x_at: int, pixel: int, stride: int, taps: RowTaps, w: Array, w_at: int, bias: Array, b_at: int,
    out: Array, o_at: int, o_step: int, count: int, lanes: int, epilogue: Epilogue, sums: Array, s_at: int,
) -> None:  # fmt: skip
    """`convolve_pixels`, faster for pixels that are LANES elements apart.

    With the distance known to the compiler the addresses cost nothing, which saves a third of the time.
    """
    pixels = PIXELS if count >= PIXELS else FEW_PIXELS
    regular = pixel == LANES and stride <= 2 and taps[3] == LANES and lanes == LANES and count >= pixels
    variant = taps[2] * 2 + stride if regular else 0
    if variant != 7 and variant != 8 and variant != 11 and variant != 12:
        convolve_pixels(
            x, x_at, pixel, stride, taps, w, w_at, bias, b_at, out, o_at, o_step, count, lanes, out, epilogue,
            sums, s_at,
        )  # fmt: skip
        return
    near = (taps[0], taps[1], taps[2], LANES, taps[2] * LANES, taps[5], taps[6])
    p = 0
    while p < count:
        q = min(p, count - pixels)
        skip = pixels if s_at < 0 else p - q
        one, two, o = x_at + q * LANES, x_at + q * 2 * LANES, o_at + q * o_step
        # the intrinsic takes its tile as literals, hence a call for each
        if pixels == PIXELS:
            if variant == 7:
                taps_tile(
                    PIXELS, 3, 1, 0, x, one, LANES, near, w, w_at, bias, b_at, out, o, o_step, lanes, out, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
            elif variant == 8:
                taps_tile(
                    PIXELS, 3, 2, 0, x, two, 2 * LANES, near, w, w_at, bias, b_at, out, o, o_step, lanes, out, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
            elif variant == 11:
                taps_tile(
                    PIXELS, 5, 1, 0, x, one, LANES, near, w, w_at, bias, b_at, out, o, o_step, lanes, out, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
            else:
                taps_tile(
                    PIXELS, 5, 2, 0, x, two, 2 * LANES, near, w, w_at, bias, b_at, out, o, o_step, lanes, out, epilogue,
                    sums, s_at, skip,
                )  # fmt: skip
        elif variant == 7:
            taps_tile(
                FEW_PIXELS, 3, 1, 0, x, one, LANES, near, w, w_at, bias, b_at, out, o, o_step, lanes, out, epilogue,
                sums, s_at, skip,
            )  # fmt: skip
        elif variant == 8:
            taps_tile(
                FEW_PIXELS, 3, 2, 0, x, two, 2 * LANES, near, w, w_at, bias, b_at, out, o, o_step, lanes, out, epilogue,
                sums, s_at, skip,
            )  # fmt: skip
        elif variant == 11:
            taps_tile(
                FEW_PIXELS, 5, 1, 0, x, one, LANES, near, w, w_at, bias, b_at, out, o, o_step, lanes, out, epilogue,
                sums, s_at, skip,
            )  # fmt: skip
        else:
            taps_tile(
                FEW_PIXELS, 5, 2, 0, x, two, 2 * LANES, near, w, w_at, bias, b_at, out, o, o_step, lanes, out, epilogue,
                sums, s_at, skip,
            )  # fmt: skip
        p += pixels


@jit
def expand_pixels(
    x: Array, x_at: int, c: int, count: int, w: Array, w_at: int, bias: Array, b_at: int, vectors: int, out: Array,
    o_at: int, plane: int, epilogue: Epilogue,
) -> None:  # fmt: skip
    """One panel of the 1×1 convolution; each of its vectors to a plane of its own."""
    multiply_rows(
        x, x_at, c, count, (1, 0, 1, 0, c, 0), w, w_at, 0, c, bias, b_at, vectors * LANES,
        out, o_at, LANES, plane, out, epilogue,
    )  # fmt: skip
    if epilogue[1] >= POSTPONED:
        for v in range(vectors):
            filled = out[o_at + v * plane : o_at + v * plane + count * LANES]
            activate(filled, epilogue[1], epilogue[2], epilogue[3])


_SMALL, _CUT = 512, 1.1
"""An image of at most so many pixels is expanded as a whole where tiles of single rows do so many times the work."""


@jit
def whole_pixels(height: int, width: int) -> int:
    """The pixels of an image that is expanded as a whole, else 0: its rows don't fill tiles."""
    tiled = (width + ROWS_2 - 1) // ROWS_2 * ROWS_2
    return height * width if tiled >= _CUT * width and height * width <= _SMALL else 0


@kernel
def expand_and_convolve(
    x: Array, x_shape: Shape, w: Array, bias: Array, taps_w: Array, taps_bias: Array, out: Array, out_shape: Shape,
    geometry: Geometry, expand_epilogue: Epilogue, epilogue: Epilogue, means: Array, wants_means: int, scratch: Array,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Channels-last images, shapes (batch, height, width, channels); `means` of every row if wanted.

    Scratch holds the ring: rows under the kernel × padded width × 3 vectors; before it, if `whole_pixels` says so,
    the whole expanded image × 3 vectors.
    """
    batch, height, width, c = x_shape
    _, out_height, out_width, n = out_shape
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    lanes = min(n, LANES)
    ring = (k_h - 1) * d_h + 1
    right = margin(width, out_width, k_w, s_w, d_w, p_w)
    pixels = whole_pixels(height, width)
    whole = (ring * (p_w + width + right) + pixels) * 3 * LANES * part
    room = whole + pixels * 3 * LANES
    panels = panels_of(n)
    # images and panels come first; only where they are too few are rows divided as well
    cuts = min((parts + batch * panels - 1) // (batch * panels), out_height)
    # the longest shares come first: what comes last is short to wait for
    each, more = batch * panels * cuts // parts, batch * panels * cuts % parts
    first_work = each * part + min(part, more)
    end_work = first_work + (each + 1 if part < more else each)
    for work in range(first_work, end_work):
        item, panel, cut = work // cuts // panels, work // cuts % panels, work % cuts
        column = panel_start(panel)
        vectors = panel_width((n - column + LANES - 1) // LANES)
        columns = vectors * LANES
        row = (p_w + width + right) * LANES
        plane = ring * row
        for i in range(ring * vectors):
            at = room + i * row
            for j in range(p_w * LANES):
                scratch[at + j] = np.float32(0)
            for j in range((p_w + width) * LANES, row):
                scratch[at + j] = np.float32(0)
        first_y, end_y = share(out_height, cut, cuts)
        ready = begin = max(first_y * s_h - p_h, 0)
        if pixels > 0:
            end = min((end_y - 1) * s_h - p_h + ring, height)
            expand_pixels(
                x, (item * height + begin) * width * c, c, (end - begin) * width, w, column * c, bias, column, vectors,
                scratch, whole, pixels * LANES, expand_epilogue,
            )  # fmt: skip
        for y in range(first_y, end_y):
            top = y * s_h - p_h
            for source in range(max(ready, top), min(top + ring, height)):
                target = room + source % ring * row + p_w * LANES
                if pixels > 0:
                    for v in range(vectors):
                        at, to = whole + (v * pixels + (source - begin) * width) * LANES, target + v * plane
                        line, copied = scratch[to : to + width * LANES], scratch[at : at + width * LANES]
                        for j in range(width * LANES):
                            line[j] = copied[j]
                else:
                    expand_pixels(
                        x, (item * height + source) * width * c, c, width, w, column * c, bias, column, vectors,
                        scratch, target, plane, expand_epilogue,
                    )  # fmt: skip
            ready = max(ready, min(top + ring, height))
            i0, i1 = inside(top, d_h, k_h, height)
            slot = (top + i0 * d_h) % ring
            wrap_at = (ring - slot + d_h - 1) // d_h
            taps = (i1 - i0, d_h * row, k_w, d_w * LANES, k_w * LANES, wrap_at, plane)
            o_line = (item * out_height + y) * out_width * n
            m_line = (item * out_height + y) * n
            for v in range(vectors):
                first = column + v * LANES
                channel = min(first, max(n - LANES, 0))
                m_at = m_line + channel if wants_means != 0 else -1
                for i in range(lanes if wants_means != 0 else 0):
                    means[m_at + i] = np.float32(0)
                convolve_ring(
                    scratch, room + v * plane + slot * row, LANES, s_w, taps, taps_w,
                    (first * k_h + i0 * LANES) * k_w, taps_bias, first, out, o_line + channel, n, out_width, lanes,
                    epilogue, means, -1 if epilogue[1] >= POSTPONED else m_at,
                )  # fmt: skip
            end_column = min(column + columns, n)
            if epilogue[1] >= POSTPONED:
                for p in range(out_width):
                    pixel = out[o_line + p * n + column : o_line + p * n + end_column]
                    activate(pixel, epilogue[1], epilogue[2], epilogue[3])
                    for i in range(pixel.shape[0] if wants_means != 0 else 0):
                        means[m_line + column + i] += pixel[i]
            for i in range(column, end_column if wants_means != 0 else column):
                means[m_line + i] /= np.float32(out_width)


# -- the operator -----------------------------------------------------------------------


def _scratch(x_shape: Shape, out_shape: Shape, geometry: Geometry) -> int:
    """Floats of a ring and of what may be a whole image, both with 3 vectors: never fewer for a larger image."""
    k_h, k_w, _, s_w, d_h, d_w, _, p_w = geometry
    _, height, width, _ = x_shape
    row = p_w + width + margin(width, out_shape[2], k_w, s_w, d_w, p_w)
    return (((k_h - 1) * d_h + 1) * row + min(height * width, _SMALL)) * 3 * LANES


def _refused(
    out: Info, x: Info | None, w: Info | None, b: Info | None, taps: Info | None, taps_b: Info | None = None, *,
    geometry: ConvAttributes, activation: Activation = Activation(), expand_activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    constants = (w, b, taps, taps_b)
    if x is None or w is None or taps is None or any(i is not None and i.value is None for i in constants):
        return "weights are not constant"
    if x.value is not None or x.shape is None or len(x.shape) not in (3, 4):
        return "the input is constant, or has not one or two spatial axes"
    try:
        windows = depthwise_windows(x, w, taps, geometry)
    except OpError as error:
        return str(error)
    if min(windows.begin) < 0:
        return "a pad is negative"
    return (
        geometry_refused(windows)
        or activation_refused(activation)
        or activation_refused(expand_activation)
        or float32_refused(out, x, *constants)
    )


@fast(expand_depthwise, when=_refused, outputs=True, by_item=True)
def bind_expand_depthwise(
    pool: ConstantPool, outs: list[Array | None], x: Array, w: Array, b: Array | None, taps: Array,
    taps_b: Array | None = None, *, geometry: ConvAttributes, activation: Activation = Activation(),
    expand_activation: Activation = Activation(),
) -> Call:  # fmt: skip
    """Weights are packed as for a 1×1 and a depthwise convolution."""
    out, means = (*outs, None)[:2]
    assert out is not None
    (source, x_shape), (target, out_shape) = image(x), image(out)
    numbers = geometry_of(depthwise_windows(x, w, taps, geometry))
    args = (
        source, x_shape, pool.derive("pointwise", lambda w: pack_panels(w.reshape(w.shape[:2]).T), w),
        bias_panels(pool, b, w.shape[0]), pack_depthwise(pool, taps), depthwise_bias(pool, taps_b, len(taps)),
        target, out_shape, numbers, epilogue_of(expand_activation), epilogue_of(activation),
        target if means is None else flat(means), int(means is not None),
    )  # fmt: skip
    return Call(expand_and_convolve, args, scratch=_scratch(x_shape, out_shape, numbers))
