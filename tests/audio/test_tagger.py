from __future__ import annotations

import io
import pickle

import numpy as np
import onnxruntime
import pytest
import soundfile

import audiotag
from audiotag import LabelError, ModelError, Tagger, mel
from audiotag.tagger import best_tags, sigmoid
from tests.audio.conftest import make_tagger


@pytest.fixture(scope="module")
def tagger(model):
    return Tagger(model)


@pytest.fixture
def clip(noise, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise[:, 0], 32000, subtype="FLOAT")
    return path


def test_scores_are_the_models_own(tagger, model, noise, clip):
    (logits,) = onnxruntime.InferenceSession(model).run(None, {"x": mel.log_mel(noise[:, 0])[None, None]})
    expected = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    np.testing.assert_allclose(tagger.scores(noise[:, 0], 32000), expected, atol=1e-5)
    result = tagger.tag(clip, top=None)
    assert [tag.index for tag in result.tags] == np.argsort(-expected, kind="stable").tolist()
    assert (result.path, result.start, result.end, result.duration) == (str(clip), 0.0, 1.0, 1.0)


def test_logits_are_pytorchs(shared, golden, mn04):
    tagger = Tagger(mn04)
    for name in sorted({key.split(":")[0] for key in golden if key.endswith(":logits")}):
        expected = sigmoid(golden[f"{name}:logits"])
        np.testing.assert_allclose(tagger.scores(shared / f"data/esc10/{name}.ogg"), expected, rtol=0, atol=1e-4)


def test_every_kind_of_source_gives_the_same(tagger, clip, noise):
    expected = tagger.tag(clip).tags
    content = clip.read_bytes()
    for source in (str(clip), content, io.BytesIO(content)):
        assert tagger.tag(source).tags == expected
    assert tagger.tag(noise[:, 0], 32000, name="noise").tags == expected


def test_top_threshold_labels(tagger, clip):
    scores = tagger.scores(clip)
    best = int(scores.argmax())
    assert len(tagger.tag(clip).tags) == 10
    assert [tag.index for tag in tagger.tag(clip, top=1).tags] == [best]
    assert len(tagger.tag(clip, top=None, threshold=0.5).tags) == (scores >= 0.5).sum()
    chosen = tagger.tag(clip, labels="Dog,Siren").tags
    assert sorted(tag.label for tag in chosen) == ["Dog", "Siren"]
    assert chosen[0].score >= chosen[1].score
    assert tagger.tag(clip, threshold=1).tags == ()
    with pytest.raises(LabelError):
        tagger.tag(clip, labels="Dogg")


def test_equal_scores_come_in_the_order_of_the_classes():
    assert [tag.index for tag in best_tags(np.full(527, 0.5), among=[7, 3, 5])] == [3, 5, 7]


def test_sigmoid_neither_overflows_nor_loses_small_scores():
    np.testing.assert_allclose(
        sigmoid(np.array([-700.0, -40, 0, 40, 1e4])), [9.8597e-305, 4.2484e-18, 0.5, 1, 1], rtol=1e-4
    )


@pytest.mark.parametrize("n", [0, 1, 513, 514, 320_000])
def test_clips_of_any_length(tagger, n):
    result = tagger.tag(np.zeros(n, np.float32), 32000)
    assert len(result.tags) == 10
    assert result.duration == n / 32000


def test_it_is_lazy_and_picklable(model, clip, tmp_path):
    Tagger(tmp_path / "no-such-model.onnx")
    used = Tagger(model, threads=1)
    expected = used.tag(clip)
    assert pickle.loads(pickle.dumps(used)).tag(clip) == expected
    with pytest.raises(ValueError, match="threads"):
        Tagger(threads=0)


def test_the_default_model_is_trained_and_untrained_ones_say_that_they_are_not(clip):
    assert Tagger().tag(clip).trained
    assert Tagger().tag(clip).model == "audiotag-tiny"
    assert not Tagger("untrained-mn01").tag(clip).trained


