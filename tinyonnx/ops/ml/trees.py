"""TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble of ai.onnx.ml.

Where onnxruntime and the text differ the text counts: NaN takes the branch that
nodes_missing_value_tracks_true says in every mode, labels are the class labels.
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
from tinyonnx.ops.ml._tree_attributes import Same, classic_ensemble, ensemble_5, numbers
from tinyonnx.ops.ml._trees import AGGREGATES
from tinyonnx.registry import Context, Info, op


def _base(values: Floats, tensor: Array | None, targets: int) -> Array:
    base = numbers("base_values", values, tensor).astype(np.float64)
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
    ctx: Context,
    x: Array,
    *,
    base_values: Floats = None,
    base_values_as_tensor: Array | None = None,
    class_ids: Ints = None,
    class_nodeids: Ints = None,
    class_treeids: Ints = None,
    class_weights: Floats = None,
    class_weights_as_tensor: Array | None = None,
    classlabels_int64s: Ints = None,
    classlabels_strings: Strings = None,
    nodes_falsenodeids: Ints = None,
    nodes_featureids: Ints = None,
    nodes_hitrates: Floats = None,
    nodes_hitrates_as_tensor: Array | None = None,
    nodes_missing_value_tracks_true: Ints = None,
    nodes_modes: Strings = None,
    nodes_nodeids: Ints = None,
    nodes_treeids: Ints = None,
    nodes_truenodeids: Ints = None,
    nodes_values: Floats = None,
    nodes_values_as_tensor: Array | None = None,
    post_transform: str = "NONE",
) -> tuple[Array, Array]:
    """Labels [rows] of the class with the greatest score among those voted for, scores [rows, classes].

    Votes for one class only, of two, are those of a binary classifier: the score of the second
    class, a probability if no weight is negative.
    """
    labels = class_labels(classlabels_int64s, classlabels_strings)
    rows = as_rows(x)
    key = Same(
        nodes_treeids,
        nodes_nodeids,
        nodes_featureids,
        nodes_modes,
        nodes_truenodeids,
        nodes_falsenodeids,
        nodes_missing_value_tracks_true,
        nodes_values,
        nodes_values_as_tensor,
        class_treeids,
        class_nodeids,
        class_ids,
        class_weights,
        class_weights_as_tensor,
    )
    ensemble = classic_ensemble(key, len(labels))
    ctx.check_size((len(rows), len(labels)), np.float64)
    scores, voted = ensemble.scores(rows, "SUM", ctx.tick)
    base = numbers("base_values", base_values, base_values_as_tensor)
    if len(labels) == 2 and len(ensemble.voted_for) == 1 and base.size < 2:
        (only,) = ensemble.voted_for
        score = scores[:, only] + base.sum(dtype=scores.dtype)
        chosen = (score > (0 if ensemble.mixed else 0.5)).astype(int)
        if only == 0:
            return labels[chosen], two_columns(score, post_transform, ensemble.mixed)
        pair = np.stack([np.zeros_like(score), score], axis=1)
        return labels[chosen], transformed(pair, post_transform)
    scores = scores + _base(base_values, base_values_as_tensor, len(labels)).astype(scores.dtype)
    chosen = scores.argmax(1) if base.size else np.where(voted, scores, -np.inf).argmax(1)
    return labels[chosen], transformed(scores, post_transform)


def _regressor_rule(x: Info, *, n_targets: int | None = None, **_: Any) -> Info:
    n = row_count(x)
    return Info(FLOAT, None if n is None or n_targets is None else (n, n_targets))


@op("TreeEnsembleRegressor", domain=DOMAIN, shape=_regressor_rule)
def tree_ensemble_regressor(
    ctx: Context,
    x: Array,
    *,
    aggregate_function: str = "SUM",
    base_values: Floats = None,
    base_values_as_tensor: Array | None = None,
    n_targets: int | None = None,
    nodes_falsenodeids: Ints = None,
    nodes_featureids: Ints = None,
    nodes_hitrates: Floats = None,
    nodes_hitrates_as_tensor: Array | None = None,
    nodes_missing_value_tracks_true: Ints = None,
    nodes_modes: Strings = None,
    nodes_nodeids: Ints = None,
    nodes_treeids: Ints = None,
    nodes_truenodeids: Ints = None,
    nodes_values: Floats = None,
    nodes_values_as_tensor: Array | None = None,
    post_transform: str = "NONE",
    target_ids: Ints = None,
    target_nodeids: Ints = None,
    target_treeids: Ints = None,
    target_weights: Floats = None,
    target_weights_as_tensor: Array | None = None,
) -> Array:
    """Scores [rows, n_targets]."""
    rows = as_rows(x)
    targets = _target_count(ctx, rows, n_targets)
    key = Same(
        nodes_treeids,
        nodes_nodeids,
        nodes_featureids,
        nodes_modes,
        nodes_truenodeids,
        nodes_falsenodeids,
        nodes_missing_value_tracks_true,
        nodes_values,
        nodes_values_as_tensor,
        target_treeids,
        target_nodeids,
        target_ids,
        target_weights,
        target_weights_as_tensor,
    )
    scores, _ = classic_ensemble(key, targets).scores(rows, aggregate_function, ctx.tick)
    base = _base(base_values, base_values_as_tensor, targets).astype(scores.dtype)
    return transformed(scores + base, post_transform)


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
    ctx: Context,
    x: Array,
    *,
    aggregate_function: int = 1,
    leaf_targetids: Ints,
    leaf_weights: Array,
    membership_values: Array | None = None,
    n_targets: int | None = None,
    nodes_falseleafs: Ints,
    nodes_falsenodeids: Ints,
    nodes_featureids: Ints,
    nodes_hitrates: Array | None = None,
    nodes_missing_value_tracks_true: Ints = None,
    nodes_modes: Array,
    nodes_splits: Array,
    nodes_trueleafs: Ints,
    nodes_truenodeids: Ints,
    post_transform: int = 0,
    tree_roots: Ints,
) -> Array:
    """Scores [rows, n_targets] in the input's type."""
    rows = as_rows(x)
    if x.dtype.kind != "f":
        raise OpError(f"needs floating-point numbers, got {x.dtype}")
    key = Same(
        nodes_featureids,
        nodes_falsenodeids,
        nodes_falseleafs,
        nodes_truenodeids,
        nodes_trueleafs,
        nodes_modes,
        nodes_splits,
        nodes_missing_value_tracks_true,
        membership_values,
        tree_roots,
        leaf_targetids,
        leaf_weights,
    )
    aggregate = _named(aggregate_function, AGGREGATES, "aggregate_function")
    ensemble = ensemble_5(key, _target_count(ctx, rows, n_targets))
    scores, _ = ensemble.scores(rows, aggregate, ctx.tick)
    return transformed(scores, _named(post_transform, TRANSFORMS, "post_transform"), x.dtype)
