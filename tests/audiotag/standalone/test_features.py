"""Positions of windows and numbers of frames, beside those of the package."""

from __future__ import annotations

import numpy as np
import pytest

from audiotag.features import mel
from audiotag.features.mel import DEFAULT
from audiotag.sound.windows import Grid
from audiotag.standalone import features


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 513, 514, 515, 640, 641, 32000, 1_000_001])
def test_frames(samples):
    assert features.frames_of(samples, DEFAULT.n_fft, DEFAULT.hop, mel.front_end(DEFAULT).ends) == DEFAULT.n_frames(
        samples
    )


@pytest.mark.parametrize("hop", [0.01, 0.1001, 1 / 3, 0.5, 1 / 64000, 3 / 64000, 5 / 64000, 7.77])
def test_starts(hop):
    for k in (0, 1, 2, 3, 10, 999, 123_456):
        assert features.start_of(k, hop) == Grid.start(_grid(hop), k)


def _grid(hop):
    grid = object.__new__(Grid)  # also hops that it refuses
    object.__setattr__(grid, "hop", hop)
    object.__setattr__(grid, "rate", 32000)
    return grid


def test_a_start_that_no_clip_reaches():
    assert features.start_of(10, 1e300) == 10**18


def test_rows_are_moved_together():
    step, frames = 9, 5
    rows = np.arange(DEFAULT.n_mels * step, dtype=np.float32)
    expected = rows.reshape(-1, step)[:, :frames].ravel().copy()
    features.compact(rows, DEFAULT.n_mels, frames, step)
    np.testing.assert_array_equal(rows[: len(expected)], expected)


def test_the_end_of_the_tape_is_kept():
    from audiotag.standalone import registers as reg

    c, tape = np.zeros(reg.REGISTERS, np.int64), np.arange(100, dtype=np.float32)
    c[reg.TAPE_SAMPLES], c[reg.TAPE_START] = 100, 1000
    features.keep_last(c, tape, 30)
    np.testing.assert_array_equal(tape[:30], np.arange(70, 100))
    assert (c[reg.TAPE_SAMPLES], c[reg.TAPE_START]) == (30, 1070)
