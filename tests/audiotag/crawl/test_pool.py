from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from audiotag.crawl import workers
from audiotag.crawl.job import End, Rows
from audiotag.crawl.pool import DEATHS, PATHS, QUEUE, SPOOL, Pool
from audiotag.crawl.signals import interruptible
from audiotag.crawl.workers import CHUNK
from audiotag.errors import Error, ManifestError, ModelError
from audiotag.models.catalog import ResolvedModel
from audiotag.results import Failure

ROOT = Path(__file__).resolve().parents[3]
MODEL = ResolvedModel("fake", b"content", True, "")
LINUX = pytest.mark.skipif(not workers.FORK, reason="Linux only")


@pytest.fixture(
    params=[
        # the test's process has threads: Python >= 3.12 warns of what the command does only without any
        pytest.param("all forked", marks=[LINUX, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]),
        pytest.param("nursery spawned", marks=LINUX),
        "spawned",
    ],
    autouse=True,
)
def fork(request, monkeypatch):
    """Whether workers are forked."""
    monkeypatch.setattr(workers, "FORK", request.param != "spawned")
    monkeypatch.setattr(workers, "_alone", lambda: request.param == "all forked")
    return request.param != "spawned"


class Job:
    """Does what the names of files say."""

    def __init__(self, folder: Path, at_load: str = "") -> None:
        self.folder = folder
        self.at_load = at_load
        self.worker = 0

    def load(self):
        self.loader = os.getpid()
        note_pid(self.folder / "loads")
        if self.at_load == "die":
            os._exit(7)
        if self.at_load == "refuse":
            raise ModelError("no such model")
        if self.at_load == "change":
            return replace(MODEL, source=str(os.getpid()).encode())
        return MODEL

    def warm_up(self):
        if self.at_load == "slow":
            time.sleep(2)
        with open(self.folder / "loads") as file:
            self.first = len(file.readlines()) == 1

    def events(self, path):
        faulthandler.disable()  # of a test's process: it would report
        if self.worker != os.getpid():
            self.worker = os.getpid()
            note_pid(self.folder / "works")
        what, _, detail = path.partition(" ")
        if what == "exit":
            os._exit(3)
        elif what == "signal":
            os.kill(os.getpid(), int(detail))
        elif what == "once" and not (self.folder / detail).exists():
            (self.folder / detail).touch()
            yield Rows(b"half of it\n" * CHUNK)
            os.kill(os.getpid(), signal.SIGSEGV)
        elif what == "hang":
            time.sleep(1000)
        elif what == "hold":
            ctypes.PyDLL(None).sleep(1000)  # without letting go of the interpreter's lock
        elif what == "sleep":
            time.sleep(float(detail))
        elif what == "large":
            for _ in range(int(detail.split()[0])):
                yield Rows(b"x" * 999 + b"\n")
        elif what == "fail":
            yield Rows(b"before\n")
            yield End(path, Failure(path, "AudioError", "bad"), 1.0)
            return
        elif what == "first":
            time.sleep(float(detail or 0))
            yield Rows(b"alone " if self.first else b"later ")
        elif what == "who":
            time.sleep(0.01 if " " not in detail else 1)
            yield Rows(f"{os.getpid()} ".encode())
        elif what == "orphan" and not (self.folder / detail).exists():
            (self.folder / detail).touch()
            if os.getppid() == self.loader:  # it may be dead already
                os.kill(self.loader, signal.SIGKILL)
            time.sleep(1000)
        yield Rows(f"{path}\n".encode())
        yield End(path, None, 2.0)


def run(folder, paths, count=2, timeout=None, at_load=""):
    """{path: (its rows, its end)}."""
    found, data = {}, b""
    with Pool(Job(folder, at_load), count, timeout) as pool:
        model = pool.model()
        assert (model.name, model.source, model.sha256) == ("fake", "", hashlib.sha256(b"content").hexdigest())
        for event in pool.run(paths):
            if isinstance(event, Rows):
                data += event.data
            elif event is not None:
                assert event.path not in found
                found[event.path], data = (data, event), b""
    assert data == b""
    assert set(found) == {path.path if isinstance(path, Failure) else path for path in paths}
    return found


