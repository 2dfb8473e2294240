"""What the card says: how far the student follows its teacher, class by class, and what it was never shown.

    python -m models.train.report --work /tmp/train

writes `classes.csv` beside this file and prints the numbers of `models/CARD.md`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from audiotag import labels
from audiotag.features import mel
from audiotag.models import catalog
from audiotag.models.network import Network
from audiotag.sound import audio
from audiotag.tagger import sigmoid
from conformance import esc10

Array = np.ndarray[Any, Any]
SHOWN = 0.3
"""A class counts as shown in clips to which the teacher gave at least this score."""

ENOUGH = 5
"""Clips in which a class must be heard before we say how well it is followed."""


def scores(network: Network, clips: Iterable[Array]) -> Array:
    """Scores (clips, 527) of log-mel spectrograms (128, time)."""
    return np.concatenate([sigmoid(network(clip[None].astype(np.float32))) for clip in clips])


def correlation(a: Array, b: Array) -> Array:
    """Pearson's, column by column; NaN where one is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(0) / np.sqrt((a * a).sum(0) * (b * b).sum(0))


def top(x: Array, k: int) -> list[set[int]]:
    return [set(row) for row in np.argsort(-x, 1)[:, :k].tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--student", type=Path, default=catalog.default_path())
    args = parser.parse_args()
    teacher = Network(str(args.work / "teacher.onnx"), "teacher")
    student = Network(str(args.student), "student")

    best, count = np.zeros(527), np.zeros(527, int)
    shards = sorted((args.work / "clips").glob("train-*.npy"))
    for path in shards:
        given = scores(teacher, np.load(path, mmap_mode="r"))
        best, count = np.maximum(best, given.max(0)), count + (given >= SHOWN).sum(0)

    held = np.concatenate([np.load(path) for path in sorted((args.work / "clips").glob("held-*.npy"))])
    theirs, ours = scores(teacher, held), scores(student, held)
    recordings = [mel.log_mel(audio.read(path)) for path, _, _ in esc10.find_clips(args.shared / "esc10", [4])]
    for name, a, b in (
        ("held-out clips", theirs, ours),
        ("fold 4", scores(teacher, recordings), scores(student, recordings)),
    ):
        sure = a.max(1) >= SHOWN
        agree = a.argmax(1) == b.argmax(1)
        in_three = np.mean([int(best_class) in three for best_class, three in zip(a.argmax(1), top(b, 3))])
        common = np.mean([len(x & y) / 5 for x, y in zip(top(a, 5), top(b, 5))])
        print(f"{name}: {len(a)}, same best class {agree.mean():.1%}, its best among our three {in_three:.1%},")
        print(f"  five best in common {common:.1%}, mean difference of scores {np.abs(a - b).mean():.4f},")
        print(f"  same best class in the {sure.sum()} where the teacher gives it {SHOWN} {agree[sure].mean():.1%}")

    heard = (theirs >= SHOWN).sum(0)
    follows = correlation(theirs, ours)
    names = [label.name for label in labels.all_labels()]
    with open(Path(__file__).with_name("classes.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("index", "class", "training clips", "best score in training", "held-out clips", "correlation"))
        for i, name in enumerate(names):
            known = f"{follows[i]:.3f}" if heard[i] >= ENOUGH else ""
            writer.writerow((i, name, count[i], f"{best[i]:.3f}", heard[i], known))
    order = [i for i in np.argsort(-follows) if heard[i] >= ENOUGH]
    print(
        f"{len(order)} classes in {ENOUGH} held-out clips or more, median correlation {np.median(follows[order]):.2f}"
    )
    print("best:", ", ".join(f"{names[i]} {follows[i]:.2f}" for i in order[:20]))
    print("worst:", ", ".join(f"{names[i]} {follows[i]:.2f}" for i in order[-20:]))
    shown, often = (count > 0).sum(), (count >= ENOUGH).sum()
    print(f"{len(shards)} shards; shown (teacher >= {SHOWN}) {shown}, in {ENOUGH} clips or more {often}")
    for limit in (SHOWN, 0.1):
        print(f"never above {limit}: {(best < limit).sum()}:", ", ".join(np.array(names)[best < limit]))


if __name__ == "__main__":
    main()
