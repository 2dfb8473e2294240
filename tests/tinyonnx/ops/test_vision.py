"""Col2Im, MaxUnpool, CenterCropPad and ImageDecoder: onnxruntime, onnx's cases, the operators they undo."""

from __future__ import annotations

import io
import sys
from math import prod

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from tests.tinyonnx.ops.running import (
    assert_same,
    check_against_onnxruntime,
    check_backend_cases,
    context_of,
    normal,
    run,
)
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.limits import Limits
from tinyonnx.ops._windows import WindowAttributes, pad, view, windows
from tinyonnx.ops.pool import max_pool
from tinyonnx.registry import lookup

F32 = np.float32


@pytest.mark.parametrize("name", ["Col2Im", "MaxUnpool", "CenterCropPad"])
def test_backend_cases(name):
    check_backend_cases(name)


# -- Col2Im -----------------------------------------------------------------------------


def _columns(rank: int, seed: int):
    rng = np.random.default_rng(seed)
    image = rng.integers(5, 9, rank).tolist()
    block = rng.integers(1, 4, rank).tolist()
    attributes = {
        "strides": rng.integers(1, 3, rank).tolist(),
        "pads": rng.integers(0, 3, 2 * rank).tolist(),
        "dilations": rng.integers(1, 3, rank).tolist(),
    }
    geometry = windows(image, block, WindowAttributes(**attributes))
    columns = rng.integers(-9, 9, (2, 3 * prod(block), prod(geometry.out))).astype(F32)
    return columns, np.array(image), np.array(block), attributes, geometry


@pytest.mark.parametrize("seed", range(12))
def test_col2im_like_onnxruntime(seed):
    columns, image, block, attributes, _ = _columns(2, seed)
    check_against_onnxruntime("Col2Im", columns, image, block, opset=18, **attributes)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_col2im_is_the_adjoint_of_cutting_out_blocks(rank):
    columns, image, block, attributes, geometry = _columns(rank, 40 + rank)
    y = run("Col2Im", columns, image, block, **attributes)
    x = np.random.default_rng(1).integers(-9, 9, (2, 3, *image)).astype(F32)
    blocks = view(pad(None, x, geometry, 0), geometry)  # [N, C, *out, *kernel]
    blocks = np.moveaxis(blocks, range(2, 2 + rank), range(-rank, 0)).reshape(columns.shape)
    assert np.vdot(y, x) == np.vdot(columns, blocks)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int64, np.complex64, np.uint8])
def test_col2im_dtypes(dtype):
    columns, image, block, attributes, _ = _columns(2, 3)
    y = run("Col2Im", columns.astype(np.int8).astype(dtype), image, block, **attributes)
    wide = run("Col2Im", columns.astype(np.int64), image, block, **attributes)
    assert_same(y, wide.astype(dtype))


# -- MaxUnpool --------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [(8,), (8, 6), (4, 6, 8)])
def test_max_unpool_undoes_max_pool(spatial):
    x = np.random.default_rng(2).permutation(6 * prod(spatial)).reshape(2, 3, *spatial).astype(F32) + 1
    rank = len(spatial)
    pooled, indices = max_pool(context_of("MaxPool", 22, 2), x, kernel_shape=[2] * rank, strides=[2] * rank)
    attributes = {"kernel_shape": [2] * rank, "strides": [2] * rank}
    y = run("MaxUnpool", pooled, indices, **attributes)
    np.testing.assert_array_equal(y, np.where(np.isin(x, pooled), x, 0), strict=True)
    if rank < 3:
        check_against_onnxruntime("MaxUnpool", pooled, indices, opset=11, **attributes)


def test_max_unpool_pads_crop_unless_the_shape_is_given():
    x, i = np.array([[[5.0, 6]]]), np.array([[[1, 3]]])
    attributes = {"kernel_shape": [3], "strides": [3], "pads": [1, 1]}
    assert run("MaxUnpool", x, i, **attributes).tolist() == [[[0, 5, 0, 6]]]
    assert run("MaxUnpool", x, i, np.array([1, 1, 7]), **attributes).tolist() == [[[0, 5, 0, 6, 0, 0, 0]]]


