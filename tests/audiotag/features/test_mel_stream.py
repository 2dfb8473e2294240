"""Features of clips in blocks."""

from __future__ import annotations

import numpy as np
import pytest

from audiotag.features import mel
from tests.audiotag.features.test_mel import in_blocks


@pytest.mark.parametrize("n", [0, 1, 513, 514, 4000, 40_000])
@pytest.mark.parametrize("block", [1, 7, 320, 777])
def test_blocks_do_not_show(n, block):
    if block == 1 and n > 4000:
        block = 5
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    np.testing.assert_array_equal(in_blocks(x, block), mel.log_mel(x))


def test_stream_counts_the_clips_own_samples():
    stream = mel.LogMelStream()
    stream.push(np.zeros(100, np.float32))
    stream.finish()
    assert stream.n_samples == 100