def note_pid(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


def pids(path):
    return {int(line) for line in path.read_text().splitlines()} if path.exists() else set()


def loads(folder):
    return len(pids(folder / "loads"))


def test_every_file_is_done_once(tmp_path):
    paths = [f"file {number}" for number in range(4 * QUEUE)]
    found = run(tmp_path, paths, count=3)
    assert all(found[path] == (f"{path}\n".encode(), End(path, None, 2.0)) for path in paths)


def test_the_first_worker_warms_up_alone(fork, tmp_path):
    found = run(tmp_path, ["first", *(f"first {number / 100}" for number in range(1, 40))], count=3, at_load="slow")
    assert {data.split()[0] for data, _ in found.values()} == ({b"alone"} if fork else {b"alone", b"later"})
    assert loads(tmp_path) == (1 if fork else 3)


def test_all_workers_work(tmp_path):
    found = run(tmp_path, [f"who {number}" for number in range(300)], count=3)
    assert len({data.split()[0] for data, _ in found.values()}) == 3


def test_long_paths_with_long_answers(tmp_path):
    run(tmp_path, [f"large 300 {number:0{PATHS - 100}}" for number in range(200)])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_long_files_are_shared_out(count, tmp_path):
    found = run(tmp_path, [f"who {number} {number}" for number in range(count)], count)
    assert len({data.split()[0] for data, _ in found.values()}) == count


def test_a_nursery_that_is_killed(fork, tmp_path):
    if not fork:
        pytest.skip("there is none")
    orphans = [f"orphan {number}" for number in range(DEATHS - 1)]
    found = run(tmp_path, [*(f"who {number}" for number in range(40)), *orphans, "file 1"], count=4)
    assert all(end.failure is None for _, end in found.values())
    assert loads(tmp_path) > 1


def test_a_signal_while_a_process_starts(fork, tmp_path, monkeypatch):
    """It is raised once what was started can be ended, and all is ended."""
    start = BaseProcess.start

    def start_and_signal(process):
        start(process)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(BaseProcess, "start", start_and_signal)
    with pytest.raises(KeyboardInterrupt), interruptible(), Pool(Job(tmp_path, "slow"), 2) as pool:
        pool.start()
    assert not multiprocessing.active_children()


def test_children_that_nobody_wants_to_hear_of(tmp_path):
    """Whoever started us may have said so."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with interruptible():
            found = run(tmp_path, ["a", "exit 1", "b"])
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert [path for path, (_, end) in found.items() if end.failure] == ["exit 1"]


def test_no_more_workers_than_files(tmp_path):
    run(tmp_path, ["a"], count=8)
    assert loads(tmp_path) == 1
    assert run(tmp_path, []) == {}


def test_failures_among_the_paths_and_of_files(tmp_path):
    known = Failure("gone", "AudioError", "no file matches")
    found = run(tmp_path, ["a", known, "fail"])
    assert found["gone"] == (b"", End("gone", known))
    assert found["fail"] == (b"before\n", End("fail", Failure("fail", "AudioError", "bad"), 1.0))


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
    paths = [f"exit {number}" if number % 3 else f"file {number}" for number in range(12)]
    found = run(tmp_path, paths)
    assert {path for path in paths if found[path][1].failure} == {path for path in paths if path.startswith("exit")}


def test_time_limit(tmp_path):
    paths = ["hang 1", "sleep 0.1", "hang 2", "sleep 0.2", "a"]
    began = time.monotonic()
    found = run(tmp_path, paths, timeout=1)
    assert time.monotonic() - began < 60
    for path in paths:
        failure = Failure(path, "TimeLimitError", f"{path}: took longer than 1 s") if "hang" in path else None
        assert found[path][1].failure == failure


def test_waiting_for_the_consumer_is_not_the_files_time(tmp_path):
    with Pool(Job(tmp_path), 1, 1.0) as pool:
        pool.model()
        ends = []
        for event in pool.run(["sleep 0.1", "large 5000", "sleep 0.1", "a"]):
            if isinstance(event, End):
                ends.append(event)
                time.sleep(1.5)
    assert [end.failure for end in ends] == [None] * 4


def test_workers_that_die_at_their_start(tmp_path):
    with Pool(Job(tmp_path, "die"), 2) as pool, pytest.raises(Error, match="die while they start: exit code 7"):
        pool.model()
    assert loads(tmp_path) == DEATHS


def test_a_model_that_cannot_be_loaded(tmp_path):
    with Pool(Job(tmp_path, "refuse"), 2) as pool, pytest.raises(ModelError, match="no such model"):
        pool.model()
    assert loads(tmp_path) == 1


def test_a_model_that_changes(fork, tmp_path):
    paths = ["orphan once"] if fork else ["sleep 0.5", "sleep 0.5", "sleep 0.5"]
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
        deadline = time.monotonic() + 60
        while not arrived and time.monotonic() < deadline:
            time.sleep(0.01)
        yield "b" if arrived else "too late"

    with Pool(Job(tmp_path), 2) as pool:
        pool.model()
        for event in pool.run(paths()):
            if isinstance(event, End):
                arrived.append(event.path)
    assert sorted(arrived) == ["a", "b"]


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("kind", ["hang", "sleep 0.001", "hold"])
def test_no_worker_outlives_its_parent(fork, kind, tmp_path):
    code = f"""
from pathlib import Path
from tests.audiotag.crawl.test_pool import Job, Pool, workers
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
    deadline = time.monotonic() + 60
    while len(pids(tmp_path / "works")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    while any(alive(pid) for pid in pids(tmp_path / "loads") | pids(tmp_path / "works")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
