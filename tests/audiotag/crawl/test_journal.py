from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from audiotag.crawl import journal as module
from audiotag.crawl import sinks
from audiotag.crawl.job import Options
from audiotag.crawl.journal import Journal
from audiotag.crawl.sinks import FileSink, PartSink
from audiotag.errors import OutputError
from audiotag.outputs.parquet import ParquetWriter
from audiotag.results import Failure

SETTINGS = {"top": 10, "labels": (1, 2)}
FILES = [f"clip {number}.wav" for number in range(12)]


def rows_of(path):
    """Some rows, of different lengths; of some files none."""
    return "".join(f"{path} row {row}{'.' * row}\n" for row in range(int(path[5:-4]) % 4)).encode()


def open_file(path, header="", settings=SETTINGS, resume=False, overwrite=False):
    return Journal(FileSink(str(path), header), settings, resume=resume, overwrite=overwrite)


def do(journal, files=FILES, stop_after=None):
    """Do the files that are not done."""
    for file in [file for file in files if not journal.done_before(file)][:stop_after]:
        if rows := rows_of(file):
            journal.put(rows)
        journal.end(file, failed=file == FILES[5])


@pytest.fixture
def at_once(monkeypatch):
    """Everything is made durable after each file."""
    monkeypatch.setattr(sinks, "SYNC_SECONDS", 0)
    monkeypatch.setattr(sinks, "PART_SECONDS", 0)


