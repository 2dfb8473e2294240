"""Whole models as converters write them: features in, labels and maps of probabilities out."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import tinyonnx
from tests.tinyonnx.ops.running import assert_same

F32, I64 = np.float32, np.int64

COLUMNS = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
pipeline (float[N, 3] numbers, string[N, 1] colour) => (string[N] label, seq(map(string, float)) probability) {
    filled = ai.onnx.ml.Imputer <imputed_value_floats = [0.5, 1.0, -1.0], replaced_value_float = nan> (numbers)
    scaled = ai.onnx.ml.Scaler <offset = [0.5, 0.0, 1.0], scale = [2.0, 1.0, 0.5]> (filled)
    hot = ai.onnx.ml.OneHotEncoder <cats_strings = ["red", "green", "blue"]> (colour)
    flat = Flatten (hot)
    joined = ai.onnx.ml.FeatureVectorizer <inputdimensions = [3, 3]> (scaled, flat)
    unit = ai.onnx.ml.Normalizer <norm = "L2"> (joined)
    label, scores = ai.onnx.ml.LinearClassifier <
        classlabels_strings = ["ant", "bee", "cat"],
        coefficients = [
            0.5, -1.0, 0.3, 0.1, 0.2, -0.4, -0.2, 0.7, 0.1, 0.0, -0.9, 0.3, 0.9, 0.4, -0.6, 0.2, 0.2, 0.1
        ],
        intercepts = [0.1, 0.0, -0.2],
        post_transform = "SOFTMAX"
    > (unit)
    probability = ai.onnx.ml.ZipMap <classlabels_strings = ["ant", "bee", "cat"]> (scores)
}
"""

ENCODED_LABELS = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
pipeline (float[N, 2] x) => (int64[N] label, float[N, 2] probability, float[N, 1] chosen) {
    code, scores = ai.onnx.ml.TreeEnsembleClassifier <
        classlabels_int64s = [0, 1],
        nodes_treeids = [0, 0, 0, 1, 1, 1, 1, 1],
        nodes_nodeids = [0, 1, 2, 0, 1, 2, 3, 4],
        nodes_featureids = [0, 0, 0, 1, 0, 0, 0, 0],
        nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LT", "BRANCH_GT", "LEAF", "LEAF", "LEAF"],
        nodes_values = [0.5, 0.0, 0.0, 0.0, -0.5, 0.0, 0.0, 0.0],
        nodes_truenodeids = [1, 0, 0, 1, 2, 0, 0, 0],
        nodes_falsenodeids = [2, 0, 0, 4, 3, 0, 0, 0],
        class_treeids = [0, 0, 1, 1, 1],
        class_nodeids = [1, 2, 2, 3, 4],
        class_ids = [0, 0, 0, 0, 0],
        class_weights = [-0.5, 0.75, 0.25, -1.0, 0.5],
        post_transform = "LOGISTIC"
    > (x)
    label = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1], values_int64s = [-7, 12]> (code)
    probability = Identity (scores)
    second = Constant <value_ints = [1]> ()
    chosen = ai.onnx.ml.ArrayFeatureExtractor (scores, second)
}
"""


def check(text, feeds):
    model = onnx.parser.parse_model(text).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    expected = session.run(None, feeds)
    for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"):
        options = tinyonnx.SessionOptions()
        options.graph_optimization_level = getattr(tinyonnx.GraphOptimizationLevel, level)
        ours = tinyonnx.InferenceSession(model, options)
        assert [v.type for v in ours.get_outputs()] == [v.type for v in session.get_outputs()]
        for actual, wanted in zip(ours.run(None, feeds), expected, strict=True):
            if isinstance(wanted, list):
                assert [list(row) for row in actual] == [list(row) for row in wanted]
                assert [list(row.values()) for row in actual] == [
                    pytest.approx(list(row.values()), rel=1e-5) for row in wanted
                ]
            else:
                assert_same(actual, wanted, 1e-5, 1e-6)


@pytest.mark.parametrize("n", [1, 9])
def test_columns_of_numbers_and_strings(n):
    rng = np.random.default_rng(n)
    numbers = rng.normal(size=(n, 3)).astype(F32)
    numbers[rng.random((n, 3)) < 0.3] = np.nan
    colour = rng.choice(np.array(["red", "green", "blue", "puce"], object), (n, 1))
    check(COLUMNS, {"numbers": numbers, "colour": colour})


@pytest.mark.parametrize("n", [1, 9])
def test_trees_with_encoded_labels(n):
    check(ENCODED_LABELS, {"x": np.random.default_rng(n).normal(size=(n, 2)).astype(F32)})


def test_words_to_a_support_vector_machine():
    """A dict of features, as scikit-learn's DictVectorizer takes."""
    text = """
    <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
    pipeline (map(string, float) words) => (int64[1] label, float[1, 2] probability) {
        x = ai.onnx.ml.DictVectorizer <string_vocabulary = ["fur", "legs", "wings"]> (words)
        label, probability = ai.onnx.ml.SVMClassifier <
            classlabels_ints = [3, 5],
            coefficients = [1.0, 0.5, -1.5],
            kernel_params = [0.2, 0.0, 3.0],
            kernel_type = "RBF",
            prob_a = [-1.5],
            prob_b = [0.25],
            rho = [0.1],
            support_vectors = [1.0, 4.0, 0.0, 0.5, 2.0, 0.0, 0.0, 6.0, 4.0],
            vectors_per_class = [2, 1]
        > (x)
    }
    """
    for words in ({"fur": 1.0, "legs": 4.0}, {"wings": 2.0, "legs": 6.0}):
        check(text, {"words": words})
