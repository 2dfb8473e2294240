"""Every way to use a model, with one of each kind, compared with the scores of its original code."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotag import Tagger, cli
from audiotag.models import catalog, conversion
from audiotag.models.checkpoint import read_checkpoint
from audiotag.models.describe import describe, description_of
from audiotag.models.network import sigmoid
from audiotag.sound import audio
from tinyonnx import save_model

CLIP = "rooster/2-100786-A"
CLASSES = [f"sound {i}" for i in range(10)]


def converted(folder, shared, name):
    path = folder / "model.onnx"
    families = shared / "data/families"
    golden = np.load(families / name / "golden.npz")
    catalog.convert(families / name / f"{name}.pt", path)
    scores = golden[f"{CLIP}:{'weak_logits' if name == 'fmn06' else 'logits'}"]
    return path, golden[f"{CLIP}:waveform"], sigmoid(scores)


def described(folder, shared, name, features, key):
    path = folder / "model.onnx"
    source = shared / "data/families" / ("wave10" if name == "wave10" else "ced_tiny")
    golden = np.load(source / "golden.npz")
    labels = folder / "labels.txt"
    labels.write_text("\n".join(CLASSES))
    describe(source / f"{name}.onnx", description_of(features, labels if name == "wave10" else None), path)
    return path, golden[f"{CLIP}:waveform"], golden[f"{CLIP}:{key}"]


def fine_tuned(folder, shared, _):
    """mn04 with the first ten of its classes, in another order, under the names of a model on several processors."""
    state = read_checkpoint(shared / "data/mn04_as_mAP_432.pt")
    order = np.arange(10)[::-1]
    state |= {name: state[name][order] for name in ("classifier.5.weight", "classifier.5.bias")}
    labels = folder / "labels.txt"
    labels.write_text("\n".join(CLASSES))
    path = folder / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "read_checkpoint", lambda _: {f"module.{name}": a for name, a in state.items()})
        save_model(conversion.graph_of(folder / "mine.pt", "mine.pt", labels), path)
    golden = np.load(shared / "data/golden_mn04.npz")
    clip = "rooster/1-34119-B"
    sound = audio.read(shared / f"data/esc10/{clip}.ogg", target=32000)
    return path, sound, sigmoid(golden[f"{clip}:logits"])[order]


MAKERS = {
    "dymn04": converted,
    "fmn06": converted,
    "ced_tiny": lambda folder, shared, name: described(folder, shared, name, "ced", "probabilities"),
    "wave10": lambda folder, shared, name: described(folder, shared, name, "waveform_16k", "wave10:probabilities"),
    "mn04 with 10 classes": fine_tuned,
}


@pytest.fixture(scope="module", params=MAKERS)
def use(request, shared, tmp_path_factory) -> tuple[Any, ...]:
    """(model file, its tagger, sound file, samples, expected scores)."""
    folder = tmp_path_factory.mktemp("use")
    path, samples, expected = MAKERS[request.param](folder, shared, request.param)
    tagger = Tagger(path)
    sound = folder / "sound.wav"
    soundfile.write(sound, samples, tagger.rate, subtype="FLOAT")
    return path, tagger, sound, samples, expected


def rows(capsys, *arguments):
    assert cli.main([str(argument) for argument in arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def scores_of(tags, count):
    found = np.full(count, np.nan)
    for tag in tags:
        found[tag["index"]] = tag["score"]
    return found


def test_tags_and_embeddings(use, capsys):
    path, tagger, sound, _, expected = use
    more = ["--embeddings"] if len(expected) != 10 or tagger.rate == 32000 else []  # wave10 has no embedding
    (row,) = rows(capsys, "tag", "--model", path, sound, "--format", "jsonl", "--top", len(expected), *more)
    np.testing.assert_allclose(scores_of(row["tags"], len(expected)), expected, rtol=0, atol=2e-3)
    assert {tag["label"] for tag in row["tags"]} == {label.name for label in tagger.labels}
    if more:
        np.testing.assert_allclose(row["embedding"], tagger.embed(sound), rtol=0, atol=1e-5)


def test_windows(use, capsys):
    path, tagger, sound, samples, expected = use
    found = rows(capsys, "tag", "--model", path, sound, "--format", "jsonl", "--window", 2, "--top", len(expected))
    assert [(row["start"], row["end"]) for row in found][:2] == [(0, 2), (2, 4)]
    for row in found[:2]:
        part = samples[round(row["start"] * tagger.rate) : round(row["end"] * tagger.rate)]
        np.testing.assert_allclose(
            scores_of(row["tags"], len(expected)), tagger.scores(part, tagger.rate), rtol=0, atol=1e-5
        )


def test_events(use, capsys):
    path, tagger, sound, samples, expected = use
    threshold = round(0.8 * float(expected.max()), 3)
    found = rows(capsys, "tag", "--model", path, sound, "--format", "jsonl", f"--events={threshold}:{threshold / 2}")
    assert found
    seconds = len(samples) / tagger.rate
    for row in found:
        assert 0 <= row["start"] < row["end"] <= seconds + 1e-3
        assert all(tag["score"] >= threshold - 1e-9 for tag in row["tags"])
    if tagger.network.description.frames is not None:
        assert {round(row["start"] * 25, 3) % 1 for row in found} == {0}


def test_the_server_answers_the_same(use):
    pytest.importorskip("starlette")
    from audiotag.serve.analysis import AnalysisRequest, Query, analyse

    class Direct:
        def decode(self, sound, abandoned, notes):
            return audio.read(io.BytesIO(sound.data), name=sound.name, notes=notes, target=sound.target)

    _, tagger, sound, _, _ = use
    request = AnalysisRequest(io.BytesIO(sound.read_bytes()), "sound.wav", Query.of({"top": "5"}, tagger.labels), 60)
    assert analyse(tagger, Direct(), request).content == tagger.tag(sound, top=5, name="sound.wav").to_dict()


def test_the_mapper_of_ray_gives_the_same(use):
    _, tagger, sound, _, _ = use
    found = tagger({"bytes": [sound.read_bytes(), b"no sound"]}, top=3)
    expected = [tag.to_dict() for tag in tagger.tag(sound, top=3).tags]
    assert found["tags"] == [expected, []]
    assert found["error"][0] is None
    assert "row 1" in found["error"][1]
