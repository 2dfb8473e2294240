from __future__ import annotations

import numpy as np
import pytest

from audiotag.labels import audioset
from audiotag.models.network import sigmoid
from audiotag.selection import best_tags
from audiotag.standalone.scores import probabilities, probability, rank
from tinyonnx import kernel


@kernel
def each_probability(logits, out, part, parts):
    for i in range(len(logits)):
        out[i] = probability(np.float64(logits[i]))


@kernel
def run_rank(logits, top, threshold, scores, order, count, part, parts):
    count[0] = rank(scores, top, threshold, order) if probabilities(logits, 0, scores) else -1


def test_probabilities_are_the_package_s_within_an_ulp_or_two():
    random = np.random.default_rng(0)
    logits = np.concatenate(
        [random.uniform(-40, 40, 200_000), random.uniform(-800, 800, 10_000), [0, -0.0, 3e38, -3e38]]
    )
    logits = logits.astype(np.float32)
    out = np.empty(len(logits))
    each_probability(logits, out)
    expected = sigmoid(logits)
    assert (np.abs(out - expected) <= 2 * np.spacing(expected)).all()


def ranked(logits, top, threshold=-1.0):
    scores, order, count = np.empty(527), np.empty(527, np.int64), np.zeros(1, np.int64)
    run_rank(logits, top, threshold, scores, order, count)
    return scores, order[: max(count[0], 0)].tolist(), int(count[0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top", [1, 10, 527, 1000])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.3, 1.0])
def test_the_best_are_the_package_s(seed, top, threshold):
    random = np.random.default_rng(seed)
    logits = random.standard_normal(527).astype(np.float32) * 3
    logits[random.integers(0, 527, 200)] = logits[random.integers(0, 527, 200)]  # equal ones
    scores, order, count = ranked(logits, top, threshold)
    expected = best_tags(scores, audioset(), top, None if threshold < 0 else threshold)
    assert order == [tag.index for tag in expected]
    assert count == len(expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value):
    logits = np.zeros(527, np.float32)
    logits[300] = value
    assert ranked(logits, 10)[2] == -1
