from __future__ import annotations

import numpy as np
import pytest

from audiotag import AudioError, LabelError, Tagger
from audiotag.events import EventOptions, Segmenter, parse
from audiotag.labels import audioset

DOG, SIREN = audioset().find("Dog").index, audioset().find("Siren").index


def events(scores, *, window=1.0, hop=1.0, among=None, **options):
    """Return (start, end, score) of the events of one class that has these scores, window after window."""
    segmenter = Segmenter(EventOptions(**options), 527, among)
    found = []
    for k, score in enumerate(scores):
        row = np.zeros(527)
        row[DOG] = score
        found += segmenter.push(k * hop, k * hop + window, row)
    found += segmenter.finish()
    assert all(event.label == DOG for event in found)
    return [(event.start, event.end, event.score) for event in found]


def test_hysteresis():
    assert events([0.4, 0.5, 0.3, 0.4, 0.29, 0.4, 0.6]) == [(1, 4, 0.5), (6, 7, 0.6)]
    assert events([0.4, 0.49, 0.3]) == []
    assert events([0.9]) == [(0, 1, 0.9)]


def test_overlapping_windows_speak_for_their_middles():
    assert events([0, 0.9, 0], window=2, hop=0.5) == [(1.25, 1.75, 0.9)]
    assert events([0.9, 0, 0], window=2, hop=0.5) == [(0, 1.25, 0.9)]
    assert events([0, 0, 0.9], window=2, hop=0.5) == [(1.75, 3, 0.9)]


def test_nothing_is_heard_in_gaps_between_windows():
    scores = [0, 0.9, 0, 0.9, 0.4]
    assert events(scores, window=1, hop=3) == [(3, 4, 0.9), (9, 10, 0.9)]
    assert events([*scores, 0.8], window=1, hop=3, max_gap=1.9) == [(3, 4, 0.9), (9, 10, 0.9), (15, 16, 0.8)]
    assert events(scores, window=1, hop=3, max_gap=2) == [(3, 4, 0.9), (9, 13, 0.9)]


def test_short_events_and_short_gaps():
    scores = [0.9, 0, 0.7, 0, 0, 0.8]
    assert events(scores) == [(0, 1, 0.9), (2, 3, 0.7), (5, 6, 0.8)]
    assert events(scores, max_gap=1) == [(0, 3, 0.9), (5, 6, 0.8)]
    assert events(scores, max_gap=2) == [(0, 6, 0.9)]
    assert events(scores, max_gap=1, min_duration=2) == [(0, 3, 0.9)]


def pushed(windows, **options):
    """Return (start, end) of the events of one class in windows (start, end, score)."""
    segmenter = Segmenter(EventOptions(**options), 527)
    found = []
    for start, end, score in windows:
        row = np.zeros(527)
        row[DOG] = score
        found += segmenter.push(start, end, row)
    return [(event.start, event.end) for event in [*found, *segmenter.finish()]]


def test_a_gap_may_grow_too_long_between_two_windows():
    """The event has not been returned when the second window arrives, and is not continued all the same."""
    windows = [(0, 1, 0.9), (1, 2, 0), (3, 4, 0.9)]
    assert pushed(windows, max_gap=1.0) == [(0, 1), (3, 4)]
    assert pushed(windows, max_gap=2.0) == [(0, 4)]


def test_borders_are_rounded_to_microseconds():
    third = 1 / 3
    (event,) = pushed([(0, 1, 0), (third, 1 + third, 0.9), (2 * third, 1 + 2 * third, 0)])
    assert event == (0.666667, 1.0)
    assert pushed([(0, 1, 0), (1.0000014, 2.0000014, 0.9)]) == [(1.0000014, 2.0000014)]


def test_the_score_of_an_event_is_its_highest():
    assert events([0.6, 0.9, 0.7]) == [(0, 3, 0.9)]
    assert events([0.9, 0.6]) == [(0, 2, 0.9)]


