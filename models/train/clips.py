"""Training clips: sounds of the bank and of `synth`, changed and mixed, as log-mel spectrograms.

Clip number i depends on the seed and i alone. Clips lie in shards of 500 as float16, (clips, 128, 500).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from audiotag.features import mel
from models.train.bank import RATE, Bank, Sound
from models.train.synth import GENERATORS, OFTEN, noise

Array = np.ndarray[Any, Any]
SECONDS = 5
GROUPS = {"esc10": 0.20, "voices": 0.14, "music": 0.14, "midi": 0.12, "effects": 0.24, "synth": 0.16}
"""How often a layer of a clip comes from each group."""
_OFTEN = np.array([OFTEN.get(name, 1.0) for name in GENERATORS])
CHANCES = _OFTEN / _OFTEN.sum()


class Mixer:
    """Makes clips of 5 s from one side of the split."""

    def __init__(self, bank: Bank, held_out: bool) -> None:
        self.bank = bank
        # fold 4 is for validation as it is, not for mixes
        self.groups: dict[str, dict[str, list[Sound]]] = {}
        for sound in bank.sounds:
            if sound.held_out == held_out and not (held_out and sound.group == "esc10"):
                self.groups.setdefault(sound.group, {}).setdefault(sound.origin, []).append(sound)
        self.names = [name for name in GROUPS if name == "synth" or name in self.groups]
        self.weights = np.array([GROUPS[name] for name in self.names])
        self.weights /= self.weights.sum()

    def clip(self, seed: tuple[int, ...]) -> Array:
        """Samples of a clip."""
        rng = np.random.default_rng(seed)
        y = self._layer(rng)
        for chance in (0.35, 0.15):
            if rng.random() < chance:
                y = y + self._layer(rng) * 10 ** rng.uniform(-1.2, 0)
        if rng.random() < 0.15:
            y = y + noise(rng, len(y), rng.uniform(0, 2)) * 10 ** rng.uniform(-3.5, -1)
        if rng.random() < 0.25:
            y = reverberate(rng, y)
        if rng.random() < 0.95:
            y = y / (np.abs(y).max() + 1e-6) * 10 ** rng.uniform(-1.5, 0)
        if rng.random() < 0.05:
            y = np.clip(y * 10 ** rng.uniform(0, 1), -1, 1)
        return y.astype(np.float32)

    def _layer(self, rng: np.random.Generator) -> Array:
        n = SECONDS * RATE
        group = self.names[rng.choice(len(self.names), p=self.weights)]
        if group == "synth":
            x = GENERATORS[list(GENERATORS)[rng.choice(len(GENERATORS), p=CHANCES)]](rng, n)
            return filtered(rng, x / (np.abs(x).max() + 1e-3) * 0.9, 0.2)
        origins = self.groups[group]
        sizes = np.sqrt([len(sounds) for sounds in origins.values()])
        sounds = list(origins.values())[rng.choice(len(sizes), p=sizes / sizes.sum())]
        sound = sounds[rng.integers(len(sounds))]
        longest = int(n * 1.5)
        start = rng.integers(sound.length - longest) if sound.length > longest else 0
        x = self.bank.read(sound, start, longest)
        # the recordings of ESC-10 are never shown as they are
        if group == "esc10" or rng.random() < 0.5:
            x = resampled(x, 2 ** rng.uniform(-0.5, 0.5))
        return filtered(rng, arranged(rng, x, n), 0.25)


def resampled(x: Array, speed: float) -> Array:
    """x played faster, and as much higher."""
    return np.interp(np.arange(0, len(x) - 1, speed), np.arange(len(x)), x)


def arranged(rng: np.random.Generator, x: Array, n: int) -> Array:
    """n samples: a cut of a long sound, or a short one somewhere, once or again and again."""
    if len(x) >= n:
        start = rng.integers(len(x) - n + 1)
        return x[start : start + n]
    y = np.zeros(n)
    again = rng.random() < 0.6
    at = rng.integers(n - len(x) + 1) if not again else rng.integers(max(1, n // 4))
    gap = rng.choice([0.0, rng.uniform(0, 0.3), rng.uniform(0, 1.5)])
    while at < n:
        piece = x[: n - at]
        y[at : at + len(piece)] += piece * rng.uniform(0.5, 1)
        at += len(x) + int((gap + 0.02 * rng.random()) * RATE)
        if not again:
            break
    return y


def filtered(rng: np.random.Generator, x: Array, chance: float) -> Array:
    """Perhaps without its lows or highs, as over a bad microphone."""
    if rng.random() < chance:
        kind = rng.choice(["lowpass", "highpass"])
        cut = 10 ** (rng.uniform(2.9, 4.1) if kind == "lowpass" else rng.uniform(1.7, 3))
        x = sosfilt(butter(int(rng.integers(1, 4)), cut, kind, fs=RATE, output="sos"), x)
    return x


def reverberate(rng: np.random.Generator, x: Array) -> Array:
    """x in a room of noise that decays."""
    n = int(10 ** rng.uniform(-1, 0.2) * RATE)
    room = rng.standard_normal(n) * np.exp(-np.arange(n) / n * rng.uniform(4, 9))
    room *= 10 ** rng.uniform(-2.5, -1)
    room[0] = 1
    return fftconvolve(x, room)[: len(x)]


def write_shard(folder: Path, bank: Bank, index: int, held_out: bool, size: int, seed: int = 0) -> Path:
    """Make a shard of `size` clips, unless it is there."""
    path = folder / f"{'held' if held_out else 'train'}-{index:03}.npy"
    if not path.exists():
        mixer = Mixer(bank, held_out)
        clips = [mixer.clip((seed, int(held_out), index * size + i)) for i in range(size)]
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            np.save(file, np.stack([mel.log_mel(clip) for clip in clips]).astype(np.float16))
        part.rename(path)
    return path
