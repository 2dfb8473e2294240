"""Ensembles of decision trees, and the scaling of features before them.

Both children of a leaf are the leaf itself, so that several trees can be descended together without branches.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.arguments import Specialised, Static
from tinyonnx.codegen.kernel import jit, kernel, share
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, temporary
from tinyonnx.kernels.selection import is_better
from tinyonnx.ops.ml._common import TRANSFORMS, class_labels
from tinyonnx.ops.ml._tree_attributes import (
    EnsembleAttributes,
    NodeAttributes,
    Same,
    VoteAttributes,
    classic_ensemble,
    ensemble_5,
)
from tinyonnx.ops.ml._trees import AGGREGATES, EQUAL, GREATER, LESS, MISSING, Ensemble
from tinyonnx.ops.ml.features import scaler
from tinyonnx.ops.ml.trees import (
    TotalAttributes,
    tree_ensemble,
    tree_ensemble_classifier,
    tree_ensemble_regressor,
)
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_TREES = 32
"""Trees that are descended together, so that their nodes are loaded at the same time."""

_GROUPS = 64
"""Maximum number of groups of rows; each has room for the nodes of _TREES trees."""

_MOST_NODES = 1 << 30
"""Limit of the numbers of nodes and votes, which are stored as int32."""

_AVERAGE, _SUM, _LEAST, _GREATEST = range(4)
assert AGGREGATES == ["AVERAGE", "SUM", "MIN", "MAX"]

_SINGLE, _OPPOSITE, _COMPLEMENT = range(3)
"""Forms of the scores of two classes of which the second has score s: [0, s], [-s, s], [1 - s, s]."""

_LOGISTIC, _SOFTMAX = range(2)

_FEATURES = (np.float32, np.float64, np.int32, np.int64)


class Forest(NamedTuple):
    """Decision trees: feature, threshold, accepted outcomes and two children of each node, and the roots.

    The first `inner` nodes are inner nodes, the others leaves.
    """

    features: Array
    thresholds: Array
    accepts: Array
    children: Array
    roots: Array
    inner: int


class LeafVotes(NamedTuple):
    """Votes, each a weight for a target; those of leaf i are start[i] to start[i + 1] - 1."""

    start: Array
    target: Array
    weight: Array
    targets: int


@jit
def takes_true(value: Any, threshold: Any, accepts: int, outcomes: Static) -> int:
    """Return 1 if a value takes the true branch, else 0.

    `accepts` are the outcomes of the comparison that this node accepts; `outcomes` are the same if all nodes accept the
    same, else 0.
    """
    if outcomes == LESS | EQUAL:
        return int(value <= threshold)
    if outcomes == LESS:
        return int(value < threshold)
    if outcomes == GREATER | EQUAL:
        return int(value >= threshold)
    if outcomes == GREATER:
        return int(value > threshold)
    if outcomes == EQUAL:
        return int(value == threshold)
    outcome = LESS if value < threshold else EQUAL if value == threshold else GREATER if value > threshold else MISSING
    return int(accepts & outcome != 0)


@jit
def descend(x: Array, forest: Forest, first: int, here: Array, outcomes: Static) -> None:
    """Set here[t] to the leaf that a row reaches in tree `first` + t."""
    for t in range(here.shape[0]):
        here[t] = forest.roots[first + t]
    moving = True
    while moving:
        above = 0
        for t in range(here.shape[0]):
            node = here[t]
            value, threshold = x[forest.features[node]], forest.thresholds[node]
            node = forest.children[2 * node + takes_true(value, threshold, forest.accepts[node], outcomes)]
            here[t] = node
            above |= int(node < forest.inner)
        moving = above != 0


@jit
def count_votes(here: Array, forest: Forest, votes: LeafVotes, row: Array, voted: Array, aggregate: Static) -> None:
    """Add the votes of leaves to the scores of a row, tree by tree."""
    for t in range(here.shape[0]):
        leaf = here[t] - forest.inner
        for k in range(votes.start[leaf], votes.start[leaf + 1]):
            target, weight = votes.target[k], votes.weight[k]
            if aggregate == _GREATEST:
                row[target] = weight if voted[target] == 0 or is_better(weight, row[target], 1) else row[target]
            elif aggregate == _LEAST:
                row[target] = weight if voted[target] == 0 or is_better(weight, row[target], 0) else row[target]
            else:
                row[target] += weight
            voted[target] = 1


@kernel
def score_rows(
    x: Array, forest: Forest, votes: LeafVotes, scores: Array, voted: Array, places: Array, outcomes: Static,
    aggregate: Static, part: int, parts: int,
) -> None:  # fmt: skip
    """Compute scores[row, target], the sum, mean or extreme of the votes of all trees, 0 without votes.

    voted[row, target] tells whether there are votes. `places` is scratch for the nodes reached in _TREES trees by each
    group of rows.
    """
    targets, trees = votes.targets, forest.roots.shape[0]
    rows = scores.shape[0] // targets
    width = x.shape[0] // rows
    groups = min(rows, _GROUPS)
    first, end = share(groups, part, parts)
    for group in range(first, end):
        top, bottom = share(rows, group, groups)
        for i in range(top * targets, bottom * targets):
            scores[i] = 0
            voted[i] = 0
        for tree in range(0, trees, _TREES):
            here = places[group * _TREES : group * _TREES + min(_TREES, trees - tree)]
            for row in range(top, bottom):
                descend(x[row * width : (row + 1) * width], forest, tree, here, outcomes)
                a, b = row * targets, (row + 1) * targets
                count_votes(here, forest, votes, scores[a:b], voted[a:b], aggregate)
        if aggregate == _AVERAGE:
            for i in range(top * targets, bottom * targets):
                scores[i] /= trees


@kernel
def add_base(scores: Array, base: Array, out: Array, part: int, parts: int) -> None:
    """Compute out[row, target] = scores[row, target] + base[target]."""
    targets = base.shape[0]
    first, end = share(out.shape[0] // targets, part, parts)
    for row in range(first, end):
        for t in range(targets):
            out[row * targets + t] = scores[row * targets + t] + base[t]


@kernel
def choose_classes(
    scores: Array, voted: Array, base: Array, labels: Array, chosen: Array, out: Array, all_vote: int,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Add the base to the scores, and choose the label with the greatest score of each row.

    Without `all_vote` only classes with votes are chosen.
    """
    classes = labels.shape[0]
    first, end = share(chosen.shape[0], part, parts)
    for row in range(first, end):
        best, position = base[0], -1
        for c in range(classes):
            at = row * classes + c
            score = scores[at] + base[c]
            out[at] = score
            if (all_vote != 0 or voted[at] != 0) and (position < 0 or is_better(score, best, 1)):
                best, position = score, c
        chosen[row] = labels[max(position, 0)]


