"""Numbers as the front end writes them, compared with Python."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.audiotag.standalone.front import front_end


def lines(name, values, *arguments):
    values = np.ascontiguousarray(values)
    written = front_end().text(name, ctypes.c_void_p(values.ctypes.data), ctypes.c_int64(len(values)), *arguments)
    return written.decode().split("\n")[:-1]


def numbers(n):
    """Return probabilities: of all sizes, near ties of six digits, and the ends."""
    random = np.random.default_rng(0)
    ties = (random.integers(0, 10**7, n // 4) * 10 + 5) / 10.0 ** random.integers(7, 12, n // 4)
    parts = [
        random.random(n // 4),
        1 / (1 + np.exp(-random.uniform(-30, 10, n // 4))),
        ties[ties <= 1],
        np.nextafter(ties[ties <= 1], 0),
        random.integers(0, 1 << 20, n // 4) / (1 << 20),
        [0.0, 1.0, 0.5, 1e-300, 2.2250738585072014e-308, 1e-5, 9.999995e-5, 0.9999995, 0.99999949, 1e-4],
        10.0 ** random.uniform(-307, 0, 1000),
    ]
    return np.concatenate(parts)


def test_scores_in_json():
    values = numbers(200_000)
    assert lines("write_scores", values) == [repr(float(f"{value:.6g}")) for value in values.tolist()]


def test_scores_in_text():
    values = np.concatenate([numbers(100_000), np.arange(20_001) / 20_000])
    assert lines("write_fixed", values, 4, 6) == [f"{value:6.4f}" for value in values.tolist()]


def sample_counts(n):
    random = np.random.default_rng(1)
    return np.concatenate([np.arange(n), random.integers(0, 10**7, n), random.integers(0, 32 * 10**9, n)])


@pytest.mark.parametrize("rate", [32000, 16000, 48000, 44100, 22050, 999_983])
def test_seconds_in_json(rate):
    counts = sample_counts(100_000)
    found = lines("write_seconds", counts, ctypes.c_int64(rate))
    assert found == [repr(count / rate) for count in counts.tolist()]


@pytest.mark.parametrize("rate", [32000, 48000, 44100])
def test_durations_in_json(rate):
    counts = sample_counts(100_000)
    starts = np.random.default_rng(2).integers(0, 10**6, len(counts)) / rate
    values = (starts + counts / rate) - starts
    assert lines("write_durations", values) == [repr(round(value, 9)) for value in values.tolist()]


@pytest.mark.parametrize("width", [0, 8])
def test_seconds_in_text(width):
    seconds = sample_counts(200_000) / 32000
    assert lines("write_fixed", seconds, 2, width) == [f"{value:{width or ''}.2f}" for value in seconds.tolist()]
