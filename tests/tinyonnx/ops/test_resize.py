from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.ops import oracles
from tinyonnx.errors import OpError
from tinyonnx.ops.resize import resize, resize_shape
from tinyonnx.registry import Info, lookup


@pytest.mark.parametrize("op_type", ["Resize", "Upsample", "DepthToSpace", "SpaceToDepth"])
def test_onnx_cases(op_type: str) -> None:
    oracles.check_cases(op_type)


# Where a coordinate lies exactly between two elements onnxruntime decides by rounding errors:
# these scales are exact. With fractional sizes its align_corners isn't ONNX's.
EXACT = (0.25, 0.5, 1, 2, 4)


def _resize_case(rng: np.random.Generator, transformation: str, mode: str) -> tuple[list[Any], dict[str, Any]]:
    x = rng.standard_normal((1, 2, 8, 4), np.float32)
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": transformation}
    if mode == "nearest":
        attributes["nearest_mode"] = str(rng.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
        scales = rng.choice(EXACT, 2)
    else:
        scales = rng.choice(EXACT if transformation == "align_corners" else (0.3, 0.6, 0.8, 1.5, 2.3), 2)
        attributes["antialias"] = int(rng.integers(0, 2))
    if mode == "cubic":
        attributes |= {"exclude_outside": int(rng.integers(0, 2)), "cubic_coeff_a": -0.5}
    return [x, None, np.array([1, 1, *scales], np.float32)], attributes


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "transformation", ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
)
def test_like_onnxruntime(transformation: str, mode: str, seed: int) -> None:
    inputs, attributes = _resize_case(np.random.default_rng(seed), transformation, mode)
    (expected,) = oracles.ort("Resize", 19, inputs, attributes)
    (result,) = oracles.call("Resize", 19, inputs, attributes)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop_like_onnxruntime(mode: str) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 8, 4), np.float32)
    roi = np.array([0, 0, 0.125, 0.2, 1, 1, 0.9, 1.2], np.float32)
    inputs = [x, roi, None, np.array([1, 2, 5, 7])]
    attributes = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}
    (expected,) = oracles.ort("Resize", 19, inputs, attributes)
    (result,) = oracles.call("Resize", 19, inputs, attributes)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    assert (result == 9).any()


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(0.5, 0.6), (2, 1.5), (0.3, 3)])
def test_opset_10_like_onnxruntime(mode: str, scales: tuple[float, float]) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 5), np.float32)
    inputs = [x, np.array([1, 1, *scales], np.float32)]
    (expected,) = oracles.ort("Resize", 10, inputs, {"mode": mode})
    (result,) = oracles.call("Resize", 10, inputs, {"mode": mode})
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("nearest_mode", "x"), [("floor", 0), ("ceil", 0), ("floor", 0.5), ("ceil", 0.5)])
def test_nearest_to_sizes_is_exact(nearest_mode: str, x: float) -> None:
    transformation = "half_pixel" if x else "asymmetric"
    rounding = {"floor": lambda q: q.__floor__(), "ceil": lambda q: q.__ceil__()}[nearest_mode]
    for size in range(1, 24):
        for out in range(1, 24):
            exact = [(o + Fraction(x)) * size / out - Fraction(x) for o in range(out)]
            y = resize(
                None,
                np.arange(size),
                sizes=np.array([out]),
                nearest_mode=nearest_mode,
                coordinate_transformation_mode=transformation,
            )
            assert y.tolist() == [min(max(rounding(q), 0), size - 1) for q in exact]


