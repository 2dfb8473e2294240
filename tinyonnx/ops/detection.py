"""Regions of an image: RoiAlign, MaxRoiPool and NonMaxSuppression."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.math import quiet, widened
from tinyonnx.ops.shape import INT64, Shape, integer
from tinyonnx.registry import FUSED, Context, Info, op
from tinyonnx.sizes.integers import minimum


def _check_regions(x: Shape, rois: Shape, columns: int, height: int, width: int) -> None:
    if len(x) != 4:
        raise OpError(f"X has shape {list(x)}, should be [N, C, height, width]")
    if len(rois) != 2 or rois[1] != columns:
        raise OpError(f"rois has shape {list(rois)}, should be [regions, {columns}]")
    if height < 1 or width < 1:
        raise OpError(f"the output is {height} × {width}, should be positive")


def _check_images(index: Array, batch: int) -> None:
    wrong = index[(index < 0) | (index >= batch)]
    if wrong.size:
        raise OpError(f"a region is in image {wrong[0]} of a batch of {batch}")


def _finite(rois: Array) -> Array:
    wide = widened(rois)
    if not np.isfinite(wide).all():
        raise OpError("rois has a coordinate that is infinite or not a number")
    return wide


# -- RoiAlign ---------------------------------------------------------------------------


class _Samples(NamedTuple):
    """Sampling points of one region along one axis: `per_bin` of them, between elements `low` and `high`."""

    low: Array
    high: Array
    weight_low: Array
    weight_high: Array
    per_bin: int

    def averaging(self, bins: int) -> tuple[slice, Array]:
        """Return the elements that are read, and their weights in the mean of each bin, [bins, elements]."""
        first, last = int(self.low.min()), int(self.high.max()) + 1
        size = last - first
        start = np.repeat(np.arange(bins), self.per_bin) * size - first
        places = np.concatenate([start + self.low, start + self.high])
        weights = np.concatenate([self.weight_low, self.weight_high])
        return slice(first, last), np.bincount(places, weights, bins * size).reshape(bins, size) / self.per_bin


def _samples(ctx: Context, start: Any, bin_size: Any, bins: int, sampling_ratio: int, size: int) -> _Samples:
    """Return the sampling points of a region; points more than one element outside have weight 0."""
    count = sampling_ratio if sampling_ratio > 0 else max(ceil(bin_size), 0)
    ctx.check_size((bins, count), np.float64)
    at = start + np.arange(bins)[:, None] * bin_size + (np.arange(count) + 0.5) * (bin_size / max(count, 1))
    at = at.reshape(-1).astype(start.dtype)
    weight = ((at >= -1) & (at <= size)).astype(start.dtype)
    at = np.clip(at, 0, size - 1)
    low = at.astype(np.int64)
    t = at - low
    return _Samples(low, np.minimum(low + 1, size - 1), (1 - t) * weight, t * weight, count)


def _greatest(ctx: Context, image: Array, y: _Samples, x: _Samples, height: int, width: int) -> Array:
    """Return the maximum of the weighted neighbours in each bin; as in ONNX's test case, they aren't summed first."""
    ctx.check_size((len(image), 4, y.low.size, x.low.size), image.dtype)
    rows, columns = np.stack([y.low, y.high]), np.stack([x.low, x.high])
    weights_y, weights_x = np.stack([y.weight_low, y.weight_high]), np.stack([x.weight_low, x.weight_high])
    elements = image[:, rows[:, :, None, None], columns] * (weights_y[:, :, None, None] * weights_x).astype(image.dtype)
    elements = elements.reshape(len(image), 2, height, y.per_bin, 2, width, x.per_bin)
    return np.asarray(elements.max(axis=(1, 3, 4, 6)))


def _roi_align_rule(
    x: Info, rois: Info, batch_indices: Info, *, output_height: int = 1, output_width: int = 1, **_: Any
) -> Info:
    if x.shape is None or rois.shape is None:
        return Info(x.dtype, None)
    _check_regions(x.shape, rois.shape, 4, output_height, output_width)
    return Info(x.dtype, (rois.shape[0], x.shape[1], output_height, output_width))


@op("RoiAlign", since=16, shape=_roi_align_rule)
@quiet
def roi_align(
    ctx: Context, x: Array, rois: Array, batch_indices: Array, *, coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg", output_height: int = 1, output_width: int = 1, sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Array:  # fmt: skip
    """Pool regions given as x1, y1, x2, y2."""
    _check_regions(x.shape, rois.shape, 4, output_height, output_width)
    if batch_indices.shape != (len(rois),):
        raise OpError(f"batch_indices has shape {list(batch_indices.shape)} for {len(rois)} regions")
    _check_images(batch_indices, len(x))
    if coordinate_transformation_mode not in ("half_pixel", "output_half_pixel"):
        raise OpError(f"coordinate_transformation_mode is {coordinate_transformation_mode!r}")
    if mode not in ("avg", "max"):
        raise OpError(f"mode is {mode!r}, should be avg or max")
    if sampling_ratio < 0:
        raise OpError(f"sampling_ratio is {sampling_ratio}, should not be negative")
    shape = (len(rois), x.shape[1], output_height, output_width)
    ctx.check_size(shape, x.dtype)
    result = np.zeros(shape, x.dtype)
    if 0 in x.shape[1:]:
        return result
    half_pixel = coordinate_transformation_mode == "half_pixel"
    wide = _finite(rois)
    corners = wide * wide.dtype.type(spatial_scale) - wide.dtype.type(0.5 if half_pixel else 0)
    sizes = corners[:, 2:] - corners[:, :2]
    if not np.isfinite(sizes).all():
        raise OpError(f"regions times spatial_scale {spatial_scale} are infinite")
    if not half_pixel:
        sizes = np.maximum(sizes, 1)
    bins = sizes / np.array([output_width, output_height], wide.dtype)
    for i, (image, corner, (bin_width, bin_height)) in enumerate(zip(batch_indices, corners, bins)):
        xs = _samples(ctx, corner[0], bin_width, output_width, sampling_ratio, x.shape[3])
        ys = _samples(ctx, corner[1], bin_height, output_height, sampling_ratio, x.shape[2])
        if not (xs.per_bin and ys.per_bin):
            continue
        if mode == "max":
            result[i] = _greatest(ctx, widened(x[image]), ys, xs, output_height, output_width)
        else:
            rows, mean_rows = ys.averaging(output_height)
            columns, mean_columns = xs.averaging(output_width)
            crop = widened(x[image][:, rows, columns])
            result[i] = mean_rows.astype(crop.dtype) @ crop @ mean_columns.astype(crop.dtype).T
    return result


@op("RoiAlign", since=10, shape=_roi_align_rule)
def roi_align_10(
    ctx: Context, x: Array, rois: Array, batch_indices: Array, *, mode: str = "avg", output_height: int = 1,
    output_width: int = 1, sampling_ratio: int = 0, spatial_scale: float = 1.0,
) -> Array:  # fmt: skip
    return roi_align(
        ctx,
        x,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


# -- MaxRoiPool -------------------------------------------------------------------------


_LARGEST = 2**31
"""Bound that coordinates are clipped to, beyond the size of any image."""


def _pooled_shape(x: Shape, rois: Shape, pooled_shape: Sequence[int]) -> Shape:
    if len(pooled_shape) != 2:
        raise OpError(f"pooled_shape is {list(pooled_shape)}, should be a height and a width")
    height, width = map(int, pooled_shape)
    _check_regions(x, rois, 5, height, width)
    return (rois[0], x[1], height, width)


def _max_roi_pool_rule(x: Info, rois: Info, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0) -> Info:
    if x.shape is None or rois.shape is None:
        return Info(x.dtype, None)
    return Info(x.dtype, _pooled_shape(x.shape, rois.shape, pooled_shape))


def _bounds(first: int, last: int, bins: int, size: int) -> tuple[Array, Array]:
    """Return first and end index of each bin of a region of whole elements; bins may overlap."""
    extent = max(last - first + 1, 1)
    edges = np.arange(bins + 1) * extent
    starts, ends = edges[:-1] // bins, -(-edges[1:] // bins)
    return np.clip(first + starts, 0, size), np.clip(first + ends, 0, size)


@op("MaxRoiPool", since=1, shape=_max_roi_pool_rule)
@quiet
def max_roi_pool(
    ctx: Context, x: Array, rois: Array, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0
) -> Array:
    """Pool regions given as image, x1, y1, x2, y2, rounded to whole elements, both ends included; empty bins give 0."""
    shape = _pooled_shape(x.shape, rois.shape, pooled_shape)
    ctx.check_size(shape, x.dtype)
    wide = _finite(rois)
    images = wide[:, 0].astype(np.int64)
    _check_images(images, len(x))
    scaled = wide[:, 1:] * wide.dtype.type(spatial_scale)
    rounded = np.copysign(np.floor(np.abs(scaled) + wide.dtype.type(0.5)), scaled)  # halves are rounded away from zero
    corners = np.clip(rounded, -_LARGEST, _LARGEST).astype(np.int64)
    result = np.zeros(shape, x.dtype)
    for region, image, (x1, y1, x2, y2) in zip(result, images, corners):
        columns = list(zip(*_bounds(x1, x2, shape[3], x.shape[3])))
        for row, (top, bottom) in zip(region.swapaxes(0, 1), zip(*_bounds(y1, y2, shape[2], x.shape[2]))):
            if top >= bottom:
                continue
            line = x[image, :, top:bottom].max(axis=1)
            for k, (left, right) in enumerate(columns):
                if left < right:
                    row[:, k] = line[:, left:right].max(axis=1)
    return result


# -- NonMaxSuppression ------------------------------------------------------------------

_BLOCK, _CHUNK = 256, 1024


def _corners(boxes: Array, center_point_box: int) -> Array:
    """Return x1, y1, x2, y2 and the area of each box, [5, boxes]."""
    a, b, c, d = boxes.T
    if center_point_box:
        x1, y1, x2, y2 = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    else:
        y1, x1, y2, x2 = np.minimum(a, c), np.minimum(b, d), np.maximum(a, c), np.maximum(b, d)
    return np.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)])


def _above(boxes: Array, others: Array, threshold: Any) -> Array:
    """Return whether the intersection over union is above the threshold; both [5, …], broadcasting."""
    width = np.minimum(boxes[2], others[2]) - np.maximum(boxes[0], others[0])
    height = np.minimum(boxes[3], others[3]) - np.maximum(boxes[1], others[1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    union = boxes[4] + others[4] - common
    return np.asarray((common / union > threshold) & (union > 0))


def _overlap(boxes: Array, others: Array, threshold: Any) -> Array:
    """Return `_above` for each pair, [boxes, others]; if few pairs intersect, it is computed for these only."""
    x1, y1, x2, y2, _ = boxes[:, :, None]
    result: Array = (x1 < others[2]) & (x2 > others[0]) & (y1 < others[3]) & (y2 > others[1])
    pairs = np.flatnonzero(result)
    if pairs.size > result.size // 16:
        return _above(boxes[:, :, None], others[:, None], threshold)
    row, column = np.divmod(pairs, others.shape[1])
    result.reshape(-1)[pairs] = _above(boxes[:, row], others[:, column], threshold)
    return result


def _suppress(boxes: Array, limit: int, threshold: Any) -> Array:
    """Return indices of the boxes [5, n], sorted by score, that no selected box of a higher score overlaps.

    Each block of boxes is compared with all boxes selected so far, then within itself.
    """
    kept: list[int] = []
    for first in range(0, boxes.shape[1], _BLOCK):
        left = np.arange(first, min(first + _BLOCK, boxes.shape[1]))
        for chunk in range(0, len(kept), _CHUNK):
            others = boxes[:, kept[chunk : chunk + _CHUNK]]
            left = left[~_overlap(boxes[:, left], others, threshold).any(axis=1)]
        overlaps = _overlap(boxes[:, left], boxes[:, left], threshold)
        alive = np.ones(left.size, bool)
        for i, position in enumerate(left):
            if alive[i]:
                kept.append(position)
                if len(kept) == limit:
                    return np.array(kept)
                alive[i + 1 :] &= ~overlaps[i, i + 1 :]
    return np.array(kept, INT64)


def _scalar(value: Array | None, name: str, default: float) -> Any:
    if value is None or not value.size:
        return np.float32(default)
    if value.size != 1:
        raise OpError(f"{name} has shape {list(value.shape)}, should be one number")
    return value.reshape(())[()]


@op("NonMaxSuppression", since=10)
@quiet
def non_max_suppression(
    boxes: Array, scores: Array, max_output_boxes_per_class: Array | None = None, iou_threshold: Array | None = None,
    score_threshold: Array | None = None, *, center_point_box: int = 0,
) -> Array:  # fmt: skip
    """Return batch, class and box index of the selected boxes.

    Equal scores keep their order; boxes without area overlap none. A box stays only if its score is greater than
    `score_threshold`, as in onnxruntime and onnx's reference.
    """
    limit, threshold, lowest = check_suppression(
        boxes, scores, max_output_boxes_per_class, iou_threshold, score_threshold, center_point_box=center_point_box
    )
    selected = [np.empty((0, 3), INT64)]
    for batch, rows in enumerate(scores if limit > 0 else ()):
        corners = _corners(boxes[batch], center_point_box)
        for label, row in enumerate(rows):
            candidates = np.flatnonzero(~np.isnan(row) if np.isnan(lowest) else row > lowest)
            best = candidates[np.argsort(-row[candidates], kind="stable")]
            stay = best[_suppress(corners[:, best], limit, threshold)]
            selected.append(np.stack([np.full_like(stay, batch), np.full_like(stay, label), stay], axis=1))
    return np.concatenate(selected)


def _bounded_rule(
    boxes: Info, scores: Info, limit: Info | None = None, *_: Info | None, **__: Any
) -> tuple[Info, Info]:  # fmt: skip
    shape = None
    if boxes.shape is not None and scores.shape is not None and limit is not None and limit.value is not None:
        if boxes.ndim != 3 or scores.ndim != 3:
            raise OpError("boxes and scores should have three axes")
        count = max(0, integer(limit.value, "max_output_boxes_per_class")) if limit.value.size else 0
        shape = (scores.shape[0] * scores.shape[1] * minimum(count, boxes.shape[1]), 3)
    return Info(INT64, shape), Info(INT64, (1,))


@op("BoundedNonMaxSuppression", domain=FUSED, shape=_bounded_rule)
def bounded_non_max_suppression(
    boxes: Array, scores: Array, max_output_boxes_per_class: Array | None = None, iou_threshold: Array | None = None,
    score_threshold: Array | None = None, *, center_point_box: int = 0,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the result of NonMaxSuppression, followed by zeros up to as many rows as there can be, and its length."""
    given = max_output_boxes_per_class, iou_threshold, score_threshold
    limit, _, _ = check_suppression(boxes, scores, *given, center_point_box=center_point_box)
    found = non_max_suppression(boxes, scores, *given, center_point_box=center_point_box)
    result = np.zeros((scores.shape[0] * scores.shape[1] * min(max(0, limit), boxes.shape[1]), 3), INT64)
    result[: len(found)] = found
    return result, np.array([len(found)], INT64)


