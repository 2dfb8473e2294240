"""The description in the metadata of a model: its form, its contradictions, and models that contradict it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from audiotag import ModelError, Tagger, cli
from audiotag.models import catalog
from audiotag.models.describe import describe, description_of
from audiotag.models.description import KEY, Description, Frames, Length, efficientat, from_value, parse
from audiotag.models.families import descriptions
from audiotag.models.metadata import read_metadata, with_entry
from audiotag.models.network import Network
from tests.audiotag.conftest import make_tagger


@pytest.mark.parametrize("name", descriptions())
def test_text_and_back(name):
    described = descriptions()[name]
    assert parse(described.to_text()) == described


def value():
    return json.loads(replace(efficientat(), labels=efficientat().labels[:2]).to_text())


def test_the_form_is_that_of_the_contract():
    assert value() | {"labels": []} == {
        "input": "log_mel", "rate": 32000, "layout": ["batch", 1, "mel", "time"], "output": "logits", "labels": [],
        "features": {
            "preemphasis": 0.97, "n_fft": 1024, "window": {"kind": "hann", "length": 800, "periodic": False},
            "hop": 320, "centre": "reflect", "power": 2,
            "mel": {"scale": "kaldi", "bins": 128, "fmin": 0.0, "fmax": 15000.0, "norm": None},
            "log": {"base": "e", "offset": 1e-5, "floor": 0.0, "top_db": None}, "shift": 4.5, "scale": 5.0,
        },
        "frames": None, "length": None, "outputs": None,
    }  # fmt: skip


WRONG = {
    "a key": (("hops",), 3, "unknown key 'hops'; keys are input, rate"),
    "a deep key": (("features", "mel", "bands"), 3, r"description\.features\.mel has the unknown key 'bands'"),
    "a type": (("features", "hop"), 0.5, r"features\.hop is 0\.5, not an integer"),
    "a truth value": (("rate",), True, "rate is True, not an integer"),
    "a choice": (("features", "mel", "scale"), "bark", "is 'bark', not one of 'kaldi', 'htk', 'slaney'"),
    "rates": (("features", "rate"), 48000, "features of 48000 Hz contradict rate 32000 Hz"),
    "fmax": (("rate",), 16000, r"rate / 2 = 8000"),
    "layout": (("layout",), ["batch", "time"], "must have the axes mel, time"),
    "waveform": (("input",), "waveform", "only for that"),
    "labels": (("labels",), [], "the list of classes is empty"),
    "names": (("labels",), [{"name": "a"}, {"name": "A"}], "classes 0 and 1 have the same name 'A'"),
    "lengths": (("length",), {"fixed": 5, "max": 6}, "fixed can't be combined"),
    "frames": (("frames",), {"rate": 0}, "rate must be positive"),
    "median": (("frames",), {"rate": 25, "median": 4}, "odd number of frames, not 4"),
}


@pytest.mark.parametrize("name", WRONG)
def test_contradictions_are_refused(name):
    path, new, message = WRONG[name]
    wrong = value()
    at = wrong
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    with pytest.raises(ValueError, match=message):
        from_value(wrong)


@pytest.mark.parametrize("missing", [("features", "hop"), ("rate",), ("labels",), ("features", "preemphasis")])
def test_what_has_no_neutral_value_must_be_stated(missing):
    wrong = value()
    at = wrong
    for key in missing[:-1]:
        at = at[key]
    del at[missing[-1]]
    with pytest.raises(ValueError, match=missing[-1]):
        from_value(wrong)


def described(path, description: Description, **options):
    """Make a small tagger with a description in its metadata."""
    make_tagger(path, **options)
    path.write_bytes(with_entry(path.read_bytes(), KEY, description.to_text()))
    return path


def test_metadata_are_read_without_the_graph_and_replaced(tmp_path):
    path = make_tagger(tmp_path / "model.onnx")
    content = with_entry(with_entry(path.read_bytes(), KEY, "x" * 70_000), KEY, "é")
    assert read_metadata(content) == {KEY: "é"}
    model = onnx.load_from_string(content)
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [(KEY, "é")]
    model.metadata_props.clear()
    assert model == onnx.load(path)
    assert read_metadata(b"no model at all") == {}
    with pytest.raises(ValueError, match="not an ONNX file"):
        with_entry(b"\xff" * 20, KEY, "")


TEN = efficientat(labels=tuple(descriptions()["efficientat"].labels[:10]))


def test_a_model_with_ten_classes(tmp_path):
    path = described(tmp_path / "ten.onnx", TEN, output="float[batch, 10] logits", classes=10)
    tagger = Tagger(path)
    result = tagger.tag(np.zeros(32000, np.float32), 32000, top=None)
    assert {tag.label for tag in result.tags} == {label.name for label in tagger.labels}
    assert [tag.label for tag in tagger.tag(np.zeros(32000, np.float32), 32000, labels="Speech").tags] == ["Speech"]


def contradicting():
    bins = replace(efficientat().features, mel=replace(efficientat().features.mel, bins=64))
    ten = {"output": "float[batch, 10] logits", "classes": 10}
    fixed = {"input": "float[1, 1, 128, 100] x"}
    return {
        "mels": (replace(efficientat(), features=bins), {}, r"one input .*\(batch, 1, 64, time\)"),
        "labels": (efficientat(), ten, r"its output 'logits' is .*10.*, which does not fit 527 labels"),
        "length": (replace(efficientat(), length=Length(fixed=2)), fixed, "2 s are 200 frames, .* takes 100"),
        "hop": (
            replace(efficientat(), features=replace(efficientat().features, hop=640), length=Length(fixed=1)), fixed,
            "1 s are 50 frames, but its input takes 100; correct rate, hop",
        ),
        "frames": (replace(efficientat(), frames=Frames(25)), {}, r"no output \(batch, frames, 527\)"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["mels", "labels", "length", "hop", "frames"])
def test_a_model_that_contradicts_its_description_is_refused_when_loaded(name, tmp_path):
    description, options, message = contradicting()[name]
    path = described(tmp_path / "model.onnx", description, **options)
    with pytest.raises(ModelError, match=message) as caught:
        Network(str(path), str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_rate_of_frames_that_the_model_has_not(tmp_path, shared):
    wrong = replace(descriptions()["efficientsed"], frames=Frames(50))
    with pytest.raises(ModelError, match=r"2 s give 50 frame-wise scores, not 100 \(50 per second\)"):
        describe(shared / "data/families/fmn06/fmn06.onnx", wrong, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_scores_that_are_no_probabilities(tmp_path):
    path = described(tmp_path / "model.onnx", replace(efficientat(), output="probabilities"))
    noise = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    with pytest.raises(ModelError, match=r"outside 0\.\.1: its description must say output logits"):
        Tagger(path).tag(noise * 100, 32000)


def test_a_description_that_is_no_json(tmp_path):
    path = make_tagger(tmp_path / "model.onnx")
    path.write_bytes(with_entry(path.read_bytes(), KEY, "{"))
    with pytest.raises(ModelError, match="is not JSON"):
        Tagger(path).tag(np.zeros(32000, np.float32), 32000)
    with pytest.raises(ModelError, match="is not JSON"):
        _ = catalog.resolve(path).labels


# -- the command ------------------------------------------------------------------------


def run(*arguments):
    return cli.main(["models", "describe", *map(str, arguments)])


def test_the_command_describes_a_foreign_model(tmp_path, capsys):
    model = make_tagger(tmp_path / "model.onnx", output="float[batch, 3] scores", classes=3)
    labels, out = tmp_path / "labels.csv", tmp_path / "out.onnx"
    labels.write_text('index,mid,display_name\n0,/m/1,"Wolf, grey"\n1,/m/2,Owl\n2,,Rain\n')
    assert run(model, "--features", "efficientat", "--labels", labels, "-o", out) == 0
    assert "128 mel bands every 10 ms at 32000 Hz, 3 classes, logits" in capsys.readouterr().out
    tagger = Tagger(out)
    assert [(label.name, label.mid) for label in tagger.labels] == [
        ("Wolf, grey", "/m/1"),
        ("Owl", "/m/2"),
        ("Rain", ""),
    ]
    assert cli.main(["models", "info", str(out)]) == 0
    assert "3 classes" in capsys.readouterr().out


def test_a_file_with_a_description(tmp_path):
    given = value()
    del given["labels"]
    path, labels = tmp_path / "features.json", tmp_path / "labels.txt"
    path.write_text(json.dumps(given))
    labels.write_text("one\ntwo\n")
    assert [label.name for label in description_of(str(path), labels).labels] == ["one", "two"]
    assert len(description_of(str(path)).labels) == 527


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ("nonsense", None, "no such description or file; descriptions are ced, "),
        ("efficientat", "", "has no classes"),
        ("efficientat", "a\na\n", "have the same name"),
        ("efficientat", "a\nb\n", "does not fit 2 labels"),
        ("features.json", None, "is not JSON"),
    ],
)
def test_mistakes_are_one_line(features, labels, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_tagger(tmp_path / "model.onnx")
    (tmp_path / "features.json").write_text("{")
    (tmp_path / "labels.txt").write_text(labels or "")
    more = [] if labels is None else ["--labels", "labels.txt"]
    assert run("model.onnx", "--features", features, *more, "-o", "out.onnx") == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.onnx").exists()


def test_labels_of_the_command_line_are_those_of_the_model(tmp_path, capsys):
    path = described(tmp_path / "ten.onnx", TEN, output="float[batch, 10] logits", classes=10)
    with pytest.raises(SystemExit) as caught:
        cli.main(["tag", "--model", str(path), "x.wav", "--labels", "Siren"])
    assert caught.value.code == 2
    assert "no class is named 'Siren'" in capsys.readouterr().err


def test_the_graph_is_kept(tmp_path):
    path = make_tagger(tmp_path / "model.onnx")
    describe(path, efficientat(), tmp_path / "out.onnx")
    before, after = onnx.load(path), onnx.load(tmp_path / "out.onnx")
    assert before.graph == after.graph
