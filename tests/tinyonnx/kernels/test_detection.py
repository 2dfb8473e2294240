"""The compiled NonMaxSuppression against its meaning, which is checked against ONNX Runtime elsewhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyonnx.kernels.others
from tinyonnx.errors import OpError
from tinyonnx.kernels import detection
from tinyonnx.kernels.detection import suppress_compiled
from tinyonnx.ops.detection import non_max_suppression
from tinyonnx.registry import COMPILED

assert tinyonnx.kernels.others


def test_is_registered() -> None:
    assert COMPILED[non_max_suppression] is suppress_compiled


@given(data=st.data())
@settings(max_examples=80)
def test_suppression(data: st.DataObject) -> None:
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 999), "seed"))
    batches, classes, n = (
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([1, 3])),
        draw(st.sampled_from([1, 2, 40])),
    )
    corners = (
        random.integers(0, 8, (batches, n, 4)) if draw(st.booleans(), "coarse") else random.random((batches, n, 4))
    )
    levels = draw(st.sampled_from([3, 1000]), "levels of scores")
    scores = (random.integers(-levels, levels, (batches, classes, n)) / levels).astype(np.float32)
    if draw(st.booleans(), "special scores"):
        scores.reshape(-1)[random.integers(0, scores.size, 3)] = [np.nan, np.inf, -np.inf]
    limit = draw(st.sampled_from([None, 0, 1, 5, 2**62]), "limit")
    given = [
        None if limit is None else np.array([limit]),
        draw(
            st.sampled_from([None, np.array([0.5], np.float32), np.array(0.0, np.float32), np.array([1.0], np.float32)])
        ),
        draw(st.sampled_from([None, np.array([0.1], np.float32), np.empty(0, np.float32)])),
    ]
    boxes, centre = corners.astype(np.float32), draw(st.sampled_from([0, 1]), "centre")
    with np.errstate(all="ignore"):
        expected = non_max_suppression(boxes, scores, *given, center_point_box=centre)
        result = suppress_compiled(boxes, scores, *given, center_point_box=centre)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("special", [np.nan, np.inf, 3e38])
def test_boxes_that_are_not_finite(special: float) -> None:
    boxes = np.random.default_rng(1).random((1, 9, 4)).astype(np.float32)
    boxes[0, 3, 2], boxes[0, 5, 0] = special, -special
    scores = np.random.default_rng(2).random((1, 1, 9)).astype(np.float32)
    options = np.array([9]), np.array([0.3], np.float32)
    with np.errstate(all="ignore"):
        expected = non_max_suppression(boxes, scores, *options)
        np.testing.assert_array_equal(suppress_compiled(boxes, scores, *options), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types(dtype: Any) -> None:
    boxes, scores = np.ones((1, 2, 4), dtype), np.array([[[0.5, 0.75]]], dtype)
    boxes[..., :2] = 0
    np.testing.assert_array_equal(suppress_compiled(boxes, scores, np.array([3])), [[0, 0, 1]])


def test_errors_are_the_operators() -> None:
    with pytest.raises(OpError, match="scores has shape"):
        suppress_compiled(np.ones((1, 2, 4), np.float32), np.ones((1, 1, 3), np.float32), np.array([3]))


def test_what_is_kept_between_calls_belongs_to_shapes_and_rule() -> None:
    detection._IDLE.clear()
    random = np.random.default_rng(8)
    for number in range(40):
        n, classes, limit = int(random.integers(1, 12)), int(random.integers(1, 3)), int(random.integers(0, 4))
        corners = random.random((1, n, 2), np.float32)
        boxes = np.concatenate([corners, corners + np.float32(0.4)], axis=2)
        scores = random.random((1, classes, n), np.float32)
        rule = [np.array(limit), np.float32(random.choice([0.1, 0.5])), np.float32(0.5)][: 1 + number % 3]
        for _ in range(3):  # of the same shapes, with other numbers
            found = suppress_compiled(boxes, scores, *map(np.asarray, rule))
            np.testing.assert_array_equal(found, non_max_suppression(boxes, scores, *map(np.asarray, rule)))
            boxes, scores = boxes[:, ::-1], scores[:, :, ::-1] * np.float32(0.9)
    assert len(detection._IDLE) <= detection._KEPT
    assert all(len(idle) == 1 for idle in detection._IDLE.values())


def test_overlapping_calls_use_memory_of_their_own() -> None:
    corners = np.random.default_rng(1).random((1, 300, 2), np.float32)
    boxes = np.concatenate([corners, corners + np.float32(0.1)], axis=2)
    sets = [np.random.default_rng(seed).random((1, 4, 300), np.float32) for seed in range(8)]
    limits = [np.array(50), np.array(0.4, np.float32), np.array(0.2, np.float32)]
    expected = [non_max_suppression(boxes, scores, *limits) for scores in sets]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, wanted in zip(pool.map(lambda s: suppress_compiled(boxes, s, *limits), sets), expected):
                np.testing.assert_array_equal(found, wanted)