def check_suppression(
    boxes: Array, scores: Array, max_output_boxes_per_class: Array | None, iou_threshold: Array | None,
    score_threshold: Array | None, *, center_point_box: int,
) -> tuple[int, Any, Any]:  # fmt: skip
    """Return the number of boxes per class, the overlap allowed, and the score to exceed, NaN if there is none.

    Raises OpError for inputs that don't fit.
    """
    if boxes.ndim != 3 or boxes.shape[2] != 4:
        raise OpError(f"boxes has shape {list(boxes.shape)}, should be [batches, boxes, 4]")
    if scores.ndim != 3 or (scores.shape[0], scores.shape[2]) != boxes.shape[:2]:
        raise OpError(f"scores has shape {list(scores.shape)}, boxes {list(boxes.shape)}")
    if center_point_box not in (0, 1):
        raise OpError(f"center_point_box is {center_point_box}, should be 0 or 1")
    threshold = _scalar(iou_threshold, "iou_threshold", 0)
    if not 0 <= threshold <= 1:
        raise OpError(f"iou_threshold is {threshold}, should be between 0 and 1")
    lowest = _scalar(score_threshold, "score_threshold", np.nan)
    limit = 0
    if max_output_boxes_per_class is not None and max_output_boxes_per_class.size:
        limit = integer(max_output_boxes_per_class, "max_output_boxes_per_class")
    return limit, threshold, lowest
