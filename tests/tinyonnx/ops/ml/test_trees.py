"""Tree ensembles of ai.onnx.ml: against ONNX Runtime, and against walking one row down one tree."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest

import tinyonnx
from tests.tinyonnx.ops.ml.running import check_against_onnxruntime, make_model, outputs_of, run
from tests.tinyonnx.ops.ml.trees import MODES, Leaf, classic, grow, modern, scores_of
from tinyonnx.ops.ml import _tree_attributes, _trees

F16, F32, F64, I32, I64 = np.float16, np.float32, np.float64, np.int32, np.int64
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
AGGREGATES = ["SUM", "AVERAGE", "MIN", "MAX"]
SIX = MODES[:6]
NAN = float("nan")


def rows(n=40, features=3, nan=False, seed=3):
    """Return small integers, sometimes NaN."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (n, features)).astype(F32)
    x[rng.random(x.shape) < 0.2] = NAN if nan else 0.5
    return x


def forest(n, votes, seed=0, modes=SIX, missing=False, depth=4):
    rng = np.random.default_rng(seed)
    return [grow(rng, depth, votes, modes, missing=missing) for _ in range(n)]


def all_of(targets, low=0.0, high=0.2):
    """Return leaves that vote for every target."""
    return lambda rng: [(t, float(F32(rng.uniform(low, high)))) for t in range(targets)]


def one_of(targets, low=0.0, high=0.2):
    """Return leaves that vote for one target."""
    return lambda rng: [(int(rng.integers(targets)), float(F32(rng.uniform(low, high))))]


def some_of(targets, low=0.0, high=0.2):
    """Return leaves that vote for some targets, perhaps for none."""
    return lambda rng: [vote for vote in all_of(targets, low, high)(rng) if rng.random() < 0.7]


# -- TreeEnsembleClassifier ---------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("votes", [all_of, one_of, some_of])
@pytest.mark.parametrize("base", [{}, {"base_values": [0.1, 0.0, 0.05]}], ids=["", "base"])
def test_classifier(transform, votes, base):
    options = (
        classic(forest(3, votes(3, 0.01, 0.1)), "class") | {"classlabels_int64s": [7, -1, 3], "n_outputs": 2} | base
    )
    check_against_onnxruntime("TreeEnsembleClassifier", rows(), rtol=1e-4, post_transform=transform, **options)


def test_classifier_of_negative_votes_names_a_class_that_was_voted_for():
    options = classic(forest(2, one_of(3, -1, -0.5)), "class") | {"classlabels_strings": ["a", "b", "c"]}
    check_against_onnxruntime("TreeEnsembleClassifier", rows(), n_outputs=2, **options)


@pytest.mark.parametrize("dtype", [F32, F64, I32, I64])
def test_classifier_of_other_types(dtype):
    options = classic(forest(5, all_of(4)), "class") | {"classlabels_strings": ["a", "b", "c", "d"], "n_outputs": 2}
    (labels, scores) = check_against_onnxruntime("TreeEnsembleClassifier", rows().astype(dtype), **options)
    (label, score) = outputs_of("TreeEnsembleClassifier", rows()[1].astype(dtype), **options)
    np.testing.assert_array_equal(label, labels[1:2], strict=True)
    np.testing.assert_array_equal(score, scores[1:2], strict=True)


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
@pytest.mark.parametrize("low", [0.0, -0.2], ids=["positive", "mixed"])
@pytest.mark.parametrize("base", [{}, {"base_values": [0.05]}], ids=["", "base"])
@pytest.mark.parametrize("labels", [{"classlabels_int64s": [10, 20]}, {"classlabels_strings": ["n", "y"]}], ids=str)
def test_binary_classifier(transform, low, base, labels):
    options = classic(forest(5, all_of(1, low)), "class") | labels | base | {"post_transform": transform}
    check_against_onnxruntime("TreeEnsembleClassifier", rows(), n_outputs=2, **options)


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
@pytest.mark.parametrize("low", [0.0, -0.2], ids=["positive", "mixed"])
def test_binary_classifier_whose_trees_vote_for_the_second_class(transform, low):
    trees = forest(5, lambda rng: [(1, float(F32(rng.uniform(low, 0.2))))])
    options = classic(trees, "class") | {"classlabels_int64s": [10, 20], "post_transform": transform}
    check_against_onnxruntime("TreeEnsembleClassifier", rows(), n_outputs=2, **options)


