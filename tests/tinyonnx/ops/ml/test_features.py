"""Operators of ai.onnx.ml that prepare features."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.ops.ml.running import check_against_onnxruntime, check_op_refuses, check_refused, run
from tests.tinyonnx.ops.running import normal

F32, F64, I32, I64 = np.float32, np.float64, np.int32, np.int64
X = np.array([[1, -2, 3], [-4, -5, -6], [0, 0, 0]], F32)
S = np.array([["a", "b"], ["c", "a"]], object)
NAN = float("nan")


def equal(actual, expected, dtype):
    np.testing.assert_array_equal(actual, np.array(expected, dtype), strict=True)


# -- ArrayFeatureExtractor ----------------------------------------------------------------


@pytest.mark.parametrize("x", [X, X[0], X[None], X.astype(I32), X.astype(I64), X.astype(F64), S], ids=repr)
@pytest.mark.parametrize("y", [[0], [1, 0, 1], [[0, 1], [1, 1]], 1], ids=str)
def test_array_feature_extractor(x, y):
    check_against_onnxruntime("ArrayFeatureExtractor", x, np.array(y, I64))


def test_array_feature_extractor_of_no_index():
    assert run("ArrayFeatureExtractor", X, np.zeros(0, I64)).shape == (3, 0)


@pytest.mark.parametrize("index", [-1, 3])
def test_array_feature_extractor_refuses_an_index_out_of_range(index):
    check_refused("ArrayFeatureExtractor", X, np.array([0, index]), match=f"index {index} is out of range for 3 feat")


def test_array_feature_extractor_refuses_scalars_and_fractions():
    check_refused("ArrayFeatureExtractor", X[0, 0, ...], np.array([0]), match="needs indices into the last axis")
    check_op_refuses("ArrayFeatureExtractor", X, np.array([0.5]), match="needs indices")


# -- Binarizer ----------------------------------------------------------------------------


def test_binarizer():
    check_against_onnxruntime("Binarizer", normal(4, 5), threshold=0.25)
    check_against_onnxruntime("Binarizer", normal(7))


@pytest.mark.parametrize("dtype", [F64, I32, I64])
def test_binarizer_of_other_types(dtype):
    equal(run("Binarizer", np.array([-1, 0, 1, 2], dtype), threshold=0.5), [0, 0, 1, 1], dtype)


def test_binarizer_at_the_threshold_and_nan():
    equal(run("Binarizer", np.array([0.5, NAN], F32), threshold=0.5), [0, 0], F32)


def test_binarizer_refuses_strings():
    check_op_refuses("Binarizer", S, match="needs numbers, got strings")


# -- FeatureVectorizer --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "dimensions"),
    [((X, X[:, :1]), [3, 1]), ((X, X[:, :1]), [2, 3]), ((X[0], X[1]), [3, 3]), ((X[None],), [9]), ((X,), [0])],
)
@pytest.mark.parametrize("dtype", [F32, F64, I32, I64])
def test_feature_vectorizer(inputs, dimensions, dtype):
    check_against_onnxruntime("FeatureVectorizer", *(x.astype(dtype) for x in inputs), inputdimensions=dimensions)


def test_feature_vectorizer_takes_all_columns_by_default():
    equal(run("FeatureVectorizer", X, X[:, :1]), np.c_[X, X[:, :1]], F32)


def test_feature_vectorizer_refusals():
    check_refused("FeatureVectorizer", X, X[:2], match="different numbers of rows: 3, 2")
    check_refused("FeatureVectorizer", X, X, inputdimensions=[3], match="1 inputdimensions for 2 inputs")
    check_refused("FeatureVectorizer", X, inputdimensions=[-3], match=r"inputdimensions \[-3\] has a negative one")
    check_op_refuses("FeatureVectorizer", S, match="needs numbers")
    check_refused("FeatureVectorizer", X[0, 0, ...], match="got a scalar")


# -- Imputer ------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[9.0], [7.0, 8.0, 9.0]], ids=str)
@pytest.mark.parametrize("replaced", [0.0, 3.0, NAN])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_imputer_of_floats(values, replaced, rank):
    x = X.copy()
    x[1, 1] = NAN
    x = {1: x[1], 2: x, 3: x[None]}[rank]
    check_against_onnxruntime("Imputer", x, imputed_value_floats=values, replaced_value_float=replaced)


@pytest.mark.parametrize("values", [[9], [7, 8, 9]], ids=str)
def test_imputer_of_integers(values):
    check_against_onnxruntime("Imputer", X.astype(I64), imputed_value_int64s=values, replaced_value_int64=-5)


def test_imputer_of_other_types():
    equal(run("Imputer", X.astype(F64), imputed_value_floats=[0.5]), np.where(X == 0, 0.5, X), F64)
    equal(run("Imputer", X.astype(I32), imputed_value_int64s=[7]), np.where(X == 0, 7, X), I32)


def test_imputer_refusals():
    check_refused("Imputer", X, imputed_value_floats=[1.0, 2.0], match=r"2 imputed_value_floats for shape \[3, 3\]")
    check_refused("Imputer", X, imputed_value_int64s=[1], match="needs imputed_value_floats for float32")
    check_refused("Imputer", X.astype(I64), imputed_value_floats=[1.0], match="needs imputed_value_int64s for int64")
    check_refused(
        "Imputer", X.astype(I32), imputed_value_int64s=[1 << 40], match="has 1099511627776, which does not fit int32"
    )
    check_op_refuses("Imputer", S, imputed_value_floats=[1.0], match="needs numbers")


# -- Normalizer, Scaler -------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("x", [X, X[0], X.astype(I64), X.astype(I32), X.astype(F64), X[:0]], ids=repr)
def test_normalizer(norm, x):
    check_against_onnxruntime("Normalizer", x, norm=norm)


def test_normalizer_refusals():
    check_refused("Normalizer", X, norm="L3", match="unknown norm 'L3'")
    check_refused("Normalizer", X[None], match=r"needs rank 1 or 2, got \[1, 3, 3\]")
    check_op_refuses("Normalizer", S, match="needs numbers")


@pytest.mark.parametrize("dtype", [F32, F64, I32, I64])
@pytest.mark.parametrize(("offset", "scale"), [([0.5], [2.0]), ([1.0, 2.0, 3.0], [0.1, 1.0, -1.0])])
@pytest.mark.parametrize("shape", [(9,), (3, 3), (1, 3, 3)], ids=str)
def test_scaler(dtype, offset, scale, shape):
    if len(offset) > 1 and len(shape) == 1:
        offset, scale = offset * 3, scale * 3
    check_against_onnxruntime("Scaler", X.astype(dtype).reshape(shape), offset=offset, scale=scale)


def test_scaler_of_one_attribute():
    equal(run("Scaler", X, scale=[2.0]), X * 2, F32)
    equal(run("Scaler", X, offset=[2.0]), X - 2, F32)


def test_scaler_refusals():
    check_refused("Scaler", X, offset=[1.0, 2.0], scale=[1.0], match=r"2 values of offset for shape \[3, 3\]")
    check_op_refuses("Scaler", S, match="needs numbers")


# -- OneHotEncoder ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, F64, I64])
@pytest.mark.parametrize("categories", [[1, -4, 0, 3], [7], [1, 1]], ids=str)
def test_one_hot_encoder_of_numbers(dtype, categories):
    check_against_onnxruntime("OneHotEncoder", (X * 1.3).astype(dtype), cats_int64s=categories)


def test_one_hot_encoder_of_strings():
    check_against_onnxruntime("OneHotEncoder", S, cats_strings=["c", "a"])
    check_against_onnxruntime("OneHotEncoder", S, cats_strings=["c", "a", "b"], zeros=0)


def test_one_hot_encoder_of_int32_and_nan():
    equal(run("OneHotEncoder", np.array([1, 5], I32), cats_int64s=[5, 1]), [[0, 1], [1, 0]], F32)
    equal(run("OneHotEncoder", np.array([NAN, np.inf], F32), cats_int64s=[0]), [[0], [0]], F32)


def test_one_hot_encoder_refusals():
    check_refused("OneHotEncoder", X, cats_int64s=[1, 2], zeros=0, match="unknown category .*-2.0.*, and zeros is 0")
    check_refused("OneHotEncoder", X, match="categories must be given once, .* got none")
    check_refused("OneHotEncoder", X, cats_int64s=[1], cats_strings=["a"], match="got cats_int64s and cats_strings")
    check_refused("OneHotEncoder", X, cats_strings=["a"], match="categories are strings, the input has numbers")
