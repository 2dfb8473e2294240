"""Runs over many files through the command line."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotag import cli
from tests.audiotag.crawl.commands import POSIX, at_work, lines, rows
from tests.audiotag.crawl.lists import listed
from tests.terminals import read_terminal


def test_workers_give_the_same_rows_in_any_order(tag, clips):
    code, expected, err = tag("clips")
    assert code == 1
    assert [row["path"] for row in rows(expected)] == clips
    assert tag("clips", "--workers", "2", "--output", "out.jsonl") == (code, "", err)
    assert lines("out.jsonl") == sorted(expected.splitlines())


def test_workers_say_which_model_it_is(clips, capfd):
    arguments = ["tag", clips[0], clips[1], "--model", "untrained-mn01", "--format", "jsonl"]
    assert cli.main(arguments) == 0
    expected = capfd.readouterr()
    assert cli.main([*arguments, "--workers", "1", "--output", "out.jsonl"]) == 0
    assert Path("out.jsonl").read_text() == expected.out
    assert capfd.readouterr().err == expected.err
    settings = json.loads(Path("out.jsonl.journal").read_text().splitlines()[0].partition(" ")[2])
    row, _ = rows(expected.out)
    assert {"name": settings["model"], "sha256": settings["sha256"]} == row["model"]


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_text_is_the_same_whoever_writes_it(workers, tag, clips, model, capfd):
    code, expected, err = cli.main(["tag", "clips", "--model", model]), *capfd.readouterr()
    arguments = ["tag", "--model", model, "--output", "out.txt", "--resume", *workers]
    assert cli.main([*arguments, *clips[:3]]) == 1
    assert cli.main([*arguments, *clips[3:]]) == code
    assert Path("out.txt").read_text() == expected
    assert capfd.readouterr().err == f"{err}audiotag: out.txt: 3 files done already, 1 of them with errors\n"


def test_the_output_may_be_called_standard_output(tag, clips):
    assert tag(clips[0], "--output", "-") == tag(clips[0])
    assert not os.path.exists("-")


@pytest.mark.parametrize(("count", "ways"), [(2, "--resume continues it, "), (1, "")])
def test_no_output_is_thrown_away_unasked(count, ways, tag, clips):
    assert tag(*clips[:count], "--output", "out.jsonl") == (0, "", "")
    before = Path("out.jsonl").read_bytes()
    code, _, err = tag(*clips[:count], "--output", "out.jsonl")
    assert (code, err) == (1, f"audiotag: out.jsonl: exists already: {ways}--overwrite replaces it\n")
    assert tag(*clips[:count], "--output", "out.jsonl", "--overwrite") == (0, "", "")
    assert Path("out.jsonl").read_bytes() == before


def test_the_output_is_no_input(tag, clips, model):
    for output, source in ((clips[1], "clips"), (model, clips[1])):
        before = Path(output).read_bytes()
        for option in ([], ["--overwrite"], ["--resume"]):
            code, _, err = tag(source, "--output", output, *option)
            assert code == 1
            assert "is also an input" in err if option == ["--overwrite"] else output in err
            assert Path(output).read_bytes() == before


def test_exit_code_counts_errors_of_earlier_runs(tag, clips):
    assert tag("clips", "--output", "out.jsonl")[0] == 1
    assert tag("clips", "--output", "out.jsonl", "--resume") == (
        1,
        "",
        "audiotag: out.jsonl: 7 files done already, 1 of them with errors\n",
    )
    assert tag(clips[0], "--output", "other.jsonl", "--resume")[0] == 0
    assert tag(*clips[:2], "--output", "other.jsonl", "--resume")[0] == 0
    assert [row["path"] for row in rows(Path("other.jsonl").read_text())] == clips[:2]


def test_resume_with_other_settings(tag, clips):
    assert tag(*clips[:2], "--output", "out.jsonl")[0] == 0
    code, _, err = tag("clips", "--output", "out.jsonl", "--resume", "--top", "3", "--shard", "1/2")
    assert code == 1
    assert err == 'audiotag: out.jsonl: was started with other settings: shard was null, is "1/2"; top was 10, is 3\n'


def test_shards(tag, clips):
    expected = tag("clips")[1]
    found = [tag("clips", "--shard", f"{number}/3")[1] for number in (1, 2, 3)]
    assert sorted("".join(found).splitlines()) == sorted(expected.splitlines())
    assert all(found)


def test_lists(tag, clips, command):
    Path("list.txt").write_text("\n".join([*clips, "missing.wav"]))
    Path("list.csv").write_text("\n".join(["file", *clips]))
    assert [row["path"] for row in rows(tag("@list.txt")[1])] == [*clips, "missing.wav"]
    assert [row["path"] for row in rows(tag(clips[0], "@list.csv:file")[1])] == [clips[0], *clips]
    stdin = "\0".join(clips).encode()
    for workers in ([], ["--workers", "2"]):
        done = subprocess.run([*command, "--files0-from", "-", *workers], input=stdin, capture_output=True, timeout=300)
        assert sorted(row["path"] for row in rows(done.stdout)) == sorted(clips)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--shard", "0/2"],
        ["--shard", "3/2"],
        ["--shard", "1"],
        ["--workers", "0"],
        ["--timeout", "0"],
        ["--timeout", "nan"],
        ["--resume"],
        ["--resume", "--overwrite", "--output", "x"],
        ["-", "--workers", "2"],
        ["-", "--resume", "--output", "x"],
        ["-", "@-"],
        ["@-", "--files0-from", "-"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["tag", "a.wav", *arguments])
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_broken_model_is_one_line_with_workers_too(clips, capfd):
    Path("bad.onnx").write_bytes(b"no model" * 100)
    assert cli.main(["tag", "clips", "--model", "bad.onnx", "--workers", "2", "--output", "out.txt"]) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("audiotag: bad.onnx: ")
    assert not os.path.exists("out.txt.journal")


@POSIX
def test_a_file_that_hangs(tag, clips):
    os.mkfifo("clips/hangs.wav")
    code, out, err = tag(*clips, "clips/hangs.wav", "--timeout", "2")
    assert code == 1
    found = {row["path"]: row.get("error") for row in rows(out)}
    assert sorted(found) == sorted([*clips, "clips/hangs.wav"])
    assert found["clips/hangs.wav"] == {"type": "TimeLimitError", "message": "clips/hangs.wav: took longer than 2 s"}
    assert "audiotag: clips/hangs.wav: took longer than 2 s\n" in err


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="needs /dev/stdout")
def test_devices_have_no_journal(clips, command):
    with open("out.jsonl", "w") as file:
        done = subprocess.run([*command, clips[0], "--output", "/dev/stdout"], stdout=file, timeout=300)
    assert done.returncode == 0
    assert len(lines("out.jsonl")) == 1
    assert not os.path.exists("/dev/stdout.journal")


def test_overwriting_does_not_use_up_a_list_on_standard_input(clips, command):
    Path("out.jsonl").write_text("something\n")
    arguments = [*command, "@-", "--output", "out.jsonl", "--overwrite"]
    subprocess.run(arguments, input="\n".join(clips).encode(), timeout=300, stderr=subprocess.DEVNULL)
    assert [row["path"] for row in rows(Path("out.jsonl").read_text())] == clips


@POSIX
@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs /dev/fd")
def test_overwriting_does_not_use_up_a_list_from_a_pipe(clips, command):
    Path("out.jsonl").write_text("something\n")
    read, write = os.pipe()
    os.write(write, "\n".join(clips).encode())
    os.close(write)
    arguments = [*command, f"@/dev/fd/{read}", "--output", "out.jsonl", "--overwrite"]
    subprocess.run(arguments, pass_fds=[read], timeout=300, stderr=subprocess.DEVNULL)
    os.close(read)
    assert [row["path"] for row in rows(Path("out.jsonl").read_text())] == clips


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs /dev/shm")
def test_files_in_memory_have_a_journal(tag, clips):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        output = os.path.join(folder, "out.jsonl")
        assert tag(clips[0], "--output", output, "--resume")[0] == 0
        assert tag(clips[0], "--output", output)[0] == 1
        assert tag(*clips[:2], "--output", output, "--resume")[0] == 0
        assert [row["path"] for row in rows(Path(output).read_text())] == clips[:2]


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_the_output_of_a_single_file_has_no_journal_when_it_is_finished(workers, tag, clips, capfd):
    for path, code in ((clips[0], 0), (clips[2], 1)):  # one that can't be read is finished, too
        assert tag(path, "--output", "out.jsonl", "--overwrite", *workers)[0] == code
        assert len(rows(Path("out.jsonl").read_text())) == 1
        assert not os.path.exists("out.jsonl.journal")
    assert tag(clips[0], "--output", "out.jsonl", "--resume")[2] == (
        "audiotag: out.jsonl: can't be resumed: its journal (out.jsonl.journal) is missing\n"
    )


def test_other_outputs_keep_their_journal(tag, clips):
    Path("list.txt").write_text(clips[0])
    for number, arguments in enumerate(([clips[0], "--resume"], clips[:2], ["@list.txt"], ["clips/a*"], ["clips"])):
        tag(*arguments, "--output", f"{number}.jsonl")
        assert os.path.exists(f"{number}.jsonl.journal"), arguments


@pytest.mark.parametrize("format", ["csv", "jsonl"])
@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_names_survive_an_output_that_is_read_as_a_list(format, workers, clips, command, tmp_path):
    odd = ["line\nbreak.wav", "\tt\rab\x1b[31m.wav", "b\x80\udcff ü日.wav", 'q"uo,te\\udcff.wav', " \u2028\x9b.wav"]
    for name in odd:
        os.link(clips[0], name)
    first = [*command, "--top", "1", *workers]
    for number, paths in enumerate((odd, [f"@0.{format}"], [f"@1.{format}"])):
        done = subprocess.run(
            [*first, *paths, "--format", format, "--output", f"{number}.{format}"], capture_output=True, timeout=300
        )
        assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(listed(f"@2.{format}")) == sorted(odd)
    done = subprocess.run([*first, *odd, "--format", format], capture_output=True, timeout=300)
    assert sorted(done.stdout.splitlines()) == sorted(Path(f"0.{format}").read_bytes().splitlines())


@pytest.mark.parametrize("format", ["text", "rttm"])
def test_names_in_formats_for_people_are_escaped(format, clips, command):
    name = "b\nr\te\rak\x1b[31m\udcff.wav"
    os.link(clips[0], name)
    done = subprocess.run([*command, "--format", format, "--top", "2", name], capture_output=True, timeout=300)
    assert done.stderr == b""
    assert done.stdout.decode().replace("\n", "").isprintable()
    assert rb"b\nr\te\rak\x1b[31m\udcff.wav" in done.stdout
    if format == "rttm":
        assert [len(line.split()) for line in done.stdout.splitlines()] == [10, 10]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize("format", ["csv", "jsonl", "audacity", "text"])
def test_a_terminal_gets_no_control_characters(format, clips, command):
    name = "\x1b[31m\x9b\u202e\udcff.wav"
    os.link(clips[0], name)
    ours, theirs = os.openpty()
    done = subprocess.run([*command, "--format", format, name], stdout=theirs, stderr=subprocess.PIPE, timeout=300)
    os.close(theirs)
    text = read_terminal(ours)
    assert done.returncode == 0
    assert text
    assert text.translate({10: "", 13: "", 9: ""}).isprintable()


def test_an_empty_list_is_an_error(tag, clips, command):
    Path("list.txt").write_text("\n\n")
    Path("list.csv").write_text("path,other\n")
    for path in ("list.txt", "list.csv"):
        code, out, err = tag(clips[0], f"@{path}")
        assert (code, err) == (1, f"audiotag: {path}: no files in this list\n")
        assert [row["path"] for row in rows(out)] == [clips[0], path]
    done = subprocess.run([*command, "--files0-from", "-"], input=b"", capture_output=True, timeout=300)
    assert (done.returncode, done.stderr) == (1, b"audiotag: -: no files in this list\n")


def test_standard_input_into_a_file(clips, command):
    content = Path(clips[0]).read_bytes()
    done = subprocess.run([*command, "-", "--output", "out.jsonl"], input=content, timeout=300)
    assert done.returncode == 0
    (row,) = rows(Path("out.jsonl").read_text())
    assert row["path"] == "-"


# -- cut off ----------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_killed_again_and_again(workers, expected, crawl, waiting):
    generator = random.Random(5)
    arguments = [*crawl, "--resume", *workers]
    kills = 0
    for _ in range(6):
        process = subprocess.Popen([*arguments, waiting], stderr=subprocess.DEVNULL)
        at_work(process, size=generator.randrange(60_000))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert kills == 6
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    assert lines("out.jsonl") == expected


@POSIX
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_full_disk(workers, expected, crawl):
    import resource

    arguments = [*crawl, *workers]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "audiotag: out.jsonl: to continue, run the same command with --resume",
        "audiotag: out.jsonl: File too large",
    ]
    assert "Traceback" not in done.stderr
    assert rows(Path("out.jsonl").read_text())  # no torn line
    done = subprocess.run([*arguments, "--resume"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert lines("out.jsonl") == expected


@POSIX
def test_no_room_for_temporary_files(clips, command, noise, tmp_path):
    """Rows of a long file wait there until it is done."""
    import resource

    soundfile.write("long.wav", np.tile(noise[:, 0], 600), 32000, subtype="PCM_16")
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1_100_000, 1_100_000))
    arguments = [*command, clips[0], "long.wav", "--window", "0.5", "--output", "out.jsonl", "--workers", "1"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, preexec_fn=limit, env=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "audiotag: out.jsonl: to continue, run the same command with --resume",
        f"audiotag: {tmp_path}: File too large",
    ]
    assert {row["path"] for row in rows(Path("out.jsonl").read_text())} == {clips[0]}


@POSIX
def test_parquet_goes_on(expected, crawl, waiting):
    parquet = pytest.importorskip("pyarrow.parquet")
    arguments = [*crawl, "--format", "parquet", "--output", "out", "--workers", "2"]
    process = subprocess.Popen([*arguments, waiting], stderr=subprocess.DEVNULL)
    # the header of the journal: the workers have their first files then
    at_work(process, "out.journal", 100)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    subprocess.run([*arguments, "--resume"], stderr=subprocess.DEVNULL, timeout=300)
    table = parquet.read_table("out").to_pylist()
    wanted = [json.loads(line) for line in expected]
    assert sorted(row["path"] for row in table) == sorted(row["path"] for row in wanted)
    assert {row["path"] for row in table if row["error"]} == {row["path"] for row in wanted if "error" in row}


# -- progress ---------------------------------------------------------------------------


@POSIX
def test_a_closed_stderr_stops_nothing(expected, crawl):
    arguments = [*crawl, "--workers", "2", "--log-every", "0.1"]
    done = subprocess.run(arguments, preexec_fn=lambda: os.close(2), timeout=300)
    assert done.returncode == 1
    assert lines("out.jsonl") == expected
