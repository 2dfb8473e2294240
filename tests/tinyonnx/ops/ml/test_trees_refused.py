"""Tree ensembles of ai.onnx.ml that are refused: malformed ones, endless ones, large ones."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import tinyonnx
from tests.tinyonnx.ops.ml.running import check_op_refuses, check_refused, run
from tests.tinyonnx.ops.ml.test_trees import all_of, forest, one_of, rows
from tests.tinyonnx.ops.ml.trees import Leaf, classic, modern

F32, I32, I64 = np.float32, np.int32, np.int64
NAN = float("nan")

GOOD = classic(forest(2, all_of(2), seed=4), "target") | {"n_targets": 2}
"""A random forest whose first nodes are branches."""

assert "LEAF" not in GOOD["nodes_modes"][:3]


def changed(name, at, value):
    values = list(GOOD[name])
    values[at] = value
    return {name: values}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"nodes_treeids": None}, "has no nodes"),
        ({"nodes_featureids": [0]}, r"nodes_featureids has shape \[1\], should have \d+ elements"),
        ({"nodes_nodeids": [0]}, "nodes_nodeids has shape"),
        ({"nodes_truenodeids": [0]}, "nodes_truenodeids has shape"),
        ({"nodes_falsenodeids": None}, "nodes_falsenodeids has shape"),
        ({"nodes_values": [0.0]}, "nodes_values has shape"),
        ({"nodes_missing_value_tracks_true": [1]}, "nodes_missing_value_tracks_true has shape"),
        ({"nodes_modes": ["LEAF"]}, r"1 nodes_modes for \d+ nodes"),
        (changed("nodes_modes", 0, "BRANCH_MEMBER"), r"unknown: \['BRANCH_MEMBER'\]"),
        (changed("nodes_modes", 0, "branch_leq"), r"unknown: \['branch_leq'\]"),
        (changed("nodes_truenodeids", 0, 999), "child node 999 of tree 0 doesn't exist"),
        (changed("nodes_falsenodeids", 0, -1), "child node -1 of tree 0 doesn't exist"),
        (changed("nodes_truenodeids", 0, 0), "has no root|on cycles"),
        (changed("nodes_truenodeids", 1, 0), "has no root|on cycles"),
        (changed("nodes_truenodeids", 1, 1), "on cycles, or below one"),
        (changed("nodes_nodeids", 1, 0), "node 0 of tree 0 is given twice"),
        (changed("nodes_featureids", 0, 3), "a node reads feature 3, the input has 3"),
        (changed("nodes_featureids", 0, -1), "feature id -1 is negative"),
        (changed("target_nodeids", 0, 999), "voting node 999 of tree 0 doesn't exist"),
        (changed("target_treeids", 0, 9), r"voting node \d+ of tree 9 doesn't exist"),
        (changed("target_ids", 0, 2), "target or class 2 is out of range for 2"),
        (changed("target_ids", 0, -1), "target or class -1 is out of range for 2"),
        ({"target_ids": [0]}, r"ids has shape \[1\]"),
        ({"target_weights": [1.0]}, "treeids has shape"),
        ({"n_targets": None}, "n_targets is None, must be positive"),
        ({"n_targets": 0}, "n_targets is 0, must be positive"),
        ({"n_targets": -1}, "n_targets is -1, must be positive"),
        ({"base_values": [1.0] * 3}, "3 base_values for 2 targets"),
        ({"aggregate_function": "MEDIAN"}, "unknown aggregate_function 'MEDIAN'"),
        ({"post_transform": "TANH"}, "unknown post_transform 'TANH'"),
        (
            {"nodes_values_as_tensor": onnx.numpy_helper.from_array(np.zeros(3))},
            "nodes_values_as_tensor are both given",
        ),
        (
            {"target_weights": None, "target_weights_as_tensor": onnx.numpy_helper.from_array(np.zeros((3, 1)))},
            r"weights_as_tensor must be a list of numbers, is float64\[3, 1\]",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_regressor_refuses(changes, match):
    options = {k: v for k, v in (GOOD | changes).items() if v is not None}
    check_refused("TreeEnsembleRegressor", rows(), match=match, **options)


def test_inputs_that_are_refused():
    check_refused("TreeEnsembleRegressor", rows()[None], match=r"needs rank 1 or 2, got \[1, 40, 3\]", **GOOD)
    check_op_refuses("TreeEnsembleRegressor", np.array([["a"]], object), match="needs numbers, got strings", **GOOD)
    check_op_refuses("TreeEnsemble", np.zeros((1, 3), I64), opset=5, match="needs floating-point", **MODERN)


def test_classifier_refusals():
    options = classic(forest(2, all_of(2)), "class") | {"n_outputs": 2}
    check_refused("TreeEnsembleClassifier", rows(), match="the class labels must be given once", **options)
    one = {"classlabels_int64s": [1]}
    check_refused("TreeEnsembleClassifier", rows(), match="class 1 is out of range for 1", **options, **one)
    three = {"classlabels_int64s": [1, 2, 3], "base_values": [0.5]}
    check_refused("TreeEnsembleClassifier", rows(), match="1 base_values for 3 targets", **options, **three)


MODERN = modern(forest(2, one_of(2), modes=["BRANCH_LEQ", "BRANCH_MEMBER"], seed=1), F32) | {"n_targets": 2}


def altered(name, at, value):
    """Return MODERN with one element changed; a negative position counts from the end."""
    old = MODERN[name]
    values = np.array(onnx.numpy_helper.to_array(old) if isinstance(old, onnx.TensorProto) else old)
    values[at] = value
    return {name: onnx.numpy_helper.from_array(values) if isinstance(old, onnx.TensorProto) else values.tolist()}


def tensor(*values, dtype=F32):
    return onnx.numpy_helper.from_array(np.array(values, dtype))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"nodes_falseleafs": [0]}, r"nodes_falseleafs has shape \[1\]"),
        ({"nodes_truenodeids": [0]}, r"nodes_truenodeids has shape \[1\]"),
        ({"nodes_splits": tensor(1.0)}, r"nodes_splits has shape \[1\]"),
        ({"nodes_modes": tensor(1, dtype=np.uint8)}, r"nodes_modes has shape \[1\]"),
        ({"nodes_missing_value_tracks_true": [1]}, "tracks_true has shape"),
        ({"leaf_weights": tensor(1.0)}, r"leaf_weights has shape \[1\]"),
        ({"tree_roots": [99]}, r"tree_roots \[99\] should be some of the \d+ nodes"),
        ({"tree_roots": [-1]}, r"tree_roots \[-1\]"),
        (altered("nodes_modes", 0, 7), "nodes_modes must be 0 to 6, are uint8 up to 7"),
        (altered("nodes_truenodeids", 0, 99), "true child 99 is out of range for"),
        (altered("nodes_falsenodeids", -1, -1), "false child -1 is out of range for"),
        (altered("nodes_truenodeids", 0, 0) | altered("nodes_trueleafs", 0, 0), "on cycles, or below one"),
        (altered("nodes_featureids", 0, 7), "a node reads feature 7, the input has 3"),
        (altered("leaf_targetids", 0, 5), "target or class 5 is out of range for 2"),
        ({"membership_values": tensor(1.0, NAN, 2.0)}, r"membership_values has 2 sets for \d+ nodes"),
        ({"membership_values": None}, r"membership_values has 1 sets for \d+ nodes"),
        ({"membership_values": tensor([1.0, NAN], [2.0, NAN])}, "membership_values must be a list"),
        ({"membership_values": tensor(1, dtype=I32)}, "membership_values must be floating-point numbers, are int32"),
        ({"nodes_splits": tensor(1, dtype=I32)}, "nodes_splits has shape"),
        ({"n_targets": None}, "n_targets is None"),
        ({"aggregate_function": 4}, "unknown aggregate_function 4"),
        ({"post_transform": 5}, "unknown post_transform 5"),
        ({"post_transform": -1}, "unknown post_transform -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tree_ensemble_refuses(changes, match):
    options = {k: v for k, v in (MODERN | changes).items() if v is not None}
    check_refused("TreeEnsemble", rows(), opset=5, match=match, **options)


def test_large_cycles_are_found():
    """A ring of nodes that share a leaf, with a root that leads into it."""
    n = 20_000
    child = [1, *range(2, n), 1]
    options = {
        "nodes_featureids": [0] * n,
        "nodes_splits": tensor(*[0.0] * n),
        "nodes_modes": tensor(*[0] * n, dtype=np.uint8),
        "nodes_truenodeids": child,
        "nodes_trueleafs": [0] * n,
        "nodes_falsenodeids": [0] * n,
        "nodes_falseleafs": [1] * n,
        "leaf_targetids": [0],
        "leaf_weights": tensor(1.0),
        "tree_roots": [0],
        "n_targets": 1,
    }
    check_refused("TreeEnsemble", rows(), opset=5, match="19999 of them are on cycles, or below one", **options)


@pytest.mark.parametrize("n", [0, 1])
def test_scores_are_limited(n):
    options = classic([Leaf([(0, 1.0)])], "target") | {"n_targets": 1 << 50}
    with pytest.raises(tinyonnx.ResourceError, match="max_tensor_bytes"):
        run("TreeEnsembleRegressor", rows(n), **options)
