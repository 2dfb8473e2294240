"""A 1×1 convolution and the depthwise convolution after it, without storing the wide image in between.

The expanded image of an inverted bottleneck is many times larger than the block's input and output. Here it exists only
as a ring of as many rows as the depthwise kernel is high, for one panel of channels at a time: small enough to stay in
the L1 cache, with the pixels of one vector of channels side by side, and with margins of zeros, which make borders
unnecessary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import (
    HALF,
    LANES,
    LOOPED,
    PAIRS,
    POSTPONED,
    ROWS_2,
    Lines,
    Pixels,
    Rows,
    Weights,
    Window,
)
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import (
    Convolution,
    Geometry,
    Image,
    Layer,
    activation_refused,
    epilogue_of,
    flat,
    float32_refused,
    geometry_of,
    geometry_refused,
    image,
)
from tinyonnx.kernels.conv import inside
from tinyonnx.kernels.depthwise import convolve_narrow, convolve_pixels, depthwise_layer
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.gemm import (
    HALVED,
    Panels,
    multiply_typed,
    pack_panels,
    pack_rounded,
    panel_start,
    panels_of,
    pointwise_layer,
    round_rows,
    vector_starts,
)
from tinyonnx.ops.conv import ConvAttributes
from tinyonnx.ops.fused import Activation, depthwise_windows, expand_depthwise
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_SMALL, _CUT = 512, 1.1
"""An image is expanded at once if it has at most _SMALL pixels and tiles of rows take at least _CUT times the work."""


class Ring(NamedTuple):
    """A ring of rows of the expanded image: row y is in slot y % rows, each vector of channels in a plane of its own.

    A row has `row` elements, of which the first `margin` are left of the image. If `pixels` is not 0, the whole
    expanded image of `pixels` pixels starts at `whole`, without margins.
    """

    data: Array
    start: int
    rows: int
    row: int
    margin: int
    whole: int
    pixels: int


class Piece(NamedTuple):
    """A work item: `vectors` vectors of channels from `column` on, rows `begin` to `end` of the result of one image.

    The image's input starts at element `source`. The expansion has `columns` columns: whole vectors, except for a
    last vector of which half is enough (see `is_halved`).
    """

    item: int
    source: int
    column: int
    vectors: int
    columns: int
    begin: int
    end: int


@jit
def is_halved(n: int, depthwise: Geometry) -> bool:
    """Return whether the last of several vectors of `n` channels is computed as half a vector.

    Half of it must be enough, and `convolve_narrow` must have a tile for the taps. Vectors of at most 8 lanes are not
    halved, because most networks have multiples of 8 channels: the code would be larger, and seldom run.
    """
    columns, stride = depthwise.k_w, depthwise.s_w
    return (
        LANES > 8 and n > LANES and 0 < n % LANES <= HALVED and columns in (3, 5) and stride <= 2 and depthwise.d_w == 1
    )


@jit
def margin(width: int, out_width: int, taps: int, stride: int, dilation: int, pad: int) -> int:
    """Return the number of pixels to the right of the image that a row of windows reads."""
    return max((out_width - 1) * stride + (taps - 1) * dilation + 1 - pad - width, 0)


@jit
def whole_pixels(height: int, width: int) -> int:
    """Return the number of pixels of an image that is expanded at once because its rows don't fill tiles, else 0."""
    tiled = (width + ROWS_2 - 1) // ROWS_2 * ROWS_2
    return height * width if tiled >= _CUT * width and height * width <= _SMALL else 0


@jit
def share_larger_first(n: int, part: int, parts: int) -> tuple[int, int]:
    """Return a share like `share`, with the larger shares first, to minimise waiting at the end."""
    each, more = n // parts, n % parts
    first = each * part + min(part, more)
    return first, first + (each + 1 if part < more else each)


@jit
def clear_around(data: Array, start: int, rows: int, row: int, left: int, right: int) -> None:
    """Fill the elements before `left` and from `right` on with zeros, in rows of `row` elements from data[start] on."""
    for i in range(rows):
        at = start + i * row
        for j in range(at, at + left):
            data[j] = np.float32(0)
        for j in range(at + right, at + row):
            data[j] = np.float32(0)


@jit
def expand_pixels(
    run: Static, x: Rows, count: int, layer: Layer, piece: Piece, out: Array, start: int, plane: int
) -> None:
    """Expand `count` pixels; vector v of the result goes to plane v, and planes are `plane` elements apart."""
    c = x.step
    multiply_typed(
        run, x, count, Panels(layer.data, piece.column * c, 0, c, layer.bias, piece.column),
        piece.columns, Lines(out, out, start, LANES, plane), layer.epilogue,
    )  # fmt: skip
    if layer.epilogue.activation >= POSTPONED:
        for v in range(piece.vectors):
            activate(out[start + v * plane : start + v * plane + count * LANES], layer.epilogue)


