"""Several kernels compiled at once: the order, and how long it is said to take."""

from __future__ import annotations

import logging
import time

import pytest

from tinyonnx.codegen import parallel
from tinyonnx.kernels.elementwise import copy
from tinyonnx.kernels.expand_depthwise import expand_and_convolve

EFFORTS = [24308.0, 21130.0, 16538.0, 13972.0, 9752.0, 1300.0, 868.0, 484.0, 462.0, 154.0]
"""Those of a tagger's kernels."""


@pytest.mark.parametrize("slowness", [0.5, 1, 3, 10])
def test_seconds_left_are_near_from_the_first_kernel_on(slowness: float) -> None:
    """Two processes compile at the expected pace or another one; the estimate is compared with what follows."""
    ends, busy = [], [0.0, 0.0]
    for work in EFFORTS:
        first = busy.index(min(busy))
        busy[first] += work / 6000 * slowness
        ends.append(busy[first])
    for elapsed in (3.0, *ends):
        finished = [work for work, end in zip(EFFORTS, ends) if end <= elapsed]
        others = [work for work, end in zip(EFFORTS, ends) if end > elapsed]
        if others:
            left = parallel.seconds_left(elapsed, finished, others, 2)
            actual = max(ends) - elapsed
            # before a kernel is done, nothing tells how slow the machine is
            assert left < 2.5 * actual + 8
            if finished:
                assert left > 0.3 * actual - 2


def test_larger_kernels_take_more_effort() -> None:
    assert parallel.effort(expand_and_convolve) > 20 * parallel.effort(copy)


def test_progress_is_logged_before_the_first_kernel_is_done(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO, "tinyonnx"):
        progress = parallel.CompileProgress()
        progress.show([], EFFORTS, 2)
        assert not caplog.messages
        now += 3.5
        progress.show([], EFFORTS, 2)
        progress.show(EFFORTS[:1], EFFORTS[1:], 2)
        now += 3.5
        progress.show(EFFORTS, [], 2)
    assert caplog.messages == ["compiled 0 of 10 kernels, about 7 s left"]
