"""Measure a student beside its teacher: the numbers of `models/CARD.md`, and `classes.csv`.

python -m models.train.report --work /tmp/train [--student OTHER.onnx]
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tinyonnx
from audiotag.features import mel
from audiotag.labels import audioset
from audiotag.models import catalog
from audiotag.models.network import Network
from audiotag.sound import audio
from conformance import esc10
from models.train.bank import RATE, Bank
from models.train.distil import Clips
from models.train.heldout import LONGEST, SURE, compare, samples, sigmoid
from models.train.signals import noise

Array = np.ndarray[Any, Any]
ENOUGH = 5
"""Minimum number of clips in which a class must be heard for its correlation to be reported."""

LENGTHS = (0.02, 0.1, 0.3, 0.5, 1, 2, 3, 5, 8, 10, 15, 20, 30)
"""Lengths in seconds of silence, noise floor and single clicks."""


def answers(network: Network, clips: list[Array]) -> Array:
    """Return logits (clips, 527) of a list of samples."""
    return np.concatenate([network(mel.log_mel(x.astype(np.float32))[None]) for x in clips])


def edges() -> Iterator[tuple[str, Array]]:
    """Yield name and samples of silence, noise floors, mains hum and single clicks of all LENGTHS."""
    rng = np.random.default_rng(1234)
    for seconds in LENGTHS:
        n = int(seconds * RATE)
        t = np.arange(n) / RATE
        yield "silence", np.zeros(n)
        for level in (-100, -80, -60, -40):
            for slope in (0, 1):
                yield "noise floor", noise(rng, n, slope) * 10 ** (level / 20)
        for hz in (50, 60):
            yield "hum", sum(np.sin(2 * np.pi * hz * k * t) / k for k in (1, 2, 3, 5)) * 0.01
        for at, length in ((0.5, 1), (0.1, 3), (0.5, 30), (0.9, 300)):
            click = np.zeros(n)
            start = int(at * n)
            click[start : start + length] = 0.5
            yield "single click", click


def line(name: str, found: dict[str, float]) -> str:
    """Return one row of the report."""
    return (
        f"{name:32} {found['clips']:5} clips, best class alike {found['same_best_of_all']:6.1%}; where the teacher "
        f"gives {SURE}: {found['sure']:4}, alike {found['same_best']:6.1%}, among three {found['among_three']:6.1%}; "
        f"mean difference {found['difference']:.4f}"
    )


def measure(work: Path, recordings: Path, teacher: Network, student: Network) -> None:
    """Print agreement on held-out recordings, on short cuts, on ESC-10 and on silence, hum and clicks."""
    held = samples(Bank(work))
    kinds = [kind for kind, _ in held]
    theirs, ours = (answers(network, [x for _, x in held]) for network in (teacher, student))
    for kind in dict.fromkeys(kinds):
        own = np.array([other == kind for other in kinds])
        print(line(kind, compare(theirs[own], ours[own])))
    print(line(f"all, at most {LONGEST} s", compare(theirs, ours)))
    for seconds in (0.5, 1, 2):
        cuts = [x[: int(seconds * RATE)] for _, x in held if len(x) >= seconds * RATE]
        print(line(f"first {seconds} s", compare(answers(teacher, cuts), answers(student, cuts))))
    fold = [audio.read(path) for path, _, _ in esc10.find_clips(recordings, [4])]
    print(line("ESC-10 fold 4", compare(answers(teacher, fold), answers(student, fold))))
    for name, network in (("teacher", teacher), ("student", student)):
        for folds in ([1, 2, 3], [4]):
            decisions, _ = esc10.decide(esc10.find_clips(recordings, folds), network)
            print(f"ESC-10 folds {folds}, {name}: {sum(d.correct for d in decisions)} / {len(decisions)}")
    made = list(edges())
    a, b = (sigmoid(answers(network, [x for _, x in made])) for network in (teacher, student))
    for kind in dict.fromkeys(name for name, _ in made):
        own = np.array([name == kind for name, _ in made])
        wrong = ((b[own] > 0.5) & (a[own] < 0.2)).any(1).sum()
        print(
            f"{kind:32} {own.sum():5} clips, greatest difference {np.abs(a - b)[own].max():.3f}, "
            f"above 0.5 against the teacher's 0.2: {wrong}"
        )


def seconds_of(runs: list[Callable[[], object]], repeats: int = 40) -> list[float]:
    """Return the median CPU seconds of each of several functions, called in turn."""
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, own in zip(runs, taken, strict=True):
            start = time.process_time()
            run()
            own.append(time.process_time() - start)
    return [float(np.median(own)) for own in taken]


def speed(paths: list[Path]) -> None:
    """Print the CPU time of models on one thread for clips of 1 and 10 s."""
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [tinyonnx.InferenceSession(str(path), options) for path in paths]
    for frames in (100, 1000):
        x = np.random.default_rng(0).uniform(-1.4, 1.5, (1, 1, 128, frames)).astype(np.float32)
        taken = seconds_of([partial(session.run, ["logits"], {"melspec": x}) for session in sessions])
        listed = ", ".join(f"{path.name} {1000 * t:.2f} ms" for path, t in zip(paths, taken, strict=True))
        print(f"{frames} frames: {listed}; {taken[-1] / taken[0]:.2f} of the first")


def classes(work: Path, teacher: Network, student: Network, target: Path) -> None:
    """Write for each class its training clips and the agreement of student and teacher on held-out recordings."""
    clips = Clips(work / "clips")
    best, count = np.zeros(527), np.zeros(527, int)
    for length, shard, start in clips.index.tolist():
        whole = length // 20 * 20 or length  # few different lengths, because each costs a plan
        x = clips.shards[shard][start : start + whole].T[None].astype(np.float32)
        given = sigmoid(teacher(x)[0])
        best, count = np.maximum(best, given), count + (given >= SURE)
    held = [x for _, x in samples(Bank(work))]
    theirs, ours = (sigmoid(answers(network, held)) for network in (teacher, student))
    heard = (theirs >= SURE).sum(0)
    names = [label.name for label in audioset()]
    with open(target, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("index", "class", "training clips", "best score in training", "held-out clips", "correlation"))
        for i, name in enumerate(names):
            follows = np.corrcoef(theirs[:, i], ours[:, i])[0, 1] if heard[i] >= ENOUGH else None
            known = "" if follows is None else f"{follows:.3f}"
            writer.writerow((i, name, count[i], f"{best[i]:.3f}", heard[i], known))
    print(
        f"{len(clips.index)} training clips; classes at {SURE} somewhere: {(count > 0).sum()}, in {ENOUGH} or more: "
        f"{(count >= ENOUGH).sum()}"
    )
    for limit in (SURE, 0.1):
        print(f"never above {limit}: {(best < limit).sum()}:", "; ".join(np.array(names)[best < limit]))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--student", type=Path, default=catalog.default_path())
    parser.add_argument("--classes", action="store_true", help="write classes.csv, too: runs the teacher on all clips")
    args = parser.parse_args()
    teacher, student = Network(str(args.work / "teacher.onnx"), "teacher"), Network(str(args.student), "student")
    measure(args.work, args.shared / "esc10", teacher, student)
    speed([args.work / "teacher.onnx", args.student])
    if args.classes:
        classes(args.work, teacher, student, Path(__file__).with_name("classes.csv"))


if __name__ == "__main__":
    main()
