"""LinearClassifier and LinearRegressor of ai.onnx.ml."""

from __future__ import annotations

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
    row_count,
    transformed,
    two_columns,
)
from tinyonnx.registry import Context, Info, op


def _linear(ctx: Context, x: Array, coefficients: Floats, intercepts: Floats, outputs: int) -> Array:
    """Compute x · coefficientsᵀ + intercepts, [rows, outputs], float64."""
    rows = as_rows(x)
    features = column_count(len(coefficients or ()), outputs, "coefficients")
    if rows.shape[1] != features:
        raise OpError(f"{len(coefficients or ())} coefficients are for {features} features, got {rows.shape[1]}")
    ctx.check_size((len(rows), outputs), np.float64)
    with np.errstate(all="ignore"):
        scores = rows.astype(np.float64) @ np.array(coefficients).reshape(outputs, features).T
        return np.asarray(scores + np.array(intercepts) if intercepts else scores)


def _outputs(x_features: int, coefficients: Floats, intercepts: Floats) -> int:
    """Return the number of scores per row: that of the intercepts."""
    return len(intercepts) if intercepts else column_count(len(coefficients or ()), x_features, "coefficients")


def _classifier_rule(
    x: Info, *, coefficients: Floats, intercepts: Floats = None, classlabels_ints: Ints = None,
    classlabels_strings: Strings = None, **_: Any,
) -> list[Info] | None:  # fmt: skip
    n = row_count(x)
    if n is None or not x.shape:
        return None
    labels = class_labels(classlabels_ints, classlabels_strings, "ints")
    outputs = _outputs(x.shape[-1], coefficients, intercepts)
    return [Info(labels.dtype, (n,)), Info(FLOAT, (n, 2 if outputs == 1 else outputs))]


@op("LinearClassifier", domain=DOMAIN, shape=_classifier_rule)
def linear_classifier(
    ctx: Context, x: Array, *, coefficients: Floats, intercepts: Floats = None, classlabels_ints: Ints = None,
    classlabels_strings: Strings = None, multi_class: int = 0, post_transform: str = "NONE",
) -> tuple[Array, Array]:  # fmt: skip
    """Return labels [rows] of the largest score, and scores [rows, classes].

    Two classes may share one row of coefficients.
    """
    labels = class_labels(classlabels_ints, classlabels_strings, "ints")
    outputs = _outputs(as_rows(x).shape[1], coefficients, intercepts)
    if len(labels) != max(outputs, 2):
        raise OpError(f"{len(labels)} class labels for {outputs} rows of coefficients")
    scores = _linear(ctx, x, coefficients, intercepts, outputs)
    if outputs == 1:
        score = scores[:, 0]
        return labels[(score > 0).astype(int)], two_columns(score, post_transform, mixed=False)
    return labels[scores.argmax(1)], transformed(scores, post_transform)


def _regressor_rule(x: Info, *, targets: int = 1, **_: Any) -> Info:
    n = row_count(x)
    return Info(FLOAT, None if n is None else (n, targets))


@op("LinearRegressor", domain=DOMAIN, shape=_regressor_rule)
def linear_regressor(
    ctx: Context, x: Array, *, coefficients: Floats = None, intercepts: Floats = None, post_transform: str = "NONE",
    targets: int = 1,
) -> Array:  # fmt: skip
    if intercepts and len(intercepts) != targets:
        raise OpError(f"{len(intercepts)} intercepts for {targets} targets")
    return transformed(_linear(ctx, x, coefficients, intercepts, targets), post_transform)
