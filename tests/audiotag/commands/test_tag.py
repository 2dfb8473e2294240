"""`audiotag tag`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiotag import Tagger, __version__, cli
from tests.audiotag.commandline import piped, rows


def test_threads_change_nothing_but_the_time(tag, folder):
    assert tag("a.wav", "--threads", "2")[:2] == tag("a.wav")[:2]
    with pytest.raises(SystemExit, match="2"):
        tag("a.wav", "--threads", "0")


def test_text(tag, folder, model):
    code, out, err = tag("a.wav", "--top", "3")
    assert (code, err) == (0, "")
    head, *tags = out.splitlines()
    assert head == "a.wav  (0.73 s)  [linear.onnx]"
    expected = Tagger(model).tag("a.wav", top=3).tags
    assert [line.split(maxsplit=1) for line in tags] == [[f"{tag.score:.4f}", tag.label] for tag in expected]


def test_jsonl_is_the_documented_schema(tag, folder, model):
    code, out, err = tag("a.wav", "--format", "jsonl", "--top", "2")
    assert (code, err) == (0, "")
    (row,) = rows(out)
    assert list(row) == ["path", "start", "end", "duration", "tags", "model", "audiotag"]
    assert list(row["model"]) == ["name", "sha256"]
    assert len(row["model"]["sha256"]) == 64
    assert [list(tag) for tag in row["tags"]] == [["label", "mid", "index", "score"]] * 2
    assert (row["path"], row["start"], row["end"], row["audiotag"]) == ("a.wav", 0.0, row["duration"], __version__)
    assert row["duration"] == pytest.approx(32000 / 44100, abs=1e-4)


def test_folders_and_patterns(tag, folder):
    found = [row["path"] for row in rows(tag(".", "--format", "jsonl")[1])]
    assert found == [os.path.join(".", name) for name in ("a.wav", "b.flac", os.path.join("sub", "c.ogg"))]
    assert [row["path"] for row in rows(tag("*.wav", "--format", "jsonl")[1])] == ["a.wav"]
    assert [row["path"] for row in rows(tag("**/*.ogg", "--format", "jsonl")[1])] == [os.path.join("sub", "c.ogg")]


def test_a_file_may_be_called_like_a_pattern(tag, folder):
    (folder / "a.wav").rename(folder / "[x].wav")
    assert tag("[x].wav")[0] == 0


def test_labels_and_threshold(tag, folder):
    (row,) = rows(tag("a.wav", "--labels", "Siren,Male speech, man speaking", "--format", "jsonl")[1])
    assert {tag["label"] for tag in row["tags"]} == {"Siren", "Male speech, man speaking"}
    assert "no tag reaches the threshold" in tag("a.wav", "--threshold", "1")[1]


def test_one_bad_file_among_many_loses_none(tag, folder):
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no sound")
    bad = ["missing.wav", "empty.wav", "text.wav", "empty", "*.mp3"]
    code, out, err = tag("a.wav", *bad, "b.flac", "--format", "jsonl")
    assert code == 1
    assert [row["path"] for row in rows(out)] == ["a.wav", *bad, "b.flac"]
    errors = [row for row in rows(out) if "error" in row]
    assert [row["path"] for row in errors] == bad
    assert all(list(row) == ["path", "error"] and list(row["error"]) == ["type", "message"] for row in errors)
    assert {row["error"]["type"] for row in errors} == {"AudioError"}
    lines = err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["audiotag", path] for path in bad]
    code, out, err = tag(*bad, "a.wav")
    assert code == 1
    assert out.startswith("a.wav")
    assert err.splitlines() == lines


def test_an_error_that_nobody_foresaw_is_one_row_too(tag, folder, monkeypatch):
    original = Tagger.tag

    def fail(self, source, *arguments, **options):
        if source == "a.wav":
            raise RuntimeError("two\nlines")
        return original(self, source, *arguments, **options)

    monkeypatch.setattr(Tagger, "tag", fail)
    code, out, err = tag("a.wav", "b.flac", "--format", "jsonl")
    assert code == 1
    assert err == "audiotag: a.wav: RuntimeError: two\\nlines\n"
    assert ["error" in row for row in rows(out)] == [True, False]


def test_odd_file_names(tag, folder):
    name = "line\nbreak\udcff ü.wav"
    (folder / "a.wav").rename(folder / name)
    code, out, _ = tag(name, "--top", "1")
    assert code == 0
    assert out.splitlines()[0] == "line\\nbreak\\udcff ü.wav  (0.73 s)  [linear.onnx]"
    assert rows(tag(name, "--format", "jsonl")[1])[0]["path"] == name


@pytest.mark.parametrize("name", ["a.wav", "b.flac", "sub/c.ogg"])
def test_standard_input(tag, folder, monkeypatch, name):
    expected = rows(tag(name, "--format", "jsonl")[1])
    piped((folder / name).read_bytes(), monkeypatch)
    code, out, _ = tag("-", "--format", "jsonl")
    assert code == 0
    assert rows(out) == [{**expected[0], "path": "-"}]


def test_raw_standard_input(tag, noise, monkeypatch, tmp_path):
    samples = (noise[:, :2] * 32767).astype("<i2")
    soundfile.write(tmp_path / "x.wav", samples, 44100)
    expected = rows(tag(str(tmp_path / "x.wav"), "--format", "jsonl")[1])
    piped(samples.tobytes(), monkeypatch)
    code, out, _ = tag("-", "--raw", "s16le", "--rate", "44100", "--channels", "2", "--format", "jsonl")
    assert code == 0
    assert rows(out)[0]["tags"] == expected[0]["tags"]


def test_empty_standard_input(tag, monkeypatch):
    piped(b"", monkeypatch)
    assert tag("-") == (1, "", "audiotag: -: is empty\n")


def test_parquet(tag, folder):
    import pyarrow.parquet

    expected = rows(tag("a.wav", "none.wav", "--format", "jsonl")[1])
    code, out, err = tag("a.wav", "none.wav", "--format", "parquet", "--output", "tags.parquet")
    assert (code, out) == (1, "")
    assert err == "audiotag: none.wav: No such file or directory\n"
    assert os.listdir("tags.parquet") == ["part-00000.parquet"]
    table = pyarrow.parquet.read_table("tags.parquet")
    assert [{k: v for k, v in row.items() if v is not None} for row in table.to_pylist()] == expected
    assert json.loads(table.schema.metadata[b"audiotag.settings"])["top"] == 10
    assert tag("a.wav", "--format", "parquet", "--output", "tags.parquet")[0] == 1


def test_output_file(tag, folder):
    expected = tag("a.wav", "--format", "jsonl")[1]
    assert tag("a.wav", "--format", "jsonl", "--output", "out.jsonl") == (0, "", "")
    assert (folder / "out.jsonl").read_text() == expected
    code, _, err = tag("a.wav", "--output", "nowhere/out.txt")
    assert (code, err) == (1, "audiotag: nowhere/out.txt: No such file or directory\n")


def test_the_suffix_of_the_output_selects_the_format(tag, folder):
    for suffix, format in (("csv", "csv"), ("json", "jsonl"), ("JSONL", "jsonl"), ("rttm", "rttm"), ("txt", "text")):
        expected = tag("a.wav", "--format", format)[1]
        assert tag("a.wav", "--output", f"out.{suffix}") == (0, "", "")
        assert (folder / f"out.{suffix}").read_text() == expected
    assert tag("a.wav", "--output", "out.parquet") == (0, "", "")
    assert os.listdir("out.parquet") == ["part-00000.parquet"]
    assert tag("a.wav", "--output", "other.csv", "--format", "jsonl") == (0, "", "")
    assert rows((folder / "other.csv").read_text())[0]["path"] == "a.wav"


@pytest.mark.parametrize("content", [None, b"", b"no model" * 100])
def test_a_broken_model_is_one_line(content, folder, capsys):
    if content is not None:
        (folder / "bad.onnx").write_bytes(content)
    assert cli.main(["tag", "a.wav", "--model", "bad.onnx"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("audiotag: bad.onnx: ")
    assert err.count("\n") == 1


def test_an_untrained_model_is_called_that(folder, capsys):
    assert cli.main(["tag", "a.wav", "--format", "jsonl", "--model", "untrained-mn01"]) == 0
    out, err = capsys.readouterr()
    assert rows(out)[0]["model"]["name"] == "untrained-mn01"
    assert "untrained" in err
    assert "mean nothing" in err
    assert err.count("\n") == 1


def test_results_never_overwrite_what_is_read(folder, tag, model):
    before = (folder / "a.wav").read_bytes()
    assert tag("b.flac", "a.wav", "--output", "a.wav")[0] == 1
    assert tag(".", "--output", "sub/../a.wav")[0] == 1
    assert (folder / "a.wav").read_bytes() == before
    content = Path(model).read_bytes()
    (folder / "copy.onnx").write_bytes(content)
    assert cli.main(["tag", "a.wav", "--model", "copy.onnx", "--output", "copy.onnx"]) == 1
    assert (folder / "copy.onnx").read_bytes() == content


def test_named_pipes_and_circles_of_links_are_left_out(folder, tag):
    os.mkfifo(folder / "0.wav")
    (folder / "sub" / "loop").symlink_to(folder)
    for pattern in (".", "*.wav", "**/*.wav"):
        code, out, _ = tag(pattern, "--format", "jsonl")
        paths = [row["path"] for row in rows(out)]
        assert code == 0
        assert sum(path.endswith("a.wav") for path in paths) == 1
        assert not any(path.endswith("0.wav") for path in paths)


def test_text_of_an_untrained_model_says_so_on_standard_output(folder, capsys):
    assert cli.main(["tag", "a.wav", "--model", "untrained-mn01"]) == 0
    assert "untrained, scores mean nothing" in capsys.readouterr().out


def test_windows_and_events(tag, folder, model):
    code, out, _ = tag("a.wav", "--window", "0.5", "--format", "jsonl", "--top", "1")
    assert code == 0
    first, last = rows(out)
    assert (first["start"], first["end"], last["duration"]) == (0, 0.5, 0.5)
    assert last["end"] == pytest.approx(32000 / 44100, abs=1e-4)
    expected = [result.to_dict() for result in Tagger(model).tag_windows("a.wav", 0.5, 0.3, top=1)]
    assert rows(tag("a.wav", "--window", "0.5", "--hop", "0.3", "--format", "jsonl", "--top", "1")[1]) == json.loads(
        json.dumps(expected)
    )
    # the value of --events may be left out, also before a file
    all_events = tag("--events", "a.wav", "--window", "0.2", "--format", "jsonl")
    assert all_events[0] == 0
    assert tag("a.wav", "--window", "0.2", "--format", "jsonl", "--events") == all_events
    assert tag("a.wav", "--window", "0.2", "--format", "jsonl", "--events", "0.5:0.3") == all_events
    found = rows(tag("a.wav", "--window", "0.2", "--format", "jsonl", "--events", "Dog=0.001")[1])
    assert [row["tags"][0]["label"] for row in found] == ["Dog"]


@pytest.mark.parametrize(("window", "gaps"), [("0.3", 0), ("0.2", 0), ("0.1", 1)])
def test_gaps_between_windows_are_announced_once(tag, folder, window, gaps):
    _, _, err = tag("a.wav", "b.flac", "--window", window, "--hop", "0.2")
    assert err.count("windows of 0.1 s every 0.2 s: the sound between them is not tagged") == gaps
    assert err.count("not tagged") == gaps


def test_a_clip_that_is_shorter_than_a_window_gives_one_result(tag, folder):
    whole, window = (rows(tag("a.wav", *more, "--format", "jsonl")[1]) for more in ([], ["--window", "10"]))
    assert window == whole


@pytest.mark.parametrize(
    "arguments",
    [
        ["--hop", "1"],
        ["--window", "0"],
        ["--window", "0.001"],
        ["--window", "1e9"],
        ["--window", "1", "--hop", "0.001"],
        ["--window", "x"],
        ["--events", "Dogg=0.5"],
        ["--events", "2"],
        ["--events", "0.2:0.3"],
        ["--min-event", "1"],
        ["--max-gap", "1", "--window", "3"],
        ["--embeddings"],
        ["--embeddings", "--format", "csv"],
        ["--events", "--embeddings", "--format", "jsonl"],
        ["--format", "audacity", "b.flac"],
        ["--format", "audacity", "--files0-from", "list"],
    ],
)
def test_wrong_times(arguments, folder, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["tag", "a.wav", *arguments])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "error: " in err
    assert err.count("\n") == 1


def test_labels_for_a_pattern_would_mix_recordings(folder, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["tag", "*.wav", "--format", "audacity"])
    assert caught.value.code == 2
    assert "--format audacity takes a single file" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["csv", "rttm"])
def test_failures_in_other_formats(tag, folder, format):
    code, out, err = tag("a.wav", "no.wav", "--format", format, "--top", "1")
    assert code == 1
    assert err == "audiotag: no.wav: No such file or directory\n"
    assert len(out.splitlines()) == {"csv": 3, "rttm": 1}[format]


def test_embeddings(folder, capsys):
    assert cli.main(["tag", "a.wav", "no.wav", "--embeddings", "--format", "jsonl"]) == 1
    good, bad = rows(capsys.readouterr().out)
    assert len(good["embedding"]) == 384
    assert "embedding" not in bad
    assert cli.main(["tag", "a.wav", "no.wav", "--format", "npy", "--output", "vectors"]) == 1
    array = np.load("vectors/part-00000.npy")
    np.testing.assert_array_equal(array[0], np.float32(good["embedding"]))
    assert np.isnan(array[1]).all()