@kernel
def choose_of_two(
    scores: Array, only: int, base: Array, split: Any, labels: Array, chosen: Array, out: Array, form: Static,
    part: int, parts: int,
) -> None:  # fmt: skip
    """Choose one of two classes, of which only class `only` has votes: the second one if the score exceeds `split`.

    The scores of both are stored in the given form.
    """
    first, end = share(chosen.shape[0], part, parts)
    for row in range(first, end):
        score = scores[2 * row + only] + base[0]
        chosen[row] = labels[1] if score > split else labels[0]
        if form == _SINGLE:
            out[2 * row] = 0
        else:
            out[2 * row] = -score if form == _OPPOSITE else np.float64(1) - score
        out[2 * row + 1] = score


# e^x = 2^n · e^r, |r| ≤ ln 2 / 2, in float64; ln 2 in two parts, the first exact times n
_LOG2_E, _LN_2_HIGH, _LN_2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_LOWEST, _TERMS = -745.2, 14


@jit
def exp(x: Any) -> Any:
    """Return e^x in float64 for x ≤ 0; NaN stays NaN."""
    if x != x:
        return x
    if x < _LOWEST:
        return 0.0
    n = int(np.floor(x * _LOG2_E + 0.5))
    r = x - n * _LN_2_HIGH - n * _LN_2_LOW
    series = 1.0
    for k in range(_TERMS, 0, -1):
        series = 1.0 + r / k * series
    scale, factor, left = 1.0, 0.5, -n
    while left > 0:
        if left % 2 == 1:
            scale *= factor
        factor, left = factor * factor, left // 2
    return series * scale


