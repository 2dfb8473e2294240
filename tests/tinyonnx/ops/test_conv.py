from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.ops import oracles
from tinyonnx.errors import OpError
from tinyonnx.ops import conv as module
from tinyonnx.ops.conv import ConvAttributes, conv, conv_shape, conv_transpose
from tinyonnx.registry import Info


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
def test_onnx_cases(op_type: str) -> None:
    oracles.check_cases(op_type)


def _random(rng: np.random.Generator, transposed: bool) -> tuple[list[Any], dict[str, Any]]:
    rank, group = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
    per_group, filters = rng.integers(1, 4, 2)
    kernel = rng.integers(1, 4, rank).tolist()
    auto_pad = str(rng.choice(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "group": group,
        "auto_pad": auto_pad,
        "strides": rng.integers(1, 4, rank).tolist(),
        "dilations": [1] * rank if auto_pad.startswith("SAME") else rng.integers(1, 3, rank).tolist(),
    }
    if auto_pad.startswith("SAME") and transposed:
        # where the kernel leaves gaps onnxruntime is shorter than ONNX says: test_same_with_gaps
        attributes["strides"] = [min(s, k) for s, k in zip(attributes["strides"], kernel)]
    if auto_pad == "NOTSET":
        attributes["pads"] = rng.integers(0, 2, 2 * rank).tolist()
    if transposed and rng.random() < 0.5:
        attributes["output_padding"] = [int(rng.integers(0, s)) for s in attributes["strides"]]
    spatial = [int(rng.integers(5, 9)) for _ in kernel]
    x = rng.standard_normal((int(rng.integers(1, 3)), per_group * group, *spatial), np.float32)
    lead = (per_group * group, filters) if transposed else (filters * group, per_group)
    w = rng.standard_normal((*lead, *kernel), np.float32)
    b = rng.standard_normal(filters * group, np.float32) if rng.random() < 0.7 else None
    return [x, w, b], attributes


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_like_onnxruntime(op: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        monkeypatch.setattr(module, "_BLOCK_BYTES", 512)  # many blocks
    inputs, attributes = _random(np.random.default_rng(seed), op == "ConvTranspose")
    (expected,) = oracles.ort(op, 17, inputs, attributes)
    (result,) = oracles.call(op, 17, inputs, attributes)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER"])
def test_output_shape_like_onnxruntime(auto_pad: str) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, 2, 4, 5), np.float32), rng.standard_normal((2, 3, 3, 4), np.float32)]
    attributes = {"strides": [2, 3], "output_shape": [8, 13], "auto_pad": auto_pad}
    (expected,) = oracles.ort("ConvTranspose", 17, inputs, attributes)
    (result,) = oracles.call("ConvTranspose", 17, inputs, attributes)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_same_with_gaps() -> None:
    y = conv_transpose(None, np.ones((1, 1, 2), "f4"), np.ones((1, 1, 1), "f4"), strides=[3], auto_pad="SAME_UPPER")
    assert y.tolist() == [[[1, 0, 0, 1, 0, 0]]]


def test_negative_pads_crop() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 3, 9, 8)), rng.standard_normal((4, 3, 2, 3))
    y = conv(None, x, w, pads=[-2, 1, 0, -3])
    np.testing.assert_allclose(y, conv(None, x[:, :, 2:, :5], w, pads=[0, 1, 0, 0]))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_dtype_is_kept(dtype: type) -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((1, 64, 8, 8)).astype(dtype), rng.standard_normal((5, 64, 3, 3)).astype(dtype)
    y = conv(None, x, w, np.arange(5, dtype=dtype))
    wide = conv(None, x.astype("f8"), w.astype("f8"), np.arange(5.0))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, wide, rtol=2 * np.finfo(dtype).eps, atol=1e-3 if dtype == np.float16 else 1e-12)
    assert conv_transpose(None, x, w[:, :5].transpose(1, 0, 2, 3).repeat(13, 0)[:64]).dtype == dtype


