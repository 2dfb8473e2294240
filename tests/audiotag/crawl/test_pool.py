from __future__ import annotations

import signal
import time
from multiprocessing import connection
from types import SimpleNamespace

import pytest

from audiotag.crawl import pool as module
from audiotag.crawl import worker_queue
from audiotag.crawl.dispatch import QUEUED_BYTES
from audiotag.crawl.job import End, Position
from audiotag.crawl.pool import TICK, Pool
from audiotag.crawl.read_ahead import MAX_PATHS
from audiotag.crawl.worker_queue import SPOOL
from audiotag.errors import ManifestError, ModelError
from audiotag.results import Failure
from tests.audiotag.crawl.jobs import Job, alive, loads, pids, run, wait_for

pytestmark = pytest.mark.usefixtures("fork")


def test_every_file_is_done_once(tmp_path):
    paths = [f"file {number}" for number in range(4 * MAX_PATHS)]
    found = run(tmp_path, paths, count=3)
    assert all(found[path] == (f"{path}\n".encode(), End(path, None, 2.0)) for path in paths)


def test_all_workers_work(tmp_path):
    """Three files that wait for each other, among many."""
    meetings = [f"meet 3 {number}" for number in range(3)]
    found = run(tmp_path, [*meetings, *(f"file {number}" for number in range(300))], count=3)
    assert len({found[path][0].split()[0] for path in meetings}) == 3


def test_long_paths_with_long_answers(tmp_path):
    run(tmp_path, [f"large 300 {number:0{QUEUED_BYTES - 100}}" for number in range(200)])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_long_files_are_shared_out(count, tmp_path):
    """Each worker gets one: the files wait for each other."""
    found = run(tmp_path, [f"meet {count} {number}" for number in range(count)], count)
    assert len({data.split()[0] for data, _ in found.values()}) == count


def test_no_more_workers_than_files(tmp_path):
    run(tmp_path, ["a"], count=8)
    assert loads(tmp_path) == 1
    assert run(tmp_path, []) == {}


def test_failures_among_the_paths_and_of_files(tmp_path):
    known = Failure("gone", "AudioError", "no file matches")
    found = run(tmp_path, ["a", known, "fail"])
    assert found["gone"] == (b"", End("gone", known))
    assert found["fail"] == (b"before\n", End("fail", Failure("fail", "AudioError", "bad"), 1.0))


def test_positions_in_long_files(tmp_path):
    job = Job(tmp_path)
    with Pool(job, 1) as pool:
        pool.start()
        pool.model()
        events = [event for event in pool.run(["long 59", "long 3600.5", "a"]) if event is not None]
    assert [event for event in events if isinstance(event, Position)] == [Position("long 3600.5", 3600.5)]
    assert [event.path for event in events if isinstance(event, End)] == ["long 59", "long 3600.5", "a"]


def test_rows_of_a_long_file(tmp_path):
    count = 3 * SPOOL // 1000
    data, _ = run(tmp_path, [f"large {count}", *(f"file {n}" for n in range(50))])[f"large {count}"]
    assert data == (b"x" * 999 + b"\n") * count + f"large {count}\n".encode()


@pytest.mark.parametrize(
    ("culprit", "how"),
    [
        ("exit", "exit code 3"),
        (f"signal {int(signal.SIGSEGV)}", "SIGSEGV"),
        (f"signal {int(signal.SIGKILL)}", "SIGKILL (out of memory?)"),
    ],
)
def test_a_file_that_kills_costs_no_other(culprit, how, tmp_path):
    others = [f"file {number}" for number in range(40)]
    found = run(tmp_path, [*others[:20], culprit, *others[20:]])
    assert all(found[path][1].failure is None for path in others)
    message = f"{culprit}: ended two processes that worked on it: {how}"
    assert found[culprit] == (b"", End(culprit, Failure(culprit, "CrashError", message)))


def test_a_file_that_kills_once_is_done_in_the_second_attempt(tmp_path):
    found = run(tmp_path, ["a", "once only", "b"])
    assert found["once only"] == (b"once only\n", End("once only", None, 2.0))


def test_many_that_kill(tmp_path):
    paths = [f"exit {number}" if number % 3 else f"file {number}" for number in range(7)]
    found = run(tmp_path, paths)
    assert {path for path in paths if found[path][1].failure} == {path for path in paths if path.startswith("exit")}


class Clock:
    """The time of the pool, which passes faster while two files hang: by less than what counts as lost at a time."""

    def __init__(self, hangs):
        self.hangs, self.ahead = hangs, 0.0

    def monotonic(self):
        hanging = pids(self.hangs)
        self.ahead += 1.5 * TICK if len(hanging) == 2 and any(map(alive, hanging)) else 0
        return time.monotonic() + self.ahead

    def sleep(self, seconds):
        pass


@pytest.fixture
def clock(tmp_path, monkeypatch):
    clock, wait = Clock(tmp_path / "hangs"), connection.wait
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(worker_queue, "time", clock)
    quick = SimpleNamespace(wait=lambda pipes, seconds: wait(pipes, min(seconds, 0.01)))
    monkeypatch.setattr(module, "connection", quick)
    return clock


def test_time_limit(tmp_path, clock):
    paths = ["hang 1", "sleep 0.1", "hang 2", "sleep 0.2", "a"]
    found = run(tmp_path, paths, timeout=30)
    for path in paths:
        failure = Failure(path, "TimeLimitError", f"{path}: took longer than 30 s") if "hang" in path else None
        assert found[path][1].failure == failure


def test_waiting_for_the_consumer_is_not_the_files_time(tmp_path, clock):
    with Pool(Job(tmp_path), 1, 300.0) as pool:
        pool.model()
        ends = []
        for event in pool.run(["a", "sleep 1", "large 5000", "b"]):
            if isinstance(event, End):
                ends.append(event)
                clock.ahead += 1000 if len(ends) == 1 else 0
    assert [end.failure for end in ends] == [None] * 4


def test_a_model_that_changes(fork, tmp_path):
    # a second process loads the model, however long that takes, because the first file never ends
    paths = ["orphan once"] if fork else ["hang 1", "hang 2"]
    with Pool(Job(tmp_path, "change"), 2) as pool:
        pool.model()
        with pytest.raises(ModelError, match="changed during the run"):
            list(pool.run(paths))


def test_an_error_of_the_paths(tmp_path):
    def paths():
        yield "a"
        raise ManifestError("list.csv", "broken")

    with Pool(Job(tmp_path), 2) as pool:
        pool.model()
        with pytest.raises(ManifestError, match="broken"):
            list(pool.run(paths()))


def test_results_do_not_wait_for_the_next_path(tmp_path):
    arrived = []

    def paths():
        yield "a"
        wait_for(lambda: arrived, "no result before the second path")
        yield "b"

    with Pool(Job(tmp_path), 2) as pool:
        pool.model()
        for event in pool.run(paths()):
            if isinstance(event, End):
                arrived.append(event.path)
    assert sorted(arrived) == ["a", "b"]