@kernel
def transform_rows(raw: Array, out: Array, n: int, transform: Static, part: int, parts: int) -> None:
    """Compute the logistic function of all scores, or the softmax of rows of `n`, in float64."""
    first, end = share(out.shape[0] // n, part, parts)
    for at in range(first * n, end * n, n):
        if transform == _LOGISTIC:
            for i in range(at, at + n):
                x = np.float64(raw[i])
                upper = 1.0 / (1.0 + exp(-abs(x)))
                out[i] = 1.0 - upper if x < 0 else upper
        else:
            top = np.float64(raw[at])
            for i in range(at + 1, at + n):
                x = np.float64(raw[i])
                top = x if x > top or x != x else top
            total = 0.0
            for i in range(at, at + n):
                total += exp(np.float64(raw[i]) - top)
            for i in range(at, at + n):
                out[i] = exp(np.float64(raw[i]) - top) / total


@kernel
def scale_features(x: Array, offset: Array, scale: Array, out: Array, part: int, parts: int) -> None:
    """Compute out[row, i] = (x[row, i] - offset[i]) · scale[i] in float64."""
    width = offset.shape[0]
    first, end = share(out.shape[0] // width, part, parts)
    for row in range(first, end):
        for i in range(width):
            out[row * width + i] = (x[row * width + i] - offset[i]) * scale[i]


# -- operators --------------------------------------------------------------------------


def _forest_refused(x: Info | None, ensemble: Ensemble, out: Info | None, transform: str) -> str | None:
    if x is None or x.shape is None or x.value is not None or len(x.shape) not in (1, 2):
        return "the input is constant, or not of rank 1 or 2"
    if x.dtype not in _FEATURES:
        return f"features of {x.dtype}"
    trees, width = ensemble.trees, x.shape[-1]
    if trees.members is not None:
        return "nodes of mode BRANCH_MEMBER"
    if not isinstance(width, int) or (len(trees.feature) and int(trees.feature.max()) >= width):
        return "a node reads a feature that the input doesn't have"
    if max(len(trees.children), len(ensemble.votes.start), len(ensemble.votes.target)) >= _MOST_NODES:
        return "too many nodes"
    if ensemble.votes.weight.dtype not in (np.float32, np.float64):
        return f"weights of {ensemble.votes.weight.dtype}"
    if transform not in ("NONE", "LOGISTIC", "SOFTMAX"):
        return f"post_transform {transform}"
    if transform != "NONE" and out is not None and out.dtype != np.float32:
        return f"{transform} of {out.dtype}"
    return None


def _forest(ensemble: Ensemble) -> Forest:
    trees, leaves = ensemble.trees, len(ensemble.votes.start) - 1
    inner = len(trees.feature)
    own = np.repeat(np.arange(inner, inner + leaves), 2)
    thresholds = np.concatenate([trees.threshold, np.zeros(leaves, trees.threshold.dtype)])
    return Forest(
        np.concatenate([trees.feature, np.zeros(leaves, np.int64)]).astype(np.int32),
        thresholds,
        np.concatenate([trees.accepts, np.zeros(leaves, np.uint8)]).astype(np.uint8),
        np.concatenate([trees.children, own]).astype(np.int32),
        trees.roots.astype(np.int32),
        inner,
    )


class _Scores(NamedTuple):
    """The call that computes scores, and the temporary memory that it writes them to."""

    call: Call
    scores: Array
    voted: Array


def _bind_scores(x: Array, ensemble: Ensemble, aggregate: int) -> _Scores:
    votes = ensemble.votes
    kinds = np.unique(ensemble.trees.accepts)
    outcomes = int(kinds[0]) if len(kinds) == 1 and ensemble.trees.compare is not None else 0
    rows = x.shape[0] if x.ndim == 2 else 1
    kind = np.promote_types(votes.weight.dtype, x.dtype if x.dtype.kind == "f" else "f4")
    scores, voted = temporary(rows * votes.targets, kind), temporary(rows * votes.targets, np.uint8)
    leaf_votes = LeafVotes(votes.start.astype(np.int32), votes.target.astype(np.int32), votes.weight, votes.targets)
    arguments = (
        flat(x), _forest(ensemble), leaf_votes, scores, voted, temporary(_GROUPS * _TREES, np.int32),
        Specialised(outcomes), Specialised(aggregate),
    )  # fmt: skip
    return _Scores(Call(score_rows, arguments), scores, voted)


def _transformed(raw: Array, out: Array, transform: str) -> list[Call]:
    """Return the calls of a post transform from `raw` to the output; none for NONE, because then both are the same."""
    if transform == "NONE":
        return []
    code = Specialised(_LOGISTIC if transform == "LOGISTIC" else _SOFTMAX)
    return [Call(transform_rows, (raw, flat(out), out.shape[-1], code))]


def _raw(out: Array, transform: str, dtype: Any) -> Array:
    return flat(out) if transform == "NONE" else temporary(out.size, dtype)


# -- regressors


def _regressor_refused(
    out: Info, x: Info | None, *, nodes: NodeAttributes, target: VoteAttributes, total: TotalAttributes,
    aggregate_function: str = "SUM", n_targets: int | None = None,
) -> str | None:  # fmt: skip
    if aggregate_function not in AGGREGATES or n_targets is None:
        return "unknown aggregate_function, or no targets"
    try:
        ensemble = classic_ensemble(Same(nodes, target), n_targets)
        total.base_of(n_targets)
    except OpError as error:
        return str(error)
    return _forest_refused(x, ensemble, out, total.post_transform)


@fast(tree_ensemble_regressor, when=_regressor_refused, layout="row_major")
def bind_tree_ensemble_regressor(
    pool: ConstantPool, out: Array, x: Array, *, nodes: NodeAttributes, target: VoteAttributes,
    total: TotalAttributes, aggregate_function: str = "SUM", n_targets: int,
) -> list[Call]:  # fmt: skip
    """Bind the computation of scores, the addition of the base, and the post transform."""
    ensemble = classic_ensemble(Same(nodes, target), n_targets)
    found = _bind_scores(x, ensemble, AGGREGATES.index(aggregate_function))
    base = total.base_of(n_targets).astype(found.scores.dtype)
    raw = _raw(out, total.post_transform, found.scores.dtype)
    return [found.call, Call(add_base, (found.scores, base, raw)), *_transformed(raw, out, total.post_transform)]


def _ensemble_refused(
    out: Info, x: Info | None, *, trees: EnsembleAttributes, aggregate_function: int = 1, n_targets: int | None = None,
    post_transform: int = 0,
) -> str | None:  # fmt: skip
    if not 0 <= aggregate_function < len(AGGREGATES) or n_targets is None or n_targets < 1:
        return "unknown aggregate_function, or no targets"
    if not 0 <= post_transform < len(TRANSFORMS) or out.dtype not in (np.float32, np.float64):
        return f"post_transform {post_transform} with results of {out.dtype}"
    try:
        ensemble = ensemble_5(Same(trees), n_targets)
    except OpError as error:
        return str(error)
    return _forest_refused(x, ensemble, out, TRANSFORMS[post_transform])


@fast(tree_ensemble, when=_ensemble_refused, layout="row_major")
def bind_tree_ensemble(
    pool: ConstantPool, out: Array, x: Array, *, trees: EnsembleAttributes, aggregate_function: int = 1,
    n_targets: int, post_transform: int = 0,
) -> list[Call]:  # fmt: skip
    """Bind the computation of scores and the post transform."""
    found = _bind_scores(x, ensemble_5(Same(trees), n_targets), aggregate_function)
    transform = TRANSFORMS[post_transform]
    raw, base = _raw(out, transform, found.scores.dtype), np.zeros(n_targets, found.scores.dtype)
    return [found.call, Call(add_base, (found.scores, base, raw)), *_transformed(raw, out, transform)]


# -- classifiers


def _classifier_refused(
    out: Info | None, x: Info | None, *, nodes: NodeAttributes, class_: VoteAttributes, total: TotalAttributes,
    classlabels_int64s: Any = None, classlabels_strings: Any = None,
) -> str | None:  # fmt: skip
    if classlabels_strings:
        return "labels are strings"
    try:
        labels = class_labels(classlabels_int64s, classlabels_strings)
        ensemble = classic_ensemble(Same(nodes, class_), len(labels))
        if not _is_binary(ensemble, labels, total):
            total.base_of(len(labels))
    except OpError as error:
        return str(error)
    return _forest_refused(x, ensemble, None, total.post_transform)


def _is_binary(ensemble: Ensemble, labels: Array, total: TotalAttributes) -> bool:
    """Return whether only one of two classes has votes."""
    return len(labels) == 2 and len(ensemble.voted_for) == 1 and total.base().size < 2


@fast(tree_ensemble_classifier, when=_classifier_refused, layout="row_major", outputs=True)
def bind_tree_ensemble_classifier(
    pool: ConstantPool, outs: list[Array | None], x: Array, *, nodes: NodeAttributes, class_: VoteAttributes,
    total: TotalAttributes, classlabels_int64s: Any = None, classlabels_strings: Any = None,
) -> list[Call]:  # fmt: skip
    """Bind the computation of scores, the choice of labels, and the post transform."""
    labels = class_labels(classlabels_int64s, classlabels_strings)
    ensemble = classic_ensemble(Same(nodes, class_), len(labels))
    found = _bind_scores(x, ensemble, _SUM)
    rows = x.shape[0] if x.ndim == 2 else 1
    first, second = (*outs, None)[:2]
    chosen = temporary(rows, np.int64) if first is None else flat(first)
    transform = total.post_transform
    if not _is_binary(ensemble, labels, total):
        raw = temporary(rows * len(labels)) if second is None else _raw(second, transform, found.scores.dtype)
        given = total.base()
        base = total.base_of(len(labels)).astype(found.scores.dtype)
        arguments = (found.scores, found.voted, base, labels, chosen, raw, int(given.size > 0))
        calls = [found.call, Call(choose_classes, arguments)]
        return calls if second is None else [*calls, *_transformed(raw, second, transform)]
    (only,) = ensemble.voted_for
    form = _SINGLE if only == 1 else _OPPOSITE if ensemble.mixed or transform == "LOGISTIC" else _COMPLEMENT
    if only == 0 and transform == "SOFTMAX":
        transform = "NONE"
    raw = temporary(rows * 2) if second is None else _raw(second, transform, found.scores.dtype)
    base = total.base().sum(dtype=found.scores.dtype).reshape(1)
    split = found.scores.dtype.type(0 if ensemble.mixed else 0.5)
    two = (found.scores, int(only), base, split, labels, chosen, raw, Specialised(form))
    calls = [found.call, Call(choose_of_two, two)]
    return calls if second is None else [*calls, *_transformed(raw, second, transform)]


# -- features


def _values(values: Any, width: int, default: float) -> Array:
    return np.full(width, default) if not values else np.broadcast_to(np.array(values, np.float64), width).copy()


def _scaler_refused(out: Info, x: Info | None, *, offset: Any = None, scale: Any = None) -> str | None:
    if x is None or x.shape is None or x.value is not None or not x.shape:
        return "the input is constant or a scalar"
    width = x.shape[-1]
    if x.dtype not in _FEATURES or not isinstance(width, int):
        return f"features of {x.dtype}"
    fits = all(not values or len(values) in (1, width) for values in (offset, scale))
    return None if fits else "the numbers of values and features differ"


@fast(scaler, when=_scaler_refused, layout="row_major")
def bind_scaler(pool: ConstantPool, out: Array, x: Array, *, offset: Any = None, scale: Any = None) -> Call:
    """Bind the subtraction of offsets and the multiplication by scales along the last axis."""
    width = x.shape[-1]
    return Call(scale_features, (flat(x), _values(offset, width, 0), _values(scale, width, 1), flat(out)))
