"""SVMClassifier and SVMRegressor of ai.onnx.ml, in libsvm's arrangement of coefficients; sums in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.ml._common import (
    DOMAIN,
    FLOAT,
    Floats,
    Ints,
    Strings,
    as_rows,
    class_labels,
    column_count,
    logistic,
    row_count,
    transformed,
    two_columns,
)
from tinyonnx.registry import Attributes, Context, Info, op


def _features(x: Array, count: int, what: str) -> Array:
    rows = as_rows(x).astype(np.float64)
    if rows.shape[1] != count:
        raise OpError(f"{what} are for {count} features, got {rows.shape[1]}")
    return rows


class MachineAttributes(Attributes):
    """The attributes of both machines: the kernel, the support vectors and their coefficients."""

    coefficients: Floats = None
    kernel_params: Floats = None
    kernel_type: str = "LINEAR"
    post_transform: str = "NONE"
    rho: Floats = None
    support_vectors: Floats = None


def _kernel(ctx: Context, x: Array, vectors: Array, machine: MachineAttributes) -> Array:
    """Return the kernel of every row with every support vector, [rows, vectors]."""
    params, kernel_type = machine.kernel_params, machine.kernel_type
    if params and len(params) != 3:
        raise OpError(f"kernel_params should be gamma, coef0 and degree, has {len(params)} elements")
    gamma, coef0, degree = params or (0.0, 0.0, 0.0)
    ctx.check_size((len(x), len(vectors)), np.float64)
    product = x @ vectors.T
    if kernel_type == "LINEAR":
        return np.asarray(product)
    if kernel_type == "POLY":
        return np.asarray((gamma * product + coef0) ** degree)
    if kernel_type == "SIGMOID":
        return np.asarray(np.tanh(gamma * product + coef0))
    if kernel_type == "RBF":
        distance = (x * x).sum(1)[:, None] + (vectors * vectors).sum(1) - 2 * product
        return np.asarray(np.exp(-gamma * np.maximum(distance, 0)))
    raise OpError(f"unknown kernel_type {kernel_type!r}")


def _vectors(support_vectors: Floats, count: int) -> Array:
    width = column_count(len(support_vectors or ()), count, "support_vectors")
    return np.array(support_vectors).reshape(count, width)


# -- SVMClassifier ------------------------------------------------------------------------


def _pairs(classes: int) -> tuple[Array, Array]:
    """Return the first and the second class of every pair, in the order of rho."""
    return np.triu_indices(classes, 1)


def _class_ranges(counts: list[int]) -> Iterator[slice]:
    at = 0
    for count in counts:
        yield slice(at, at + count)
        at += count


def _pair_scores(ctx: Context, kernel: Array, coefficients: Array, counts: list[int], rho: Array) -> Array:
    """Return scores [rows, pairs] of each class against each later one, positive for the first of the two.

    Row r of `coefficients` [classes - 1, vectors] has, for the vectors of class c, the
    coefficients against class r, or r + 1 if r is not before c.
    """
    classes = len(counts)
    ctx.check_size((classes, len(kernel), classes - 1), np.float64)
    against = np.stack([kernel[:, own] @ coefficients[:, own].T for own in _class_ranges(counts)])
    first, second = _pairs(classes)
    return np.asarray((against[first, :, second - 1] + against[second, :, first]).T + rho)


def _votes(scores: Array, classes: int) -> Array:
    """Return the class that wins most pairs; the first one if there are several."""
    first, second = _pairs(classes)
    winners = np.where(scores > 0, first, second) + np.arange(len(scores))[:, None] * classes
    counts = np.bincount(winners.reshape(-1), minlength=len(scores) * classes)
    return np.asarray(counts.reshape(-1, classes).argmax(1))


def _coupled(pairwise: Array, classes: int) -> Array:
    """Compute class probabilities [rows, classes] from those of the first class of every pair [rows, pairs].

    Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise
    coupling" (2004), algorithm 2, with libsvm's tolerance.
    """
    n = len(pairwise)
    first, second = _pairs(classes)
    r = np.zeros((n, classes, classes))
    r[:, first, second] = np.clip(pairwise, 1e-7, 1 - 1e-7)
    r[:, second, first] = 1 - r[:, first, second]
    q = -r * r.transpose(0, 2, 1)
    diagonal = np.arange(classes)
    q[:, diagonal, diagonal] = (r * r).sum(1)
    p = np.full((n, classes), 1 / classes)
    for _ in range(100):
        qp = np.einsum("nij,nj->ni", q, p)
        pqp = (p * qp).sum(1)
        far = np.abs(qp - pqp[:, None]).max(1) >= 0.005 / classes
        if not far.any():
            break
        for t in range(classes):
            step = np.where(far, (pqp - qp[:, t]) / q[:, t, t], 0)
            p[:, t] += step
            pqp = (pqp + step * (step * q[:, t, t] + 2 * qp[:, t])) / (1 + step) ** 2
            qp = (qp + step[:, None] * q[:, t]) / (1 + step)[:, None]
            p /= (1 + step)[:, None]
    return p


class ClassAttributes(Attributes):
    """The classes, and how the scores of pairs of them become probabilities."""

    classlabels_ints: Ints = None
    classlabels_strings: Strings = None
    prob_a: Floats = None
    prob_b: Floats = None
    vectors_per_class: Ints = None

    def labels(self) -> Array:
        """Return the labels of the classes."""
        return class_labels(self.classlabels_ints, self.classlabels_strings, "ints")


def _classifier_rule(x: Info, *, classification: ClassAttributes, **_: Any) -> list[Info] | None:
    n = row_count(x)
    if n is None:
        return None
    labels = classification.labels()
    classes = len(labels)
    one_by_pair = sum(classification.vectors_per_class or ()) > 0 and not classification.prob_a and classes > 2
    return [Info(labels.dtype, (n,)), Info(FLOAT, (n, classes * (classes - 1) // 2 if one_by_pair else classes))]


@op("SVMClassifier", domain=DOMAIN, shape=_classifier_rule)
def svm_classifier(
    ctx: Context, x: Array, *, machine: MachineAttributes, classification: ClassAttributes
) -> tuple[Array, Array]:
    """Return labels [rows] and scores.

    Scores are probabilities of classes, or one for each pair of classes, or for each class of a linear machine.
    """
    labels = classification.labels()
    classes, counts = len(labels), list(classification.vectors_per_class or ())
    coefficients, rho, transform = machine.coefficients, machine.rho, machine.post_transform
    prob_a, prob_b = classification.prob_a, classification.prob_b
    if any(count < 0 for count in counts):
        raise OpError(f"vectors_per_class {counts} has a negative one")
    if not rho or not coefficients:
        raise OpError("needs rho and coefficients")
    with np.errstate(all="ignore"):
        if not sum(counts):
            weights = np.array(coefficients).reshape(classes, column_count(len(coefficients), classes, "coefficients"))
            scores = _features(x, weights.shape[1], "coefficients") @ weights.T + rho[0]
            chosen = _linear_choice(scores, bool(prob_a), min(coefficients) >= 0)
            return labels[chosen], transformed(scores, transform)
        pairs = classes * (classes - 1) // 2
        if classes < 2 or len(counts) != classes:
            raise OpError(f"{classes} class labels for {len(counts)} vectors_per_class, at least two are needed")
        for name, values in (("rho", rho), ("prob_a", prob_a), ("prob_b", prob_b)):
            if len(values or ()) != pairs and (values or name == "rho"):
                raise OpError(f"{len(values or ())} values of {name} for {pairs} pairs of {classes} classes")
        if bool(prob_a) != bool(prob_b):
            raise OpError("prob_a and prob_b must be given together")
        vectors = _vectors(machine.support_vectors, sum(counts))
        if len(coefficients) != (classes - 1) * len(vectors):
            raise OpError(f"{len(coefficients)} coefficients for {len(vectors)} vectors and {classes} classes")
        kernel = _kernel(ctx, _features(x, vectors.shape[1], "support_vectors"), vectors, machine)
        scores = _pair_scores(ctx, kernel, np.array(coefficients).reshape(classes - 1, -1), counts, np.array(rho))
        chosen = _votes(scores, classes)
        if prob_a and prob_b:
            ctx.check_size((len(scores), classes, classes), np.float64)
            likely = _coupled(1 - logistic(scores * np.array(prob_a) + np.array(prob_b)), classes)
            return labels[chosen], transformed(likely, transform)
        if classes == 2:
            return labels[chosen], two_columns(scores[:, 0], transform, transform == "NONE")
        return labels[chosen], transformed(scores, transform)


def _linear_choice(scores: Array, probabilities: bool, positive: bool) -> Array:
    """Return the class of the largest score.

    As in onnxruntime, it is the second of two classes if a score exceeds the threshold.
    """
    chosen = np.asarray(scores.argmax(1))
    if scores.shape[1] == 2 and not probabilities:
        greatest = scores.max(1)
        return np.where(greatest >= 0.5 if positive else greatest > 0, 1, chosen)
    return chosen


# -- SVMRegressor -------------------------------------------------------------------------


def _regressor_rule(x: Info, **_: Any) -> Info:
    n = row_count(x)
    return Info(FLOAT, None if n is None else (n, 1))


@op("SVMRegressor", domain=DOMAIN, shape=_regressor_rule)
def svm_regressor(
    ctx: Context, x: Array, *, machine: MachineAttributes, n_supports: int = 0, one_class: int = 0
) -> Array:
    """Return scores [rows, 1]; of a one-class machine 1 for members and -1 for outliers."""
    coefficients, rho = machine.coefficients, machine.rho
    if not rho or not coefficients or len(rho) != 1:
        raise OpError(f"needs coefficients and one rho, got {len(coefficients or ())} and {len(rho or ())}")
    with np.errstate(all="ignore"):
        if n_supports > 0:
            vectors = _vectors(machine.support_vectors, n_supports)
            if len(coefficients) != n_supports:
                raise OpError(f"{len(coefficients)} coefficients for {n_supports} support vectors")
            rows = _features(x, vectors.shape[1], "support_vectors")
            values = _kernel(ctx, rows, vectors, machine)
        else:
            values = _features(x, len(coefficients), "coefficients")
        scores = values @ np.array(coefficients)[:, None] + rho[0]
        if one_class:
            return np.where(scores > 0, 1, -1).astype(FLOAT)
        return transformed(scores, machine.post_transform)
