from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audiotag.labels import audioset
from conformance.esc10 import CLASSES, Decision, class_scores, differing, find_clips, report, summary
from onnx_conformance import ConformanceError


def decision(label: str, fold: int = 1, **scores: float) -> Decision:
    return Decision(Path(f"{label}/{fold}-1-A.ogg"), fold, label, dict.fromkeys(CLASSES, -9.0) | scores)


def test_a_class_scores_its_greatest_label() -> None:
    names = [label.name for label in audioset()]
    logits = np.full(527, -5.0, np.float32)
    logits[names.index("Growling")] = 1.5
    logits[names.index("Dog")] = -2.0
    logits[names.index("Clock")] = -1.0
    scores = class_scores(logits, names)
    assert list(scores) == list(CLASSES)
    assert (scores["dog_bark"], scores["clock_tick"], scores["rain"]) == (1.5, -1.0, -5.0)


def test_clips_are_found_by_fold(tmp_path: Path) -> None:
    for name in ("rain/1-1-A.ogg", "rain/2-1-A.ogg", "dog_bark/5-1-A.ogg", "ATTRIBUTION.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert find_clips(tmp_path, [1, 5]) == [
        (tmp_path / "dog_bark/5-1-A.ogg", 5, "dog_bark"),
        (tmp_path / "rain/1-1-A.ogg", 1, "rain"),
    ]
    with pytest.raises(ConformanceError, match="fold 3"):
        find_clips(tmp_path, [3])
    with pytest.raises(ConformanceError, match="nowhere"):
        find_clips(tmp_path / "nowhere", [1])


@pytest.mark.parametrize("name", ["meow/1-1-A.ogg", "rain/x.ogg"])
def test_what_is_not_esc10(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir()
    path.touch()
    with pytest.raises(ConformanceError, match=name.split("/")[0]):
        find_clips(tmp_path, [1])


def test_summary_and_report() -> None:
    decisions = [
        decision("rain", 1, rain=1.0, sea_waves=0.5),
        decision("rain", 2, rain=1.0, sea_waves=1.5),
        decision("dog_bark", 2, dog_bark=3.0),
    ]
    result = summary(decisions)
    assert (result["correct"], result["clips"]) == (2, 3)
    assert result["classes"] == {"dog_bark": {"correct": 1, "clips": 1}, "rain": {"correct": 1, "clips": 2}}
    assert result["folds"] == {"1": {"correct": 1, "clips": 1}, "2": {"correct": 1, "clips": 2}}
    assert result["confusions"] == [{"class": "rain", "predicted": "sea_waves", "clips": 1}]
    assert report(result).splitlines()[-1].split() == ["total", "2", "/", "3", "66.7%"]


def test_ties_may_fall_either_way() -> None:
    clear = decision("rain", rain=1.0, sea_waves=0.5)
    tie = decision("rain", rain=1.0, sea_waves=1.0005)
    other = decision("rain", rain=1.0, sea_waves=1.5)
    assert differing([clear, clear, clear], [clear, tie, other]) == [(clear, other)]
