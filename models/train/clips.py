"""Training clips: recordings as they are, mixtures, and silence, hum and clicks, as log-mel spectrograms.

Clip i depends on the seed and i alone. A shard holds the frames of its clips one after another, (frames, 128)
float16, and a second file the number of frames of each clip.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

from audiotag.features import mel
from models.train.bank import RATE, Bank, Sound
from models.train.signals import noise
from models.train.synth import GENERATORS, OFTEN

Array = np.ndarray[Any, Any]
GROUPS = {"esc10": 0.16, "voices": 0.16, "music": 0.16, "midi": 0.08, "effects": 0.28, "synth": 0.16}
"""Probability of each group for a layer of a mixture; recordings are drawn from the same groups except synth."""

SHORTEST, LONGEST, VERY_LONG = 0.3, 12.0, 30.0
"""Limits of drawn lengths in seconds; one clip in 25 is between LONGEST and VERY_LONG."""

LEAST = RATE // 10
"""Samples to which shorter recordings are padded with zeros."""

CODECS = (
    ("MP3", "MPEG_LAYER_III", 1),
    ("OGG", "VORBIS", 1),
    ("OGG", "OPUS", 2),
    ("WAV", "ULAW", 4),
    ("WAV", "GSM610", 4),
)
"""Container and codec as soundfile names them, and the divisor of the sample rate."""

_OFTEN = np.array([OFTEN.get(name, 1.0) for name in GENERATORS])
CHANCES = _OFTEN / _OFTEN.sum()


class Mixer:
    """Makes clips from the sounds of a bank that are not held out."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank
        self.groups: dict[str, dict[str, list[Sound]]] = {}
        for sound in bank.sounds:
            if not sound.held_out:
                self.groups.setdefault(sound.group, {}).setdefault(sound.origin, []).append(sound)

    def clip(self, seed: tuple[int, ...]) -> Array:
        """Return the samples of a clip, of any length from `LEAST` to `VERY_LONG`."""
        rng = np.random.default_rng(seed)
        longer = rng.random() < 0.04
        low, high = (LONGEST, VERY_LONG) if longer else (SHORTEST, LONGEST)
        n = int(RATE * np.exp(rng.uniform(np.log(low), np.log(high))))
        draw = rng.random()
        if draw < 0.08:
            return edge(rng, n).astype(np.float32)
        y = self._recording(rng, n) if draw < 0.55 else self._mixture(rng, n)
        if draw >= 0.3:
            y = transmitted(rng, y)
        if rng.random() < 0.7:
            y = y / (np.abs(y).max() + 1e-6) * 10 ** rng.uniform(-2.5, 0)
        if rng.random() < 0.03:
            y = np.clip(y * 10 ** rng.uniform(0, 1), -1, 1)
        return y.astype(np.float32)

    def _recording(self, rng: np.random.Generator, n: int) -> Array:
        """Return a recording unchanged if it is shorter than n, otherwise a cut, half of the cuts from its start."""
        group = self._group(rng, synth=False)
        sound = self._sound(rng, group)
        start = rng.integers(sound.length - n) if sound.length > n and rng.random() < 0.5 else 0
        x = self.bank.read(sound, start, int(n * 1.5))
        if group == "esc10":
            x = resampled(x, 2 ** rng.uniform(-0.5, 0.5))
        x = x[:n]
        return np.pad(x, (0, max(0, LEAST - len(x))))

    def _mixture(self, rng: np.random.Generator, n: int) -> Array:
        y = self._layer(rng, n)
        for chance in (0.35, 0.15):
            if rng.random() < chance:
                y = y + self._layer(rng, n) * 10 ** rng.uniform(-1.2, 0)
        return y

    def _layer(self, rng: np.random.Generator, n: int) -> Array:
        group = self._group(rng, synth=True)
        if group == "synth":
            generate = GENERATORS[list(GENERATORS)[rng.choice(len(GENERATORS), p=CHANCES)]]
            x = generate(rng, max(n, 3 * RATE))[:n]
            return filtered(rng, x / (np.abs(x).max() + 1e-3) * 0.9, 0.2)
        sound = self._sound(rng, group)
        longest = int(n * 1.5)
        start = rng.integers(sound.length - longest) if sound.length > longest else 0
        x = self.bank.read(sound, start, longest)
        if group == "esc10" or rng.random() < 0.4:
            x = resampled(x, 2 ** rng.uniform(-0.5, 0.5))
        return filtered(rng, arranged(rng, x, n), 0.25)

    def _group(self, rng: np.random.Generator, synth: bool) -> str:
        names = [name for name in GROUPS if name in self.groups or (synth and name == "synth")]
        weights = np.array([GROUPS[name] for name in names])
        return names[rng.choice(len(names), p=weights / weights.sum())]

    def _sound(self, rng: np.random.Generator, group: str) -> Sound:
        origins = self.groups[group]
        sizes = np.sqrt([len(sounds) for sounds in origins.values()])
        sounds = list(origins.values())[rng.choice(len(sizes), p=sizes / sizes.sum())]
        return sounds[rng.integers(len(sounds))]


