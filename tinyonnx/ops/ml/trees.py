"""TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble of ai.onnx.ml.

Where onnxruntime differs from the standard's text, the text is followed: NaN takes the branch that
nodes_missing_value_tracks_true selects in every mode, and labels are the class labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.ml._common import (
    DOMAIN,
    FLOAT,
    TRANSFORMS,
    Floats,
    Ints,
    Strings,
    as_rows,
    class_labels,
    row_count,
    transformed,
    two_columns,
)
from tinyonnx.ops.ml._tree_attributes import (
    EnsembleAttributes,
    NodeAttributes,
    Same,
    VoteAttributes,
    classic_ensemble,
    ensemble_5,
    numbers,
)
from tinyonnx.ops.ml._trees import AGGREGATES
from tinyonnx.registry import Attributes, Context, Info, op


class TotalAttributes(Attributes):
    """Attributes that turn the votes of all trees into scores."""

    base_values: Floats = None
    base_values_as_tensor: Array | None = None
    post_transform: str = "NONE"

    def base(self) -> Array:
        """Return the values to add to the sums of the trees; empty if there are none."""
        return numbers("base_values", self.base_values, self.base_values_as_tensor)

    def base_of(self, targets: int) -> Array:
        """Return the values to add, one per target or class."""
        base = self.base().astype(np.float64)
        if base.size not in (0, targets):
            raise OpError(f"{base.size} base_values for {targets} targets or classes")
        return base if base.size else np.zeros(targets)


def _classifier_rule(
    x: Info, *, classlabels_int64s: Ints = None, classlabels_strings: Strings = None, **_: Any
) -> list[Info] | None:
    n = row_count(x)
    if n is None:
        return None
    labels = class_labels(classlabels_int64s, classlabels_strings)
    return [Info(labels.dtype, (n,)), Info(FLOAT, (n, len(labels)))]


@op("TreeEnsembleClassifier", domain=DOMAIN, shape=_classifier_rule)
def tree_ensemble_classifier(
    ctx: Context, x: Array, *, nodes: NodeAttributes, class_: VoteAttributes, total: TotalAttributes,
    classlabels_int64s: Ints = None, classlabels_strings: Strings = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Return labels [rows] of the class with the greatest score among those voted for, and scores [rows, classes].

    Votes for one class only, of two, are those of a binary classifier: the score of the second
    class, a probability if no weight is negative.
    """
    labels = class_labels(classlabels_int64s, classlabels_strings)
    rows, transform = as_rows(x), total.post_transform
    ensemble = classic_ensemble(Same(nodes, class_), len(labels))
    ctx.check_size((len(rows), len(labels)), np.float64)
    scores, voted = ensemble.scores(rows, "SUM", ctx.tick)
    base = total.base()
    if len(labels) == 2 and len(ensemble.voted_for) == 1 and base.size < 2:
        (only,) = ensemble.voted_for
        score = scores[:, only] + base.sum(dtype=scores.dtype)
        chosen = (score > (0 if ensemble.mixed else 0.5)).astype(int)
        if only == 0:
            return labels[chosen], two_columns(score, transform, ensemble.mixed)
        pair = np.stack([np.zeros_like(score), score], axis=1)
        return labels[chosen], transformed(pair, transform)
    scores = scores + total.base_of(len(labels)).astype(scores.dtype)
    chosen = scores.argmax(1) if base.size else np.where(voted, scores, -np.inf).argmax(1)
    return labels[chosen], transformed(scores, transform)


def _regressor_rule(x: Info, *, n_targets: int | None = None, **_: Any) -> Info:
    n = row_count(x)
    return Info(FLOAT, None if n is None or n_targets is None else (n, n_targets))


@op("TreeEnsembleRegressor", domain=DOMAIN, shape=_regressor_rule)
def tree_ensemble_regressor(
    ctx: Context, x: Array, *, nodes: NodeAttributes, target: VoteAttributes, total: TotalAttributes,
    aggregate_function: str = "SUM", n_targets: int | None = None,
) -> Array:  # fmt: skip
    """Return scores [rows, n_targets]."""
    rows = as_rows(x)
    targets = _target_count(ctx, rows, n_targets)
    scores, _ = classic_ensemble(Same(nodes, target), targets).scores(rows, aggregate_function, ctx.tick)
    return transformed(scores + total.base_of(targets).astype(scores.dtype), total.post_transform)


def _target_count(ctx: Context, rows: Array, n_targets: int | None) -> int:
    if n_targets is None or n_targets < 1:
        raise OpError(f"n_targets is {n_targets}, must be positive")
    ctx.check_size((max(len(rows), 1), n_targets), np.float64)
    return n_targets


def _named(number: int, names: Sequence[str], what: str) -> str:
    if not 0 <= number < len(names):
        raise OpError(f"unknown {what} {number}")
    return names[number]


def _ensemble_rule(x: Info, *, n_targets: int | None = None, **_: Any) -> Info:
    n = row_count(x)
    return Info(x.dtype, None if n is None or n_targets is None else (n, n_targets))


@op("TreeEnsemble", since=5, domain=DOMAIN, shape=_ensemble_rule)
def tree_ensemble(
    ctx: Context, x: Array, *, trees: EnsembleAttributes, aggregate_function: int = 1, n_targets: int | None = None,
    post_transform: int = 0,
) -> Array:  # fmt: skip
    """Return scores [rows, n_targets] in the input's type."""
    rows = as_rows(x)
    if x.dtype.kind != "f":
        raise OpError(f"needs floating-point numbers, got {x.dtype}")
    aggregate = _named(aggregate_function, AGGREGATES, "aggregate_function")
    ensemble = ensemble_5(Same(trees), _target_count(ctx, rows, n_targets))
    scores, _ = ensemble.scores(rows, aggregate, ctx.tick)
    return transformed(scores, _named(post_transform, TRANSFORMS, "post_transform"), x.dtype)
