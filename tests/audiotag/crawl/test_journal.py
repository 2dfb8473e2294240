from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from audiotag.crawl import journal as module
from audiotag.crawl import sinks
from audiotag.errors import OutputError
from tests.audiotag.crawl.journals import FILES, SETTINGS, complete, do, expected, open_file, rows_of


@pytest.mark.parametrize("header", ["", "path,score\n"])
@pytest.mark.parametrize("stop_after", [0, 1, 7, 12])
def test_a_run_goes_on(header, stop_after, out, capsys):
    first = open_file(out, header)
    do(first, stop_after=stop_after)
    first.close()
    second = open_file(out, header, resume=True)
    assert second.n_done == stop_after
    assert second.failures == (stop_after > 5)
    do(second)
    second.close()
    assert out.read_bytes() == expected(header)
    third = open_file(out, header, resume=True)
    assert (third.n_done, third.failures) == (12, 1)
    third.close()
    assert out.read_bytes() == expected(header)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("at_once")
def test_an_output_that_lost_rows_is_completed_with_a_notice(out, capsys):
    complete(out)
    os.truncate(out, len(expected()) // 2)
    second = open_file(out, resume=True)
    assert capsys.readouterr().err == (
        f"audiotag: {out}: is shorter than its journal records; missing files are done again\n"
    )
    do(second)
    second.close()
    assert out.read_bytes() == expected()


def test_the_folder_of_a_new_journal_is_made_durable(out, monkeypatch):
    synced = []
    monkeypatch.setattr(module, "sync_folder", synced.append)
    journal = open_file(out)
    assert synced == [journal.path]
    journal.close()


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
    out = tmp_path / "out.txt"
    first = complete(out, header)
    output, journal = out.read_bytes(), Path(first.path).read_bytes()
    head = journal.index(b"\n") + 1
    rng = np.random.default_rng(0)
    cuts = [(len(output), cut) for cut in range(head, len(journal))]
    cuts += [(cut, len(journal)) for cut in range(len(output))]
    cuts += [(int(rng.integers(len(output))), int(rng.integers(head, len(journal)))) for _ in range(200)]
    for at, journal_at in cuts:
        out.write_bytes(output[:at])
        Path(f"{out}.journal").write_bytes(journal[:journal_at])
        second = complete(out, header, resume=True)
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
            complete(out, resume=True)
            assert out.read_bytes() == expected()


def test_a_journal_without_its_first_line_is_no_reason_to_throw_rows_away(out):
    first = complete(out)
    journal = Path(first.path)
    whole = journal.read_bytes()
    for cut in (0, 5, whole.index(b"\n")):
        journal.write_bytes(whole[:cut])
        with pytest.raises(OutputError, match=r"can't be resumed: its journal .* is damaged"):
            open_file(out, resume=True)
    journal.unlink()
    with pytest.raises(OutputError, match=r"can't be resumed: its journal .* is missing"):
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
            complete(out, resume=True)
            assert out.read_bytes() == expected()


def test_an_output_that_is_gone(out):
    complete(out)
    out.unlink()
    with pytest.raises(OutputError, match=r"is gone, .*remove .*out\.txt\.journal"):
        open_file(out, resume=True)
    assert not out.exists()


def test_what_is_there_is_not_thrown_away_unasked(out):
    first = open_file(out)
    do(first, stop_after=5)
    first.close()
    before = out.read_bytes(), Path(first.path).read_bytes()
    with pytest.raises(OutputError, match="exists already: --resume continues it, --overwrite replaces it"):
        open_file(out)
    assert (out.read_bytes(), Path(first.path).read_bytes()) == before
    second = open_file(out, overwrite=True)
    assert second.n_done == 0
    do(second)
    second.close()
    assert out.read_bytes() == expected()


def test_an_empty_file_is_nothing(out):
    out.touch()
    complete(out)
    assert out.read_bytes() == expected()


def test_other_settings(out):
    first = open_file(out)
    do(first, stop_after=5)
    first.close()
    before = out.read_bytes()
    with pytest.raises(OutputError, match=r"was started with other settings: top was 10, is 3; hop was null, is 1\.5"):
        open_file(out, settings={**SETTINGS, "top": 3, "hop": 1.5}, resume=True)
    assert out.read_bytes() == before
    open_file(out, resume=True).close()


def test_another_version_may_go_on(out, monkeypatch, capsys):
    first = open_file(out)
    do(first, stop_after=5)
    first.close()
    monkeypatch.setattr(module, "__version__", "99")
    complete(out, resume=True)
    assert out.read_bytes() == expected()
    assert "continues with 99" in capsys.readouterr().err


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


def test_rows_are_durable_before_the_journal_says_so(out, monkeypatch, at_once):
    """A power cut at any moment leaves synced data, and possibly any part of the other data."""
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
        pytest.skip("the names of synchronised files are read from /proc")
    monkeypatch.setattr(os, "fsync", note)
    first = complete(out)
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


# -- parts ------------------------------------------------------------------------------


def test_the_journal_is_small(out):
    first = open_file(out)
    for number in range(10_000):
        first.end(f"some/long/folder/of/recordings/{number}.wav", failed=False)
    first.close()
    journal = Path(first.path).read_bytes()
    assert len(journal) < 20 * 10_000
    settings = json.loads(journal.splitlines()[0].partition(b" ")[2])
    assert settings == {"audiotag": module.__version__, "top": 10, "labels": [1, 2], "output": out.stat().st_ino}


# -- two runs, one output ---------------------------------------------------------------------


def linked(out, kind):
    """Return another name of the output."""
    other = out.with_name("other.txt")
    if kind == "symbolic":
        other.symlink_to(out.name)
    else:
        os.link(out, other)
    return other


@pytest.mark.skipif(os.name == "nt", reason="no lock there")
@pytest.mark.parametrize("kind", ["symbolic", "hard", "hard, in another folder"])
def test_two_runs_by_different_names_do_not_mix(kind, out):
    first = open_file(out)
    do(first, stop_after=5)
    if kind.endswith("folder"):
        (out.parent / "folder").mkdir()
        other = out.parent / "folder" / "other.txt"
        os.link(out, other)
    else:
        other = linked(out, kind)
    for options in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(OutputError, match=r"other\.txt: (another run is writing it|can't be resumed)"):
            open_file(other, **options)
    do(first, FILES[5:])
    first.close()
    assert out.read_bytes() == expected()


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_run_resumes_by_another_name(kind, out):
    first = open_file(out)
    do(first, stop_after=5)
    first.close()
    other = linked(out, kind)
    second = open_file(other, resume=True)
    assert second.n_done == 5
    do(second)
    second.close()
    assert out.read_bytes() == other.read_bytes() == expected()
    assert sorted(path.name for path in out.parent.iterdir()) == ["other.txt", "out.txt", "out.txt.journal"]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("entries", [0, 1, 5, 12])
@pytest.mark.parametrize("rows", [1, 4, 12])
def test_a_journal_of_another_run_is_refused(entries, rows, out):
    """However many files each of the two runs has done; no row is lost."""
    other = out.with_name("other.txt")
    theirs = open_file(other)
    do(theirs, FILES[::-1], stop_after=entries)
    theirs.close()
    ours = open_file(out)
    do(ours, FILES[3:] + FILES[:3], stop_after=rows)
    ours.close()
    before = out.read_bytes()
    shutil.copy(theirs.path, ours.path)
    with pytest.raises(OutputError, match=r"is not the output of the run that wrote its journal \(.*out\.txt\."):
        open_file(out, resume=True)
    assert out.read_bytes() == before


@pytest.mark.usefixtures("at_once")
def test_an_output_that_was_overwritten_by_another_name_is_not_resumed(out):
    first = open_file(out)
    do(first, stop_after=8)
    first.close()
    (out.parent / "folder").mkdir()
    other = out.parent / "folder" / "other.txt"
    os.link(out, other)
    second = open_file(other, overwrite=True)
    do(second, FILES[::-1])
    second.close()
    before = out.read_bytes()
    with pytest.raises(OutputError, match="is not the output of the run"):
        open_file(out, resume=True)
    assert out.read_bytes() == before


@pytest.mark.usefixtures("at_once")
def test_output_and_journal_may_be_copied_together(out):
    first = open_file(out)
    do(first, stop_after=8)
    first.close()
    copy = out.with_name("copy.txt")
    shutil.copy(out, copy)
    shutil.copy(first.path, f"{copy}.journal")
    second = open_file(copy, resume=True)
    assert second.n_done == 8
    do(second)
    second.close()
    assert copy.read_bytes() == expected()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("header", ["", "path,score\n"])
def test_a_journal_of_another_run_that_has_no_rows_is_refused(header, out):
    """Its checksum covers nothing, or a header that all runs have."""
    theirs = open_file(out.with_name("other.txt"), header)
    do(theirs, FILES[:1])
    theirs.close()
    assert rows_of(FILES[0]) == b""
    ours = open_file(out, header)
    do(ours)
    ours.close()
    before = out.read_bytes()
    shutil.copy(theirs.path, ours.path)
    with pytest.raises(OutputError, match="is not the output of the run"):
        open_file(out, header, resume=True)
    assert out.read_bytes() == before


@pytest.mark.usefixtures("at_once")
def test_failures_are_counted_once(out):
    """Each commit counts those since the last one."""
    first = open_file(out)
    for number, file in enumerate(FILES):
        first.end(file, failed=number % 3 == 0)
    first.close()
    assert first.failures == 4
    second = open_file(out, resume=True)
    assert second.failures == 4
    second.close()
