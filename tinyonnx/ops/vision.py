"""Operators on images: Col2Im, MaxUnpool, CenterCropPad, ImageDecoder."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tinyonnx.errors import OpError, ResourceError
from tinyonnx.ir import Array
from tinyonnx.ops._windows import WindowAttributes, Windows, positive, split_pads, windows
from tinyonnx.ops.math import quiet, widened
from tinyonnx.ops.shape import Shape, integers, normalise_axes
from tinyonnx.registry import Context, Info, op

Ints = Sequence[int] | None


# -- Col2Im -----------------------------------------------------------------------------


def _blocks(shape: Shape, image: Sequence[int], block: Sequence[int], geometry: WindowAttributes) -> Windows:
    if len(image) < 1 or len(block) != len(image) or min(image) < 1:
        raise OpError(f"image_shape {list(image)} and block_shape {list(block)} don't fit each other")
    if geometry.pads is not None and min(geometry.pads, default=0) < 0:
        raise OpError(f"pads {list(geometry.pads)} has a negative value")
    placement = windows(image, block, geometry)
    elements, count = prod(placement.kernel), prod(placement.out)
    if len(shape) != 3 or shape[1] % elements or shape[2] != count:
        raise OpError(
            f"input has shape {list(shape)}; {count} blocks of {elements} elements need [N, C * {elements}, {count}]"
        )
    return placement


def _col2im_rule(input: Info, image_shape: Info, block_shape: Info, *, geometry: WindowAttributes) -> Info:
    if input.shape is None or image_shape.value is None or block_shape.value is None:
        return Info(input.dtype, None)
    image = integers(image_shape.value, "image_shape")
    block = integers(block_shape.value, "block_shape")
    placement = _blocks(input.shape, image, block, geometry)
    return Info(input.dtype, (input.shape[0], input.shape[1] // prod(placement.kernel), *image))


@op("Col2Im", since=18, shape=_col2im_rule)
@quiet
def col2im(
    ctx: Context, input: Array, image_shape: Array, block_shape: Array, *,
    geometry: WindowAttributes = WindowAttributes(),
) -> Array:  # fmt: skip
    """Assemble an image of blocks; overlapping blocks are added."""
    image, block = integers(image_shape, "image_shape"), integers(block_shape, "block_shape")
    if input.dtype.kind == "O":
        raise OpError("strings can't be added up")
    w = _blocks(input.shape, image, block, geometry)
    n, c, rank = input.shape[0], input.shape[1] // prod(w.kernel), len(image)
    padded = [max(i + b + e, x) for i, b, e, x in zip(image, w.begin, w.end, w.extent)]
    x = widened(input).reshape(n, c, *w.kernel, *w.out)
    for axis in range(rank):
        x = _fold(ctx, x, rank - axis, padded[axis], w.strides[axis], w.dilations[axis])
    inner = [slice(b, b + i) for b, i in zip(w.begin, image)]
    return np.ascontiguousarray(x[:, :, *inner]).astype(input.dtype, copy=False)


def _fold(ctx: Context, x: Array, blocks_behind: int, size: int, stride: int, dilation: int) -> Array:
    """Merge axis 2 of `x` (elements of a block) and the axis `blocks_behind` after it (blocks) into a last axis."""
    parts = np.moveaxis(x, (2, 2 + blocks_behind), (0, -1))
    shape = (*parts.shape[1:-1], size)
    ctx.check_size(shape, x.dtype)
    result = np.zeros(shape, x.dtype)
    for k, part in enumerate(parts):
        result[..., k * dilation : k * dilation + (part.shape[-1] - 1) * stride + 1 : stride] += part
    return result


# -- MaxUnpool --------------------------------------------------------------------------


def _unpooled_shapes(
    x: Shape, kernel_shape: Sequence[int], pads: Ints, strides: Ints, output_shape: Sequence[int] | None
) -> tuple[Shape, Shape]:
    """Return the shape implied by the attributes, to which indices refer, and the shape of the output."""
    rank = len(x) - 2
    if rank < 1:
        raise OpError(f"X has shape {list(x)}, needs a batch, channels and spatial axes")
    kernel, steps = positive("kernel_shape", kernel_shape, rank), positive("strides", strides, rank)
    begin, end = split_pads(pads if output_shape is None else None, rank)
    spatial = [(n - 1) * s + k - b - e for n, s, k, b, e in zip(x[2:], steps, kernel, begin, end)]
    inferred = (*x[:2], *spatial)
    if min(spatial) < 0:
        raise OpError(f"pads {list(pads or ())} are too large: the output would have shape {list(inferred)}")
    result = inferred if output_shape is None else tuple(output_shape)
    if len(result) != len(x) or result[:2] != x[:2] or any(r < i for r, i in zip(result, inferred)):
        raise OpError(f"output_shape {list(result)} should be {list(inferred)} or larger in its spatial axes")
    return inferred, result


def _max_unpool_rule(
    x: Info, i: Info, output_shape: Info | None = None, *, kernel_shape: Sequence[int], pads: Ints = None,
    strides: Ints = None,
) -> Info:  # fmt: skip
    if x.shape is None or (output_shape is not None and output_shape.value is None):
        return Info(x.dtype, None)
    wanted = None if output_shape is None else integers(output_shape.value, "output_shape")
    return Info(x.dtype, _unpooled_shapes(x.shape, kernel_shape, pads, strides, wanted)[1])


@op("MaxUnpool", since=9, shape=_max_unpool_rule)
def max_unpool(
    ctx: Context, x: Array, i: Array, output_shape: Array | None = None, *, kernel_shape: Sequence[int],
    pads: Ints = None, strides: Ints = None,
) -> Array:  # fmt: skip
    """Return zeros with the elements of `x` at the indices `i` into the flattened shape that the attributes imply."""
    if x.shape != i.shape:
        raise OpError(f"X has shape {list(x.shape)}, its indices {list(i.shape)}")
    wanted = None if output_shape is None else integers(output_shape, "output_shape")
    inferred, shape = _unpooled_shapes(x.shape, kernel_shape, pads, strides, wanted)
    ctx.check_size(shape, x.dtype)
    wrong = i[(i < 0) | (i >= prod(inferred))]
    if wrong.size:
        raise OpError(f"index {wrong[0]} is out of range for the {prod(inferred)} elements of {list(inferred)}")
    pooled = np.zeros(prod(inferred), x.dtype)
    pooled[i.reshape(-1)] = x.reshape(-1)
    result = np.zeros(shape, x.dtype)
    result[tuple(slice(0, n) for n in inferred)] = pooled.reshape(inferred)
    return result


# -- CenterCropPad ----------------------------------------------------------------------


def _centered_shape(shape: Shape, sizes: Sequence[int], axes: Ints) -> Shape:
    which = list(range(len(shape))) if axes is None else normalise_axes(axes, len(shape))
    if len(sizes) != len(which):
        raise OpError(f"shape {list(sizes)} has {len(sizes)} sizes for {len(which)} axes")
    if any(size < 0 for size in sizes):
        raise OpError(f"shape {list(sizes)} has a negative size")
    chosen = dict(zip(which, sizes))
    return tuple(chosen.get(axis, n) for axis, n in enumerate(shape))


def _center_rule(input_data: Info, shape: Info, *, axes: Ints = None) -> Info:
    if input_data.shape is None or shape.value is None:
        return Info(input_data.dtype, None)
    return Info(input_data.dtype, _centered_shape(input_data.shape, integers(shape.value, "shape"), axes))


@op("CenterCropPad", since=18, shape=_center_rule)
def center_crop_pad(ctx: Context, input_data: Array, shape: Array, *, axes: Ints = None) -> Array:
    target = _centered_shape(input_data.shape, integers(shape, "shape"), axes)
    ctx.check_size(target, input_data.dtype)
    result = np.full(target, "" if input_data.dtype.kind == "O" else 0, input_data.dtype)
    common = [(min(old, new), old, new) for old, new in zip(input_data.shape, target)]
    source = tuple(slice((old - n) // 2, (old - n) // 2 + n) for n, old, _ in common)
    place = tuple(slice((new - n) // 2, (new - n) // 2 + n) for n, _, new in common)
    result[place] = input_data[source]
    return result


# -- ImageDecoder -----------------------------------------------------------------------

_FORMATS = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")
_CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}


@op("ImageDecoder", since=20)
def image_decoder(ctx: Context, encoded_stream: Array, *, pixel_format: str = "RGB") -> Array:
    """Decode to uint8 [height, width, channels]; a stream that can't be decoded gives height and width 0."""
    if pixel_format not in _CHANNELS:
        raise OpError(f"pixel_format is {pixel_format!r}, should be RGB, BGR or Grayscale")
    if encoded_stream.ndim != 1 or encoded_stream.dtype != np.uint8:
        raise OpError(f"encoded_stream is {encoded_stream.dtype}{list(encoded_stream.shape)}, should be bytes")
    try:
        from PIL import Image
    except ImportError:
        raise OpError("needs Pillow: pip install 'tinyonnx[images]'") from None
    channels = _CHANNELS[pixel_format]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded_stream.tobytes()), formats=_FORMATS) as image:
                ctx.check_size((image.height, image.width, channels), np.uint8)
                pixels = _pixels(image, "L" if channels == 1 else "RGB")
    except Image.DecompressionBombError as error:
        raise OpError(str(error)) from None
    except (ResourceError, MemoryError):
        raise
    except Exception:  # the standard requires this for any stream that can't be decoded
        return np.zeros((0, 0, channels), np.uint8)
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if pixel_format == "BGR" else pixels


def _pixels(image: Any, mode: str) -> Array:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off instead of scaling down
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return grey if mode == "L" else np.stack([grey] * 3, axis=-1)
    return np.array(image.convert(mode))
