"""NonMaxSuppression: as a kernel with room for all boxes that may be selected, and as the function of a numpy step.

The second is for parameters that are known only in a run."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import BoundKernel, jit, kernel
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, temporary
from tinyonnx.kernels.selection import sift
from tinyonnx.ops.detection import bounded_non_max_suppression, check_suppression, non_max_suppression
from tinyonnx.registry import Call, Info, compiled, fast
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.integers import minimum

_BLOCK = 64
"""Scores that are compared with the threshold before they are looked at one by one."""


class Boxes(NamedTuple):
    """Corners and areas of boxes, one array for each."""

    x1: Array
    y1: Array
    x2: Array
    y2: Array
    area: Array


class Suppression(NamedTuple):
    """The parameters of NonMaxSuppression; without a score threshold (`has_lowest` = 0) only NaN is excluded."""

    limit: int
    overlap: Any
    has_lowest: int
    lowest: Any
    from_centre: int


class Candidates(NamedTuple):
    """A heap of scores, with the negated positions of their boxes."""

    scores: Array
    positions: Array


@jit
def least(a: Any, b: Any) -> Any:
    """Return the lesser of two numbers, without a branch, so that loops vectorise."""
    return b if b < a else a


@jit
def greatest(a: Any, b: Any) -> Any:
    """Return the greater of two numbers, without a branch, so that loops vectorise."""
    return b if b > a else a


@jit
def read_corners(boxes: Array, corners: Boxes, from_centre: int) -> None:
    """Compute the corners and areas of boxes [n, 4].

    The area of a box whose numbers are not all finite is NaN, because it overlaps none.
    """
    half = np.float32(0.5)
    for i in range(corners.x1.shape[0]):
        a, b, c, d = boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]
        nothing = (a - a) + (b - b) + (c - c) + (d - d)
        if from_centre != 0:
            corners.x1[i], corners.y1[i] = a - c * half, b - d * half
            corners.x2[i], corners.y2[i] = a + c * half, b + d * half
        else:
            corners.y1[i], corners.x1[i] = least(a, c), least(b, d)
            corners.y2[i], corners.x2[i] = greatest(a, c), greatest(b, d)
        corners.area[i] = (corners.x2[i] - corners.x1[i]) * (corners.y2[i] - corners.y1[i]) + nothing


@jit
def overlaps_any(corners: Boxes, box: int, kept: Boxes, count: int, threshold: Any) -> bool:
    """Return whether the intersection over union of a box with any of `count` kept boxes exceeds the threshold."""
    x1, y1, x2, y2, area = corners.x1[box], corners.y1[box], corners.x2[box], corners.y2[box], corners.area[box]
    zero, found = np.float32(0), 0
    for k in range(count):
        width = least(x2, kept.x2[k]) - greatest(x1, kept.x1[k])
        height = least(y2, kept.y2[k]) - greatest(y1, kept.y1[k])
        common = greatest(width, zero) * greatest(height, zero)
        union = area + kept.area[k] - common
        found |= int(common / union > threshold) & int(union > zero)
    return found != 0


@jit
def has_above(scores: Array, lowest: Any) -> bool:
    """Return whether a score exceeds the threshold, by a loop that vectorises: few blocks of scores have one."""
    found = 0
    for i in range(scores.shape[0]):
        found |= int(scores[i] > lowest)
    return found != 0


@jit
def take_candidates(scores: Array, candidates: Candidates, rule: Suppression) -> int:
    """Collect the scores above the threshold and their negated positions in a heap; return their number.

    The root is the first of the greatest scores.
    """
    n = 0
    for begin in range(0, scores.shape[0], _BLOCK):
        block = scores[begin : min(begin + _BLOCK, scores.shape[0])]
        if rule.has_lowest != 0 and not has_above(block, rule.lowest):
            continue
        for i in range(block.shape[0]):
            score = block[i]
            if score > rule.lowest if rule.has_lowest != 0 else score == score:
                candidates.scores[n], candidates.positions[n] = score, -(begin + i)
                n += 1
    for root in range(n // 2 - 1, -1, -1):
        sift(candidates.scores, candidates.positions, 0, 1, root, n, 0)
    return n


@jit
def split_boxes(memory: Array, n: int) -> Boxes:
    """Divide memory between the fields of n boxes."""
    return Boxes(memory[:n], memory[n : 2 * n], memory[2 * n : 3 * n], memory[3 * n : 4 * n], memory[4 * n : 5 * n])


@kernel
def suppress(
    boxes: Array, scores: Array, found: Array, count: Array, floats: Array, positions: Array, n: int,
    rule: Suppression, part: int, parts: int,
) -> None:  # fmt: skip
    """Store batch, class and box of each selected box in `found`, and their number in count[0].

    `floats` is scratch for n boxes, `rule.limit` boxes and n scores, `positions` for n positions. Candidates are taken
    from a heap, the highest score first; those with equal scores in their order.
    """
    if part != 0:
        return
    corners, kept = split_boxes(floats[: 5 * n], n), split_boxes(floats[5 * n : floats.shape[0] - n], rule.limit)
    heap = floats[floats.shape[0] - n :]
    candidates, total = Candidates(heap, positions), 0
    batches = boxes.shape[0] // (4 * n)
    classes = scores.shape[0] // (batches * n)
    for batch in range(batches):
        read_corners(boxes[batch * 4 * n : (batch + 1) * 4 * n], corners, rule.from_centre)
        for label in range(classes):
            row = (batch * classes + label) * n
            left = take_candidates(scores[row : row + n], candidates, rule)
            stay = 0
            while left > 0 and stay < rule.limit:
                box = -positions[0]
                left -= 1
                heap[0], positions[0] = heap[left], positions[left]
                sift(heap, positions, 0, 1, 0, left, 0)
                if overlaps_any(corners, box, kept, stay, rule.overlap):
                    continue
                kept.x1[stay], kept.y1[stay] = corners.x1[box], corners.y1[box]
                kept.x2[stay], kept.y2[stay] = corners.x2[box], corners.y2[box]
                kept.area[stay] = corners.area[box]
                found[3 * total], found[3 * total + 1], found[3 * total + 2] = batch, label, box
                stay, total = stay + 1, total + 1
    count[0] = total


def _rule(limit: int, overlap: Any, lowest: Any, center_point_box: int) -> Suppression:
    has_lowest = not np.isnan(lowest)
    threshold = np.float32(lowest if has_lowest else 0)
    return Suppression(limit, np.float32(overlap), int(has_lowest), threshold, center_point_box)


def _refused(outs: Any, boxes: Info, scores: Info, *given: Info | None, **_: Any) -> str | None:
    if any(info is not None and info.value is None for info in given):
        return "the parameters are not constant"
    return None if boxes.dtype == scores.dtype == np.float32 else f"boxes of {boxes.dtype}, scores of {scores.dtype}"


@fast(bounded_non_max_suppression, when=_refused, layout="row_major", outputs=True)
def bind_suppression(
    pool: ConstantPool, outs: list[Array | None], boxes: Array, scores: Array,
    max_output_boxes_per_class: Array | None = None, iou_threshold: Array | None = None,
    score_threshold: Array | None = None, *, center_point_box: int = 0,
) -> Call:  # fmt: skip
    """Bind the selection with constant parameters."""
    limit, overlap, lowest = check_suppression(
        boxes, scores, max_output_boxes_per_class, iou_threshold, score_threshold, center_point_box=center_point_box
    )
    found, count = outs
    n = boxes.shape[1]
    rule = _rule(minimum(limit, n), overlap, lowest, center_point_box)
    rows = temporary(scores.shape[0] * scores.shape[1] * rule.limit * 3, np.int64) if found is None else flat(found)
    total = temporary(1, np.int64) if count is None else flat(count)
    scratch = temporary(6 * n + 5 * rule.limit), temporary(n, np.int64)
    return Call(suppress, (flat(boxes), flat(scores), rows, total, *scratch, n, rule))


_IDLE: dict[tuple[Any, ...], list[_Suppressor]] = {}
"""Suppressors that are not running, by shapes and rule."""

_KEPT, _LARGEST = 16, 1 << 20
"""Maximum number of shapes and rules whose suppressors are kept, and the largest size in bytes of one of them."""


class _Suppressor:
    """The kernel, bound to memory of its own for boxes and scores of these shapes."""

    def __init__(self, boxes: tuple[int, ...], scores: tuple[int, ...], rule: Suppression) -> None:
        self.boxes, self.scores = np.empty(boxes, np.float32), np.empty(scores, np.float32)
        batches, n = boxes[:2]
        most = batches * scores[1] * rule.limit
        self.found, self.count = np.empty(3 * most, np.int64), np.zeros(1, np.int64)
        scratch = np.empty(6 * n + 5 * rule.limit, np.float32), np.empty(n, np.int64)
        memory = self.boxes.reshape(-1), self.scores.reshape(-1), self.found, self.count, *scratch
        self.nbytes = sum(array.nbytes for array in memory)
        self.bound = BoundKernel(suppress, (*memory, n, rule))

    def run(self, boxes: Array, scores: Array) -> Array:
        """Return batch, class and box of each box that stays."""
        np.copyto(self.boxes, boxes)
        np.copyto(self.scores, scores)
        self.bound.run(0, 1)
        return self.found[: 3 * int(self.count[0])].reshape(-1, 3).copy()


@compiled(non_max_suppression)
def suppress_compiled(
    boxes: Array, scores: Array, max_output_boxes_per_class: Array | None = None, iou_threshold: Array | None = None,
    score_threshold: Array | None = None, *, center_point_box: int = 0,
) -> Array:  # fmt: skip
    """The result of `non_max_suppression`, which runs itself for other types than float32."""
    given = max_output_boxes_per_class, iou_threshold, score_threshold
    if boxes.dtype != np.float32 or scores.dtype != np.float32 or not boxes.size:
        return non_max_suppression(boxes, scores, *given, center_point_box=center_point_box)
    limit, overlap, lowest = check_suppression(boxes, scores, *given, center_point_box=center_point_box)
    limit = min(limit, boxes.shape[1])
    if limit <= 0 or not scores.size:
        return np.empty((0, 3), np.int64)
    rule = _rule(limit, overlap, lowest, center_point_box)
    key = boxes.shape, scores.shape, rule
    try:
        suppressor = _IDLE[key].pop()  # atomic
    except (KeyError, IndexError):
        suppressor = _Suppressor(boxes.shape, scores.shape, rule)
    found = suppressor.run(boxes, scores)
    if suppressor.nbytes <= _LARGEST:
        if key not in _IDLE and len(_IDLE) >= _KEPT:
            _IDLE.clear()
        _IDLE.setdefault(key, []).append(suppressor)
    return found
