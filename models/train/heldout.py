"""Agreement with the teacher on recordings of packages that are not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiotag.features import mel
from audiotag.models.network import Network
from models.train.bank import RATE, Bank
from models.train.student import Net

Array = np.ndarray[Any, Any]
SURE = 0.3
"""Agreement counts for clips to which the teacher gives at least this score."""

LONGEST = 10
"""Seconds taken of each recording."""


@dataclass(frozen=True)
class HeldOut:
    """Log-mel spectrograms (128, time) of held-out recordings with their kinds and the teacher's logits."""

    kinds: list[str]
    clips: list[Array]
    logits: Array


def samples(bank: Bank) -> list[tuple[str, Array]]:
    """Return kind and samples of every held-out recording except those of ESC-10, at most LONGEST seconds of each."""
    return [
        (sound.group, bank.read(sound, 0, LONGEST * RATE))
        for sound in bank.sounds
        if sound.held_out and sound.group != "esc10"
    ]


def load(bank: Bank, teacher: Path, step: int = 1) -> HeldOut:
    """Return every `step`-th held-out recording with the teacher's answer."""
    network = Network(str(teacher), "teacher")
    chosen = samples(bank)[::step]
    clips = [mel.log_mel(x) for _, x in chosen]
    return HeldOut([kind for kind, _ in chosen], clips, np.concatenate([network(clip[None]) for clip in clips]))


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), float32."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x), np.float32)


def compare(theirs: Array, ours: Array) -> dict[str, float]:
    """Compare logits (clips, 527) of the teacher and the student."""
    a, b = sigmoid(theirs), sigmoid(ours)
    sure = a.max(1) >= SURE
    best = a.argmax(1)
    rank = (b > np.take_along_axis(b, best[:, None], 1)).sum(1)
    return {
        "clips": len(a),
        "sure": int(sure.sum()),
        "same_best_of_all": float((rank == 0).mean()),
        "same_best": float((rank[sure] == 0).mean()),
        "among_three": float((rank[sure] < 3).mean()),
        "difference": float(np.abs(a - b).mean()),
    }


def agreement(net: Net, held_out: HeldOut) -> dict[str, float]:
    """Return the share of the same best class where the teacher is sure, and the mean difference of scores."""
    with torch.no_grad():
        logits = np.concatenate([net(torch.from_numpy(clip)[None, None])[0].numpy() for clip in held_out.clips])
    found = compare(held_out.logits, logits)
    return {"held_out_agreement": found["same_best"], "held_out_difference": found["difference"]}