# -- CenterCropPad ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "target", "expected"),
    [(5, 2, [1, 2]), (5, 3, [1, 2, 3]), (4, 1, [1]), (2, 5, [0, 0, 1, 0, 0]), (3, 4, [0, 1, 2, 0]), (3, 0, [])],
)
def test_center_crop_pad_where_it_is_odd(size, target, expected):
    assert run("CenterCropPad", np.arange(size), np.array([target])).tolist() == expected


@pytest.mark.parametrize("axes", [None, [0, 2], [-1, 1]])
def test_center_crop_pad_like_onnxruntime(axes):
    target = np.array([3, 9, 4] if axes is None else [5, 2])
    attributes = {} if axes is None else {"axes": axes}
    check_against_onnxruntime("CenterCropPad", normal(4, 5, 7), target, opset=18, **attributes)


def test_center_crop_pad_of_strings():
    x = np.array(["a", "b"], object)
    assert run("CenterCropPad", x, np.array([4], np.int32)).tolist() == ["", "a", "b", ""]


# -- ImageDecoder -----------------------------------------------------------------------


def decode(stream: bytes, limits: Limits | None = None, **attributes):
    context = context_of("ImageDecoder", 20, 1)
    context._limits = limits or Limits()
    return lookup("", "ImageDecoder", 20).function(context, np.frombuffer(stream, np.uint8), **attributes)


def encode(pixels, format: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


COLOURS = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True}), ("JPEG2000", {})],
)
def test_lossless_images_come_out_as_they_went_in(format, options):
    stream = encode(COLOURS, format, **options)
    np.testing.assert_array_equal(decode(stream), COLOURS, strict=True)
    np.testing.assert_array_equal(decode(stream, pixel_format="BGR"), COLOURS[:, :, ::-1], strict=True)


