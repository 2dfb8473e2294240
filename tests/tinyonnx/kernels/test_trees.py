"""Ensembles of trees: kernels against the numpy operators, which are checked against ONNX Runtime elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tests.tinyonnx.kernels.fast import choose, run
from tests.tinyonnx.ops.ml.trees import MODES, classic, grow, modern
from tinyonnx.ops.ml._common import DOMAIN
from tinyonnx.registry import Info, lookup

SIX = MODES[:6]


def rows(count: int, dtype: Any = np.float32) -> np.ndarray:
    """Return small integers and, of floats, some fractions and NaN."""
    random = np.random.default_rng(count)
    x = random.integers(-2, 3, (count, 3)).astype(dtype)
    if x.dtype.kind == "f" and count > 2:
        x[random.random(x.shape) < 0.1] = 0.5
        x[random.random(x.shape) < 0.1] = np.nan
    return x


def forest(kind: str, targets: int, *, some: bool = False, modes: list[str] = SIX, low: float = 0.0) -> dict[str, Any]:
    def votes(rng: Any) -> list[tuple[int, float]]:
        every = [(t, float(np.float32(rng.uniform(low, 0.2)))) for t in range(targets)]
        return [vote for vote in every if rng.random() < 0.7] if some else every

    rng = np.random.default_rng(targets)
    return classic([grow(rng, 4, votes, modes, missing=len(modes) > 1) for _ in range(35)], kind)


def check(name: str, x: np.ndarray, exact: bool = True, **options: Any) -> None:
    second = name == "TreeEnsembleClassifier"
    result, expected = run(name, x, constants=(), layout="row_major", domain=DOMAIN, opset=5, second=second, **options)
    if exact:
        np.testing.assert_array_equal(result, expected)
    else:
        np.testing.assert_allclose(result, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("base", [{}, {"base_values": [0.1, 0.0, 0.05]}], ids=["", "base"])
@pytest.mark.parametrize("some", [False, True])
def test_classifier(transform: str, base: dict[str, Any], some: bool) -> None:
    options = forest("class", 3, some=some) | {"classlabels_int64s": [7, -1, 3], "post_transform": transform} | base
    for count in (1, 7, 70):
        check("TreeEnsembleClassifier", rows(count), transform == "NONE", **options)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("only", [0, 1])
@pytest.mark.parametrize("low", [0.0, -0.2])
@pytest.mark.parametrize("base", [{}, {"base_values": [0.1]}], ids=["", "base"])
def test_classifier_of_two_classes_one_of_which_has_votes(
    transform: str, only: int, low: float, base: dict[str, Any]
) -> None:
    options = forest("class", 1, low=low, modes=["BRANCH_LEQ"])
    options["class_ids"] = [only] * len(options["class_ids"])
    options |= {"classlabels_int64s": [5, 9], "post_transform": transform} | base
    check("TreeEnsembleClassifier", rows(9), transform == "NONE", **options)


@pytest.mark.parametrize(
    ("aggregate", "dtype"),
    [*((name, np.float32) for name in ("SUM", "AVERAGE", "MIN", "MAX")), ("SUM", np.float64), ("SUM", np.int64)],
)
def test_regressor(aggregate: str, dtype: Any) -> None:
    options = forest("target", 2, some=True) | {"n_targets": 2, "aggregate_function": aggregate}
    check("TreeEnsembleRegressor", rows(9, dtype), **options)


@pytest.mark.parametrize("mode", SIX)
def test_modes(mode: str) -> None:
    options = forest("target", 1, modes=[mode]) | {"n_targets": 1, "base_values": [2.5]}
    check("TreeEnsembleRegressor", rows(9), **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ensemble(dtype: Any) -> None:
    rng = np.random.default_rng(5)
    trees = [grow(rng, 4, lambda r: [(int(r.integers(2)), float(np.float32(r.random())))], SIX) for _ in range(35)]
    options = {
        name: onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for name, value in modern(trees, dtype).items()
    }
    check("TreeEnsemble", rows(9, dtype), n_targets=2, **options)
    if dtype == np.float32:
        check("TreeEnsemble", rows(9), False, n_targets=2, post_transform=2, **options)


def test_vector_is_one_row() -> None:
    check("TreeEnsembleRegressor", rows(1)[0], n_targets=1, **forest("target", 1))


@pytest.mark.parametrize("options", [{}, {"offset": [0.5]}, {"offset": [1.0, 2.0, 3.0], "scale": [0.1, 0.2, 0.3]}])
def test_scaler(options: dict[str, Any]) -> None:
    for dtype in (np.float32, np.int64):
        result, expected = run("Scaler", rows(9, dtype), constants=(), domain=DOMAIN, opset=1, **options)
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("x", "attributes", "reason"),
    [
        (Info(np.dtype("f2"), (2, 3)), {}, "features of float16"),
        (Info(np.dtype("f4"), (2, 1)), {}, "a node reads a feature that the input doesn't have"),
        (Info(np.dtype("f4"), (2, 3)), {"post_transform": "PROBIT"}, "post_transform PROBIT"),
        (Info(np.dtype("f4"), (2, 3)), {"base_values": [1.0, 2.0]}, "2 base_values for 1 targets"),
        (Info(np.dtype("f4"), (2, 3)), {"aggregate_function": "MEDIAN"}, "unknown aggregate_function"),
    ],
)
def test_refusals(x: Info, attributes: dict[str, Any], reason: str) -> None:
    options = forest("target", 1) | {"n_targets": 1} | attributes
    chosen = choose(lookup(DOMAIN, "TreeEnsembleRegressor", 1), Info(np.dtype("f4"), (2, 1)), [x], options)
    assert isinstance(chosen, str)
    assert reason in chosen


def test_members_and_strings_are_refused() -> None:
    def votes(rng: Any) -> list[tuple[int, float]]:
        return [(0, 1.0)]

    trees = [grow(np.random.default_rng(1), 3, votes, ["BRANCH_MEMBER"])]
    options = {
        name: onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for name, value in modern(trees, np.float32).items()
    }
    x, out = Info(np.dtype("f4"), (2, 3)), Info(np.dtype("f4"), (2, 1))
    assert "BRANCH_MEMBER" in str(choose(lookup(DOMAIN, "TreeEnsemble", 5), out, [x], options | {"n_targets": 1}))
    labels = forest("class", 1) | {"classlabels_strings": ["a"]}
    assert "strings" in str(choose(lookup(DOMAIN, "TreeEnsembleClassifier", 1), out, [x], labels))
