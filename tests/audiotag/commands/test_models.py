"""`audiotag models`."""

from __future__ import annotations

import hashlib

import pytest

from audiotag import cli
from audiotag.models import catalog
from audiotag.models.catalog import model_path
from audiotag.models.releases import MODELS

pytestmark = pytest.mark.usefixtures("home")


def audiotag(*arguments) -> int:
    return cli.main(["models", *map(str, arguments)])


def test_list(capsys):
    assert audiotag("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(MODELS)
    assert lines[1].startswith("audiotag-tiny")
    assert "bundled with audiotag" in lines[1]
    assert any(line.startswith("mn10_as ") and "4,876,831" in line and "not pulled" in line for line in lines)


def test_the_list_shows_what_was_measured(capsys):
    assert audiotag("time", "audiotag-tiny") == 0
    took = capsys.readouterr().out.split()[1]
    assert audiotag("list") == 0
    header, default, *others = capsys.readouterr().out.splitlines()
    column = slice(header.index("MS PER 10 S"), header.index("LICENCE"))
    assert default[column].strip() == took
    assert {line[column].strip() for line in others} == {"-"}


@pytest.mark.parametrize("text", ["", "[]", '{"audiotag-tiny": 3}', '{"audiotag-tiny": {"milliseconds": 3}}', "{"])
def test_times_that_are_not_those_of_this_file(text, home, capsys):
    home.mkdir(exist_ok=True)
    (home / "times.json").write_text(text)
    assert audiotag("list") == 0
    assert audiotag("time", "audiotag-tiny") == 0


def test_convert_and_info(checkpoint, tmp_path, capsys):
    out = tmp_path / "mn01.onnx"
    assert audiotag("convert", checkpoint, out) == 0
    assert audiotag("info", out) == 0
    text = capsys.readouterr().out
    assert hashlib.sha256(out.read_bytes()).hexdigest() in text
    assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() in text
    for fact in (
        "123,783",
        "527",
        "precision   float32",
        "bfloat16",
        "melspec tensor(float) (batch, 1, 128, time)",
        "embedding tensor(float)",
    ):
        assert fact in text


def test_pull_command(releases, monkeypatch, capsys):
    real = catalog.pull
    monkeypatch.setattr(catalog, "pull", lambda name, progress: real(name, releases.url, progress))
    assert audiotag("pull", "mn01_as") == 0
    text = capsys.readouterr().out
    assert str(model_path("mn01_as")) in text
    assert "not pinned" in text
    assert hashlib.sha256(releases.data).hexdigest() in text
    assert audiotag("info", "mn01_as") == 0
    assert audiotag("list") == 0
    assert "on this machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "mn10_as"),
        ("info", "nosuch"),
        ("pull", "nosuch"),
        ("convert", "nosuch.pt", "out.onnx"),
    ],
)
def test_errors_are_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert audiotag(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("audiotag: ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_convert_to_where_nothing_can_be_written(checkpoint, tmp_path, capsys):
    assert audiotag("convert", checkpoint, tmp_path / "no" / "out.onnx") == 1
    assert audiotag("convert", checkpoint, tmp_path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(str(tmp_path) in line for line in lines)