def test_jpeg_is_near():
    smooth = np.linspace(0, 255, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    decoded = decode(encode(smooth, "JPEG", quality=95, subsampling=0))
    assert decoded.shape == smooth.shape
    assert np.abs(decoded.astype(int) - smooth).max() < 8


def test_kinds_of_pixels():
    grey = COLOURS[:, :, 0]
    np.testing.assert_array_equal(decode(encode(grey, "PNG"), pixel_format="Grayscale"), grey[:, :, None], strict=True)
    np.testing.assert_array_equal(decode(encode(grey, "PNG")), np.stack([grey] * 3, axis=-1))
    transparent = np.dstack([COLOURS, grey])
    np.testing.assert_array_equal(decode(encode(transparent, "PNG")), COLOURS)
    deep = (grey.astype(np.uint16) << 8) + 77
    np.testing.assert_array_equal(decode(encode(deep, "PNG"), pixel_format="Grayscale")[:, :, 0], grey)


@pytest.mark.parametrize("stream", [b"", b"no image", encode(COLOURS, "PNG")[:60], encode(COLOURS, "GIF")])
@pytest.mark.parametrize(("pixel_format", "channels"), [("RGB", 3), ("Grayscale", 1)])
def test_what_cannot_be_decoded_is_empty(stream, pixel_format, channels):
    assert decode(stream, pixel_format=pixel_format).shape == (0, 0, channels)


def test_image_decoder_backend_cases():
    from tests.tinyonnx.ops.running import _backend_cases

    cases = _backend_cases()["ImageDecoder"]
    assert len(cases) == 9
    for case in cases:
        pixel_format = case.model.graph.node[0].attribute[0].s.decode()
        for (stream,), (expected,) in case.data_sets:
            decoded = decode(stream.tobytes(), pixel_format=pixel_format)
            np.testing.assert_allclose(decoded, expected, rtol=case.rtol, atol=case.atol, err_msg=case.name)


def test_a_large_image_keeps_the_limit():
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        decode(encode(np.zeros((2000, 2000), np.uint8), "PNG"), Limits(max_tensor_bytes=1 << 20))


def test_a_decompression_bomb_is_refused():
    header = encode(np.zeros((1, 1), np.uint8), "PPM").replace(b"1 1", b"99999 99999")
    with pytest.raises(OpError, match="decompression bomb"):
        decode(header, Limits(max_tensor_bytes=1 << 40))


def test_without_pillow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(OpError, match=r"tinyonnx\[images\]"):
        decode(b"")


# -- refusals ---------------------------------------------------------------------------

COLUMNS, IMAGE, BLOCK = np.zeros((1, 5, 5), F32), np.array([5, 5]), np.array([1, 5])
POOLED, INDICES = np.zeros((1, 1, 2), F32), np.array([[[0, 1]]])


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("Col2Im", [COLUMNS[0], IMAGE, BLOCK], {}, r"5 blocks of 5 elements need \[N, C \* 5, 5\]"),
        ("Col2Im", [COLUMNS[:, :4], IMAGE, BLOCK], {}, "5 blocks of 5 elements"),
        ("Col2Im", [COLUMNS[:, :, :4], IMAGE, BLOCK], {}, "5 blocks of 5 elements"),
        ("Col2Im", [COLUMNS, IMAGE, BLOCK[:1]], {}, "don't fit each other"),
        ("Col2Im", [COLUMNS, IMAGE * 0, BLOCK], {}, "don't fit each other"),
        ("Col2Im", [COLUMNS, IMAGE, BLOCK], {"strides": [0, 1]}, r"strides \[0, 1\] must be positive"),
        ("Col2Im", [COLUMNS, IMAGE, BLOCK], {"pads": [-1, 0, 0, 0]}, "negative"),
        ("Col2Im", [COLUMNS, IMAGE, BLOCK * 2], {}, "kernel is larger"),
        ("Col2Im", [COLUMNS.astype(object), IMAGE, BLOCK], {}, "strings"),
        ("MaxUnpool", [POOLED, INDICES + 1], {"kernel_shape": [1]}, "index 2 is out of range for the 2 elements"),
        ("MaxUnpool", [POOLED, INDICES - 1], {"kernel_shape": [1]}, "index -1 is out of range"),
        ("MaxUnpool", [POOLED, INDICES[0]], {"kernel_shape": [1]}, "its indices"),
        ("MaxUnpool", [POOLED[0], INDICES[0]], {"kernel_shape": [1]}, "needs a batch"),
        ("MaxUnpool", [POOLED, INDICES], {"kernel_shape": [1, 1]}, "kernel_shape"),
        ("MaxUnpool", [POOLED, INDICES], {"kernel_shape": [2], "pads": [3, 1]}, "larger than the output|too large"),
        ("MaxUnpool", [POOLED, INDICES, np.array([1, 1, 1])], {"kernel_shape": [1]}, "or larger"),
        ("MaxUnpool", [POOLED, INDICES, np.array([2, 1, 2])], {"kernel_shape": [1]}, "or larger"),
        ("CenterCropPad", [POOLED, np.array([1])], {}, "1 sizes for 3 axes"),
        ("CenterCropPad", [POOLED, np.array([1])], {"axes": [3]}, "axis 3 is out of range"),
        ("CenterCropPad", [POOLED, np.array([1, 1])], {"axes": [0, -3]}, "duplicates"),
        ("CenterCropPad", [POOLED, np.array([-1])], {"axes": [0]}, "negative"),
        ("ImageDecoder", [np.zeros(3, np.uint8)], {"pixel_format": "CMYK"}, "pixel_format is 'CMYK'"),
        ("ImageDecoder", [np.zeros((1, 3), np.uint8)], {}, "should be bytes"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    entry = lookup("", name, 22)
    with pytest.raises(OpError, match=message):
        entry.function(*[context_of(name, 22, 1)] * entry.takes_ctx, *inputs, **attributes)


def test_memory_bombs_are_refused(monkeypatch):
    monkeypatch.setattr("tests.tinyonnx.ops.running.Limits", lambda: Limits(max_tensor_bytes=1 << 20))
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        run("CenterCropPad", POOLED, np.array([10**6] * 3))
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        run("MaxUnpool", POOLED, INDICES, np.array([1, 1, 10**9]), kernel_shape=[1])
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        run("Col2Im", np.zeros((1, 1, 1), F32), np.array([10**6, 10**6]), np.array([1, 1]), strides=[10**6] * 2)
