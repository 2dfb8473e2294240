from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import soundfile

from audiotag import Tagger, __version__, cli
from tests.audiotag.commandline import process, rows


def test_paths_before_and_after_options(tag, folder):
    code, out, _ = tag("a.wav", "--format", "jsonl", "b.flac", "--top", "1", "sub/c.ogg")
    assert code == 0
    assert [row["path"] for row in rows(out)] == ["a.wav", "b.flac", "sub/c.ogg"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(tag, folder):
    code, _, err = tag("a.wav", "--output", "/dev/full")
    assert (code, err) == (1, "audiotag: /dev/full: No space left on device\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag"],
        ["nothing"],
        [],
        ["tag", "a.wav", "--top", "0"],
        ["tag", "a.wav", "--threshold", "2"],
        ["tag", "a.wav", "--threshold", "nan"],
        ["tag", "a.wav", "--labels", "Dogg"],
        ["tag", "a.wav", "--format", "xml"],
        ["tag", "a.wav", "--format", "npy"],
        ["tag", "a.wav", "--format", "parquet", "--output", "-"],
        ["tag", "a.wav", "--shard", "3/2"],
        ["tag", "a.wav", "--shard", "1"],
        ["tag", "a.wav", "--resume"],
        ["tag", "a.wav", "--channel", "middle"],
        ["tag", "a.wav", "--log-every", "0"],
        ["serve", "--port", "65536"],
        ["serve", "--workers", "0"],
        ["serve", "--max-seconds", "x"],
        ["models", "drop"],
        ["models", "pull"],
        ["standalone"],
        ["demo", "extra"],
        ["demo", "--save", "clip.xyz"],
        ["tag", "a.wav", "--unknown"],
        ["tag", "a.wav", "--rate", "32000"],
        ["tag", "a.wav", "--raw", "f32le", "--rate", "32000"],
        ["tag", "-", "--raw", "f32le"],
        ["tag", "-", "--raw", "f32le", "--rate", "0"],
        ["tag", "-", "-"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "error: " in err
    assert err.count("\n") == 1


def test_version_and_help():
    assert process("--version").stdout.decode().strip() == f"audiotag {__version__}"
    help_text = process("tag", "--help").stdout.decode()
    assert "--labels" in help_text
    assert "--window" in help_text


def test_importing_is_cheap():
    code = "import sys, audiotag.cli; audiotag.cli.make_parser(); print({'numpy', 'numba', 'onnx'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


NOT_FOR_A_WAV = {
    *("audiotag.events", "audiotag.models.download", "audiotag.sound.compressed", "soundfile", "soxr"),
    *("ml_dtypes", "numba", "onnx", "tinyonnx.kernels.others", "tinyonnx.ops.others"),
}
"""Modules that tagging a WAV of the model's rate, by a model that was loaded before, has no use for."""

START = """
import os, sys
from audiotag.cli import command
assert "numpy" not in sys.modules
sys.argv = ["audiotag", *sys.argv[1:]]
assert command() == 0
print(sorted(NOT_FOR_A_WAV & set(sys.modules)), os.environ["OPENBLAS_NUM_THREADS"])
""".replace("NOT_FOR_A_WAV", repr(NOT_FOR_A_WAV))


@pytest.mark.parametrize(("given", "threads"), [(None, "1"), ("3", "3")])
def test_a_start_imports_what_it_uses_and_no_threads_of_blas(given, threads, tmp_path, noise, model):
    soundfile.write(tmp_path / "a.wav", noise[:, :1], 32000)
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    if given:
        environment["OPENBLAS_NUM_THREADS"] = given
    command = [sys.executable, "-c", START, "tag", "a.wav", "--model", model]
    for _ in range(2):  # the first one may parse the model and compile
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"[] {threads}"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes and signals")
def test_a_reader_that_goes_away_is_no_error(folder, model):
    Tagger(model).tag("a.wav")  # so that nothing has to be compiled, which would be said
    files = "a.wav b.flac " * 3
    command = f'"{sys.executable}" -m audiotag tag --model "{model}" --format jsonl {files} | head -n 1'
    result = subprocess.run(command, shell=True, capture_output=True, cwd=folder, timeout=300)
    assert result.stderr == b""
    assert rows(result.stdout.decode())[0]["path"] == "a.wav"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes and signals")
def test_ctrl_c(folder, model):
    command = [sys.executable, "-m", "audiotag", "tag", "--model", model, "--format", "jsonl", "a.wav", "-"]
    child = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # once the first file is done, the second one waits for standard input
    assert json.loads(child.stdout.readline())["path"] == "a.wav"
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=300)
    assert child.returncode == 130
    assert (out, err) == (b"", b"audiotag: interrupted\n")


def test_a_closed_standard_output_is_said(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", None)
    assert cli.main(["models", "list"]) == 1
    assert capsys.readouterr().err == "audiotag: standard output is closed\n"


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


@FULL
@pytest.mark.parametrize("arguments", [["tag", "a.wav"], ["models", "list"], ["--version"], ["completion", "bash"]])
def test_a_full_standard_output_is_said_once(arguments, folder, model):
    Tagger(model).tag("a.wav")  # so that nothing has to be compiled, which would be said
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    arguments = [*arguments, "--model", model] if "tag" in arguments else arguments
    command = [sys.executable, "-m", "audiotag", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=full, stderr=subprocess.PIPE, timeout=300)
    assert (done.returncode, done.stderr) == (1, b"audiotag: standard output: No space left on device\n")


def test_ctrl_c_while_arguments_are_parsed(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_parse", interrupt)
    assert cli.main(["models", "list"]) == 130
    assert capsys.readouterr().err == "audiotag: interrupted\n"


def test_a_file_that_looks_like_an_option(tag, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    os.rename("a.wav", "-a.wav")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["tag", "-a.wav", "b.flac"])
    assert "unrecognized arguments: -a.wav; -a.wav is a file: write ./-a.wav (see" in capsys.readouterr().err


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stderr", [None, Full()])
def test_results_come_out_where_messages_can_not(folder, monkeypatch, capsys, stderr):
    monkeypatch.setattr("sys.stderr", stderr)
    assert cli.main(["tag", "a.wav", "missing.wav", "--format", "jsonl"]) == 1
    assert [row["path"] for row in rows(capsys.readouterr().out)] == ["a.wav", "missing.wav"]