@pytest.fixture
def no_disk(monkeypatch):
    """What is written may stay in memory: nobody draws the plug."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.txt"


def expected(header=""):
    return header.encode() + b"".join(map(rows_of, FILES))


@pytest.mark.parametrize("header", ["", "path,score\n"])
@pytest.mark.parametrize("stop_after", [0, 1, 7, 12])
def test_a_run_goes_on(header, stop_after, out):
    first = open_file(out, header)
    do(first, stop_after=stop_after)
    first.close()
    second = open_file(out, header, resume=True)
    assert second.n_done == stop_after
    assert second.failures == (stop_after > 5)
    do(second)
    second.close()
    assert out.read_bytes() == expected(header)


def test_resume_where_nothing_is_begins(out):
    first = open_file(out, resume=True)
    assert first.n_done == 0
    do(first)
    first.close()
    assert out.read_bytes() == expected()


@pytest.mark.usefixtures("at_once", "no_disk")
@pytest.mark.parametrize("header", ["", "path,score\n"])
def test_cut_off_anywhere(header, tmp_path):
    """Output and journal, each cut off at every byte: the other one is ahead, or both are torn."""
    whole = tmp_path / "whole.txt"
    first = open_file(whole, header)
    do(first)
    first.close()
    output, journal = whole.read_bytes(), Path(first.path).read_bytes()
    head = journal.index(b"\n") + 1
    rng = np.random.default_rng(0)
    cuts = [(len(output), cut) for cut in range(head, len(journal))]
    cuts += [(cut, len(journal)) for cut in range(len(output))]
    cuts += [(int(rng.integers(len(output))), int(rng.integers(head, len(journal)))) for _ in range(200)]
    out = tmp_path / "out.txt"
    for at, journal_at in cuts:
        out.write_bytes(output[:at])
        Path(f"{out}.journal").write_bytes(journal[:journal_at])
        second = open_file(out, header, resume=True)
        do(second)
        second.close()
        assert out.read_bytes() == expected(header), (at, journal_at)
        assert second.failures == 1


@pytest.mark.usefixtures("at_once", "no_disk")
def test_garbage_after_what_is_safe(out):
    """A power cut may leave blocks of zeros, or of other files."""
    for garbage in (b"\0" * 100, b"junk\n" * 10, b"00000000 {}\n", b"12345678 \xff\xfe\n"):
        for name in (out, f"{out}.journal"):
            first = open_file(out, overwrite=True)
            do(first, stop_after=6)
            first.close()
            with open(name, "ab") as file:
                file.write(garbage)
            second = open_file(out, resume=True)
            do(second)
            second.close()
            assert out.read_bytes() == expected()


def test_a_journal_without_its_first_line_is_no_reason_to_throw_rows_away(out):
    first = open_file(out)
    do(first)
    first.close()
    journal = Path(first.path)
    whole = journal.read_bytes()
    for cut in (0, 5, whole.index(b"\n")):
        journal.write_bytes(whole[:cut])
        with pytest.raises(OutputError, match="is damaged"):
            open_file(out, resume=True)
    journal.unlink()
    with pytest.raises(OutputError, match="has no journal"):
        open_file(out, resume=True)
    assert not journal.exists()
    assert out.read_bytes() == expected()


def test_killed_before_the_first_row(out):
    """The journal is there, its first line or the output perhaps not."""
    first = open_file(out)
    first.close()
    whole = Path(first.path).read_bytes()
    for content in (None, b""):
        for cut in range(len(whole) + 1):
            out.unlink(missing_ok=True)
            if content is not None:
                out.write_bytes(content)
            Path(first.path).write_bytes(whole[:cut])
            second = open_file(out, resume=True)
            do(second)
            second.close()
            assert out.read_bytes() == expected()


def test_an_output_that_is_gone(out):
    first = open_file(out)
    do(first)
    first.close()
    out.unlink()
    with pytest.raises(OutputError, match=r"is gone, .*remove .*out\.txt\.journal"):
        open_file(out, resume=True)
    assert not out.exists()


def test_what_is_there_is_not_thrown_away_unasked(out):
    first = open_file(out)
    do(first, stop_after=5)
    first.close()
    before = out.read_bytes(), Path(first.path).read_bytes()
    with pytest.raises(OutputError, match="exists already: --resume goes on with it, --overwrite begins anew"):
        open_file(out)
    assert (out.read_bytes(), Path(first.path).read_bytes()) == before
    second = open_file(out, overwrite=True)
    assert second.n_done == 0
    do(second)
    second.close()
    assert out.read_bytes() == expected()


def test_an_empty_file_is_nothing(out):
    out.touch()
    first = open_file(out)
    do(first)
    first.close()
    assert out.read_bytes() == expected()


def test_other_settings(out):
    first = open_file(out)
    do(first, stop_after=5)
    first.close()
    before = out.read_bytes()
    with pytest.raises(OutputError, match=r"was begun with other settings: top was 10, is 3; hop was null, is 1\.5"):
        open_file(out, settings={**SETTINGS, "top": 3, "hop": 1.5}, resume=True)
    assert out.read_bytes() == before
    open_file(out, resume=True).close()


def test_another_version_may_go_on(out, monkeypatch, capsys):
    first = open_file(out)
    do(first, stop_after=5)
    first.close()
    monkeypatch.setattr(module, "__version__", "99")
    second = open_file(out, resume=True)
    do(second)
    second.close()
    assert out.read_bytes() == expected()
    assert "goes on with 99" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no lock there")
def test_two_runs_do_not_mix(out):
    first = open_file(out)
    do(first, stop_after=5)
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(OutputError, match="another run is writing it"):
            open_file(out, **options)
    do(first, FILES[5:])
    first.close()
    assert out.read_bytes() == expected()


def test_files_that_are_added_and_files_that_are_given_twice(out):
    first = open_file(out)
    do(first, FILES[3:6] * 2)
    first.close()
    second = open_file(out, resume=True)
    do(second, FILES[:4] + FILES[3:8] + FILES[3:4])
    second.close()
    wanted = FILES[3:6] * 2 + FILES[:3] + FILES[6:8] + FILES[3:4]
    assert out.read_bytes() == b"".join(map(rows_of, wanted))


def test_rows_of_a_file_that_did_not_end_are_cut_off(out):
    first = open_file(out)
    do(first, stop_after=4)
    first.put(b"half of a file\n")
    first.close()
    assert out.read_bytes() == b"".join(map(rows_of, FILES[:4]))
    second = open_file(out, resume=True)
    do(second)
    second.close()
    assert out.read_bytes() == expected()


def test_rows_are_durable_before_the_journal_says_so(out, monkeypatch, at_once):
    """A power cut at any moment leaves what was synced, and perhaps any part of what was not."""
    synced: dict[str, bytes] = {}
    states = []
    fsync = os.fsync

    def note(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isfile(name):
            synced[name] = Path(name).read_bytes()
            states.append(dict(synced))
        fsync(descriptor)

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", note)
    first = open_file(out)
    do(first)
    first.close()
    monkeypatch.undo()
    monkeypatch.setattr(sinks, "SYNC_SECONDS", 0)
    assert len(states) > 2 * len(FILES)
    for state in states:
        for name in (out, Path(first.path)):
            name.write_bytes(state.get(str(name), b""))
        second = open_file(out, resume=True)
        done = second.n_done
        do(second)
        second.close()
        assert out.read_bytes() == expected()
        assert done >= state.get(first.path, b"").count(b"\n") - 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a small file system")
def test_disk_full_at_any_moment(out, monkeypatch, at_once, no_disk):
    """Every write may be the one that fails, after a part of it."""
    write_all = sinks.write_all
    for room in range(0, 3000, 7):
        left = room

        def limited(file, data):
            nonlocal left
            part = data[:left]
            left -= len(part)
            write_all(file, part)
            if len(part) < len(data):
                raise OSError(28, "No space left on device")

        for name in (sinks, module):
            monkeypatch.setattr(name, "write_all", limited)
        out.unlink(missing_ok=True)
        Path(f"{out}.journal").unlink(missing_ok=True)
        error = None
        try:
            first = open_file(out, "header\n")
            try:
                do(first)
            finally:
                first.close()
        except OutputError as caught:
            error = str(caught)
        for name in (sinks, module):
            monkeypatch.setattr(name, "write_all", write_all)
        second = open_file(out, "header\n", resume=True)
        do(second)
        second.close()
        assert out.read_bytes() == expected("header\n"), room
        if error is None:
            break
        assert error == f"{out}: No space left on device"
    assert error is None


def test_what_could_not_be_made_durable_is_done_again(out, monkeypatch, at_once):
    """The system says so once, drops what it could not write, and then all is well again."""
    first = open_file(out)
    do(first, stop_after=3)

    def fail(_):
        monkeypatch.undo()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        do(first, FILES[3:])
    first.close()
    second = open_file(out, resume=True)
    assert second.n_done == 3
    do(second)
    second.close()
    assert out.read_bytes() == expected()


def test_half_a_row_is_never_kept(out, monkeypatch):
    """As at the end of a live stream, whose rows are kept although it did not end."""
    first = open_file(out)
    first.put(b"whole row\n")

    def full(file, data):
        file.write(data[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sinks, "write_all", full)
        with pytest.raises(OutputError, match="No space left"):
            first.put(b"another row\n")
    first.end("-", failed=False)
    first.close()
    assert out.read_bytes() == b"whole row\n"


# -- parts ------------------------------------------------------------------------------


def part_rows(path):
    return [Failure(f"{path} {row}", "AudioError", "bad") for row in range(int(path[5:-4]) % 4)]


def open_parts(folder, resume=False, overwrite=False):
    return Journal(PartSink(f"{folder}/", ParquetWriter(Options())), SETTINGS, resume=resume, overwrite=overwrite)


def do_parts(journal, files=FILES, stop_after=None):
    for file in [file for file in files if not journal.done_before(file)][:stop_after]:
        for row in part_rows(file):
            journal.put(pickle.dumps(row))
        journal.end(file, failed=False)


def read_parts(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    names = sorted(name for name in os.listdir(folder) if name.endswith(".parquet"))
    return [row["path"] for name in names for row in parquet.read_table(folder / name).to_pylist()]


EXPECTED = [row.path for file in FILES for row in part_rows(file)]


@pytest.fixture
def parts(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(sinks, "PACK", 2)
    return tmp_path / "out"


@pytest.mark.parametrize(("part_seconds", "part_bytes"), [(0, 1 << 20), (600, 1 << 20), (600, 1), (600, 300)])
def test_parts_at_any_moment(part_seconds, part_bytes, parts, monkeypatch):
    """The process is killed after any row: what was written by then stays."""
    monkeypatch.setattr(sinks, "PART_SECONDS", part_seconds)
    monkeypatch.setattr(sinks, "PART_BYTES", part_bytes)
    states = parts.parent / "states"

    class Watched(PartSink):
        def put(self, data):
            super().put(data)
            for name in (parts, Path(f"{parts}.journal")):
                copy = shutil.copytree if name.is_dir() else shutil.copy
                copy(name, states / f"{len(os.listdir(states)) // 2:03d}{name.suffix}")

    states.mkdir()
    first = Journal(Watched(str(parts), ParquetWriter(Options())), SETTINGS, resume=False, overwrite=False)
    do_parts(first)
    first.close()
    assert read_parts(parts) == EXPECTED
    assert len(os.listdir(parts)) == (10 if part_seconds == 0 else 1) or part_bytes < 1 << 20
    for number in range(len(EXPECTED)):
        shutil.rmtree(parts)
        shutil.copytree(states / f"{number:03d}", parts)
        shutil.copy(states / f"{number:03d}.journal", f"{parts}.journal")
        (parts / ".part-00099.parquet.tmp").touch()
        second = open_parts(parts, resume=True)
        do_parts(second)
        second.close()
        assert sorted(read_parts(parts)) == sorted(EXPECTED)
        assert not any(name.startswith(".") for name in os.listdir(parts))


def test_interrupted_parts(parts):
    first = open_parts(parts)
    do_parts(first, stop_after=4)
    first.put(pickle.dumps(Failure("half a clip", "", "")) * 3)
    first.close()
    assert read_parts(parts) == [row.path for file in FILES[:4] for row in part_rows(file)]
    second = open_parts(parts, resume=True)
    assert second.n_done == 4
    do_parts(second)
    second.close()
    assert read_parts(parts) == EXPECTED


def test_parts_of_a_clip_that_did_not_end_are_removed(parts, monkeypatch):
    first = open_parts(parts)
    do_parts(first, stop_after=4)
    with monkeypatch.context() as patch:
        patch.setattr(sinks, "PART_SECONDS", 0)
        first.end("another", failed=False)
    before = read_parts(parts)
    monkeypatch.setattr(sinks, "PART_BYTES", 1)
    first.put(pickle.dumps(Failure("half a clip", "", "")) * 3)
    assert len(read_parts(parts)) > len(before)
    first.close()
    assert read_parts(parts) == before


def test_a_folder_without_rows_says_its_columns(parts):
    open_parts(parts).close()
    assert os.listdir(parts) == ["part-00000.parquet"]
    assert read_parts(parts) == []


def test_folders_of_others(parts):
    parts.mkdir()
    (parts / "a.wav").touch()
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="is a folder with other files"):
            open_parts(parts, **options)
    with pytest.raises(OutputError, match="is a folder"):
        open_file(parts)
    with pytest.raises(OutputError, match="is no folder"):
        open_parts(parts / "a.wav")
    assert os.listdir(parts) == ["a.wav"]


def test_the_journal_is_small(out):
    first = open_file(out)
    for number in range(10_000):
        first.end(f"some/long/folder/of/recordings/{number}.wav", failed=False)
    first.close()
    journal = Path(first.path).read_bytes()
    assert len(journal) < 20 * 10_000
    settings = json.loads(journal.splitlines()[0].partition(b" ")[2])
    assert settings == {"audiotag": module.__version__, "top": 10, "labels": [1, 2]}
