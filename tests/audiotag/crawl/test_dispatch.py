"""The policy of the pool, without processes."""

from __future__ import annotations

import select

import pytest

from audiotag.crawl.dispatch import (
    PACE_FILES,
    QUEUED_BYTES,
    QUEUED_FILES,
    QUEUED_SECONDS,
    Pace,
    fair_share,
    room,
    takers,
    workers_to_start,
)


class Queue(list):
    """A worker's files; a worker that is not ready has no room."""

    def __init__(self, files=(), pace=0.0, ready=True):
        super().__init__(files)
        self.pace, self.ready = pace, ready

    def room(self, share):
        return room(len(self), 0, self.pace, share) if self.ready else 0


def assign(queues, share, waiting, starting=0):
    for number, queue in enumerate(takers(queues, share, waiting, starting)):
        queue.append(number)
    return [len(queue) for queue in queues]


@pytest.mark.parametrize(
    ("limit", "started", "idle", "waiting", "wanted"),
    [(4, 0, 0, 9, 4), (4, 1, 1, 3, 2), (4, 1, 0, 1, 1), (4, 1, 1, 1, 0), (4, 4, 0, 9, 0), (4, 2, 2, 0, 0)],
)
def test_as_many_workers_start_as_files_wait(limit, started, idle, waiting, wanted):
    assert workers_to_start(limit, started, idle, waiting) == wanted


def test_the_last_files_are_shared_out():
    assert fair_share(3, 5, 2, complete=True) == 3
    assert fair_share(3, 0, 0, complete=True) == 0
    assert fair_share(3, 5, 2, complete=False) == QUEUED_FILES


@pytest.mark.parametrize("pace", [0.0, 1e-4, 0.01, 0.05, 0.2, 100.0])
def test_the_queue_of_a_worker_is_bounded_in_time_and_number(pace):
    files = room(0, 0, pace, share=10**6)
    assert 1 <= files <= 1 + QUEUED_FILES
    assert (files - 1) * pace <= QUEUED_SECONDS
    assert files == 1 + QUEUED_FILES or files * pace > QUEUED_SECONDS


def test_the_queue_of_a_worker_is_bounded_in_bytes():
    assert room(1, QUEUED_BYTES - 1, 0.0, QUEUED_FILES) > 0
    assert room(1, QUEUED_BYTES, 0.0, QUEUED_FILES) == 0
    assert room(0, QUEUED_BYTES, 0.0, QUEUED_FILES) > 0


@pytest.mark.skipif(not hasattr(select, "PIPE_BUF"), reason="needs POSIX pipes")
def test_queued_paths_fit_into_any_pipe():
    """More could block the parent, which waits for no worker."""
    assert QUEUED_BYTES <= 8 * select.PIPE_BUF


def test_a_worker_gets_no_more_than_its_share():
    assert room(2, 10, 0.0, share=3) == 1
    assert room(3, 10, 0.0, share=3) == 0
    assert room(4, 10, 0.0, share=3) < 0


def test_the_shortest_queue_comes_first():
    assert assign([Queue("aaa"), Queue(), Queue("a")], share=10, waiting=5) == [3, 3, 3]
    assert assign([Queue(), Queue()], share=2, waiting=9) == [2, 2]
    assert assign([Queue(pace=1.0), Queue()], share=5, waiting=9) == [1, 5]


def test_workers_that_start_find_something_to_do():
    starting = Queue(ready=False)
    assert assign([Queue(), starting], share=10, waiting=2, starting=1) == [1, 0]
    assert assign([Queue(), starting], share=10, waiting=1, starting=1) == [1, 0]
    assert assign([Queue("a"), starting], share=10, waiting=1, starting=1) == [1, 0]
    assert assign([Queue("a"), starting], share=10, waiting=3, starting=1) == [3, 0]


def test_pace_is_that_of_the_latest_files():
    pace = Pace()
    pace.add(1, 3.0)
    assert pace.seconds == 3.0
    for _ in range(20 * PACE_FILES):
        pace.add(1, 0.5)
    assert pace.seconds == pytest.approx(0.5, rel=1e-3)
    pace.add(PACE_FILES, PACE_FILES * 2.0)
    assert pace.seconds == pytest.approx(2.0)
    pace.add(PACE_FILES // 4, PACE_FILES // 4 * 6.0)
    assert pace.seconds == pytest.approx(3.0)


@pytest.mark.parametrize(("waiting", "lengths"), [(0, [0, 0, 0]), (1, [1, 0, 0]), (2, [1, 1, 0]), (4, [2, 1, 1])])
def test_no_more_files_are_assigned_than_wait(waiting, lengths):
    assert assign([Queue(), Queue(), Queue()], 5, waiting) == lengths
