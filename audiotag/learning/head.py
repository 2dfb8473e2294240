"""A linear head on embeddings: ridge regression, cross-validated exactly by leaving out one sound at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from audiotag.errors import Error
from audiotag.learning.figures import Figures
from audiotag.models.network import sigmoid

if TYPE_CHECKING:
    from audiotag.learning.examples import Examples
    from tinyonnx.ir import Array

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Strengths of regularisation that are tried, times the number of features."""

_LEAST = 1e-3
"""Minimum deviation of a feature relative to the mean deviation, so that silent features are not amplified."""


class Head(NamedTuple):
    """Logits = embedding · weights + bias, with weights (n, classes) and bias (classes,) float32.

    `figures` are those of sounds that were left out of the training.
    """

    weights: Array
    bias: Array
    figures: Figures


def train_head(embeddings: Array, examples: Examples) -> Head:
    """Train a head on embeddings (sounds, n) of the examples.

    Each class is regressed on its own, so that several or none may occur in a sound. One logistic curve for all
    classes, fitted to the cross-validated scores, makes them probabilities.

    Raises:
        Error: scikit-learn is missing, or a class has fewer than two sounds or all of them.
    """
    targets = examples.targets
    _check(examples)
    x = embeddings.astype(np.float64)
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.maximum(spread, _LEAST * spread.mean() + 1e-12)
    x = (x - centre) / spread
    y = np.where(targets, 1.0, -1.0)
    level = y.mean(axis=0)
    y = y - level
    basis, lengths, right = _decompose(x)
    projected = basis.T @ y
    best = min(STRENGTHS, key=lambda strength: _loss(basis, lengths, projected, y, strength * x.shape[1]))
    alpha = best * x.shape[1]
    left_out = _left_out(basis, lengths, projected, y, alpha) + level
    slope, offset = _curve(left_out, targets)
    weights = (right @ (projected * (lengths / (lengths**2 + alpha))[:, None])) / spread[:, None]
    bias = level - centre @ weights
    figures = Figures.of(sigmoid(slope * left_out + offset), targets, examples.classes)
    return Head((slope * weights).astype(np.float32), (slope * bias + offset).astype(np.float32), figures)


def _check(examples: Examples) -> None:
    counts = examples.targets.sum(axis=0)
    few = [name for name, count in zip(examples.classes, counts, strict=True) if count < 2]
    if few:
        raise Error(f"class {few[0]!r} has fewer than two sounds: give more examples")
    if (counts == len(examples.paths)).any():
        raise Error("all sounds have the same class: give examples of another class, or --negatives FOLDER")


def _decompose(x: Array) -> tuple[Array, Array, Array]:
    """Compute singular values by the smaller of the two Gram matrices: x = basis · diag(lengths) · right.T."""
    wide = x.shape[0] <= x.shape[1]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = values > values[-1] * 1e-10
    lengths, vectors = np.sqrt(values[kept]), vectors[:, kept]
    if wide:
        return vectors, lengths, (x.T @ vectors) / lengths
    return (x @ vectors) / lengths, lengths, vectors


def _left_out(basis: Array, lengths: Array, projected: Array, y: Array, alpha: float) -> Array:
    """Return the value that each sound gets from the regression on all others, with the same standardisation."""
    shrink = lengths**2 / (lengths**2 + alpha)
    fitted = basis @ (shrink[:, None] * projected)
    leverage = 1 / len(y) + (basis**2) @ shrink
    left_out: Array = y - (y - fitted) / (1 - leverage)[:, None]
    return left_out


def _loss(basis: Array, lengths: Array, projected: Array, y: Array, alpha: float) -> float:
    return float(((_left_out(basis, lengths, projected, y, alpha) - y) ** 2).mean())


def _curve(scores: Array, targets: Array) -> tuple[float, float]:
    """Return the slope and offset of the logistic curve that makes scores probabilities; the slope is positive."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise Error("training needs scikit-learn: pip install 'tinyonnx[train]'") from None
    flat, truth = scores.reshape(-1, 1), targets.ravel()
    if len(flat) > 20_000:  # enough for two numbers
        chosen = np.random.default_rng(0).choice(len(flat), 20_000, replace=False)
        flat, truth = flat[chosen], truth[chosen]
    fitted = LogisticRegression(C=10.0).fit(flat, truth)
    return max(float(fitted.coef_[0, 0]), 1e-3), float(fitted.intercept_[0])
