"""Frame-wise scores: joined from pieces, filtered, and made into events."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
import soundfile
from onnx import numpy_helper, parser

from audiotag import EventOptions, Tagger, cli
from audiotag.models.description import KEY, ClassLabel, OutputNames
from audiotag.models.families import descriptions
from audiotag.models.frames import FramePiece, MedianFilter, join
from audiotag.models.metadata import with_entry
from audiotag.scoring import Clip

RATE = 16000


def test_pieces_are_joined_in_the_middle_of_their_overlap():
    pieces = [FramePiece(start, start + 2, np.full((20, 1), start)) for start in (0.0, 1.6, 3.2)]
    joined = list(join(pieces, 10))
    ends = np.concatenate([ends for ends, _ in joined])
    scores = np.concatenate([scores for _, scores in joined])[:, 0]
    np.testing.assert_allclose(ends, np.arange(1, 53) / 10)
    np.testing.assert_array_equal(scores, np.repeat([0, 1.6, 3.2], [18, 16, 18]))


def test_frames_beyond_the_end_are_left_out():
    (part,) = join([FramePiece(0.0, 0.97, np.arange(12.0)[:, None])], 10)
    np.testing.assert_allclose(part[0], [*np.arange(1, 10) / 10, 0.97])


@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize("block", [1, 4, 100])
def test_the_median_filter_is_that_of_scipy(size, block):
    ndimage = pytest.importorskip("scipy.ndimage")
    scores = np.random.default_rng(0).random((50, 3))
    parts = [(np.arange(i, min(i + block, 50)) + 1.0, scores[i : i + block]) for i in range(0, 50, block)]
    found = [part for part in MedianFilter(size).over(parts) if len(part[0])]
    np.testing.assert_array_equal(np.concatenate([ends for ends, _ in found]), np.arange(50) + 1)
    expected = ndimage.median_filter(scores, (size, 1), mode="nearest")
    np.testing.assert_array_equal(np.concatenate([filtered for _, filtered in found]), expected)


@pytest.fixture
def listener(tmp_path):
    """A frame-wise model with seeded weights: two layers on the mean of four frames, 25 scores a second."""
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[batch, 1, 128, time] x) => (float[batch, frames, 3] strong, float[batch, 3] weak) {
            four = AveragePool <kernel_shape = [1, 4], strides = [1, 4]> (x)
            axes = Constant <value_ints = [1]> ()
            bands = Squeeze (four, axes)
            turned = Transpose <perm = [0, 2, 1]> (bands)
            hidden = MatMul (turned, first)
            active = Relu (hidden)
            strong = MatMul (active, second)
            weak = ReduceMax <axes = [1], keepdims = 0> (strong)
        }""")
    random = np.random.default_rng(0)
    first = np.abs(random.standard_normal((128, 8))) / 128
    second = random.standard_normal((8, 3)) * 4
    for name, array in (("first", first), ("second", second)):
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    description = replace(
        descriptions()["efficientsed"], labels=tuple(ClassLabel(name) for name in ("hiss", "hum", "click")),
        outputs=OutputNames("weak", "strong"),
    )  # fmt: skip
    path = tmp_path / "listener.onnx"
    path.write_bytes(with_entry(model.SerializeToString(), KEY, description.to_text()))
    onnx.checker.check_model(str(path))
    return path


def two_minutes(start, seconds):
    """Return quiet noise with a loud sound in it."""
    random = np.random.default_rng(1)
    samples = 0.001 * random.standard_normal(120 * RATE)
    span = slice(round(start * RATE), round((start + seconds) * RATE))
    samples[span] += 0.3 * random.standard_normal(span.stop - span.start)
    return samples.astype(np.float32)


def threshold_of(tagger, samples, start):
    """Return the class that tells the sound from the noise best, and the score between both."""
    rows = list(tagger.scorer.events(_clip(samples), None, None, []))
    scores = np.array([row.scores for row in rows])
    middles = np.array([(row.start + row.end) / 2 for row in rows])
    inside = scores[(middles > start + 0.1) & (middles < start + 0.4)].min(axis=0)
    outside = scores[(middles < start - 1) | (middles > start + 1.5)].max(axis=0)
    best = int(np.argmax(inside - outside))
    assert inside[best] > outside[best]
    return best, float(inside[best] + outside[best]) / 2


def _clip(samples):
    return Clip(samples, RATE, None, "clip")


@pytest.mark.parametrize("start", [0.0, 8.8, 47.3, 63.97, 119.5])
def test_a_short_sound_is_found_where_it_is(start, listener):
    """Half a second in two minutes is reported within 0.15 s at both ends, also where pieces meet."""
    tagger = Tagger(listener)
    samples = two_minutes(start, 0.5)
    best, on = threshold_of(tagger, samples, start)
    options = EventOptions(on=on, off=0.9 * on, classes=((best, on, 0.9 * on),), only=True)
    events = [row for row in tagger.find_events(samples, options, rate=RATE) if row.tags]
    assert len(events) == 1
    assert abs(events[0].start - start) <= 0.15
    assert abs(events[0].end - (start + 0.5)) <= 0.15
    assert events[0].tags[0].index == best


def test_the_command_uses_frames_without_a_window(listener, tmp_path, capsys):
    start = 20.0
    samples = two_minutes(start, 0.5)
    soundfile.write(tmp_path / "clip.wav", samples, RATE, subtype="FLOAT")
    tagger = Tagger(listener)
    best, on = threshold_of(tagger, samples, start)
    name = tagger.labels[best].name
    options = ["--model", str(listener), "--events", f"{name}={on:.6f}:{0.9 * on:.6f}", "--format", "jsonl"]
    assert cli.main(["tag", str(tmp_path / "clip.wav"), *options]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert abs(row["start"] - start) <= 0.15
    assert row["tags"][0]["label"] == name
    assert cli.main(["tag", str(tmp_path / "clip.wav"), *options, "--window", "4"]) == 0
    (again,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert abs(again["start"] - start) <= 0.15


def test_scores_of_the_frames_cover_the_clip(listener):
    samples = two_minutes(5, 0.5)[: 33 * RATE + 123]
    rows = list(Tagger(listener).scorer.events(_clip(samples), None, None, []))
    assert rows[0].start == 0
    assert rows[-1].end == pytest.approx(len(samples) / RATE)
    assert all(first.end == second.start for first, second in pairwise(rows))
    assert max(row.end - row.start for row in rows) < 0.09
