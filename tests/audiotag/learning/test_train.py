"""`audiotag train`: classes from own recordings, and the resulting model."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from audiotag import Tagger, cli
from audiotag.learning import embeddings
from audiotag.learning.examples import ExamplesError, read_folder, read_table
from audiotag.models.metadata import read_metadata
from tests.audiotag.conftest import make_tagger

RATE = 32000


@pytest.fixture(scope="module", autouse=True)
def sklearn():
    """Skip without scikit-learn; importing it takes a second, which collecting the tests need not."""
    pytest.importorskip("sklearn")


def tone(hz, seed):
    random = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    return 0.3 * np.sin(2 * np.pi * hz * (1 + 0.02 * random.standard_normal()) * time) + 0.01 * random.standard_normal(
        RATE
    )


def write(folder, hz, count, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        soundfile.write(folder / f"{i}.wav", tone(hz, seed + i), RATE)


@pytest.fixture
def sounds(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path / "home"))
    folder = tmp_path / "sounds"
    write(folder / "low", 200, 6)
    write(folder / "high, shrill", 5000, 6)
    return folder


@pytest.fixture
def backbone(tmp_path):
    return make_tagger(tmp_path / "backbone.onnx")


def train(*arguments):
    return cli.main(["train", *map(str, arguments)])


def test_a_folder_becomes_a_model(sounds, backbone, tmp_path, capsys):
    out = tmp_path / "mine.onnx"
    assert train(sounds, "-o", out, "--backbone", backbone) == 0
    printed = capsys.readouterr().out
    assert "12 sounds, 2 classes" in printed
    assert "accuracy 100.0%" in printed
    tagger = Tagger(out)
    assert [label.name for label in tagger.labels] == ["high, shrill", "low"]
    assert tagger.tag(tone(210, 99), RATE).tags[0].label == "low"
    assert tagger.tag(tone(4900, 98), RATE).tags[0].label == "high, shrill"
    np.testing.assert_allclose(
        tagger.embed(tone(210, 99), RATE), Tagger(backbone).embed(tone(210, 99), RATE), rtol=1e-6
    )
    kept = json.loads(read_metadata(out)["training"])
    assert kept["left_out"]["accuracy"] == 1
    assert kept["left_out"]["confusion"] == [[6, 0], [0, 6]]
    assert kept["backbone"]["name"] == "backbone.onnx"
    assert cli.main(["models", "info", str(out)]) == 0
    sha256 = hashlib.sha256(backbone.read_bytes()).hexdigest()
    assert f"trained by audiotag train on embeddings of backbone.onnx, sha256 {sha256}\n" in capsys.readouterr().out


def test_embeddings_are_computed_once(sounds, backbone, tmp_path, monkeypatch):
    assert train(sounds, "-o", tmp_path / "one.onnx", "--backbone", backbone) == 0
    embedded = []
    embed = Tagger.embed
    monkeypatch.setattr(Tagger, "embed", lambda self, path: embedded.append(path) or embed(self, path))
    shutil.copy(sounds / "low/0.wav", sounds / "low/new.wav")
    assert train(sounds, "-o", tmp_path / "two.onnx", "--backbone", backbone) == 0
    assert embedded == [str(sounds / "low/new.wav")]
    (cached,) = (tmp_path / "home").rglob("embeddings/*.npz")
    for content in (b"", b"no archive", cached.read_bytes()[:-100]):
        embedded.clear()
        cached.write_bytes(content)
        assert train(sounds, "-o", tmp_path / "two.onnx", "--backbone", backbone) == 0
        assert len(embedded) == 13


def test_the_cache_is_bounded(sounds, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "_MOST", 5)
    monkeypatch.setattr(embeddings, "_MODELS", 2)
    folder = tmp_path / "home" / "embeddings"
    folder.mkdir(parents=True)
    for number, name in enumerate(("old", "older", "oldest")):
        (folder / f"{name}.npz").write_bytes(b"")
        os.utime(folder / f"{name}.npz", (1000 - number, 1000 - number))
    assert train(sounds, "-o", tmp_path / "one.onnx", "--backbone", backbone) == 0
    kept = {path.name for path in folder.iterdir()}
    assert len(kept) == 2
    assert "old.npz" in kept
    (cached,) = kept - {"old.npz"}
    with np.load(folder / cached) as saved:
        assert len(saved["keys"]) == len(saved["vectors"]) == 5
    paths = sorted(map(str, (sounds / "low").iterdir()))
    store = embeddings._Store(Tagger(backbone))
    assert sum(store.get(embeddings._key(path)) is not None for path in paths) == 5


def test_negatives_have_no_class(sounds, backbone, tmp_path, capsys):
    write(tmp_path / "other", 1200, 6)
    out = tmp_path / "mine.onnx"
    assert train(sounds, "-o", out, "--backbone", backbone, "--negatives", tmp_path / "other") == 0
    assert max(tag.score for tag in Tagger(out).tag(tone(1200, 77), RATE).tags) < 0.5


def test_a_table_gives_several_labels(sounds, backbone, tmp_path):
    table = tmp_path / "table.csv"
    rows = [f'"high, shrill/{i}.wav",bird;high' for i in range(6)] + [f"low/{i}.wav,low" for i in range(6)]
    table.write_text("path,label\n" + "\n".join(rows) + "\n")
    found = read_table(str(table), str(sounds))
    assert found.classes == ("bird", "high", "low")
    assert not found.single
    assert train(sounds, "--labels", table, "-o", tmp_path / "mine.onnx", "--backbone", backbone) == 0
    best = Tagger(tmp_path / "mine.onnx").tag(tone(5000, 55), RATE, threshold=0.5).tags
    assert {tag.label for tag in best} == {"bird", "high"}


def test_a_sound_that_can_not_be_read_is_reported(sounds, backbone, tmp_path, capsys):
    (sounds / "low" / "bad.wav").write_bytes(b"no sound")
    assert train(sounds, "-o", tmp_path / "mine.onnx", "--backbone", backbone) == 1
    captured = capsys.readouterr()
    assert "bad.wav" in captured.err
    assert "12 sounds, 2 classes" in captured.out
    assert (tmp_path / "mine.onnx").exists()


@pytest.mark.parametrize("make", ["missing", "empty", "file"])
def test_folders_that_are_no_examples(make, tmp_path):
    path = tmp_path / "x"
    if make == "empty":
        path.mkdir()
    elif make == "file":
        path.write_text("")
    with pytest.raises(
        ExamplesError,
        match=r"x: (is not a folder with|has no labelled sounds: put those of each class into) a sub-folder",
    ):
        read_folder(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must name the columns path and label"),
        ('path,label\n"low/0.wav,low\n' + "x" * 200_000, "is not CSV: field larger than field limit"),
        ("path,label\nlow/0.wav,\n", "has no labelled sounds"),
    ],
    ids=["empty", "quote", "no label"],
)
def test_tables_that_are_no_examples(text, message, tmp_path):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ExamplesError, match=f"table.csv: {message}"):
        read_table(str(tmp_path / "table.csv"))


def test_a_path_that_can_not_be(sounds, backbone, tmp_path, capsys):
    table = tmp_path / "table.csv"
    names = [f"{name}/{i}.wav,{name[0]}" for name in ("high", "low") for i in range(6)]
    (sounds / "high, shrill").rename(sounds / "high")
    table.write_text("\n".join(["path,label", *names, "a\0b.wav,h", ""]))
    assert train(sounds, "--labels", table, "-o", tmp_path / "mine.onnx", "--backbone", backbone) == 1
    assert r"a\x00b.wav: " in capsys.readouterr().err
    assert (tmp_path / "mine.onnx").exists()


@pytest.mark.trials
def test_esc10_with_ten_examples_a_class(shared, mn04, tmp_path, monkeypatch, capsys):
    """Trained on folds 1 to 3, at least 98 % of fold 4 is right."""
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path / "home"))
    folder = tmp_path / "esc10"
    clips = shared / "data/esc10"
    for place in sorted(path for path in clips.iterdir() if path.is_dir()):
        chosen = sorted(path for path in place.iterdir() if path.name[0] in "123")[::2][:10]
        assert len(chosen) == 10
        (folder / place.name).mkdir(parents=True)
        for path in chosen:
            shutil.copy(path, folder / place.name)
    out = tmp_path / "mine.onnx"
    assert train(folder, "-o", out, "--backbone", mn04) == 0
    assert "100 sounds, 10 classes" in capsys.readouterr().out
    tagger = Tagger(out)
    tested = sorted(path for path in clips.glob("*/4-*.ogg"))
    right = sum(tagger.tag(path, top=1).tags[0].label == path.parent.name for path in tested)
    assert len(tested) == 80
    assert right / len(tested) >= 0.98


def test_an_output_that_can_not_be_is_refused_before_the_work(sounds, backbone, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Tagger, "embed", lambda self, path: pytest.fail("embedded"))
    assert train(sounds, "-o", backbone, "--backbone", backbone) == 1
    assert "is the backbone itself" in capsys.readouterr().err
    assert train(sounds, "-o", tmp_path / "no" / "mine.onnx", "--backbone", backbone) == 1
    assert "No such file or directory" in capsys.readouterr().err