@pytest.mark.parametrize("scale", [1.5, 1.1, 2.3, 3])
def test_align_corners_maps_the_last_element_to_the_last(scale: float) -> None:
    """PyTorch, onnxruntime and OpenVINO do so where an enlarged size is cut to an integer."""
    x = np.random.default_rng(0).standard_normal(5, np.float32)
    inputs = [x[None, None], None, np.array([1, 1, scale], np.float32)]
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    (y,) = oracles.call("Resize", 19, inputs, attributes)
    assert y.shape[-1] == int(5 * scale)
    np.testing.assert_allclose(y[0, 0], np.interp(np.linspace(0, 4, int(5 * scale)), range(5), x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y, oracles.ort("Resize", 19, inputs, attributes)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "inputs", "expected"),
    [
        ((0, 1, 4, 4), {"sizes": np.array([0, 1, 8, 8])}, (0, 1, 8, 8)),
        ((0, 1, 4, 4), {"scales": np.array([1, 1, 2, 2], np.float32)}, (0, 1, 8, 8)),
        ((2, 0, 4), {"sizes": np.array([2, 0, 3])}, (2, 0, 3)),
        ((2, 3, 0), {"scales": np.array([1, 1, 2], np.float32)}, (2, 3, 0)),
        ((2, 3, 4), {"sizes": np.array([2, 3, 0])}, (2, 3, 0)),
    ],
)
def test_empty_tensors(shape: tuple[int, ...], inputs: dict[str, Any], expected: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    assert resize(None, x, **inputs).shape == expected
    infos = {name: Info(value.dtype, value.shape, value) for name, value in inputs.items()}
    assert resize_shape(Info(x.dtype, shape), **infos).shape == expected


def test_an_empty_axis_leaves_the_aspect_ratio_to_the_others() -> None:
    x = np.zeros((0, 4, 8), np.float32)
    assert resize(None, x, sizes=np.array([0, 8, 8]), keep_aspect_ratio_policy="not_larger").shape == (0, 4, 8)


def test_pytorch_half_pixel_to_one() -> None:
    x = np.array([1, 5, 9], "f4")
    y = resize(None, x, sizes=np.array([1]), mode="cubic", coordinate_transformation_mode="pytorch_half_pixel")
    assert y.tolist() == [1]


def test_tf_half_pixel_for_nn() -> None:
    x = np.arange(8, dtype="f4").reshape(2, 4)
    y = oracles.call(
        "Resize",
        11,
        [x, np.zeros(0, "f4"), np.array([1, 0.5], "f4")],
        {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"},
    )
    assert y[0].tolist() == [[1, 3], [5, 7]]


def test_float32_scales_give_the_intended_size() -> None:
    scales = np.array([2.3], np.float32)
    assert resize_shape(Info(np.dtype("f4"), (10,)), None, Info(scales.dtype, (1,), scales)).shape == (23,)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint8, np.int8, np.int64])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_constant_stays_constant(dtype: type, mode: str) -> None:
    x = np.full((3, 5), 7, dtype)
    (y,) = oracles.call("Resize", 19, [x, None, None, np.array([7, 11])], {"mode": mode})
    assert y.dtype == dtype
    np.testing.assert_allclose(y, 7, rtol=1e-14 if dtype == np.float64 else 0)


def test_overshoot_stays_in_range() -> None:
    x = np.array([0, 0, 255, 255], np.uint8)
    y = resize(None, x, sizes=np.array([9]), mode="cubic")
    assert y[0] == 0
    assert y[-1] == 255
    assert (np.diff(y.astype(int)) >= 0).all()


@pytest.mark.parametrize("dtype", [np.bool_, object, np.complex64])
def test_nearest_takes_any_dtype(dtype: type) -> None:
    x = np.array([0, 1], dtype)
    assert resize(None, x, sizes=np.array([4])).tolist() == [x[0], x[0], x[1], x[1]]


def test_upsample() -> None:
    x = np.array([[[[1, 2], [3, 4]]]], "f4")
    twice = x.repeat(2, axis=2).repeat(3, axis=3)
    (y9,) = oracles.call("Upsample", 9, [x, np.array([1, 1, 2, 3], "f4")], {})
    (y7,) = oracles.call("Upsample", 7, [x], {"scales": [1.0, 1.0, 2.0, 3.0]})
    (y1,) = oracles.call("Upsample", 1, [x], {"height_scale": 2.0, "width_scale": 3.0})
    assert y9.tolist() == y7.tolist() == y1.tolist() == twice.tolist()
    inputs = [x, np.array([1, 1, 2, 2], "f4")]
    (expected,) = oracles.ort("Upsample", 9, inputs, {"mode": "linear"})
    np.testing.assert_allclose(oracles.call("Upsample", 9, inputs, {"mode": "linear"})[0], expected, rtol=1e-6)
    with pytest.raises(OpError, match="must be at least 1"):
        oracles.call("Upsample", 9, [x, np.array([1, 1, 0.5, 2], "f4")], {})