@jit
def copy_row(ring: Ring, source: int, target: int, count: int) -> None:
    """Copy `count` elements within the ring's memory."""
    line, copied = ring.data[target : target + count], ring.data[source : source + count]
    for j in range(count):
        line[j] = copied[j]


@jit(inline=True)
def fill_ring(run: Static, x: Image, layer: Layer, ring: Ring, piece: Piece, rows: tuple[int, int], begin: int) -> None:
    """Compute rows of the expanded image into the ring; if the whole image is used, `begin` is its first row."""
    for y in range(rows[0], rows[1]):
        target = ring.start + y % ring.rows * ring.row + ring.margin
        if ring.pixels > 0:
            for v in range(piece.vectors):
                source = ring.whole + (v * ring.pixels + (y - begin) * x.width) * LANES
                copy_row(ring, source, target + v * ring.rows * ring.row, x.width * LANES)
        else:
            pixels = Rows(x.data, piece.source + y * x.width * x.channels, x.channels)
            expand_pixels(run, pixels, x.width, layer, piece, ring.data, target, ring.rows * ring.row)


@jit(inline=True)
def convolve_row(height: int, layer: Convolution, ring: Ring, piece: Piece, means: Array, out: Image, y: int) -> None:
    """Compute row y of the depthwise convolution's result, and its means if `means` is not empty."""
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, _ = layer.geometry
    n, epilogue, wanted = out.channels, layer.epilogue, means.shape[0] > 0
    postponed = epilogue.activation >= POSTPONED
    i0, i1 = inside(y * s_h - p_h, d_h, k_h, height)
    slot = (y * s_h - p_h + i0 * d_h) % ring.rows
    plane = ring.rows * ring.row
    taps = Window(
        i1 - i0, d_h * ring.row, k_w, d_w * LANES, k_w * LANES, (ring.rows - slot + d_h - 1) // d_h, plane
    )  # fmt: skip
    o_line, m_line = (piece.item * out.height + y) * out.width * n, (piece.item * out.height + y) * n
    for v in range(piece.vectors):
        first = piece.column + v * LANES
        # a half vector holds the last channels, in the lower half of its plane and in the upper half of the constants
        narrow = piece.columns < piece.vectors * LANES and v == piece.vectors - 1
        skip = LANES - HALF if narrow else 0
        lanes = HALF if narrow else min(n, LANES)
        channel = min(first, max(n - LANES, 0)) + skip
        m_at = m_line + channel
        for i in range(lanes if wanted else 0):
            means[m_at + i] = np.float32(0)
        source = Rows(ring.data, ring.start + v * plane + slot * ring.row, s_w * LANES)
        w = Weights(layer.data, (first * k_h + i0 * LANES) * k_w + skip, layer.bias, first + skip)
        target = Pixels(
            out.data, out.data, o_line + channel, n, out.width, lanes, means, m_at if wanted and not postponed else -1
        )
        if narrow:
            convolve_narrow(LANES, s_w if d_w == 1 else 0, source, taps, w, target, epilogue)
        else:
            convolve_pixels(LANES, s_w if d_w == 1 else 0, source, taps, w, target, epilogue)
    end = min(piece.column + piece.vectors * LANES, n)
    if postponed:
        for p in range(out.width):
            pixel = out.data[o_line + p * n + piece.column : o_line + p * n + end]
            activate(pixel, epilogue)
            for i in range(pixel.shape[0] if wanted else 0):
                means[m_line + piece.column + i] += pixel[i]
    for i in range(piece.column, end if wanted else piece.column):
        means[m_line + i] /= np.float32(out.width)


@jit(inline=True)
def convolve_piece(
    run: Static, x: Image, expand: Layer, depthwise: Convolution, ring: Ring, piece: Piece, means: Array, out: Image
) -> None:
    """Expand and convolve one work item."""
    s_h, p_h = depthwise.geometry.s_h, depthwise.geometry.p_h
    clear_around(
        ring.data, ring.start, ring.rows * piece.vectors, ring.row, ring.margin, ring.margin + x.width * LANES
    )  # fmt: skip
    ready = begin = max(piece.begin * s_h - p_h, 0)
    if ring.pixels > 0:
        end = min((piece.end - 1) * s_h - p_h + ring.rows, x.height)
        pixels = Rows(x.data, piece.source + begin * x.width * x.channels, x.channels)
        expand_pixels(run, pixels, (end - begin) * x.width, expand, piece, ring.data, ring.whole, ring.pixels * LANES)
    for y in range(piece.begin, piece.end):
        top = y * s_h - p_h
        end = min(top + ring.rows, x.height)
        fill_ring(run, x, expand, ring, piece, (max(ready, top), end), begin)
        ready = max(ready, end)
        convolve_row(x.height, depthwise, ring, piece, means, out, y)