def edge(rng: np.random.Generator, n: int) -> Array:
    """Return n samples of digital silence, a constant, a noise floor, mains hum, or one to three clicks."""
    t = np.arange(n) / RATE
    kind = rng.integers(6)
    floor = noise(rng, n, rng.uniform(0, 2)) * 10 ** rng.uniform(-5, -1.5)
    if kind == 0:
        return np.zeros(n)
    if kind == 1:
        return np.full(n, rng.uniform(-0.5, 0.5))
    if kind == 2:
        return floor
    if kind == 3:
        harmonics = range(1, int(rng.integers(2, 12)))
        gains = [rng.uniform(0, 1) / k for k in harmonics]
        tone = sum(a * np.sin(2 * np.pi * k * rng.choice([50, 60]) * t) for a, k in zip(gains, harmonics, strict=True))
        return np.asarray(tone) * 10 ** rng.uniform(-4, -0.5) + floor * (rng.random() < 0.5)
    y = floor * (rng.random() < 0.5)
    for at in rng.integers(n, size=1 if rng.random() < 0.6 else rng.integers(1, 4)):
        length = int(10 ** rng.uniform(0, 2.5))
        click = rng.choice([-1, 1]) * np.ones(length) if rng.random() < 0.5 else rng.standard_normal(length)
        click = click * np.exp(-np.arange(length) / max(1, length / 4)) * 10 ** rng.uniform(-2.5, 0)
        y[at : at + length] += click[: n - at]
    return y


def transmitted(rng: np.random.Generator, y: Array) -> Array:
    """Return y as recorded in a room, with noise, or through a codec: each with some probability."""
    if rng.random() < 0.2:
        y = reverberate(rng, y)
    if rng.random() < 0.2:
        y = y + noise(rng, len(y), rng.uniform(0, 2)) * 10 ** rng.uniform(-3.5, -1)
    if rng.random() < 0.12:
        y = coded(rng, y)
    return y


def coded(rng: np.random.Generator, y: Array) -> Array:
    """Return y encoded and decoded by a lossy codec."""
    container, codec, divisor = CODECS[rng.integers(len(CODECS))]
    file = io.BytesIO()
    x = resample_poly(y, 1, divisor) if divisor > 1 else y
    level = None if container == "WAV" else float(rng.uniform(0.3, 0.95))
    peak = max(1.0, float(np.abs(x).max(initial=0)))
    soundfile.write(file, x / peak, RATE // divisor, codec, format=container, compression_level=level)
    file.seek(0)
    decoded, rate = soundfile.read(file)
    back = resample_poly(decoded * peak, RATE // rate, 1) if rate < RATE else decoded * peak
    return np.pad(back[: len(y)], (0, max(0, len(y) - len(back))))


def resampled(x: Array, speed: float) -> Array:
    """Return x played `speed` times as fast, by linear interpolation."""
    return np.interp(np.arange(0, len(x) - 1, speed), np.arange(len(x)), x)


def arranged(rng: np.random.Generator, x: Array, n: int) -> Array:
    """Return n samples: a cut of a longer sound; a shorter one at a random place, once or repeated."""
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
    """Return x through a random lowpass or highpass with probability `chance`."""
    if rng.random() < chance:
        kind = rng.choice(["lowpass", "highpass"])
        cut = 10 ** (rng.uniform(2.9, 4.1) if kind == "lowpass" else rng.uniform(1.7, 3))
        x = sosfilt(butter(int(rng.integers(1, 4)), cut, kind, fs=RATE, output="sos"), x)
    return x


def reverberate(rng: np.random.Generator, x: Array) -> Array:
    """Return x convolved with exponentially decaying noise of 0.1 to 1.6 s."""
    n = int(10 ** rng.uniform(-1, 0.2) * RATE)
    room = rng.standard_normal(n) * np.exp(-np.arange(n) / n * rng.uniform(4, 9))
    room *= 10 ** rng.uniform(-2.5, -1)
    room[0] = 1
    return fftconvolve(x, room)[: len(x)]


def write_shard(folder: Path, bank: Bank, index: int, size: int, seed: int = 0) -> Path:
    """Write shard `index` of `size` clips unless it exists, and return its path."""
    path = folder / f"{index:03}.npy"
    if not path.exists():
        mixer = Mixer(bank)
        clips = [mel.log_mel(mixer.clip((seed, index * size + i))).T.astype(np.float16) for i in range(size)]
        np.save(path.with_suffix(".lengths.npy"), [len(clip) for clip in clips])
        part = path.with_suffix(".part")
        with open(part, "wb") as file:
            np.save(file, np.concatenate(clips))
        part.rename(path)
    return path