def test_size_is_announced_before_it_is_used() -> None:
    class Refuses(oracles.Sizes):
        def check_size(self, shape: tuple[int, ...], dtype: Any) -> None:
            raise RuntimeError(str(shape))

    with pytest.raises(RuntimeError, match="1099511627776"):
        resize(Refuses(), np.zeros(4, "f4"), sizes=np.array([2**40]))


def test_unknown_sizes_leave_the_shape_open() -> None:
    x = Info(np.dtype("f4"), (4,))
    assert resize_shape(x, None, None, Info(np.dtype("i8"), (1,))) == Info(x.dtype, None)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([None, None, None], {}, "neither scales and sizes|neither"),
        ([None, np.ones(2, "f4"), np.ones(2, "i8")], {}, "both scales and sizes"),
        ([None, np.ones(3, "f4")], {}, r"scales has shape \[3\], not \[2\]"),
        ([None, np.array([1, 0], "f4")], {}, "must be positive"),
        ([None, np.array([1, np.nan], "f4")], {}, "must be positive"),
        ([None, None, np.array([1, -1])], {}, "must not be negative"),
        ([None, np.ones(1, "f4")], {"axes": [2]}, "out of range"),
        ([None, np.ones(2, "f4")], {"axes": [1, -1]}, "duplicates"),
        ([None, np.ones(2, "f4")], {"mode": "bicubic"}, "mode is 'bicubic'"),
        ([None, np.ones(2, "f4")], {"nearest_mode": "up"}, "nearest_mode is 'up'"),
        ([None, np.ones(2, "f4")], {"coordinate_transformation_mode": "x"}, "coordinate_transformation_mode is 'x'"),
        ([None, np.ones(2, "f4")], {"coordinate_transformation_mode": "tf_crop_and_resize"}, "needs a roi"),
        (
            [np.array([0, -np.inf, 1, 1], "f4"), np.ones(2, "f4")],
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            "a border of the roi is not finite",
        ),
        ([None, None, np.ones(2, "i8")], {"keep_aspect_ratio_policy": "x"}, "keep_aspect_ratio_policy is 'x'"),
    ],
)
def test_bad_resize(inputs: list[Any], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        resize(None, np.zeros((2, 3), "f4"), *inputs, **attributes)


def test_linear_needs_numbers() -> None:
    with pytest.raises(OpError, match="linear interpolation of bool"):
        resize(None, np.zeros(2, bool), sizes=np.array([4]), mode="linear")


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space_are_inverse(mode: str) -> None:
    x = np.arange(2 * 8 * 3 * 5).reshape(2, 8, 3, 5)
    (space,) = oracles.call("DepthToSpace", 13, [x], {"blocksize": 2, "mode": mode})
    assert space.shape == (2, 2, 6, 10)
    (depth,) = oracles.call("SpaceToDepth", 28, [space], {"blocksize": 2, "mode": mode})
    assert (depth == x).all()


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "message"),
    [
        ("DepthToSpace", (1, 6, 2, 2), {"blocksize": 2}, "6 channels don't fill blocks of 2 x 2"),
        ("DepthToSpace", (1, 4, 2), {"blocksize": 2}, "3 dimensions, not 4"),
        ("DepthToSpace", (1, 4, 2, 2), {"blocksize": 2, "mode": "X"}, "mode is 'X'"),
        ("SpaceToDepth", (1, 6, 2, 3), {"blocksize": 2}, "blocks of 2 x 2 don't tile 2 x 3"),
        ("SpaceToDepth", (1, 6, 2, 3), {"blocksize": 0}, "blocksize is 0"),
    ],
)
def test_bad_blocks(op: str, shape: tuple[int, ...], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        lookup("", op, 13).function(np.zeros(shape), **attributes)