def test_batches_of_columns(tagger, clip, noise):
    expected = [tag.to_dict() for tag in tagger.tag(clip).tags]
    content = clip.read_bytes()
    for batch in (
        {"path": np.array([str(clip), "no.wav"], object)},
        {"bytes": np.array([content, b""], object), "path": ["a.wav", "b.wav"]},
        {"audio": [noise[:, 0], np.array([np.nan])], "rate": np.array([32000, 32000]), "more": [1, 2]},
    ):
        result = tagger(batch)
        assert set(result) == {*batch, "tags", "error"}
        # columns that are arrays get Arrow's
        result |= {name: column.to_pylist() for name, column in result.items() if hasattr(column, "to_pylist")}
        assert result["tags"] == [expected, []]
        assert result["error"][0] is None
        assert "\n" not in result["error"][1]
    assert "b.wav: is empty" in tagger({"bytes": [b""], "path": ["b.wav"]})["error"]
    assert len(tagger({"path": [str(clip)]}, top=3)["tags"][0]) == 3
    with pytest.raises(KeyError, match="needs a column"):
        tagger({"file": ["a.wav"]})


NOT_TAGGERS = {
    "mels.onnx": (
        {"input": "float[batch, 1, 64, time] x"},
        "its input 'x' is tensor\\(float\\) \\(batch, 1, 64, time\\)",
    ),
    "rank.onnx": ({"input": "float[batch, samples] x"}, "expected one input"),
    "type.onnx": ({"input": "int64[batch, 1, 128, time] x"}, "tensor\\(int64\\)"),
    "two.onnx": ({"input": "float[batch, 1, 128, time] x, float[1] y"}, "it has 2 inputs"),
    "classes.onnx": ({"output": "float[batch, 10] scores", "classes": 10}, "no output has 527 classes"),
}


@pytest.mark.parametrize("name", NOT_TAGGERS)
def test_models_that_are_no_taggers(name, tmp_path, clip):
    options, message = NOT_TAGGERS[name]
    path = make_tagger(tmp_path / name, **options)
    with pytest.raises(ModelError, match=message) as caught:
        Tagger(path).tag(clip)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("output", ["float[batch, 527] scores", "float[batch, n] scores", "float[batch, n] logits"])
def test_logits_are_found_by_name_or_by_size(output, tmp_path, tagger, clip):
    path = make_tagger(tmp_path / "model.onnx", output=output)
    assert Tagger(path).tag(clip).tags == tagger.tag(clip).tags


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_models_in_other_precisions(kind, tmp_path, tagger, clip):
    path = make_tagger(
        tmp_path / "model.onnx", input=f"{kind}[batch, 1, 128, time] x", output=f"{kind}[batch, 527] logits", kind=kind
    )
    close = pytest.approx([tag.score for tag in tagger.tag(clip).tags], abs=1e-2 if kind == "float16" else 1e-6)
    assert [tag.score for tag in Tagger(path).tag(clip).tags] == close


@pytest.mark.parametrize("wrong", [{"top": -1}, {"threshold": float("nan")}, {"threshold": 1.5}])
def test_impossible_limits_are_refused(tagger, clip, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        tagger.tag(clip, **wrong)


def test_an_output_that_turns_out_to_have_another_size(tmp_path, clip):
    path = make_tagger(tmp_path / "model.onnx", output="float[batch, n] scores", classes=10)
    with pytest.raises(ModelError, match=r"output 'scores' has shape \(1, 10\), not \(1, 527\)"):
        Tagger(path).tag(clip)


def test_a_model_of_fixed_length(tmp_path, noise):
    tagger = Tagger(make_tagger(tmp_path / "model.onnx", input="float[1, 1, 128, 100] x"))
    assert tagger.tag(noise[:32000, 0], 32000).tags
    with pytest.raises(ModelError, match="takes exactly 100 frames, here are 50; it is made for clips of 1 s"):
        tagger.tag(noise[:16000, 0], 32000)


@pytest.mark.parametrize("content", [b"", b"random bytes, no model" * 50])
def test_files_that_are_no_models(content, tmp_path, clip):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        Tagger(path).tag(clip)


def test_the_package_exports_what_it_says():
    for name in audiotag.__all__:
        assert getattr(audiotag, name) is not None
    with pytest.raises(AttributeError):
        _ = audiotag.nothing
