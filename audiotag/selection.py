"""The choice of tags to report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from audiotag.results import Tag

if TYPE_CHECKING:
    from audiotag.labels import Label, LabelSet
    from tinyonnx.ir import Array


class Selection(NamedTuple):
    """Rule for the tags to report: the best `top` of those with at least `threshold`, of the classes `among`."""

    top: int | None
    threshold: float | None
    among: tuple[int, ...] | None

    @classmethod
    def of(
        cls, top: int | None, threshold: float | None, labels: str | Iterable[str | int] | None, known: LabelSet
    ) -> Selection:
        """Make the selection, `labels` being classes of `known`. Raises LabelError, ValueError."""
        if top is not None and top < 0:
            raise ValueError(f"top must not be negative, not {top}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in 0..1, not {threshold}")
        return cls(top, threshold, None if labels is None else tuple(known.select(labels)))

    def __call__(self, scores: Array, known: LabelSet) -> tuple[Tag, ...]:
        return best_tags(scores, known, self.top, self.threshold, self.among)


def best_tags(
    scores: Array,
    known: LabelSet,
    top: int | None = 10,
    threshold: float | None = None,
    among: Iterable[int] | None = None,
) -> tuple[Tag, ...]:
    """Return the tags of the best of (classes,) scores in descending order; equal scores in the order of their index.

    Args:
        scores: one score per class.
        known: the classes.
        top: maximum number of tags; None for all.
        threshold: omit lower scores.
        among: consider only these indices.
    """
    indices = np.arange(len(scores)) if among is None else np.array(sorted(among), np.intp)
    values = scores[indices]
    if top and top < len(values):  # few are left to be sorted
        kept = values >= np.partition(values, -top)[-top]
        indices, values = indices[kept], values[kept]
    if threshold is not None:
        kept = values >= threshold
        indices, values = indices[kept], values[kept]
    order = np.argsort(-values, kind="stable")[:top]
    return tuple(map(tag_of, map(known.__getitem__, indices[order].tolist()), values[order].tolist()))


def tag_of(label: Label, score: float) -> Tag:
    """Make the tag of a class."""
    return Tag(label.name, label.mid, label.index, score)
