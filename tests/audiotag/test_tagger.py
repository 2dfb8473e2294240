from __future__ import annotations

import io
import pickle

import numpy as np
import onnxruntime
import pytest
import soundfile

import audiotag
import tinyonnx
from audiotag import AudioError, Failure, LabelError, Result, Tagger
from audiotag.errors import AudioWarning
from audiotag.events import EventOptions
from audiotag.features import mel
from audiotag.labels import audioset
from audiotag.models.network import sigmoid
from audiotag.selection import best_tags


def test_scores_are_the_models_own(tagger, model, noise, clip):
    (logits,) = onnxruntime.InferenceSession(model).run(None, {"x": mel.log_mel(noise[:, 0])[None, None]})
    expected = 1 / (1 + np.exp(-logits[0].astype(np.float64)))
    np.testing.assert_allclose(tagger.scores(noise[:, 0], 32000), expected, atol=1e-5)
    result = tagger.tag(clip, top=None)
    assert [tag.index for tag in result.tags] == np.argsort(-expected, kind="stable").tolist()
    assert (result.path, result.start, result.end, result.duration) == (str(clip), 0.0, 1.0, 1.0)


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
    assert [tag.index for tag in best_tags(np.full(527, 0.5), audioset(), among=[7, 3, 5])] == [3, 5, 7]


def test_sigmoid_neither_overflows_nor_loses_small_scores():
    np.testing.assert_allclose(
        sigmoid(np.array([-700.0, -40, 0, 40, 1e4])), [9.8597e-305, 4.2484e-18, 0.5, 1, 1], rtol=1e-4
    )


@pytest.mark.parametrize("n", [1, 513, 514, 320_000])
def test_clips_of_any_length(tagger, n):
    result = tagger.tag(np.zeros(n, np.float32), 32000)
    assert len(result.tags) == 10
    assert result.duration == n / 32000
    assert result.warning == (None if n > 16000 else f"only {n / 32000:.2f} s long: too short to judge")


def test_an_array_without_samples_is_an_error(tagger):
    with pytest.raises(AudioError, match="has no samples"):
        tagger.tag(np.zeros(0, np.float32), 32000)


class Live:
    """A file object that can only be read."""

    def __init__(self, content):
        self.read = io.BytesIO(content).read


def cut_wav(samples):
    file = io.BytesIO()
    soundfile.write(file, samples, 32000, format="WAV")
    return file.getvalue()[: 44 + 2 * 40_000]


CUT = "ends early: its header promises 3.00 s, 1.25 s are there"


def test_what_is_missing_is_a_warning_in_the_row(tagger):
    content = cut_wav(np.tile(np.float32(0.1), 96_000))
    for source in (content, Live(content)):
        result = tagger.tag(source)
        assert result.warning == result.to_dict()["warning"] == CUT
    assert "warning" not in tagger.tag(np.zeros(32000), 32000).to_dict()
    batch = tagger({"bytes": [content, b""]})
    assert batch["warning"] == [CUT, None]
    with pytest.warns(AudioWarning, match="ends early"):
        tagger.scores(content)


@pytest.mark.parametrize(("window", "rows"), [(1.0, 2), (0.25, 5), (2.0, 1)])
def test_what_is_missing_is_a_warning_in_the_last_row(tagger, window, rows):
    content = cut_wav(np.tile(np.float32(0.1), 96_000))
    found = list(tagger.tag_windows(content, window))
    assert [row.warning for row in found] == [None] * (rows - 1) + [CUT]
    events = list(tagger.find_events(content, EventOptions(0.01, 0.005), window))
    assert [event.warning for event in events if event.warning] == [CUT]


def test_of_a_live_source_it_is_an_error_after_the_last_row(tagger):
    content = cut_wav(np.tile(np.float32(0.1), 96_000))
    found = tagger.tag_windows(Live(content), 0.25)
    assert [next(found).warning for _ in range(5)] == [None] * 5
    with pytest.raises(AudioError, match=CUT):
        next(found)
    # a row that is still to come has it
    assert list(tagger.tag_windows(Live(content), 1.0))[-1].warning == CUT


