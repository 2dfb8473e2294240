"""Zero-shot accuracy on ESC-10: real recordings, a folder per class, files named `<fold>-*.ogg`.

The score of a class is the greatest logit among its AudioSet labels; the decision is the class with the greatest score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiotag.features import mel
from audiotag.labels import audioset
from audiotag.models.network import Network
from audiotag.sound import audio
from conformance import pick_logits
from onnx_conformance import ConformanceError
from tinyonnx.ir import Array

CLASSES: dict[str, tuple[str, ...]] = {
    "dog_bark": ("Dog", "Bark", "Yip", "Howl", "Bow-wow", "Growling"),
    "rain": ("Rain", "Raindrop", "Rain on surface"),
    "sea_waves": ("Waves, surf", "Ocean"),
    "baby_cry": ("Baby cry, infant cry", "Crying, sobbing"),
    "clock_tick": ("Tick-tock", "Tick", "Clock"),
    "person_sneeze": ("Sneeze",),
    "helicopter": ("Helicopter",),
    "chainsaw": ("Chainsaw",),
    "rooster": ("Crowing, cock-a-doodle-doo", "Chicken, rooster", "Fowl"),
    "fire_crackling": ("Crackle", "Fire"),
}
"""The AudioSet labels of each class."""

TIE = 1e-3
"""Scores closer than this may be ordered either way."""


@dataclass(frozen=True)
class Decision:
    """One clip: its class, and the score of every class."""

    path: Path
    fold: int
    label: str
    scores: dict[str, float]

    @property
    def predicted(self) -> str:
        """The class with the greatest score."""
        return max(self.scores, key=self.scores.__getitem__)

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the clip's class."""
        return self.predicted == self.label

    @property
    def margin(self) -> float:
        """Difference between the best and the second-best score."""
        second, best = sorted(self.scores.values())[-2:]
        return best - second


def find_clips(folder: Path, folds: Iterable[int]) -> list[tuple[Path, int, str]]:
    """Return path, fold and class of every clip of these folds, sorted.

    Raises ConformanceError if there are none, or if a folder or file has an unexpected name.
    """
    if not folder.is_dir():
        raise ConformanceError(f"{folder}: no such directory")
    wanted = set(folds)
    clips = []
    for path in sorted(folder.glob("*/*.ogg")):
        label, fold = path.parent.name, path.name.partition("-")[0]
        if label not in CLASSES:
            raise ConformanceError(f"{path.parent}: not a class of ESC-10 ({', '.join(CLASSES)})")
        if not fold.isdecimal():
            raise ConformanceError(f"{path}: expected a name like 1-30344-A.ogg, the fold first")
        if int(fold) in wanted:
            clips.append((path, int(fold), label))
    if not clips:
        raise ConformanceError(f"{folder}: no CLASS/FOLD-*.ogg of fold {', '.join(map(str, sorted(wanted)))}")
    return clips


def class_scores(logits: Array, labels: Sequence[str]) -> dict[str, float]:
    """Return each class's greatest logit among its AudioSet labels; `labels` names the logits."""
    index = {label: i for i, label in enumerate(labels)}
    return {name: max(float(logits[index[label]]) for label in members) for name, members in CLASSES.items()}


def decide(
    clips: Sequence[tuple[Path, int, str]], network: Network, other: Callable[[Array], Array] | None = None
) -> tuple[list[Decision], list[Decision]]:
    """Return our decision on every clip, and those of another runtime on the same features (empty without `other`).

    `other` maps a log-mel (128 × frames) to logits (527,). Raises AudioError, ModelError.
    """
    names = [label.name for label in audioset()]
    ours, theirs = [], []
    for path, fold, label in clips:
        features = mel.log_mel(audio.read(path))
        ours.append(Decision(path, fold, label, class_scores(network(features[None])[0], names)))
        if other:
            theirs.append(Decision(path, fold, label, class_scores(other(features), names)))
    return ours, theirs


def differing(ours: Sequence[Decision], theirs: Sequence[Decision]) -> list[tuple[Decision, Decision]]:
    """Return the pairs of decisions that differ although at least one is not a tie."""
    return [
        (a, b)
        for a, b in zip(ours, theirs, strict=True)
        if a.predicted != b.predicted and min(a.margin, b.margin) >= TIE
    ]


def onnxruntime_logits(source: str | bytes) -> Callable[[Array], Array]:
    """Return the model in ONNX Runtime as a function from log-mel (128 × frames) to logits.

    Raises ConformanceError if it isn't installed or can't run the model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConformanceError("onnxruntime is not installed: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise ConformanceError(f"ONNX Runtime can't load the model: {error}") from error
    name = session.get_inputs()[0].name
    outputs = [output.name for output in session.get_outputs()]

    def logits(features: Array) -> Array:
        return pick_logits(outputs, session.run(None, {name: features[None, None]}))

    return logits


def summary(decisions: Sequence[Decision]) -> dict[str, Any]:
    """Return the counts of a run for JSON: total, per class, per fold, confusions, and each decision."""

    def counts(key: Callable[[Decision], str]) -> dict[str, dict[str, int]]:
        keys = sorted({key(d) for d in decisions})
        return {
            k: {
                "correct": sum(d.correct for d in decisions if key(d) == k),
                "clips": sum(key(d) == k for d in decisions),
            }
            for k in keys
        }

    confusions = Counter((d.label, d.predicted) for d in decisions if not d.correct)
    return {
        "correct": sum(d.correct for d in decisions),
        "clips": len(decisions),
        "classes": counts(lambda d: d.label),
        "folds": counts(lambda d: str(d.fold)),
        "confusions": [{"class": a, "predicted": b, "clips": n} for (a, b), n in sorted(confusions.items())],
        "decisions": [
            {"path": str(d.path), "class": d.label, "predicted": d.predicted, "margin": round(d.margin, 6)}
            for d in decisions
        ],
    }


def report(result: Mapping[str, Any]) -> str:
    """Format a `summary` as text."""

    def line(name: str, count: Mapping[str, int]) -> str:
        return f"{name:16}{count['correct']:4} / {count['clips']:<4}{count['correct'] / count['clips']:7.1%}"

    lines = [line(name, count) for name, count in result["classes"].items()]
    lines += [line(f"fold {fold}", count) for fold, count in result["folds"].items()]
    lines += [f"{c['class']} taken for {c['predicted']}: {c['clips']}" for c in result["confusions"]]
    return "\n".join([*lines, line("total", result)])
