"""Resampled images against the numpy operator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.registry import Info, lookup

MODES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
]


@given(data=st.data())
@settings(max_examples=80)
def test_resize(data: st.DataObject) -> None:
    draw = data.draw
    rank = draw(st.sampled_from([3, 4]), "rank")
    spatial = [draw(st.integers(1, 9), "size") for _ in range(rank - 2)]
    x = noise(0, draw(st.integers(1, 2), "batch"), draw(st.sampled_from([1, 3, 17]), "channels"), *spatial)
    scales = sizes = None
    if draw(st.booleans(), "by scales"):
        factors = [max(draw(st.sampled_from([0.3, 0.5, 1, 1.7, 2, 3])), 1 / n) for n in spatial]
        scales = np.array([1, 1, *factors], np.float32)
    else:
        sizes = np.array([*x.shape[:2], *(draw(st.integers(1, 20), "target") for _ in spatial)])
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]), "mode")
    assert_close(*run(
        "Resize", x, None, scales, sizes, constants=(2, 3), mode=mode,
        coordinate_transformation_mode=draw(st.sampled_from(MODES), "transformation"),
        nearest_mode=draw(st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]), "rounding"),
        antialias=draw(st.integers(0, 1), "antialias") if mode != "nearest" else 0,
        exclude_outside=draw(st.integers(0, 1), "exclude"),
    ))  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.bool_, np.float16, np.int64, np.float64])
def test_nearest_pixels_of_any_type(dtype: type) -> None:
    x = (noise(0, 2, 5, 4, 6) * 50).astype(dtype)
    for scales in ([1, 1, 2, 2.5], [1, 1, 0.5, 3]):
        actual, expected = run("Resize", x, None, np.array(scales, np.float32), constants=(2,), mode="nearest")
        np.testing.assert_array_equal(actual, expected)


def test_some_axes() -> None:
    x = noise(0, 2, 5, 4, 6)
    assert_close(*run("Resize", x, None, np.array([2.5], np.float32), constants=(2,), axes=[-1], mode="linear"))
    assert_close(*run("Resize", x, None, np.array([3.0], np.float32), constants=(2,), axes=[2]))


def test_older_operators() -> None:
    x, scales = noise(0, 2, 5, 4, 6), np.array([1, 1, 2, 1.5], np.float32)
    for mode in ("nearest", "linear"):
        assert_close(*run("Resize", x, scales, opset=10, constants=(1,), mode=mode))
        assert_close(*run("Upsample", x, scales, opset=9, constants=(1,), mode=mode))
    assert_close(*run("Resize", x, np.array([1, 1, 0.5, 0.4], np.float32), opset=10, constants=(1,)))


def test_refusals() -> None:
    f4, entry = np.dtype(np.float32), lookup("", "Resize", 22)
    x, out = Info(f4, (1, 4, 5, 5)), Info(f4, (1, 4, 9, 9))
    sizes = Info(np.dtype(np.int64), (4,), np.array([1, 4, 9, 9]))
    assert "channels" in str(choose(entry, Info(f4, (1, 8, 5, 5)), [x, None, None, sizes], {}))
    assert "data" in str(choose(entry, out, [x, None, None, sizes._replace(value=None)], {}))
    crop = {"coordinate_transformation_mode": "tf_crop_and_resize"}
    assert "crop" in str(choose(entry, out, [x, None, None, sizes], crop))
    assert "axes" in str(choose(entry, out, [Info(f4, (4, 5))], {}))
    bytes_, small = Info(np.dtype(np.uint8), x.shape), Info(np.dtype(np.uint8), out.shape)
    assert "uint8" in str(choose(entry, small, [bytes_, None, None, sizes], {"mode": "linear"}))
