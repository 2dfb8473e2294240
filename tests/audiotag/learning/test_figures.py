"""Figures compared with scikit-learn's, and with ones computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from audiotag.learning.figures import Figures, average_precision, calibration_error


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    scores = np.round(random.random(60), 1 if seed % 2 else 6)  # with equal scores, too
    targets = random.random(60) < 0.3
    assert average_precision(scores, targets) == pytest.approx(metrics.average_precision_score(targets, scores))


@pytest.mark.parametrize("targets", [[0, 0, 0], [1, 1, 1]])
def test_average_precision_needs_both_kinds(targets):
    assert np.isnan(average_precision(np.arange(3.0), np.array(targets, bool)))


def test_calibration():
    assert calibration_error(np.array([0.05, 0.95]), np.array([False, True])) == pytest.approx(0.05)
    assert calibration_error(np.array([1.0, 1.0]), np.array([False, True])) == pytest.approx(0.5)


def test_confusion_and_accuracy():
    scores = np.array([[0.9, 0.1], [0.6, 0.5], [0.2, 0.7], [0.3, 0.2]])
    targets = np.array([[1, 0], [0, 1], [0, 1], [0, 0]], bool)
    figures = Figures.of(scores, targets, ("owl", "fox"))
    assert figures.accuracy == pytest.approx(2 / 3)
    assert figures.confusion == ((1, 0), (1, 1))
    assert "1 right, 1 as owl" in figures.lines()[2]
    assert figures.to_dict()["classes"]["owl"]["sounds"] == 1
    both = targets.copy()
    both[0] = True
    assert Figures.of(scores, both, ("owl", "fox")).confusion is None