def test_infinity_and_nan_pass_silently() -> None:
    x = np.array([[[np.inf, 0, 1, 2, np.nan]]], "f4")
    assert np.isnan(conv(None, x, np.array([[[0, 1]]], "f4"))[0, 0, [0, 3]]).all()


def test_empty_batch() -> None:
    assert conv(None, np.zeros((0, 3, 5, 5), "f4"), np.zeros((2, 3, 3, 3), "f4")).shape == (0, 2, 3, 3)


@pytest.mark.parametrize(
    ("x", "w", "attributes", "message"),
    [
        ((1, 16, 5, 5), (8, 24, 3, 3), {}, "x has 16 channels, w expects 24"),
        ((1, 16, 5, 5), (8, 16, 3, 3), {"group": 2}, "x has 16 channels, w expects 16 in each of 2 groups"),
        ((1, 6, 5), (4, 2, 3), {"group": 3}, "group 3 doesn't divide the 4 filters"),
        ((1, 6, 5), (4, 6, 3), {"group": 0}, "group is 0"),
        ((1, 1, 5), (1, 1, 6), {}, "kernel is larger than the padded input"),
        ((1, 1, 0), (1, 1, 1), {"auto_pad": "SAME_UPPER"}, "kernel is larger than the padded input"),
        ((1, 1, 5), (1, 1, 3), {"strides": [0]}, r"strides \[0\] must be positive"),
        ((1, 1, 5), (1, 1, 3), {"strides": [1, 1]}, "2 values for 1 spatial"),
        ((1, 1, 5), (1, 1, 3), {"dilations": [-1]}, r"dilations \[-1\] must be positive"),
        ((1, 1, 5), (1, 1, 3), {"pads": [1]}, "pads .* has 1 values, 1 spatial axes need 2"),
        ((1, 1, 5), (1, 1, 3), {"pads": [-4, -2]}, "crop more than all of"),
        ((1, 1, 5), (1, 1, 3), {"pads": [-7, 20]}, "crop more than all of"),
        ((1, 1, 5), (1, 1, 3), {"auto_pad": "SAME"}, "auto_pad is 'SAME'"),
        ((1, 1, 5), (1, 1, 3), {"kernel_shape": [2]}, "kernel_shape"),
        ((1, 1, 5), (1, 1, 3, 3), {}, "x has 3 dimensions, w has 4"),
        ((1, 1), (1, 1), {}, "needs at least 3"),
    ],
)
def test_bad_conv(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        conv(None, np.zeros(x, "f4"), np.zeros(w, "f4"), **attributes)
    with pytest.raises(OpError, match=message):
        conv_shape(Info(np.dtype("f4"), x), Info(np.dtype("f4"), w), geometry=ConvAttributes(**attributes))


def test_bad_operands() -> None:
    x, w = np.zeros((1, 2, 5), "f4"), np.zeros((3, 2, 3), "f4")
    with pytest.raises(OpError, match=r"b has shape \[2\], w has 3 filters"):
        conv(None, x, w, np.zeros(2, "f4"))
    with pytest.raises(OpError, match="x is float32, w is float64"):
        conv(None, x, w.astype("f8"))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"pads": [4, 4]}, "larger than the output|too large"),
        ({"group": 3}, "group 3 doesn't divide the 4 channels"),
        ({"output_shape": [0]}, "output_shape"),
        ({"output_padding": [-1]}, "output_padding"),
        ({"output_padding": []}, "output_padding"),
        ({"strides": [0]}, "strides"),
    ],
)
def test_bad_conv_transpose(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        conv_transpose(None, np.zeros((1, 4, 5), "f4"), np.zeros((4, 2, 3), "f4"), **attributes)


def test_conv_transpose_announces_its_size() -> None:
    ctx = oracles.Sizes()
    conv_transpose(ctx, np.zeros((1, 1, 2), "f4"), np.zeros((1, 2, 3), "f4"), output_shape=[9])
    assert int(np.prod(ctx.announced[0])) == 18
