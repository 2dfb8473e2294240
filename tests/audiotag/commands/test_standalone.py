"""`audiotag standalone`: its arguments and refusals; the executable itself is tested in standalone/test_build.py."""

from __future__ import annotations

import os

import pytest

from audiotag import cli
from audiotag.errors import ModelError
from audiotag.standalone import build


def test_an_output_is_required(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["standalone"])
    assert caught.value.code == 2
    assert "-o/--output" in capsys.readouterr().err


def test_what_was_written_is_said(model, tmp_path, monkeypatch, capsys):
    def write(found, output, target, precision):
        assert (found.name, target, precision) == (os.path.basename(model), "wasm", "bfloat16")
        output.write_bytes(bytes(12345))
        return [output]

    monkeypatch.setattr(build, "build_program", write)
    assert (
        cli.main(
            ["standalone", "--model", model, "--target", "wasm", "-o", str(tmp_path / "out"), "--precision", "bfloat16"]
        )
        == 0
    )
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 12,345 bytes\n"


def test_targets_are_listed(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["standalone", "--target", "amiga", "-o", "out"])
    assert caught.value.code == 2
    assert "aarch64-linux" in capsys.readouterr().err


def test_a_model_that_is_none_is_named_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.onnx").write_bytes(b"RIFF")
    assert cli.main(["standalone", "--model", "clip.onnx", "-o", "out"]) == 1
    assert capsys.readouterr().err == "audiotag: clip.onnx: is not an ONNX model, or truncated: it doesn't parse\n"


@pytest.mark.parametrize("error", [ModelError("bad.onnx: no tagger"), OSError(28, "No space left on device")])
def test_failures_are_one_line(error, model, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(build, "build_program", fail)
    assert cli.main(["standalone", "--model", model, "-o", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert ("bad.onnx: no tagger" if isinstance(error, ModelError) else "No space left on device") in err
