"""Figures about the scores of labelled sounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_BINS = 10


@dataclass(frozen=True)
class Figures:
    """Figures of a model about labelled sounds.

    Attributes:
        classes: names of the classes that occur.
        accuracy: part of the labelled sounds whose highest score is one of their classes.
        precision: average precision of each class, NaN for one that occurs in no sound or in all.
        calibration: expected calibration error: mean distance of scores and frequencies over ten bins of scores.
        counts: number of sounds with each class.
        confusion: (classes, classes) sounds by class and highest score; None if sounds have several classes.
    """

    classes: tuple[str, ...]
    accuracy: float
    precision: tuple[float, ...]
    calibration: float
    counts: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...] | None

    @classmethod
    def of(cls, scores: Array, targets: Array, classes: Sequence[str]) -> Figures:
        """Compute the figures from probabilities and labels, both (sounds, classes)."""
        labelled = targets.any(axis=1)
        best = scores.argmax(axis=1)
        right = targets[np.arange(len(best)), best][labelled]
        confusion = None
        if (targets.sum(axis=1) <= 1).all():
            table = np.zeros((len(classes), len(classes)), np.int64)
            np.add.at(table, (targets[labelled].argmax(axis=1), best[labelled]), 1)
            confusion = tuple(tuple(row) for row in table.tolist())
        return cls(
            tuple(classes),
            float(right.mean()) if len(right) else float("nan"),
            tuple(average_precision(scores[:, i], targets[:, i]) for i in range(len(classes))),
            calibration_error(scores.ravel(), targets.ravel()),
            tuple(targets.sum(axis=0).tolist()),
            confusion,
        )

    @property
    def mean_precision(self) -> float:
        """Mean of the average precisions that exist."""
        known = [value for value in self.precision if value == value]
        return float(np.mean(known)) if known else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-compatible values, rounded."""
        return {
            "accuracy": _rounded(self.accuracy),
            "mean_average_precision": _rounded(self.mean_precision),
            "calibration_error": _rounded(self.calibration),
            "classes": {
                name: {"sounds": count, "average_precision": _rounded(value)}
                for name, count, value in zip(self.classes, self.counts, self.precision, strict=True)
            },
            "confusion": self.confusion,
        }

    def lines(self) -> list[str]:
        """Return the figures as text: a summary, a line per class, and the classes confused."""
        width = max(map(len, self.classes))
        found = [
            f"accuracy {self.accuracy:.1%}, mean average precision {number_text(self.mean_precision)}, "
            f"calibration error {self.calibration:.3f}"
        ]
        for i, name in enumerate(self.classes):
            text = f"  {name:<{width}}  {self.counts[i]:5d} sounds  average precision {number_text(self.precision[i])}"
            if self.confusion is not None:
                row = self.confusion[i]
                wrong = [(n, self.classes[k]) for k, n in enumerate(row) if n and k != i]
                text += "  all right" if not wrong else f"  {row[i]} right"
                text += "".join(f", {n} as {other}" for n, other in sorted(wrong, reverse=True))
            found.append(text)
        if not any(value == value for value in self.precision):
            found.append("average precision is unknown: it takes sounds with and without a class")
        return found


def number_text(value: float) -> str:
    """Format a figure with three decimals, an unknown one, NaN, as "unknown"."""
    return "unknown" if value != value else f"{value:.3f}"


def average_precision(scores: Array, targets: Array) -> float:
    """Return the mean of the precision at each positive in the order of the scores; NaN without positives or negatives.

    Equal scores count as one threshold.
    """
    positives = int(targets.sum())
    if not 0 < positives < len(targets):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(targets[order]), scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * hits[ends] / (ends + 1)).sum() / positives)


def calibration_error(scores: Array, targets: Array) -> float:
    """Return the expected calibration error of probabilities (n,)."""
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    distance = np.abs(np.bincount(bins, scores, _BINS) - np.bincount(bins, targets, _BINS))
    return float(distance.sum() / max(1, counts.sum()))


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 4)
