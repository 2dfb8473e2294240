"""Linear models of ai.onnx.ml, and the post transforms that all models share."""

from __future__ import annotations

import numpy as np
import pytest

import tinyonnx
from tests.tinyonnx.ops.ml.running import (
    check_against_onnxruntime,
    check_op_refuses,
    check_refused,
    make_model,
    outputs_of,
    run,
)
from tests.tinyonnx.ops.running import normal

F32, F64, I32, I64 = np.float32, np.float64, np.int32, np.int64
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
X = normal(7, 4)


def coefficients(rows, seed=1):
    return normal(rows * 4, seed=seed).tolist()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def likely(rows):
    """Return rows of coefficients and intercepts whose scores of `X / 100` are probabilities, as PROBIT needs.

    They stay away from 1/2, where onnxruntime loses digits.
    """
    return {"coefficients": coefficients(rows), "intercepts": np.linspace(0.1, 0.4, rows).tolist()}


# -- LinearRegressor ----------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("targets", [2, 3])
def test_regressor(transform, targets):
    check_against_onnxruntime("LinearRegressor", X / 100, targets=targets, post_transform=transform, **likely(targets))


@pytest.mark.parametrize("transform", ["NONE", "PROBIT"])
@pytest.mark.parametrize("x", [X, X[0], X[:0]], ids=["rows", "vector", "no row"])
def test_regressor_of_one_target(transform, x):
    check_against_onnxruntime("LinearRegressor", x / 100, post_transform=transform, **likely(1))


def test_transforms_of_one_target():
    """The results follow the specification; onnxruntime skips these transforms."""
    score = run("LinearRegressor", X, coefficients=coefficients(1))
    logistic = run("LinearRegressor", X, coefficients=coefficients(1), post_transform="LOGISTIC")
    np.testing.assert_allclose(logistic, sigmoid(score), rtol=1e-6)
    for transform in ("SOFTMAX", "SOFTMAX_ZERO"):
        output = run("LinearRegressor", X, coefficients=coefficients(1), post_transform=transform)
        np.testing.assert_array_equal(output, np.ones((7, 1), F32), strict=True)


def test_regressor_without_intercepts():
    check_against_onnxruntime("LinearRegressor", X, coefficients=coefficients(2), targets=2)


@pytest.mark.parametrize("dtype", [F64, I32, I64])
def test_regressor_of_other_types(dtype):
    x = np.round(X * 5).astype(dtype)
    expected = (x @ np.array(coefficients(2)).reshape(2, 4).T).astype(F32)
    np.testing.assert_array_equal(run("LinearRegressor", x, coefficients=coefficients(2), targets=2), expected)


def test_extreme_scores_neither_overflow_nor_warn():
    x = np.array([[1e3, -1e3], [-1e3, -1e3], [0, 0]], F32)
    eye = {"coefficients": [1.0, 0.0, 0.0, 1.0], "targets": 2}
    assert run("LinearRegressor", x, post_transform="LOGISTIC", **eye).tolist() == [[1, 0], [0, 0], [0.5, 0.5]]
    assert run("LinearRegressor", x, post_transform="SOFTMAX", **eye).tolist() == [[1, 0], [0.5, 0.5], [0.5, 0.5]]
    assert run("LinearRegressor", x, post_transform="SOFTMAX_ZERO", **eye).tolist() == [[1, 0], [0.5, 0.5], [0, 0]]
    probit = run("LinearRegressor", x / 1e3, post_transform="PROBIT", **eye)
    np.testing.assert_array_equal(probit, [[np.inf, np.nan], [np.nan, np.nan], [-np.inf, -np.inf]])


def test_scores_beyond_float32_are_infinite():
    options = {"coefficients": [3e38, 1.0], "classlabels_ints": [5, 6], "intercepts": [0.0, 0.0], "n_outputs": 2}
    labels, scores = outputs_of("LinearClassifier", np.array([[5], [-5]], F32), **options)
    assert labels.tolist() == [5, 6]
    assert scores.tolist() == [[np.inf, 5], [-np.inf, -5]]
    assert run("LinearRegressor", np.array([[5]], F32), coefficients=[3e38]).tolist() == [[np.inf]]


def test_softmax_zero_leaves_zeros_alone():
    x = np.array([[1, 0, 2, 0]], F32)
    eye = {"coefficients": np.eye(4).reshape(-1).tolist(), "targets": 4, "post_transform": "SOFTMAX_ZERO"}
    (output,) = check_against_onnxruntime("LinearRegressor", x, **eye)
    assert output[0, [1, 3]].tolist() == [0, 0]


