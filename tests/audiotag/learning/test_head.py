"""The head: ridge regression and exact figures of sounds left out."""

from __future__ import annotations

import numpy as np
import pytest

from audiotag.errors import Error
from audiotag.learning import head as module
from audiotag.learning.examples import Examples
from audiotag.learning.head import train_head


@pytest.fixture(scope="module", autouse=True)
def sklearn():
    """Skip without scikit-learn; importing it takes a second, which collecting the tests need not."""
    pytest.importorskip("sklearn")


def examples(targets):
    classes = tuple(f"class {i}" for i in range(targets.shape[1]))
    return Examples(tuple(str(i) for i in range(len(targets))), classes, targets)


def made(sounds, features, classes=3, seed=0, several=False):
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, sounds)
    targets = np.eye(classes, dtype=bool)[y]
    if several:
        targets |= random.random(targets.shape) < 0.2
    x = random.standard_normal((sounds, features)) + targets @ random.standard_normal((classes, features))
    return x.astype(np.float32), targets


@pytest.mark.parametrize(("sounds", "features"), [(40, 100), (100, 20)])
def test_left_out_values_are_those_of_training_without_the_sound(sounds, features):
    x, targets = made(sounds, features)
    x = (x - x.mean(0)) / x.std(0)
    y = np.where(targets, 1.0, -1.0)
    level, alpha = y.mean(0), 0.3 * features
    basis, lengths, _ = module._decompose(x)
    found = module._left_out(basis, lengths, basis.T @ (y - level), y - level, alpha) + level
    for i in (0, 7, sounds - 1):
        rest = np.arange(sounds) != i
        centre, mean = x[rest].mean(0), y[rest].mean(0)
        a = x[rest] - centre
        weights = np.linalg.solve(a.T @ a + alpha * np.eye(features), a.T @ (y[rest] - mean))
        np.testing.assert_allclose(found[i], (x[i] - centre) @ weights + mean, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_a_head_finds_the_classes(several):
    x, targets = made(400, 30, several=several)
    trained = train_head(x[:300], examples(targets[:300]))
    logits = x[300:] @ trained.weights + trained.bias
    assert ((logits > 0) == targets[300:]).mean() > 0.95
    assert trained.figures.mean_precision > 0.95
    assert trained.figures.calibration < 0.05
    assert (trained.figures.confusion is None) == several


def test_figures_of_noise_promise_nothing():
    random = np.random.default_rng(0)
    targets = np.eye(4, dtype=bool)[random.integers(0, 4, 200)]
    trained = train_head(random.standard_normal((200, 300)).astype(np.float32), examples(targets))
    assert trained.figures.accuracy < 0.4


def test_silent_features_do_no_harm():
    x, targets = made(60, 10)
    x[:, 3] = 0
    trained = train_head(x, examples(targets))
    assert np.isfinite(trained.weights).all()


def test_too_few_examples():
    x, targets = made(20, 5)
    targets[:, 1] = False
    targets[0] = [False, True, False]
    with pytest.raises(Error, match="'class 1' has fewer than two sounds"):
        train_head(x, examples(targets))
    with pytest.raises(Error, match="all sounds have the same class"):
        train_head(x, examples(np.ones((20, 1), bool)))
