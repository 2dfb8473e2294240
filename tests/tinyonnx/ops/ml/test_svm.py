"""Support vector machines of ai.onnx.ml."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.ops.ml.running import check_against_onnxruntime, check_refused, outputs_of, run
from tests.tinyonnx.ops.running import normal

F32, F64, I32, I64 = np.float32, np.float64, np.int32, np.int64
KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]
X = normal(9, 3)
PARAMS = {"kernel_params": [0.3, 0.5, 3.0]}


def machine(counts, seed=1, **more):
    """Return a classifier with so many support vectors per class."""
    classes, vectors = len(counts), sum(counts)
    pairs = classes * (classes - 1) // 2
    return {
        "vectors_per_class": counts,
        "support_vectors": normal(vectors * 3, seed=seed).tolist(),
        "coefficients": normal((classes - 1) * vectors, seed=seed + 1).tolist(),
        "rho": normal(pairs, seed=seed + 2).tolist(),
        "classlabels_ints": list(range(10, 10 + classes)),
        "n_outputs": 2,
        **PARAMS,
        **more,
    }


def sure(classes, seed=5):
    """Return coefficients of probabilities."""
    pairs = classes * (classes - 1) // 2
    return {"prob_a": (-np.abs(normal(pairs, seed=seed))).tolist(), "prob_b": normal(pairs, seed=seed + 1).tolist()}


# -- SVMClassifier ------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("counts", [[2, 3], [2, 1, 3], [1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_classifier(kernel, counts, transform):
    options = machine(counts, kernel_type=kernel, post_transform=transform)
    check_against_onnxruntime("SVMClassifier", X, rtol=1e-4, atol=1e-5, **options)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("counts", [[2, 3], [2, 1, 3], [1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_probabilities(kernel, counts, transform):
    options = machine(counts, kernel_type=kernel, post_transform=transform, **sure(len(counts)))
    check_against_onnxruntime("SVMClassifier", X, rtol=1e-4, atol=1e-5, **options)


def test_probabilities_add_up():
    _, scores = outputs_of("SVMClassifier", X, **machine([3, 3, 3], **sure(3)))
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-6)


def test_string_labels():
    options = machine([2, 1, 3]) | {"classlabels_strings": ["x", "y", "z"]}
    del options["classlabels_ints"]
    check_against_onnxruntime("SVMClassifier", X, rtol=1e-4, atol=1e-5, **options)


def test_a_class_without_vectors():
    check_against_onnxruntime("SVMClassifier", X, rtol=1e-4, atol=1e-5, **machine([2, 0, 3]))


@pytest.mark.parametrize("dtype", [F64, I32, I64])
def test_classifier_of_other_types(dtype):
    check_against_onnxruntime("SVMClassifier", np.round(X).astype(dtype), rtol=1e-4, atol=1e-5, **machine([2, 1, 3]))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear_classifier(classes, positive, transform):
    weights = normal(classes * 3, seed=3)
    options = {
        "coefficients": (np.abs(weights) if positive else weights).tolist(),
        "rho": [0.2],
        "classlabels_ints": [4, 5, 6][:classes],
        "kernel_type": "LINEAR",
        "n_outputs": 2,
        "post_transform": transform,
        **PARAMS,
    }
    check_against_onnxruntime("SVMClassifier", X, rtol=1e-4, atol=1e-5, **options)


def test_no_row():
    labels, scores = outputs_of("SVMClassifier", X[:0], **machine([2, 1, 3], **sure(3)))
    assert (labels.shape, scores.shape) == ((0,), (0, 3))


def test_classifier_refusals():
    def refused(match, counts=(2, 1, 3), **changes):
        options = {k: v for k, v in (machine(list(counts)) | changes).items() if v is not None}
        check_refused("SVMClassifier", X, match=match, **options)

    refused("class labels must be given once, .*; got none", classlabels_ints=None)
    refused("4 class labels for 3 vectors_per_class", classlabels_ints=[1, 2, 3, 4])
    refused("1 class labels for 1 vectors_per_class, at least two", counts=[2], rho=[1.0], coefficients=[1.0])
    refused(r"vectors_per_class \[2, -1, 3\] has a negative one", vectors_per_class=[2, -1, 3])
    refused("needs rho and coefficients", rho=None)
    refused("needs rho and coefficients", coefficients=None)
    refused("2 values of rho for 3 pairs of 3 classes", rho=[1.0, 2.0])
    refused("1 values of prob_a for 3 pairs", prob_a=[1.0], prob_b=[1.0])
    refused("prob_a and prob_b must be given together", prob_a=[1.0] * 3)
    refused("3 coefficients for 6 vectors and 3 classes", coefficients=[1.0] * 3)
    refused("support_vectors: 5 values don't make 6 rows", support_vectors=[1.0] * 5)
    refused("support_vectors: 0 values don't make 6 rows", support_vectors=None)
    refused("support_vectors are for 2 features, got 3", support_vectors=[1.0] * 12)
    refused("kernel_params should be gamma, coef0 and degree, has 2", kernel_params=[1.0, 2.0])
    refused("unknown kernel_type 'COSINE'", kernel_type="COSINE")
    refused("unknown post_transform 'TANH'", post_transform="TANH")
    refused("coefficients: 10 values don't make 3 rows", vectors_per_class=None, coefficients=[1.0] * 10)
    refused("coefficients are for 4 features, got 3", vectors_per_class=None, coefficients=[1.0] * 12)


# -- SVMRegressor -------------------------------------------------------------------------


def regressor(vectors, **more):
    return {
        "n_supports": vectors,
        "support_vectors": normal(max(vectors, 1) * 3, seed=1).tolist(),
        "coefficients": normal(vectors or 3, seed=2).tolist(),
        "rho": [0.3],
        **PARAMS,
        **more,
    }


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
@pytest.mark.parametrize("x", [X, X[0], X[:0]], ids=["rows", "vector", "no row"])
def test_regressor(kernel, one_class, x):
    options = regressor(4, kernel_type=kernel, one_class=one_class)
    check_against_onnxruntime("SVMRegressor", x, rtol=1e-4, atol=1e-5, **options)


@pytest.mark.parametrize("one_class", [0, 1])
def test_linear_regressor(one_class):
    options = regressor(0, kernel_type="LINEAR", one_class=one_class)
    check_against_onnxruntime("SVMRegressor", X, rtol=1e-4, atol=1e-5, **options)


@pytest.mark.parametrize("dtype", [F64, I32, I64])
def test_regressor_of_other_types(dtype):
    x = np.round(X * 2)
    expected = run("SVMRegressor", x, **regressor(4, kernel_type="RBF"))
    output = run("SVMRegressor", x.astype(dtype), **regressor(4, kernel_type="RBF"))
    np.testing.assert_array_equal(output, expected, strict=True)


def test_regressor_is_transformed():
    """The results follow the specification; onnxruntime ignores the attribute."""
    scores = run("SVMRegressor", X, **regressor(4))
    output = run("SVMRegressor", X, **regressor(4, post_transform="LOGISTIC"))
    np.testing.assert_allclose(output, 1 / (1 + np.exp(-scores)), rtol=1e-6)


def test_regressor_refusals():
    check_refused("SVMRegressor", X, coefficients=[1.0] * 3, match="needs coefficients and one rho, got 3 and 0")
    check_refused("SVMRegressor", X, rho=[1.0], match="needs coefficients and one rho, got 0 and 1")
    check_refused("SVMRegressor", X, rho=[1.0], coefficients=[1.0] * 2, match="coefficients are for 2 features, got 3")
    wrong = regressor(4) | {"coefficients": [1.0]}
    check_refused("SVMRegressor", X, **wrong, match="1 coefficients for 4 support vectors")
    check_refused("SVMRegressor", X[None], **regressor(4), match="needs rank 1 or 2")
