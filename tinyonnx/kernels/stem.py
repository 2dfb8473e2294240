"""A convolution of few taps, a depthwise and a 1×1 convolution, fused and computed row by row.

Rows of the first result are stored in a ring of as many rows as the depthwise kernel is high, with margins of zeros.
The input is copied row by row between margins, too, so that neither needs special cases at borders.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.codegen.primitives import (
    FEW_PIXELS,
    HALF,
    LANES,
    LOOPED,
    PAIRS,
    POSTPONED,
    ROWS_1,
    ROWS_2,
    ROWS_3,
    WHOLE,
    Block,
    Lines,
    Pixels,
    Rows,
    Taps,
    Weights,
    Window,
    gemm_tiles,
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
    float32_refused,
    geometry_of,
    geometry_refused,
    image,
)
from tinyonnx.kernels.conv import inside
from tinyonnx.kernels.conv import pack as pack_conv
from tinyonnx.kernels.depthwise import convolve_looped, convolve_unrolled, depthwise_layer, pixels_in_vector
from tinyonnx.kernels.elementwise import activate
from tinyonnx.kernels.expand_depthwise import clear_around, margin
from tinyonnx.kernels.gemm import (
    HALVED,
    Panels,
    bias_panels,
    multiply_rows,
    multiply_typed,
    pack_panels,
    pack_rounded,
    panel_width,
    pointwise_layer,
    round_rows,
)
from tinyonnx.ops._windows import Windows
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.ops.fused import Activation
from tinyonnx.ops.stem import StemAttributes, stem, stem_windows
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ZERO = np.float32(0)

_LONGEST = 12
"""Maximum number of unrolled elements in a row of the first kernel, and of unrolled channels of the last product."""

_WIDEST = 5
"""Maximum number of unrolled columns of the depthwise kernel."""


class Shapes(NamedTuple):
    """Numbers that are compiled in.

    Of the first convolution: rows and vectors of its tile (see `gemm_tile`), vectors of a second tile for the last
    columns (negative: none), elements under a row of its kernel and between two pixels (0 rows: a loop). Of the
    depthwise one: columns of its kernel (0: a loop), columns between two pixels, and elements between two columns (0:
    any number). Of the last one: LOOPED for floats, PAIRS for operands rounded to bfloat16; channels of a pixel (0: a
    loop), and vectors of its tile.
    """

    rows: Specialised
    vectors: Specialised
    rest: Specialised
    run: Specialised
    step: Specialised
    columns: Specialised
    stride: Specialised
    distance: Specialised
    product: Specialised
    depth: Specialised
    last: Specialised


class StemScratch(NamedTuple):
    """Scratch of a share: padded rows under the first kernel, a ring of `rows` rows, and a row between the other two.

    `padded_row` and `row` are the elements of a row, of which `margin` are left of the image in the ring.
    """

    data: Array
    padded: int
    padded_row: int
    start: int
    rows: int
    row: int
    margin: int
    middle: int


class ImageSize(NamedTuple):
    """The size of the image between the first and the depthwise convolution."""

    height: int
    width: int
    channels: int


@jit
def whole_vectors(floats: int) -> int:
    """Round a number of floats up to whole vectors."""
    return (floats + LANES - 1) // LANES * LANES


@jit
def stem_row(
    rows: Static, vectors: Static, rest: Static, run: Static, step: Static, x: Image, layer: Convolution,
    ring: StemScratch, middle: ImageSize, y: int,
) -> None:  # fmt: skip
    """Compute row y of the first convolution of a single image into its slot of the ring."""
    k_h, k_w, s_h, s_w, _, _, p_h, p_w = layer.geometry
    channels, width, c, data = x.channels, middle.width, middle.channels, ring.data
    for i in range(k_h):
        source = y * s_h - p_h + i
        padded = ring.padded + i * ring.padded_row
        line = data[padded + p_w * channels : padded + (p_w + x.width) * channels]
        if 0 <= source < x.height:
            start = source * x.width * channels
            read = x.data[start : start + x.width * channels]
            for j in range(x.width * channels):
                line[j] = read[j]
        else:
            for j in range(x.width * channels):
                line[j] = _ZERO
    at = ring.start + y % ring.rows * ring.row + ring.margin
    lines = Lines(data, data, at, c, LANES)
    taps = Taps(k_h, ring.padded_row, 1, 0, k_w * channels, k_w * channels)
    pixels = Rows(data, ring.padded, s_w * channels)
    if rows > 0 and width >= rows:
        # few taps are compiled in, because loops over a variable number of them would take longer than the products
        last = (vectors - 1) * LANES if rest >= 0 else max(c - LANES, 0)
        weights, block = Weights(layer.data, 0, layer.bias, 0), Block(lines, last, min(c, LANES))
        gemm_tiles(rows, vectors, run, step, pixels, width, taps, weights, block, layer.epilogue)
        if rest >= 0:
            lanes, depth = LANES if rest > 0 else HALF, k_h * k_w * channels
            skip = vectors * LANES + LANES - lanes
            weights = Weights(layer.data, vectors * LANES * depth + LANES - lanes, layer.bias, skip)
            block = Block(Lines(data, data, at + c - lanes, c, LANES), 0, lanes)
            gemm_tiles(rows, rest, run, step, pixels, width, taps, weights, block, layer.epilogue)
    else:
        panels = Panels(layer.data, 0, 0, k_h * k_w * channels, layer.bias, 0)
        multiply_rows(pixels, width, taps, panels, c, lines, layer.epilogue)
    if layer.epilogue.activation >= POSTPONED:
        activate(data[at : at + width * c], layer.epilogue)


@jit
def depthwise_ring_row(
    columns: Static,
    stride: Static,
    distance: Static,
    layer: Convolution,
    ring: StemScratch,
    middle: ImageSize,
    width: int,
    y: int,
) -> None:
    """Compute row y of the depthwise convolution, `width` pixels, from the ring to ring.middle."""
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, _ = layer.geometry
    c, data, epilogue = middle.channels, ring.data, layer.epilogue
    top = y * s_h - p_h
    i0, i1 = inside(top, d_h, k_h, middle.height)
    slot = (top + i0 * d_h) % ring.rows
    wrap_at = (ring.rows - slot + d_h - 1) // d_h
    taps = Window(i1 - i0, d_h * ring.row, k_w, d_w * c, k_w * LANES, wrap_at, ring.rows * ring.row)
    x_at = ring.start + slot * ring.row
    group = pixels_in_vector(c, s_w)
    vectors = width // group if group > 1 else 0
    done = vectors * group
    # first the pixels that share vectors, then blocks of channels of the others
    for block in range(-1, (c + LANES - 1) // LANES):
        first = max(block, 0) * LANES
        channel = min(first, max(c - LANES, 0))
        source = Rows(data, x_at + done * s_w * c + channel, s_w * c)
        target = Pixels(data, data, ring.middle + done * c + channel, c, width - done, min(c, LANES), data, -1)
        if block < 0:
            source = Rows(data, x_at, group * c)
            target = Pixels(data, data, ring.middle, LANES, vectors, LANES, data, -1)
        if target.pixels > 0:
            w = Weights(layer.data, (first * k_h + i0 * LANES) * k_w, layer.bias, first)
            if columns > 0 and target.pixels >= FEW_PIXELS and target.lanes == LANES:
                convolve_unrolled(columns, stride, distance, WHOLE, source, taps, w, target, epilogue)
            else:
                convolve_looped(source, taps, w, target, epilogue)
    if epilogue.activation >= POSTPONED:
        activate(data[ring.middle : ring.middle + width * c], epilogue)


@kernel
def convolve_three(
    x: Image, first: Convolution, depthwise: Convolution, shapes: Shapes, pointwise: Layer, middle: ImageSize,
    out: Image, scratch: Array, part: int, parts: int,
) -> None:  # fmt: skip
    """Convolve three times; the first result, of size `middle`, is the residual of the last if its epilogue has one.

    With `shapes.product` = PAIRS the operands of the last convolution are rounded to bfloat16. Scratch holds, for each
    share, padded rows of the input, the ring, and a row of the depthwise convolution's result.
    """
    n, c, geometry = out.channels, middle.channels, depthwise.geometry
    k_h, k_w, s_h, s_w, d_h, d_w, p_h, p_w = geometry
    padded_row = whole_vectors(((middle.width - 1) * first.geometry.s_w + first.geometry.k_w) * x.channels)
    padded_row = max(padded_row, whole_vectors((first.geometry.p_w + x.width) * x.channels))
    rows = (k_h - 1) * d_h + 1
    row = whole_vectors((p_w + middle.width + margin(middle.width, out.width, k_w, s_w, d_w, p_w)) * c)
    padded = scratch.shape[0] // parts * part
    start = padded + first.geometry.k_h * padded_row
    ring = StemScratch(scratch, padded, padded_row, start, rows, row, p_w * c, start + rows * row)
    around = first.geometry.p_w * x.channels
    clear_around(scratch, padded, first.geometry.k_h, padded_row, around, around + x.width * x.channels)
    clear_around(scratch, start, rows, row, ring.margin, ring.margin + middle.width * c)
    begin, end = share(out.batch * out.height, part, parts)
    ready = 0
    for line in range(begin, end):
        item, y = line // out.height, line % out.height
        size = x.height * x.width * x.channels
        one = Image(x.data[item * size : (item + 1) * size], 1, x.height, x.width, x.channels)
        top = y * s_h - p_h
        if line == begin or y == 0:
            ready = max(top, 0)
        for source in range(max(ready, top), min(top + rows, middle.height)):
            stem_row(
                shapes.rows, shapes.vectors, shapes.rest, shapes.run, shapes.step, one, first, ring, middle, source
            )  # fmt: skip
        ready = max(ready, min(top + rows, middle.height))
        depthwise_ring_row(shapes.columns, shapes.stride, shapes.distance, depthwise, ring, middle, out.width, y)
        target = out.data[line * out.width * n : (line + 1) * out.width * n]
        at = start + y % rows * row + ring.margin if pointwise.epilogue.residual != 0 else ring.middle
        residual = scratch[at : at + out.width * n]
        if shapes.product == PAIRS:
            round_rows(scratch, ring.middle, out.width, c, scratch, ring.middle)
        lines = Lines(target, residual, 0, n, LANES)
        if shapes.depth > 0 and out.width >= ROWS_1:
            gemm_tiles(
                ROWS_1, shapes.last, shapes.depth, shapes.depth, Rows(scratch, ring.middle, c), out.width,
                Taps(1, 0, 1, 0, c, 0), Weights(pointwise.data, 0, pointwise.bias, 0), Block(lines, 0, n),
                pointwise.epilogue,
            )  # fmt: skip
        else:
            depth = (c + 1) // 2 if shapes.product == PAIRS else c
            multiply_typed(
                shapes.product, Rows(scratch, ring.middle, depth), out.width,
                Panels(pointwise.data, 0, 0, depth, pointwise.bias, 0), n, lines, pointwise.epilogue,
            )  # fmt: skip
        if pointwise.epilogue.activation >= POSTPONED:
            activate(target, pointwise.epilogue)


# -- the operator -----------------------------------------------------------------------


def _windows(
    x: Array | Info, first: Array | Info, taps: Array | Info, stem: StemAttributes, geometry: ConvAttributes
) -> tuple[Windows, Windows]:
    """Return the windows of the first and of the depthwise convolution. Raises OpError."""
    before = stem_windows(x, first, stem)
    assert x.shape is not None
    assert first.shape is not None
    middle = Info(x.dtype, (x.shape[0], first.shape[0], *before.out))
    return before, conv_windows(middle, taps, geometry=geometry)


def _refused(
    out: Info, x: Info | None, *constants: Info | None, stem: StemAttributes, geometry: ConvAttributes,
    stem_activation: Activation = Activation(), depthwise_activation: Activation = Activation(),
    activation: Activation = Activation(),
) -> str | None:  # fmt: skip
    first, _, taps, *_ = constants
    if x is None or first is None or taps is None or any(i is not None and i.value is None for i in constants):
        return "weights are not constant"
    if x.value is not None or x.shape is None or len(x.shape) != 4:
        return "the input is constant, or has not two spatial axes"
    try:
        before, windows = _windows(x, first, taps, stem, geometry)
    except OpError as error:
        return str(error)
    if min((*before.begin, *before.end, *windows.begin)) < 0 or windows.begin[0] >= windows.extent[0]:
        return "a pad is negative, or as high as the kernel"
    activations = (stem_activation, depthwise_activation, activation)
    reasons = [geometry_refused(before), geometry_refused(windows), *map(activation_refused, activations)]
    return next(filter(None, reasons), None) or float32_refused(out, x, *constants)


@fast(stem, when=_refused, by_item=True, rounds=True)
def bind_stem(
    pool: ConstantPool, out: Array, x: Array, *constants: Any, stem: StemAttributes, geometry: ConvAttributes,
    stem_activation: Activation = Activation(), depthwise_activation: Activation = Activation(),
    activation: Activation = Activation(), rounded: bool = False,
) -> Call:  # fmt: skip
    """Bind all three convolutions; specialisation constants depend on the shapes of the weights alone."""
    first, first_b, taps, taps_b, w, b = (*constants, None)[:6]
    source, target = image(x), image(out)
    before, windows = _windows(x, first, taps, stem, geometry)
    c = len(first)
    packed = pool.derive(("conv", 1), lambda w: pack_conv(w, 1), first)
    outer, inner = geometry_of(before), geometry_of(windows)
    args = (
        source,
        Convolution(packed, bias_panels(pool, first_b, c), epilogue_of(stem_activation), outer),
        depthwise_layer(pool, taps, taps_b, epilogue_of(depthwise_activation), inner),
        _shapes(outer, inner, source.channels, c, len(w), rounded),
        pointwise_layer(
            pool, w, b, epilogue_of(activation, bool(stem.residual)), pack_rounded if rounded else pack_panels
        ),
        ImageSize(before.out[0], before.out[1], c),
        target,
    )
    return Call(convolve_three, args, scratch=_scratch_size(source, before, windows, c))


def _shapes(first: Geometry, depthwise: Geometry, channels: int, c: int, n: int, rounded: bool) -> Shapes:
    vectors, run = -(-c // LANES), first.k_w * channels
    half = 0 < c % LANES <= HALVED
    width = panel_width(vectors, c)
    rest = vectors - width - half if vectors > width else -1
    rows = {1: ROWS_1, 2: ROWS_2, 3: ROWS_3}[width] if vectors <= 3 and run <= _LONGEST and first.d_w == 1 else 0
    first_width = 0 if half and vectors == 1 else width
    tile = (rows, first_width, rest, run, first.s_w * channels) if rows else (0, 1, -1, 1, 1)
    stride = pixels_in_vector(c, depthwise.s_w)
    stride = stride if stride > 1 else depthwise.s_w
    few = depthwise.k_w <= _WIDEST and stride <= 2 and depthwise.d_w == 1
    window = (depthwise.k_w, stride, c) if few else (0, 1, 0)
    unrolled = c <= _LONGEST and n <= LANES and not rounded
    product = (PAIRS if rounded else LOOPED, c if unrolled else 0, 0 if unrolled and n <= HALVED else 1)
    return Shapes(*map(Specialised, (*tile, *window, *product)))


def _scratch_size(x: Image, before: Windows, windows: Windows, c: int) -> int:
    width, out_width = before.out[1], windows.out[1]
    needed = max((width - 1) * before.strides[1] + before.kernel[1], before.begin[1] + x.width)
    right = margin(width, out_width, windows.kernel[1], windows.strides[1], windows.dilations[1], windows.begin[1])
    ring = windows.extent[0] * whole_vectors((windows.begin[1] + width + right) * c)
    return before.kernel[0] * whole_vectors(needed * x.channels) + ring + whole_vectors(out_width * c)