def test_probit_of_a_binary_classifier():
    """onnxruntime leaves the second column unset."""
    options = classic([Leaf([(0, 0.8)])], "class") | {"classlabels_int64s": [0, 1], "post_transform": "PROBIT"}
    _, scores = outputs_of("TreeEnsembleClassifier", rows(1), n_outputs=2, **options)
    np.testing.assert_allclose(scores, [[-0.8416, 0.8416]], atol=2e-3)


@pytest.mark.parametrize("votes", [all_of, some_of])
@pytest.mark.parametrize("base", [[], [0.1, 0.3]], ids=["", "base"])
def test_two_classes_that_are_both_voted_for(votes, base):
    """By the specification, the result is the greater score's label; onnxruntime gives 1 and 0 for any labels."""
    trees = forest(5, votes(2))
    options = classic(trees, "class") | ({"base_values": base} if base else {})
    labels, scores = outputs_of("TreeEnsembleClassifier", rows(), n_outputs=2, classlabels_int64s=[10, 20], **options)
    expected = scores_of(trees, rows(), 2) + (base or 0)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert labels.tolist() == np.array([10, 20])[expected.argmax(1)].tolist()


def test_one_class():
    """onnxruntime crashes, or gives label 1."""
    options = classic(forest(2, all_of(1)), "class") | {"classlabels_strings": ["all"], "n_outputs": 2}
    labels, scores = outputs_of("TreeEnsembleClassifier", rows(), **options)
    assert set(labels) == {"all"}
    assert scores.shape == (40, 1)


# -- TreeEnsembleRegressor ----------------------------------------------------------------


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    ("votes", "base"),
    [(all_of, {}), (one_of, {}), (some_of, {}), (all_of, {"base_values": [0.05, 0.1, 0.15]})],
    ids=["all", "one", "some", "base"],
)
def test_regressor(aggregate, transform, votes, base):
    trees = forest(3, votes(3, 0.01, 0.1))
    options = classic(trees, "target") | {"n_targets": 3, "aggregate_function": aggregate} | base
    check_against_onnxruntime("TreeEnsembleRegressor", rows(), rtol=1e-4, post_transform=transform, **options)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_targets_that_nobody_voted_for_have_their_base_value(aggregate):
    """The results follow the specification; onnxruntime gives 0."""
    trees, base = forest(3, some_of(3, -0.2)), [0.5, 1.0, 2.0]
    options = {"n_targets": 3, "aggregate_function": aggregate, "base_values": base}
    output = run("TreeEnsembleRegressor", rows(), **classic(trees, "target"), **options)
    np.testing.assert_allclose(output, scores_of(trees, rows(), 3, aggregate) + base, rtol=1e-6)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("transform", ["NONE", "PROBIT"])
@pytest.mark.parametrize("base", [{}, {"base_values": [0.1]}], ids=["", "base"])
@pytest.mark.parametrize("n", [0, 1, 40])
def test_regressor_of_one_target(aggregate, transform, base, n):
    options = classic(forest(3, all_of(1)), "target") | {"n_targets": 1, "aggregate_function": aggregate} | base
    check_against_onnxruntime("TreeEnsembleRegressor", rows(n), rtol=1e-4, post_transform=transform, **options)