@kernel
def expand_and_convolve(
    run: Static, x: Image, expand: Layer, depthwise: Convolution, means: Array, out: Image, scratch: Array, part: int,
    parts: int,
) -> None:  # fmt: skip
    """Expand and convolve; `means`, if not empty, receives the mean of every row of the result.

    With `run` = PAIRS the operands of the expansion are rounded to bfloat16. Scratch holds, for each share, 3 vectors
    of the whole expanded image if `whole_pixels` is not 0, a ring of as many, and the rounded input.
    """
    k_h, k_w, _, s_w, d_h, d_w, _, p_w = depthwise.geometry
    rows = (k_h - 1) * d_h + 1
    row = (p_w + x.width + margin(x.width, out.width, k_w, s_w, d_w, p_w)) * LANES
    pixels = whole_pixels(x.height, x.width)
    whole = scratch.shape[0] // parts * part
    ring = Ring(scratch, whole + pixels * 3 * LANES, rows, row, p_w * LANES, whole, pixels)
    rounded, ready = ring.start + rows * row * 3, -1
    source = Image(scratch, 1, x.height, x.width, (x.channels + 1) // 2) if run == PAIRS else x
    n = out.channels
    panels = panels_of(n)
    # divide images and panels between shares, and rows only if there are too few of these
    cuts = min((parts + x.batch * panels - 1) // (x.batch * panels), out.height)
    first, end = share_larger_first(x.batch * panels * cuts, part, parts)
    for work in range(first, end):
        column = panel_start(work // cuts % panels)
        y, end_y = share(out.height, work % cuts, cuts)
        item = work // cuts // panels
        start = item * x.height * x.width * x.channels
        if run == PAIRS and item != ready:
            round_rows(x.data, start, x.height * x.width, x.channels, scratch, rounded)
            ready = item
        vectors = (n - column + LANES - 1) // LANES
        width = vectors if vectors <= 3 else 2
        narrow = width == vectors and is_halved(n, depthwise.geometry)
        columns = width * LANES - (LANES - HALF if narrow else 0)
        piece = Piece(item, rounded if run == PAIRS else start, column, width, columns, y, end_y)
        convolve_piece(run, source, expand, depthwise, ring, piece, means, out)


# -- the operator -----------------------------------------------------------------------


def _whole(matrix: Array) -> Array:
    """Repeat columns of a matrix [k, n] as the last vector does, so that all vectors of the ring are computed whole."""
    n = matrix.shape[1]
    return matrix if n < LANES else np.hstack([matrix[:, start : start + LANES] for start in vector_starts(n)])


def _pack_whole(matrix: Array) -> Array:
    return pack_panels(_whole(matrix))


def _pack_whole_rounded(matrix: Array) -> Array:
    return pack_rounded(_whole(matrix))


def _scratch(x: Image, out: Image, geometry: Geometry, rounded: bool) -> int:
    """Return the floats of a ring and of an image expanded at once, 3 vectors each; monotonic in the size of the image.

    With `rounded` the floats of the input rounded to bfloat16 are included.
    """
    k_h, k_w, _, s_w, d_h, d_w, _, p_w = geometry
    row = p_w + x.width + margin(x.width, out.width, k_w, s_w, d_w, p_w)
    pairs = x.height * x.width * ((x.channels + 1) // 2) if rounded else 0
    return (((k_h - 1) * d_h + 1) * row + min(x.height * x.width, _SMALL)) * 3 * LANES + pairs


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


@fast(expand_depthwise, when=_refused, outputs=True, by_item=True, rounds=True)
def bind_expand_depthwise(
    pool: ConstantPool, outs: list[Array | None], x: Array, *constants: Any, geometry: ConvAttributes,
    activation: Activation = Activation(), expand_activation: Activation = Activation(), rounded: bool = False,
) -> Call:  # fmt: skip
    """Bind both convolutions; the second output is the mean of each row."""
    w, b, taps, taps_b = (*constants, None)[:4]
    out, means = (*outs, None)[:2]
    assert out is not None
    source, target = image(x), image(out)
    numbers = geometry_of(depthwise_windows(x, w, taps, geometry))
    if is_halved(len(w), numbers):
        pack = pack_rounded if rounded else pack_panels
    else:
        pack = _pack_whole_rounded if rounded else _pack_whole
    expand = pointwise_layer(pool, w, b, epilogue_of(expand_activation), pack)
    depthwise = depthwise_layer(pool, taps, taps_b, epilogue_of(activation), numbers)
    sums = target.data[:0] if means is None else flat(means)
    args = (Specialised(PAIRS if rounded else LOOPED), source, expand, depthwise, sums, target)
    return Call(expand_and_convolve, args, scratch=_scratch(source, target, numbers, rounded))
