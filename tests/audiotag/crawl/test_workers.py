"""Worker processes: start, death and signals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.process import BaseProcess

import pytest

from audiotag.crawl.job import EncodedRows
from audiotag.crawl.pool import DEATHS, Pool
from audiotag.crawl.signals import interruptible
from audiotag.errors import Error, ModelError
from tests.audiotag.crawl.jobs import ROOT, Job, alive, loads, pids, run, wait_for

pytestmark = pytest.mark.usefixtures("fork")


def test_the_first_worker_warms_up_alone(fork, tmp_path):
    with Pool(Job(tmp_path), 3) as pool:
        pool.model()
        assert loads(tmp_path) == 1
        paths = ["first 3", "first 3", "first 3"]  # each waits until three workers are at work
        data = b"".join(event.data for event in pool.run(paths) if isinstance(event, EncodedRows))
    kinds = {word for word in data.split() if word in (b"alone", b"later")}
    assert kinds == ({b"alone"} if fork else {b"alone", b"later"})
    assert loads(tmp_path) == (1 if fork else 3)


def test_a_nursery_that_is_killed(fork, tmp_path):
    if not fork:
        pytest.skip("spawned workers have no nursery")
    orphans = [f"orphan {number}" for number in range(DEATHS - 1)]
    found = run(tmp_path, [*(f"sleep 0.01 {number}" for number in range(40)), *orphans, "file 1"], count=4)
    assert all(end.failure is None for _, end in found.values())
    assert loads(tmp_path) > 1


def test_a_signal_while_a_process_starts(fork, tmp_path, monkeypatch):
    """The signal is raised once the started process can be ended, and all processes are ended."""
    start = BaseProcess.start

    def start_and_signal(process):
        start(process)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(BaseProcess, "start", start_and_signal)
    with pytest.raises(KeyboardInterrupt), interruptible(), Pool(Job(tmp_path), 2) as pool:
        pool.start()
    assert not multiprocessing.active_children()


def test_children_that_nobody_wants_to_hear_of(tmp_path):
    """The parent process may have set SIGCHLD to be ignored."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with interruptible():
            found = run(tmp_path, ["a", "exit 1", "b"])
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert [path for path, (_, end) in found.items() if end.failure] == ["exit 1"]


def test_workers_that_die_at_their_start(tmp_path):
    with Pool(Job(tmp_path, "die"), 2) as pool, pytest.raises(Error, match="die while they start: exit code 7"):
        pool.model()
    assert loads(tmp_path) == DEATHS


def test_a_model_that_cannot_be_loaded(tmp_path):
    with Pool(Job(tmp_path, "refuse"), 2) as pool, pytest.raises(ModelError, match="no such model"):
        pool.model()
    assert loads(tmp_path) == 1


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("kind", ["hang", "sleep 0.001", "hold"])
def test_no_worker_outlives_its_parent(fork, kind, tmp_path):
    code = f"""
from pathlib import Path
from audiotag.crawl import workers
from audiotag.crawl.pool import Pool
from tests.audiotag.crawl.jobs import Job
if __name__ == "__main__":
    workers.FORK = {fork}
    with Pool(Job(Path({str(tmp_path)!r})), 2) as pool:
        pool.model()
        for _ in pool.run([{kind!r}] * 100_000):
            pass
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": str(ROOT)})
    wait_for(lambda: len(pids(tmp_path / "works")) == 2, "the workers never started")
    process.kill()
    process.wait()
    processes = pids(tmp_path / "loads") | pids(tmp_path / "works")
    wait_for(lambda: not any(map(alive, processes)), "workers are still running")
