"""`search`, `segments` and `evaluate` on real files."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from audiotag import cli
from audiotag.errors import Error
from audiotag.search.cut import RATE, Detection, best_of_each, cut, read_detections
from tests.audiotag.conftest import make_tagger


@pytest.fixture
def tagger_file(tmp_path):
    return make_tagger(tmp_path / "model.onnx")


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for i in range(4):
        time = np.arange(3 * 32000) / 32000
        soundfile.write(folder / f"{i}.wav", 0.3 * np.sin(2 * np.pi * 300 * (i + 1) * time), 32000)
    return folder


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("form", ["jsonl", "npy"])
def test_search_finds_the_clip_itself_first(form, tagger_file, sounds, tmp_path, capsys):
    out = tmp_path / ("tags.jsonl" if form == "jsonl" else "parts")
    more = ["--embeddings"] if form == "jsonl" else []
    assert run("tag", sounds, "--model", tagger_file, "--window", 1, "--format", form, "--output", out, *more) == 0
    capsys.readouterr()
    index = tmp_path / "index"
    assert run("search", sounds / "2.wav", "--in", out, "--model", tagger_file, "--top", 3, "--save", index) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("index: 12 rows")
    assert all("2.wav" in line for line in printed[1:4])
    assert run("search", sounds / "2.wav", "--in", index, "--model", tagger_file, "--top", 3) == 0
    assert capsys.readouterr().out.splitlines() == printed[1:4]


def test_search_refuses_embeddings_of_another_model(tagger_file, sounds, tmp_path, capsys):
    out = tmp_path / "tags.jsonl"
    assert run("tag", sounds, "--model", tagger_file, "--embeddings", "--format", "jsonl", "--output", out) == 0
    other = make_tagger(tmp_path / "other.onnx", output="float[batch, 527] scores")
    assert run("search", sounds / "2.wav", "--in", out, "--model", other) == 1
    assert "made with the model model.onnx, not other.onnx; use --model model.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_segments_are_the_sound_of_the_detections(form, tagger_file, sounds, tmp_path, capsys):
    results, out = tmp_path / f"tags.{form}", tmp_path / "cut"
    options = ("--window", 1, "--top", 1, "--format", form, "--output", results)
    assert run("tag", sounds, "--model", tagger_file, *options) == 0
    assert run("segments", results, "--output", out, "--margin", 0.25) == 0
    files = sorted(out.rglob("*.wav"))
    assert len(files) == 12
    assert "12 clips of 4 recordings" in capsys.readouterr().out
    clip, rate = soundfile.read(next(file for file in files if "_2_1.00-2.00" in file.name))
    assert rate == RATE
    assert len(clip) == round(1.5 * RATE)
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(len(clip))))
    assert abs(np.argmax(spectrum) * RATE / len(clip) - 900) < 3


def test_segments_of_something_else(tmp_path, capsys):
    (tmp_path / "table.csv").write_text("path,name\na.wav,owl\n")
    assert run("segments", tmp_path / "table.csv", "--output", tmp_path / "cut") == 1
    assert capsys.readouterr().err.endswith("table.csv: is not JSONL or CSV of audiotag tag: it has no 'label'\n")


def test_segments_of_a_lost_recording_are_reported(tagger_file, sounds, tmp_path, capsys):
    results = tmp_path / "tags.jsonl"
    options = ("--top", 1, "--format", "jsonl", "--output", results)
    assert run("tag", sounds, "--model", tagger_file, *options) == 0
    (sounds / "1.wav").unlink()
    assert run("segments", results, "--output", tmp_path / "cut") == 1
    captured = capsys.readouterr()
    assert "1.wav" in captured.err
    assert "3 clips of 3 recordings" in captured.out


def test_segments_of_recordings_of_one_name_are_all_kept(tagger_file, sounds, tmp_path, capsys):
    other = tmp_path / "more" / "sounds"
    shutil.copytree(sounds, other)
    results, out = tmp_path / "tags.jsonl", tmp_path / "cut"
    options = ("--top", 1, "--format", "jsonl", "--output", results)
    assert run("tag", sounds, other, "--model", tagger_file, *options) == 0
    for _ in range(2):  # the second time writes over the first
        assert run("segments", results, "--output", out) == 0
        assert "8 clips of 8 recordings" in capsys.readouterr().out
        assert len(list(out.rglob("*.wav"))) == 8


def test_segments_behind_the_end_of_a_recording_are_reported(sounds, tmp_path, capsys):
    rows = [
        {"path": str(sounds / "0.wav"), "start": start, "end": start + 2, "tags": [{"label": "x", "score": 0.5}]}
        for start in (0, 2, 5, 9)
    ]
    (tmp_path / "tags.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert run("segments", tmp_path / "tags.jsonl", "--output", tmp_path / "cut") == 1
    captured = capsys.readouterr()
    assert "0.wav: ends before 2 of its 4 detections" in captured.err
    assert "2 clips of 1 recordings" in captured.out
    lengths = sorted(soundfile.info(path).frames / RATE for path in (tmp_path / "cut").rglob("*.wav"))
    assert lengths == pytest.approx([1, 2])


def test_segments_keep_no_more_of_a_recording_than_they_need(sounds, tmp_path, monkeypatch):
    """All detections but the last are written before the end of the recording is read."""
    found = [Detection(str(sounds / "0.wav"), start, start + 1, "x", 0.5) for start in (9, 4, 0, 2)]
    blocks = [np.full(RATE // 2, i / 100, np.float32) for i in range(20)]
    counts = []

    def stream(*_, **__):
        for block in blocks:
            yield block
            counts.append(len(list((tmp_path / "x").glob("*.wav"))))

    monkeypatch.setattr("audiotag.search.cut.audio.stream", stream)
    assert len(cut("0.wav", found, 0, str(tmp_path), set())) == 4
    assert counts == [0, *[1] * 4, *[2] * 4, *[3] * 10, 4]
    for file in (tmp_path / "x").glob("*.wav"):
        start = float(file.stem.split("_")[-1].split("-")[0])
        samples = soundfile.read(file)[0]
        np.testing.assert_allclose(samples, np.repeat([2 * start, 2 * start + 1], RATE // 2) / 100, atol=1e-4)


def test_paths_with_line_breaks_in_csv(tagger_file, sounds, tmp_path):
    name = "a\nb\x85c\x0bd.wav"
    (sounds / "1.wav").rename(sounds / name)
    results = tmp_path / "tags.csv"
    assert run("tag", sounds, "--model", tagger_file, "--top", 1, "--format", "csv", "--output", results) == 0
    assert {os.path.basename(found.path) for found in read_detections(str(results))} == {
        "0.wav", name, "2.wav", "3.wav"
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n",
        '{"tags": []}\n[]\n',
        'path,label\n"' + "x" * 200_000,
        '{"path": "a.wav", "tags": []}\n',
        '{"tags": [{}]}\n',
        "{\n",
    ],
)
def test_results_without_detections(text, tmp_path, capsys):
    (tmp_path / "x").write_text(text)
    assert run("segments", tmp_path / "x", "--output", tmp_path / "cut") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_best_of_each_class():
    rows = [Detection("a", 0, 1, label, score) for label, score in (("x", 0.2), ("y", 0.3), ("x", 0.9), ("x", 0.5))]
    assert [(row.label, row.score) for row in best_of_each(rows, 2)] == [("x", 0.9), ("x", 0.5), ("y", 0.3)]


def test_evaluate_prints_figures_and_writes_a_page(tagger_file, sounds, tmp_path, capsys):
    table, page = sounds / "labels.csv", tmp_path / "page.html"
    table.write_text("path,label\n0.wav,Dog\n1.wav,Dog;Speech\n2.wav,Speech\n3.wav,Speech\n")
    assert run("evaluate", tagger_file, table, "--html", page) == 0
    printed = capsys.readouterr().out
    assert "model.onnx: 4 sounds, 2 classes" in printed
    assert "mean average precision" in printed
    assert "<td>Dog</td><td>2</td>" in page.read_text()


def test_evaluate_refuses_classes_that_the_model_has_not(tagger_file, sounds, capsys):
    table = sounds / "labels.csv"
    table.write_text("path,label\n0.wav,Dogg\n")
    assert run("evaluate", tagger_file, table) == 1
    assert "labels.csv: no class is named 'Dogg'; did you mean 'Dog'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"end": float("inf")}, "start and end must be finite"), ({"start": float("nan")}, "start and end must be fin"),
        ({"path": 5}, "path and label must be text"), ({"tags": [{"label": 5, "score": 1}]}, "path and label must be"),
        ({"tags": [1]}, "is not JSONL or CSV of audiotag tag"),
    ],
)  # fmt: skip
def test_lines_that_are_no_detections(change, reason, tmp_path):
    row = {"path": "a.wav", "start": 0, "end": 1, "tags": [{"label": "Dog", "score": 0.5}]} | change
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(Error, match=reason):
        read_detections(str(tmp_path / "results.jsonl"))
