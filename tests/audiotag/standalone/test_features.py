"""Features of a clip, kept together and limited."""

from __future__ import annotations

import numpy as np

from audiotag.standalone import kernels


def test_rows_are_moved_together():
    mels, step, frames = 128, 9, 5
    rows = np.arange(mels * step, dtype=np.float32)
    expected = rows.reshape(-1, step)[:, :frames].ravel().copy()
    kernels.compact(rows, mels, frames, step)
    np.testing.assert_array_equal(rows[: len(expected)], expected)


def test_features_are_raised_to_the_limit():
    rows = np.array([3, -9, 1, 2.5], np.float32)
    kernels.limit(rows, 4.0)
    np.testing.assert_array_equal(rows, np.float32([3, -1, 1, 2.5]))
