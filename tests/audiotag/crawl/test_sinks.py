"""Output files and folders, through a journal."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from audiotag.crawl import journal as module
from audiotag.crawl import sinks
from audiotag.crawl.journal import Journal
from audiotag.crawl.sinks import FileSink, PartSink
from audiotag.errors import OutputError
from audiotag.options import TagOptions
from audiotag.outputs.parquet import ParquetWriter
from audiotag.results import Failure
from tests.audiotag.crawl.journals import FILES, SETTINGS, do, expected, open_file, rows_of


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
    """After one error the system drops the data that it could not write, and later calls succeed."""
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
    """A live stream keeps its rows although it has not ended."""
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


@pytest.mark.skipif(os.name == "nt", reason="no lock there")
def test_another_run_is_reported_by_the_name_that_was_given(out):
    (out.parent / "link.txt").symlink_to(out.name)
    first = FileSink(str(out), "")
    first.create()
    second = FileSink(str(out.parent / "link.txt"), "")
    with pytest.raises(OutputError, match=r"link\.txt: another run is writing it"):
        second.create()
    first.release()


def test_an_output_that_was_not_opened_is_released(out):
    FileSink(str(out), "").release()
    assert not out.exists()


def test_rows_behind_a_position_are_cut_off_at_once(out):
    """If the process is killed later, they would stand behind the new ones."""
    out.write_bytes(b"header\nrow 1\nrow 2\n")
    sink = FileSink(str(out), "header\n")
    sink.create()
    sink.truncate(13)
    assert out.read_bytes() == b"header\nrow 1\n"
    sink.truncate(0)
    assert out.read_bytes() == b"header\n"
    sink.release()


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_the_name_by_which_an_output_is_known(tmp_path):
    def known(name):
        return os.path.relpath(sinks.real_path(str(tmp_path / name)), tmp_path)

    for name in ("alone.txt", "other.txt", "journal of none.txt.journal", "other.txt.journal"):
        (tmp_path / name).touch()
    (tmp_path / "link.txt").symlink_to("alone.txt")
    os.link(tmp_path / "other.txt", tmp_path / "another.txt")
    os.link(tmp_path / "alone.txt", tmp_path / "same.txt")
    names = ["alone.txt", "link.txt", "same.txt", "other.txt", "another.txt", "none.txt"]
    assert [known(name) for name in names] == [
        "alone.txt", "alone.txt", "same.txt", "other.txt", "other.txt", "none.txt"
    ]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="needs folders that can be opened")
def test_the_folder_that_is_made_durable(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    synced = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    for path in ("folder/file", "folder", "file"):
        sinks.sync_folder(path)
    inside, here = os.stat("folder").st_ino, os.stat(".").st_ino
    assert synced == [inside, inside, here]


def part_rows(path):
    return [Failure(f"{path} {row}", "AudioError", "bad") for row in range(int(path[5:-4]) % 4)]


def open_parts(folder, resume=False, overwrite=False):
    return Journal(PartSink(f"{folder}/", ParquetWriter(TagOptions())), SETTINGS, resume=resume, overwrite=overwrite)


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
    monkeypatch.setattr(sinks, "PACK_ROWS", 2)
    return tmp_path / "out"


@pytest.mark.parametrize(("part_seconds", "part_bytes"), [(0, 1 << 20), (600, 1 << 20), (600, 1), (600, 300)])
def test_parts_at_any_moment(part_seconds, part_bytes, parts, monkeypatch):
    """The process is killed after any row; the parts written by then stay."""
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
    first = Journal(Watched(str(parts), ParquetWriter(TagOptions())), SETTINGS, resume=False, overwrite=False)
    do_parts(first)
    first.close()
    assert read_parts(parts) == EXPECTED
    assert len(os.listdir(parts)) == (10 if part_seconds == 0 else 1) or part_bytes < 1 << 20
    for number in range(len(EXPECTED)):
        for part in parts.iterdir():  # in place: the folder stays the same one
            part.unlink()
        shutil.copytree(states / f"{number:03d}", parts, dirs_exist_ok=True)
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


def test_a_part_that_another_run_wrote_is_noticed(parts):
    first = open_parts(parts)
    do_parts(first, stop_after=4)
    first.close()
    (part,) = parts.iterdir()
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(OutputError, match="is not the output of the run that wrote its journal"):
        open_parts(parts, resume=True)


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
    with pytest.raises(OutputError, match="is not a folder"):
        open_parts(parts / "a.wav")
    assert os.listdir(parts) == ["a.wav"]
