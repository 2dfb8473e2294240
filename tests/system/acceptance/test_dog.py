"""Real dog barks through `audiotag tag`.

AudioSet's classes are a hierarchy: mn04 gives most of these clips a slightly higher score
for Animal, which holds for any dog, than for Dog. So Dog or Bark must be among the three
best of all 527, and the best among the classes of ESC-10.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audiotag.cli import main
from conformance.esc10 import CLASSES


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--top", "3"], {"Dog", "Bark"}),
        (["--top", "1", "--labels", ",".join(label for labels in CLASSES.values() for label in labels)],
         set(CLASSES["dog_bark"])),
    ],
    ids=["among the three best", "best of the sounds of ESC-10"],
)  # fmt: skip
def test_dogs_are_heard(
    options: list[str], expected: set[str], shared: Path, mn04: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = sorted((shared / "data/esc10/dog_bark").glob("*.ogg"))
    assert len(clips) == 32
    assert main(["tag", "--model", str(mn04), "--format", "jsonl", *options, *map(str, clips)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"] for row in rows] == list(map(str, clips))
    assert sum(any(tag["label"] in expected for tag in row["tags"]) for row in rows) >= 30
