"""RoiAlign, MaxRoiPool and NonMaxSuppression: onnxruntime, onnx's cases, naive loops, refusals."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops.running import (
    assert_same,
    check_against_onnxruntime,
    check_backend_cases,
    context_of,
    normal,
    onnxruntime_outputs,
    run,
)
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.limits import Limits
from tinyonnx.registry import lookup

F32 = np.float32
X = normal(2, 3, 9, 8)
ROIS = np.array([[0, 0, 5, 5], [1, 2, 7.5, 8], [-2, -3, 3, 3], [3, 3, 3.2, 20], [5, 5, 4, 3], [40, 40, 50, 50]], F32)
IMAGES = np.array([0, 1, 1, 0, 1, 0])


def test_roi_align_backend_cases():
    check_backend_cases("RoiAlign")


@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel", None])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
def test_roi_align_like_onnxruntime(coordinates, mode, sampling_ratio):
    attributes = {"mode": mode, "sampling_ratio": sampling_ratio, "spatial_scale": 0.75}
    attributes |= {"output_height": 3, "output_width": 2}
    if coordinates:
        attributes["coordinate_transformation_mode"] = coordinates
    rois, images = ROIS, IMAGES
    if mode == "max":  # onnxruntime's greatest of no sample or of samples outside is the last region's
        rois, images = ROIS[:4], IMAGES[:4]
    check_against_onnxruntime(
        "RoiAlign", X, rois, images, opset=16 if coordinates else 10, rtol=1e-5, atol=1e-5, **attributes
    )


def test_roi_align_of_a_plane_is_its_value_in_the_middle_of_each_bin():
    y, x = np.mgrid[:20, :30].astype(np.float64)
    plane = (2 * x - 3 * y)[None, None]
    result = run(
        "RoiAlign",
        plane,
        np.array([[4.0, 6, 16, 12]]),
        np.array([0]),
        output_height=3,
        output_width=4,
        sampling_ratio=5,
    )
    middle_x, middle_y = 4 - 0.5 + 3 * (np.arange(4) + 0.5), 6 - 0.5 + 2 * (np.arange(3) + 0.5)
    np.testing.assert_allclose(result[0, 0], 2 * middle_x - 3 * middle_y[:, None])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_dtypes(dtype, mode):
    whole = np.array([[0, 0, 6, 4], [1, 2, 7, 8]], dtype)
    x = X.astype(dtype)
    attributes = {"mode": mode, "output_height": 2, "output_width": 2, "sampling_ratio": 2}
    y = run("RoiAlign", x, whole, IMAGES[:2], **attributes)
    wide = run("RoiAlign", x.astype(np.float64), whole.astype(np.float64), IMAGES[:2], **attributes)
    np.testing.assert_allclose(y.astype(np.float64), wide, rtol=ml_dtypes.finfo(dtype).eps, atol=1e-6)


def test_no_regions_and_no_elements():
    empty = run("RoiAlign", X, ROIS[:0], IMAGES[:0], output_height=2)
    assert empty.shape == (0, 3, 2, 1)
    assert not run("RoiAlign", X[:, :, :0], ROIS, IMAGES).any()
    assert run("MaxRoiPool", X, np.zeros((0, 5), F32), pooled_shape=[2, 2]).shape == (0, 3, 2, 2)


def test_a_huge_region_keeps_the_limit(monkeypatch):
    monkeypatch.setattr("tests.tinyonnx.ops.running.Limits", lambda: Limits(max_tensor_bytes=1 << 20))
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        run("RoiAlign", X, np.array([[0, 0, 1e9, 1]], F32), IMAGES[:1])


# -- MaxRoiPool -------------------------------------------------------------------------


@pytest.mark.parametrize("spatial_scale", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("pooled_shape", [[1, 1], [2, 3], [7, 5]])
def test_max_roi_pool_like_onnxruntime(spatial_scale, pooled_shape):
    rng = np.random.default_rng(3)
    start = rng.uniform(0, 9, (20, 2))
    rois = np.concatenate([rng.integers(0, 2, (20, 1)), start, start + rng.uniform(0, 9, (20, 2))], axis=1).astype(F32)
    check_against_onnxruntime("MaxRoiPool", X, rois, opset=13, spatial_scale=spatial_scale, pooled_shape=pooled_shape)


def test_max_roi_pool_by_hand():
    x = np.arange(-16, 0, dtype=np.float64).reshape(1, 1, 4, 4)
    assert run("MaxRoiPool", x, np.array([[0.0, 0, 0, 3, 3]]), pooled_shape=[2, 2]).tolist() == [
        [[[-11, -9], [-3, -1]]]
    ]
    # halves are rounded away from zero; positions outside are empty, which gives 0
    assert run("MaxRoiPool", x, np.array([[0.0, 0.5, 0.5, 1.4, 1.4]]), pooled_shape=[1, 1]).item() == x[0, 0, 1, 1]
    assert run("MaxRoiPool", x, np.array([[0.0, 9, 9, 12, 12]]), pooled_shape=[1, 1]).item() == 0
    # three bins over two columns share them
    assert run("MaxRoiPool", x, np.array([[0.0, 0, 0, 1, 0]]), pooled_shape=[1, 3]).tolist() == [[[[-16, -15, -15]]]]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_max_roi_pool_dtypes(dtype):
    rois = np.array([[1, 0, 1, 6, 7]], dtype)
    y = run("MaxRoiPool", X.astype(dtype), rois, pooled_shape=[2, 2])
    wide = run("MaxRoiPool", X.astype(dtype).astype(F32), rois.astype(F32), pooled_shape=[2, 2])
    assert_same(y, wide.astype(dtype))


# -- NonMaxSuppression ------------------------------------------------------------------


def suppress(*inputs, **attributes):
    return lookup("", "NonMaxSuppression", 11).function(*inputs, **attributes)


def _boxes(count: int, spread: float, seed: int = 0, batches: int = 2, classes: int = 3):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, spread, (batches, count, 2)), rng.uniform(2, 30, (batches, count, 2))
    boxes = np.concatenate([corner, corner + size], axis=2).astype(F32)
    return boxes, rng.permutation(batches * classes * count).reshape(batches, classes, count).astype(F32)


def _scalars(limit: int, iou: float, score: float):
    return np.array([limit]), np.array([iou], F32), np.array([score], F32)


def test_non_max_suppression_backend_cases():
    from tests.tinyonnx.ops.running import _backend_cases

    cases = _backend_cases()["NonMaxSuppression"]
    assert len(cases) == 10
    for case in cases:
        attributes = {a.name: a.i for a in case.model.graph.node[0].attribute}
        for inputs, (expected,) in case.data_sets:
            np.testing.assert_array_equal(suppress(*inputs, **attributes), expected, err_msg=case.name)


@pytest.mark.parametrize("center_point_box", [0, 1])
@pytest.mark.parametrize(("spread", "limit", "iou"), [(500, 2000, 0.5), (60, 2000, 0.3), (5, 2000, 0.9), (200, 17, 0)])
def test_non_max_suppression_like_onnxruntime(center_point_box, spread, limit, iou):
    boxes, scores = _boxes(2000, spread)
    inputs = boxes, scores, *_scalars(limit, iou, 900.5)
    (expected,) = onnxruntime_outputs("NonMaxSuppression", *inputs, opset=11, center_point_box=center_point_box)
    assert len(expected) > 30
    np.testing.assert_array_equal(suppress(*inputs, center_point_box=center_point_box), expected, strict=True)


def test_ten_thousand_boxes_like_onnxruntime():
    inputs = *_boxes(10_000, 3000, batches=1, classes=1), *_scalars(10_000, 0.4, -1)
    (expected,) = onnxruntime_outputs("NonMaxSuppression", *inputs, opset=11)
    np.testing.assert_array_equal(suppress(*inputs), expected)


def test_of_equal_scores_the_first_box_counts():
    boxes = np.tile(np.array([0, 0, 1, 1], F32), (1, 5, 1))
    assert suppress(boxes, np.ones((1, 1, 5), F32), np.array(5), np.array(0.5, F32)).tolist() == [[0, 0, 0]]


def test_what_the_text_says_of_limits():
    boxes = np.array([[[0, 0, 1, 1], [0, 0.5, 1, 1.5], [9, 9, 9, 9], [9, 9, 9, 9]]], F32)
    scores = np.array([[[0.9, 0.8, 0.5, 0.4]]], F32)
    five, third = np.array(5), np.array(1 / 3, F32)
    # an overlap equal to the threshold stays, a score equal to it doesn't; boxes without area overlap nothing
    inputs = boxes, scores, five, third, np.array(0.5, F32)
    np.testing.assert_array_equal(suppress(*inputs), onnxruntime_outputs("NonMaxSuppression", *inputs, opset=11)[0])
    assert suppress(*inputs)[:, 2].tolist() == [0, 1]
    assert suppress(boxes, scores, five, third)[:, 2].tolist() == [0, 1, 2, 3]
    assert suppress(boxes, scores, five, np.array(0.3, F32))[:, 2].tolist() == [0, 2, 3]
    assert suppress(boxes, scores, np.array(0)).shape == suppress(boxes, scores).shape == (0, 3)
    assert suppress(boxes[:, :0], scores[:, :, :0], five).shape == (0, 3)


def test_scores_that_are_no_numbers_come_last():
    boxes, scores = _boxes(20, 500, batches=1, classes=1)
    scores[0, 0, 3] = np.nan
    assert 3 not in suppress(boxes, scores, *_scalars(20, 0.5, 0))[:, 2]


# -- refusals ---------------------------------------------------------------------------

BOXES, SCORES = _boxes(4, 10)
POOL = np.zeros((1, 5), F32)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("RoiAlign", [X, ROIS, IMAGES + 1], {}, "image 2 of a batch of 2"),
        ("RoiAlign", [X, ROIS, IMAGES[:2]], {}, r"batch_indices has shape \[2\] for 6 regions"),
        ("RoiAlign", [X, ROIS[:, :3], IMAGES], {}, r"rois has shape \[6, 3\], should be \[regions, 4\]"),
        ("RoiAlign", [X[0], ROIS, IMAGES], {}, "X has shape"),
        ("RoiAlign", [X, ROIS * np.nan, IMAGES], {}, "not a number"),
        ("RoiAlign", [X, ROIS, IMAGES], {"mode": "min"}, "mode is 'min'"),
        (
            "RoiAlign",
            [X, ROIS, IMAGES],
            {"coordinate_transformation_mode": "x"},
            "coordinate_transformation_mode is 'x'",
        ),
        ("RoiAlign", [X, ROIS, IMAGES], {"sampling_ratio": -1}, "sampling_ratio is -1"),
        ("RoiAlign", [X, ROIS, IMAGES], {"output_height": 0}, "the output is 0 × 1"),
        ("MaxRoiPool", [X, ROIS], {"pooled_shape": [1, 1]}, r"should be \[regions, 5\]"),
        ("MaxRoiPool", [X, POOL], {"pooled_shape": [1]}, "a height and a width"),
        ("MaxRoiPool", [X, POOL], {"pooled_shape": [0, 2]}, "should be positive"),
        ("MaxRoiPool", [X, POOL - 1], {"pooled_shape": [1, 1]}, "image -1 of a batch of 2"),
        ("MaxRoiPool", [X, POOL + np.inf], {"pooled_shape": [1, 1]}, "infinite"),
        ("NonMaxSuppression", [BOXES[..., :3], SCORES], {}, "boxes has shape"),
        ("NonMaxSuppression", [BOXES, SCORES[:1]], {}, "scores has shape"),
        ("NonMaxSuppression", [BOXES, SCORES], {"center_point_box": 2}, "center_point_box is 2"),
        ("NonMaxSuppression", [BOXES, SCORES, None, np.array(1.5, F32)], {}, "iou_threshold is 1.5"),
        ("NonMaxSuppression", [BOXES, SCORES, np.array([1, 2])], {}, "max_output_boxes_per_class"),
        ("NonMaxSuppression", [BOXES, SCORES, None, None, np.zeros(2, F32)], {}, "score_threshold has shape"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    entry = lookup("", name, 16)
    with pytest.raises(OpError, match=message):
        entry.function(*[context_of(name, 16, 1)] * entry.takes_ctx, *inputs, **attributes)