def test_an_error_comes_after_the_rows_before_it(tagger):
    samples = np.zeros(96_000, np.float32)
    samples[80_000] = np.nan
    found = tagger.tag_windows(samples, 1.0, rate=32000)
    assert [next(found).start, next(found).start] == [0, 1]
    with pytest.raises(AudioError, match="NaN"):
        next(found)


def test_a_tagger_of_one_channel(model, noise):
    left = Tagger(model).scores(noise[:, 0], 32000)
    for channel in ("left", "first", 1):
        np.testing.assert_array_equal(Tagger(model, channel=channel).scores(noise[:, :2], 32000), left)
    again = pickle.loads(pickle.dumps(Tagger(model, channel="right")))
    np.testing.assert_array_equal(again.scores(noise[:, :2], 32000), Tagger(model).scores(noise[:, 1], 32000))
    with pytest.raises(AudioError, match="has 2 channels, no channel 3"):
        Tagger(model, channel=3).tag(noise[:, :2], 32000)
    with pytest.raises(ValueError, match="channel must be"):
        Tagger(model, channel="middle")


def test_precision_is_said_in_rows(model, noise):
    used = tinyonnx_precision("bfloat16", model)
    tagger = pickle.loads(pickle.dumps(Tagger(model, precision="bfloat16")))
    assert tagger.precision == "bfloat16"
    result = tagger.tag(noise[:, 0], 32000)
    assert result.precision == used
    assert result.to_dict()["model"].get("precision", "float32") == used
    assert "precision" not in Tagger(model).tag(noise[:, 0], 32000).to_dict()["model"]
    with pytest.raises(ValueError, match="float32 or bfloat16, not 'half'"):
        Tagger(model, precision="half")


def tinyonnx_precision(wanted, model):
    options = tinyonnx.SessionOptions()
    options.precision = wanted
    return tinyonnx.InferenceSession(model, options).precision


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
        assert set(result) == {*batch, "tags", "error", "warning"}
        # columns that are arrays get Arrow's
        result |= {name: column.to_pylist() for name, column in result.items() if hasattr(column, "to_pylist")}
        assert result["tags"] == [expected, []]
        assert result["error"][0] is None
        assert "\n" not in result["error"][1]
    assert "b.wav: is empty" in tagger({"bytes": [b""], "path": ["b.wav"]})["error"]
    assert len(tagger({"path": [str(clip)]}, top=3)["tags"][0]) == 3
    with pytest.raises(KeyError, match="none of 'bytes', 'audio', 'path'"):
        tagger({"file": ["a.wav"]})


@pytest.mark.parametrize("wrong", [{"top": -1}, {"threshold": float("nan")}, {"threshold": 1.5}])
def test_impossible_limits_are_refused(tagger, clip, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        tagger.tag(clip, **wrong)


def test_the_package_exports_what_it_says():
    for name in audiotag.__all__:
        assert getattr(audiotag, name) is not None
    with pytest.raises(AttributeError):
        _ = audiotag.nothing


def test_embeddings_of_windows_are_those_of_clips(noise):
    tagger = Tagger()
    x = np.tile(noise[:, 0], 3)
    results = list(tagger.tag_windows(x, 1, 0.7, 32000, embedding=True))
    assert [result.start for result in results] == [0.0, 0.7, 1.4, 2.0]
    for result in results:
        part = x[round(result.start * 32000) : round(result.end * 32000)]
        np.testing.assert_array_equal(result.embedding, tagger.embed(part, 32000))
        np.testing.assert_array_equal(np.float32(result.to_dict()["embedding"]), result.embedding)


def test_many_clips(tagger, clip):
    results = tagger.tag_batch([clip, "no.wav", clip.read_bytes()], top=2)
    assert [type(result) for result in results] == [Result, Failure, Result]
    assert results[0] == tagger.tag(clip, top=2)
    assert results[2].tags == results[0].tags
    assert str(results[1]) == "no.wav: No such file or directory"


@pytest.mark.parametrize("rate", [8000, 11025.0, 22050, np.int64(44100), 96000, 31999.5])
def test_arrays_at_any_rate(tagger, rate):
    result = tagger.tag(np.zeros(int(rate)), rate)
    assert result.duration == pytest.approx(1, abs=1e-3)
