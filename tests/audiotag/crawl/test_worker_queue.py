"""A worker as the pool sees it, with a pipe in place of a process."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from audiotag.crawl import worker_queue
from audiotag.crawl.job import EncodedRows, End
from audiotag.crawl.read_ahead import WorkItem
from audiotag.crawl.worker_queue import WorkerQueue


class Process:
    """Notes how it is ended."""

    def __init__(self):
        self.pipe, self.theirs = multiprocessing.Pipe()
        self.origin = object()
        self.ended = []

    def end(self, pid, patience=0):
        self.ended.append((pid, patience))
        self.pipe.close()
        return 7


@pytest.fixture
def process():
    process = Process()
    yield process
    process.pipe.close()
    process.theirs.close()


def queue_of(process, *paths, ready=True):
    queue = WorkerQueue(process)
    if ready:
        queue.mark_ready(42)
    for path in paths:
        queue.assign(WorkItem(path))
    return queue


def test_files_are_sent_once_the_worker_is_ready(process):
    queue = queue_of(process, "a", "b", ready=False)
    assert (queue.ready, queue.room(10)) == (False, 0)
    queue.send()
    assert not process.theirs.poll()
    queue.mark_ready(42)
    queue.send()
    queue.assign(WorkItem("c"))
    queue.send()
    queue.send()
    assert [process.theirs.recv() for _ in range(2)] == [["a", "b"], ["c"]]
    assert not process.theirs.poll()
    assert len(queue) == 3


def test_rows_come_once_their_file_has_ended(process):
    queue = queue_of(process, "a", "b")
    assert list(queue.receive(b"1\n", None)) == []
    end = End("a", None, 1.0)
    *rows, last = queue.receive(b"2\n", end)
    assert (b"".join(row.data for row in rows), last) == (b"1\n2\n", end)
    assert [item.path for item in queue.items] == ["b"]
    assert list(queue.receive(b"3\n", End("b"))) == [EncodedRows(b"3\n"), End("b")]
    assert len(queue) == 0


def test_rows_of_a_long_file_are_kept_on_disk(process, monkeypatch):
    monkeypatch.setattr(worker_queue, "SPOOL", 100)
    queue = queue_of(process, "a")
    chunks = [bytes([65 + number]) * 80 for number in range(5)]
    for chunk in chunks[:-1]:
        assert list(queue.receive(chunk, None)) == []
    *rows, _ = queue.receive(chunks[-1], End("a"))
    assert b"".join(row.data for row in rows) == b"".join(chunks)


def test_pace_is_measured_while_there_is_work(process, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    queue = queue_of(process)
    now = 200.0  # idle until then
    queue.assign(WorkItem("a"))
    now = 201.0  # busy: this changes nothing
    for path in "bc":
        queue.assign(WorkItem(path))
    assert queue.since == 200.0
    for now, path in ((203.0, "a"), (206.0, "b")):
        list(queue.receive(b"", End(path)))
        assert queue.since == now
    queue.update_pace()
    queue.update_pace()
    queue.assign(WorkItem("d"))
    assert queue.queued_seconds == pytest.approx(3.0)


def test_files_given_before_the_worker_is_ready_begin_then(process, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    queue = queue_of(process, "a", "b", ready=False)
    now = 200.0
    queue.mark_ready(42)
    assert queue.since == 200.0
    now = 204.0
    list(queue.receive(b"", End("a")))
    queue.update_pace()
    queue.assign(WorkItem("c"))
    assert queue.queued_seconds == pytest.approx(4.0)


def test_path_bytes_count_until_the_file_has_ended(process, monkeypatch):
    queue = queue_of(process, "x" * 3000)
    queue._pace.seconds = 1e-6
    assert queue.room(100) > 0
    queue.assign(WorkItem("y" * 3000))
    assert queue.room(100) == 0
    list(queue.receive(b"", End("x")))
    assert queue.room(100) > 0


def test_the_process_is_ended_with_its_id(process):
    queue = queue_of(process, "a")
    list(queue.receive(b"half", None))
    assert queue.end(1.5) == 7
    assert process.ended == [(42, 1.5)]
    other = queue_of(process, "a", ready=False)
    other.end()
    assert process.ended[1:] == [(None, 0)]


def test_a_dead_process_is_no_error_when_files_are_sent(process):
    queue = queue_of(process, "a")
    process.theirs.close()
    queue.send()
    assert len(queue) == 1
