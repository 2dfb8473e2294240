"""How bfloat16 changes the decisions of a tagger on recordings: the table that decides whether it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiotag.tagger import Tagger
from conformance import esc10
from onnx_conformance import ConformanceError
from tinyonnx.ir import Array

SURE = 0.3
"""Minimum score of a best tag that is shown to users as certain."""

SUFFIXES = (".flac", ".mp3", ".ogg", ".wav")
"""Suffixes of files that are recordings."""

_TOP = 5


@dataclass(frozen=True)
class Comparison:
    """Probabilities (clips, classes) in float32 and bfloat16; correct decisions if the clips are ESC-10's."""

    exact: Array
    rounded: Array
    correct: tuple[int, int] | None = None

    def summary(self) -> dict[str, Any]:
        """Return the numbers of the table."""
        best = self.exact.argmax(1)
        same = best == self.rounded.argmax(1)
        sure = self.exact.max(1) >= SURE
        difference = np.abs(self.rounded - self.exact)
        overlap = [len({*a} & {*b}) for a, b in zip(_best(self.exact), _best(self.rounded), strict=True)]
        return {
            "clips": len(best),
            "same_top1": int(same.sum()),
            "sure": int(sure.sum()),
            "same_top1_sure": int(same[sure].sum()),
            "top5_overlap": float(np.mean(overlap)) / _TOP,
            "mean_difference": float(difference.mean()),
            "max_difference": float(difference.max()),
            "esc10": None if self.correct is None else dict(zip(("float32", "bfloat16"), self.correct)),
        }


def _best(scores: Array) -> Array:
    return np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]


def compare(model: str, folder: Path) -> Comparison:
    """Score every recording of a folder in float32 and bfloat16.

    Raises ConformanceError for an empty folder, and where the processor lacks bfloat16; AudioError, ModelError.
    """
    taggers = Tagger(model), Tagger(model, precision="bfloat16")
    if taggers[1].network.precision != "bfloat16":
        raise ConformanceError("this processor lacks AVX512-BF16: the model would run in float32")
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    if not paths:
        raise ConformanceError(f"{folder}: no {', '.join(SUFFIXES)}")
    exact, rounded = (np.stack([tagger.scores(str(path)) for path in paths]) for tagger in taggers)
    names = [label.name for label in taggers[0].labels]
    return Comparison(exact, rounded, _esc10(exact, rounded, names, paths))


def _esc10(exact: Array, rounded: Array, names: list[str], paths: list[Path]) -> tuple[int, int] | None:
    """Return the numbers of correct decisions; None if the folders are not the classes of ESC-10, or labels lack."""
    needed = {label for members in esc10.CLASSES.values() for label in members}
    if any(path.parent.name not in esc10.CLASSES for path in paths) or not needed.issubset(names):
        return None

    def correct(scores: Array) -> int:
        classes = [esc10.class_scores(row, names) for row in scores]
        return sum(max(c, key=c.__getitem__) == path.parent.name for c, path in zip(classes, paths, strict=True))

    return correct(exact), correct(rounded)


def report(result: Mapping[str, Any]) -> str:
    """Format a `summary` as text."""
    clips, sure = result["clips"], result["sure"]
    lines = [
        f"same top-1                {result['same_top1']} of {clips} ({result['same_top1'] / clips:.1%})",
        f"  where the score >= {SURE:g}  {result['same_top1_sure']} of {sure}"
        + (f" ({result['same_top1_sure'] / sure:.1%})" if sure else ""),
        f"top-5 overlap             {result['top5_overlap']:.1%}",
        f"difference of scores      mean {result['mean_difference']:.1e}, max {result['max_difference']:.4f}",
    ]
    if result["esc10"]:
        lines.append(f"ESC-10, correct           {result['esc10']['bfloat16']}, float32: {result['esc10']['float32']}")
    return "\n".join(lines)
