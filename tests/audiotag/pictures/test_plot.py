from __future__ import annotations

import sys

import numpy as np
import pytest
import soundfile

from audiotag import EventOptions, Tagger, cli
from audiotag.events import Event
from audiotag.features import mel
from audiotag.options import TagOptions
from audiotag.pictures import plot

pytest.importorskip("matplotlib")

RATE = 32000


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).standard_normal(5 * RATE) * np.linspace(0.001, 0.2, 5 * RATE)
    soundfile.write("clip $x_1$.wav", x, RATE, subtype="FLOAT")
    return "clip $x_1$.wav"


def pixels(path):
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("more", [[], ["--window", "1", "--top", "3"], ["--events", "0.4", "--labels", "Dog,Siren"]])
def test_a_picture_beside_the_results(clip, model, capsys, more):
    assert cli.main(["tag", clip, "--model", model, "--plot", "out.png", *more]) == 0
    assert capsys.readouterr().out.startswith(clip)
    picture = pixels("out.png")
    assert picture.shape[1] == 1760
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200


@pytest.mark.parametrize("n", [1, 1000])
def test_tiny_clips(n, model, tmp_path):
    soundfile.write(tmp_path / "clip.wav", np.zeros(n), RATE)
    plot.write_plot(Tagger(model), str(tmp_path / "clip.wav"), TagOptions(), str(tmp_path / "out.png"))
    assert pixels(tmp_path / "out.png").size


@pytest.mark.parametrize("columns", [1, 2, 7, 50, 1000])
def test_the_spectrogram_of_a_long_clip_is_summed_up(clip, columns, monkeypatch):
    monkeypatch.setattr(plot, "COLUMNS", columns)
    duration, spectrogram = plot._spectrogram(clip, "mean")
    x, _ = soundfile.read(clip, dtype="float32")
    frames = 10 / np.log(10) * (5 * mel.log_mel(x) - 4.5)
    assert duration == 5
    assert spectrogram.shape[1] <= 2 * columns
    width = -(-frames.shape[1] // spectrogram.shape[1])
    width = 1 << (width - 1).bit_length()
    means = [frames[:, i : i + width].mean(axis=1) for i in range(0, frames.shape[1], width)]
    np.testing.assert_allclose(spectrogram, np.stack(means, axis=1), rtol=0, atol=1e-3)


def test_classes_are_the_best_in_the_order_of_their_coming():
    scores = np.zeros((4, 527), np.float32)
    scores[3, 5], scores[0, 7], scores[1, 9], scores[2, 11] = 0.9, 0.8, 0.7, 0.1
    assert plot.classes(scores, 3) == (7, 9, 5)
    assert plot.classes(scores, 10, threshold=0.75) == (7, 5)
    assert plot.classes(scores, 1, threshold=1) == (5,)
    assert plot.classes(scores, 10, among=[11, 5]) == (11, 5)


def test_windows_suit_the_length():
    assert plot.suitable(10) == (2, 0.5)
    assert plot.suitable(36_000) == (10, 10)


def test_windows_are_drawn_where_they_are(clip, model):
    options = TagOptions(window=1.0, hop=0.5, events=EventOptions(0.01, 0.005))
    tagger = Tagger(model)
    timeline = plot._analyse(tagger, clip, plot.Grid(1.0, 0.5), 5.0, np.zeros((128, 10)), options)
    np.testing.assert_array_equal(timeline.edges, [0, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 5])
    assert timeline.scores.shape == (9, 527)
    assert all(isinstance(event, Event) for event in timeline.events)
    assert timeline.events


def test_what_goes_wrong_is_said(clip, model, capsys, monkeypatch):
    arguments = ["tag", clip, "--model", model]
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--plot", "out.xyz"])
    assert "out.xyz: has no suffix of a picture format: " in capsys.readouterr().err
    assert cli.main([*arguments, "--plot", "nowhere/out.png"]) == 1
    assert "nowhere/out.png: No such file" in capsys.readouterr().err
    for more, problem in (
        (["-"], "takes a single file"), ([clip], "takes a single file"), (["--workers", "2"], "can't be combined"),
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            cli.main([*arguments, *more, "--plot", "out.png"])
        assert f"--plot {problem}" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    assert cli.main([*arguments, "--plot", "out.png"]) == 1
    assert "pip install 'tinyonnx[plot]'" in capsys.readouterr().err