def test_regressor_refusals():
    check_refused("LinearRegressor", X, match="coefficients: 0 values don't make 1 rows")
    check_refused("LinearRegressor", X, coefficients=[1.0], targets=0, match="coefficients: 1 values don't make 0 rows")
    check_refused("LinearRegressor", X, coefficients=[1.0] * 5, match="5 coefficients are for 5 features, got 4")
    check_refused("LinearRegressor", X, coefficients=[1.0] * 5, targets=2, match="5 values don't make 2 rows")
    check_refused("LinearRegressor", X, coefficients=[1.0] * 4, intercepts=[1.0, 2.0], match="2 intercepts for 1 tar")
    check_refused(
        "LinearRegressor", X, coefficients=[1.0] * 4, post_transform="TANH", match="unknown post_transform 'TA"
    )
    check_refused("LinearRegressor", X[None], coefficients=[1.0] * 4, match=r"needs rank 1 or 2, got \[1, 7, 4\]")
    check_op_refuses("LinearRegressor", X.astype(object), coefficients=[1.0] * 4, match="got strings")


# -- LinearClassifier ---------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    "labels", [{"classlabels_ints": [7, -1, 3]}, {"classlabels_strings": ["x", "y", "z"]}], ids=str
)
def test_classifier(transform, labels):
    options = {"n_outputs": 2, "post_transform": transform, **labels, **likely(3)}
    check_against_onnxruntime("LinearClassifier", X / 100, **options)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("labels", [{"classlabels_ints": [7, -1]}, {"classlabels_strings": ["x", "y"]}], ids=str)
@pytest.mark.parametrize("rows", [1, 2])
def test_classifier_of_two_classes(transform, labels, rows):
    options = {"coefficients": coefficients(rows), "intercepts": [0.1, -0.3][:rows], **labels}
    check_against_onnxruntime("LinearClassifier", X, n_outputs=2, post_transform=transform, **options)


def test_probit_of_one_score():
    """onnxruntime leaves the second column unset."""
    options = {"coefficients": [1.0], "classlabels_ints": [0, 1], "n_outputs": 2, "post_transform": "PROBIT"}
    _, scores = outputs_of("LinearClassifier", np.array([[0.5], [0.8]], F32), **options)
    np.testing.assert_allclose(scores, [[0, 0], [-0.8416, 0.8416]], atol=2e-3)


@pytest.mark.parametrize("dtype", [F32, F64, I32, I64])
def test_classifier_of_other_types(dtype):
    options = {"coefficients": coefficients(3), "intercepts": [0.1, 0.2, 0.3], "classlabels_ints": [1, 2, 3]}
    check_against_onnxruntime("LinearClassifier", np.round(X * 5).astype(dtype), n_outputs=2, rtol=1e-4, **options)


def test_classifier_of_a_vector():
    options = {"coefficients": coefficients(3), "intercepts": [0.1, 0.2, 0.3], "classlabels_ints": [1, 2, 3]}
    check_against_onnxruntime("LinearClassifier", X[0], n_outputs=2, **options)


def test_intercepts_may_be_left_out():
    options = {"coefficients": coefficients(3), "classlabels_ints": [1, 2, 3], "n_outputs": 2}
    zeros = {"intercepts": [0.0, 0.0, 0.0]}
    absent, given = (outputs_of("LinearClassifier", X, **options, **extra) for extra in ({}, zeros))
    assert len(absent) == 2
    for a, b in zip(absent, given, strict=True):
        np.testing.assert_array_equal(a, b)


def test_classifier_refusals():
    options = {"coefficients": coefficients(3), "n_outputs": 2}
    check_refused("LinearClassifier", X, **options, match="class labels must be given once, .*; got none")
    both = {"classlabels_ints": [1], "classlabels_strings": ["a"]}
    check_refused("LinearClassifier", X, **options, **both, match="got classlabels_ints and classlabels_strings")
    check_refused("LinearClassifier", X, **options, classlabels_ints=[1, 2], match="2 class labels for 3 rows of coef")
    one = {"coefficients": coefficients(1), "n_outputs": 2, "classlabels_ints": [1]}
    check_refused("LinearClassifier", X, **one, match="1 class labels for 1 rows of coefficients")
    check_refused("LinearClassifier", X[:, :0], **options, classlabels_ints=[1], match="12 values don't make 0 rows")


def test_scores_are_limited():
    options = tinyonnx.SessionOptions()
    options.limits = tinyonnx.Limits(max_tensor_bytes=1000)
    x = np.zeros((100, 1), F32)
    session = tinyonnx.InferenceSession(make_model("LinearRegressor", x, coefficients=[1.0] * 50, targets=50), options)
    with pytest.raises(tinyonnx.ResourceError, match="max_tensor_bytes"):
        session.run(None, {"x0": x})