def test_transforms_of_one_target():
    """The results follow the specification; onnxruntime skips these transforms."""
    options = classic(forest(3, all_of(1)), "target") | {"n_targets": 1}
    scores = run("TreeEnsembleRegressor", rows(), **options)
    output = run("TreeEnsembleRegressor", rows(), post_transform="LOGISTIC", **options)
    np.testing.assert_allclose(output, 1 / (1 + np.exp(-scores)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_double_precision(dtype):
    options = classic(forest(4, all_of(2)), "target") | {"n_targets": 2}
    for name in ("nodes_values", "target_weights"):
        options[f"{name}_as_tensor"] = onnx.numpy_helper.from_array(np.array(options.pop(name), F64))
    options["base_values_as_tensor"] = onnx.numpy_helper.from_array(np.array([1e-9, 1.0]))
    x = rows().astype(dtype)
    if dtype == F64:
        check_against_onnxruntime("TreeEnsembleRegressor", x, **options)
    expected = scores_of(forest(4, all_of(2)), x, 2) + np.array([1e-9, 1])
    np.testing.assert_array_equal(run("TreeEnsembleRegressor", x, **options), expected.astype(F32))


def test_thresholds_are_compared_in_double_precision():
    """0.1 as a double is less than 0.1 as a float: only a comparison in double precision sees it."""
    stump = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.1, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LT", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    for dtype, expected in ((F64, 1), (F32, 2)):
        (output,) = check_against_onnxruntime("TreeEnsembleRegressor", np.array([[0.1]], dtype), **stump)
        assert output.tolist() == [[expected]]


# -- NaN, the order of nodes --------------------------------------------------------------


@pytest.mark.parametrize("mode", SIX[:5])
@pytest.mark.parametrize("missing", [False, True])
def test_nan_follows_the_tracks(mode, missing):
    options = classic(forest(4, all_of(2), modes=[mode], missing=missing), "target") | {"n_targets": 2}
    check_against_onnxruntime("TreeEnsembleRegressor", rows(nan=True), **options)


@pytest.mark.parametrize("modes", [SIX, ["BRANCH_NEQ"]], ids=["mixed", "unequal"])
@pytest.mark.parametrize("missing", [False, True])
def test_nan_follows_the_tracks_in_every_mode(modes, missing):
    """The results follow the specification; in onnxruntime NaN is unequal to any threshold, whatever the track."""
    trees = forest(4, all_of(2), modes=modes, missing=missing)
    output = run("TreeEnsembleRegressor", rows(nan=True), n_targets=2, **classic(trees, "target"))
    np.testing.assert_allclose(output, scores_of(trees, rows(nan=True), 2), rtol=1e-6)


def test_tracks_may_be_left_out():
    options = classic(forest(4, all_of(2), modes=["BRANCH_LEQ"]), "target") | {"n_targets": 2}
    del options["nodes_missing_value_tracks_true"]
    check_against_onnxruntime("TreeEnsembleRegressor", rows(nan=True), **options)


def shuffled(attributes, kind, seed=0):
    """Return the same trees with other ids, nodes in any order."""
    result = dict(attributes)
    order = list(range(len(attributes["nodes_nodeids"])))
    random.Random(seed).shuffle(order)
    for name in attributes:
        if name.startswith("nodes_"):
            values = [attributes[name][i] for i in order]
            result[name] = [5 * v + 100 for v in values] if name.endswith("nodeids") else values
    result[f"{kind}_nodeids"] = [5 * v + 100 for v in attributes[f"{kind}_nodeids"]]
    for name in ("nodes_treeids", f"{kind}_treeids"):
        result[name] = [-3 * v for v in result[name]]
    return result


def test_ids_and_order_mean_nothing():
    attributes = classic(forest(4, all_of(2)), "target")
    expected = run("TreeEnsembleRegressor", rows(), n_targets=2, **attributes)
    output = run("TreeEnsembleRegressor", rows(), n_targets=2, **shuffled(attributes, "target"))
    np.testing.assert_allclose(output, expected, rtol=1e-6)


def test_branches_may_meet_again():
    """Converters write membership like this: several comparisons that lead to one node."""
    options = {
        "nodes_treeids": [0] * 6,
        "nodes_nodeids": [0, 1, 2, 3, 4, 5],
        "nodes_featureids": [0, 0, 1, 0, 0, 0],
        "nodes_values": [1.0, 2.0, 0.0, 0.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_EQ", "BRANCH_EQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF"],
        "nodes_truenodeids": [2, 2, 3, 0, 0, 0],
        "nodes_falsenodeids": [1, 4, 5, 0, 0, 0],
        "target_treeids": [0, 0, 0],
        "target_nodeids": [3, 4, 5],
        "target_ids": [0, 0, 0],
        "target_weights": [1.0, 2.0, 3.0],
        "n_targets": 1,
    }
    x = np.array([[1, -1], [2, -1], [3, -1], [1, 1], [2, 1]], F32)
    (output,) = check_against_onnxruntime("TreeEnsembleRegressor", x, **options)
    assert output.reshape(-1).tolist() == [1, 1, 2, 3, 3]


def test_trees_of_one_leaf():
    options = classic([Leaf([(0, 0.5), (1, 0.25)])] * 3, "target") | {"n_targets": 2}
    assert run("TreeEnsembleRegressor", rows(2), **options).tolist() == [[1.5, 0.75]] * 2


# -- TreeEnsemble -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F16, F32, F64])
@pytest.mark.parametrize(
    ("aggregate", "modes"),
    [*((each, modes) for each in AGGREGATES for modes in (MODES, SIX, ["BRANCH_MEMBER"])), ("SUM", ["BRANCH_LT"])],
)
@pytest.mark.parametrize("missing", [False, True])
def test_tree_ensemble(dtype, aggregate, modes, missing):
    trees = forest(4, one_of(3), modes=modes, missing=missing)
    x = rows(nan=True).astype(dtype)
    options = {"n_targets": 3, "aggregate_function": ["AVERAGE", "SUM", "MIN", "MAX"].index(aggregate)}
    output = run("TreeEnsemble", x, opset=5, **modern(trees, dtype), **options)
    assert output.dtype == dtype
    np.testing.assert_allclose(output, scores_of(trees, x, 3, aggregate), rtol=4e-3 if dtype == F16 else 1e-5)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("modes", [MODES[:5] + MODES[6:], ["BRANCH_MEMBER"], ["BRANCH_GTE"]], ids=["all", "in", "gte"])
def test_tree_ensemble_against_onnxruntime(dtype, modes):
    options = modern(forest(3, one_of(2), modes=modes, seed=2), dtype) | {"n_targets": 2}
    x = np.trunc(rows()).astype(dtype)  # onnxruntime's sets have fractions of their members, too
    check_against_onnxruntime("TreeEnsemble", x, opset=5, rtol=1e-4, **options)


@pytest.mark.parametrize("number", range(5))
def test_post_transforms_by_number(number):
    """The numbers are those of the specification; onnxruntime's are in another order."""
    trees = forest(3, one_of(2, 0.01, 0.1))
    output = run("TreeEnsemble", rows(), opset=5, n_targets=2, post_transform=number, **modern(trees, F32))
    options = {"n_targets": 2, "post_transform": TRANSFORMS[number]}
    (expected,) = check_against_onnxruntime(
        "TreeEnsembleRegressor", rows(), rtol=1e-4, **classic(trees, "target"), **options
    )
    np.testing.assert_allclose(output, expected, rtol=1e-6)


def test_the_last_set_of_members_may_lack_its_end():
    options = modern(forest(3, one_of(2), modes=["BRANCH_MEMBER"]), F32) | {"n_targets": 2}
    expected = run("TreeEnsemble", rows(), opset=5, **options)
    members = onnx.numpy_helper.to_array(options["membership_values"])
    options["membership_values"] = onnx.numpy_helper.from_array(members[:-1].copy())
    np.testing.assert_array_equal(run("TreeEnsemble", rows(), opset=5, **options), expected)


def test_the_deprecated_operators_still_run():
    options = classic(forest(3, all_of(2)), "target") | {"n_targets": 2}
    expected = run("TreeEnsembleRegressor", rows(), **options)
    np.testing.assert_array_equal(run("TreeEnsembleRegressor", rows(), opset=5, **options), expected)


# -- how it is done -----------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [1, 7, 100])
@pytest.mark.parametrize("votes", [all_of, some_of])
def test_blocks_of_rows_are_independent(monkeypatch, pairs, votes):
    options = classic(forest(3, votes(2)), "target") | {"n_targets": 2}
    expected = run("TreeEnsembleRegressor", rows(), **options)
    monkeypatch.setattr(_trees, "_PAIRS", pairs)
    np.testing.assert_array_equal(run("TreeEnsembleRegressor", rows(), **options), expected)


def test_ensembles_are_prepared_once(monkeypatch):
    x = rows()
    model = make_model("TreeEnsembleRegressor", x, n_targets=2, **classic(forest(3, all_of(2)), "target"))
    session = tinyonnx.InferenceSession(model)
    session.run(None, {"x0": x})
    monkeypatch.setattr(_tree_attributes.Trees, "make", None)
    session.run(None, {"x0": x})


def test_time_is_limited():
    options = tinyonnx.SessionOptions()
    options.limits = tinyonnx.Limits(max_seconds=1e-9)
    x = rows()
    model = make_model("TreeEnsembleRegressor", x, n_targets=2, **classic(forest(3, all_of(2)), "target"))
    with pytest.raises(tinyonnx.ResourceError, match="max_seconds"):
        tinyonnx.InferenceSession(model, options).run(None, {"x0": x})