def test_events_come_as_soon_as_they_are_over():
    segmenter = Segmenter(EventOptions(max_gap=1), 527)
    loud, quiet = np.zeros(527), np.zeros(527)
    loud[[DOG, SIREN]] = 0.9
    assert list(segmenter.push(0, 1, loud)) == []
    assert list(segmenter.push(1, 2, quiet)) == []
    assert [event.label for event in segmenter.push(2, 3, quiet)] == [DOG, SIREN]
    assert list(segmenter.finish()) == []


def test_classes_have_thresholds_of_their_own():
    assert events([0.2, 0.1, 0.05], classes=((DOG, 0.2, 0.1),)) == [(0, 2, 0.2)]
    assert events([0.9], classes=((SIREN, 0.2, 0.1),), only=True) == []
    assert events([0.9], among=(SIREN,)) == []


def test_segments_are_those_of_a_plain_state_machine():
    scores = np.random.default_rng(0).random(500)
    expected, start = [], None
    for k, score in enumerate(scores):
        if start is None and score >= 0.7:
            start = k
        elif start is not None and score < 0.2:
            expected.append((start, k, scores[start:k].max()))
            start = None
    if start is not None:
        expected.append((start, 500, scores[start:].max()))
    assert events(scores, on=0.7, off=0.2) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.6", EventOptions(0.6, 0.36)),
        ("0.6:0.2", EventOptions(0.6, 0.2)),
        ("Dog=0.5:0.3, siren = .4:.1", EventOptions(classes=((DOG, 0.5, 0.3), (SIREN, 0.4, 0.1)), only=True)),
        ("0.7:0.7,Dog=1:0.5", EventOptions(0.7, 0.7, ((DOG, 1, 0.5),))),
        (
            "Male speech, man speaking=0.4:0.2,Dog=0.4:0.2",
            EventOptions(
                classes=((audioset().find("Male speech, man speaking").index, 0.4, 0.2), (DOG, 0.4, 0.2)), only=True
            ),
        ),
    ],
)
def test_thresholds_as_text(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "Dog", "Dog=", "Dog=x", "0.5:", "0.3:0.5", "2", "0", "-1", "nan", "Dog=0.5 0.3"])
def test_impossible_thresholds(text):
    with pytest.raises(ValueError, match=r"is not|must satisfy|could not convert"):
        parse(text)


def test_unknown_classes_and_times():
    with pytest.raises(LabelError, match="did you mean 'Dog'"):
        parse("Dogg=0.5")
    for name in ("min_duration", "max_gap"):
        for value in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=name):
                EventOptions(**{name: value})


def test_a_dog_between_rain_is_found(shared):
    from audiotag.sound import audio

    clips = [shared / "data/esc10" / name for name in ("rain/1-17367-A.ogg", "dog_bark/1-100032-A.ogg")]
    if not all(clip.exists() for clip in clips):
        clips = [sorted((shared / "data/esc10" / kind).glob("*.ogg"))[0] for kind in ("rain", "dog_bark")]
    rain, dog = map(audio.read, clips)
    clip = np.concatenate([rain, dog, rain])
    found = list(Tagger().find_events(clip, EventOptions(0.3, 0.15, max_gap=1), rate=32000, labels="Dog"))
    assert [tag.label for event in found for tag in event.tags] == ["Dog"] * len(found)
    assert 0 < len(found) <= 2
    assert all(4 < event.start < event.end < 11.5 for event in found)


def test_a_clip_without_events_has_a_row():
    (only,) = Tagger().find_events(np.zeros(100_000, np.float32), EventOptions(1, 1), rate=32000)
    assert (only.start, only.end, only.tags) == (0, 3.125, ())


def test_a_clip_without_samples_is_an_error():
    with pytest.raises(AudioError, match="has no samples"):
        list(Tagger().find_events(np.zeros(0, np.float32), EventOptions(0.01, 0.01), rate=32000))
