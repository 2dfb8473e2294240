"""Features of clips in blocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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


def test_streams_share_no_memory_and_end_once():
    clips = [np.random.default_rng(seed).standard_normal(9_000 + 777 * seed).astype(np.float32) for seed in range(3)]
    expected = [mel.log_mel(clip) for clip in clips]
    streams = [mel.LogMelStream() for _ in clips]
    starts = [stream.push(clip[:4_000]) for stream, clip in zip(streams, clips, strict=True)]
    rests = [stream.push(clip[4_000:]) for stream, clip in zip(streams, clips, strict=True)]
    ends = [stream.finish() for stream in streams]
    for parts in zip(expected, starts, rests, ends, clips, streams, strict=True):
        whole, *blocks, clip, stream = parts
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
        assert stream.n_samples == len(clip)
        with pytest.raises(ValueError, match="the clip has ended"):
            stream.push(clip)


def test_threads_share_waiting_workspaces():
    clips = [np.random.default_rng(seed).standard_normal(20_000).astype(np.float32) for seed in range(4)]
    expected = [mel.log_mel(clip) for clip in clips]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(mel.log_mel, clips * 40))
    for features, whole in zip(found, expected * 40, strict=True):
        np.testing.assert_array_equal(features, whole)
