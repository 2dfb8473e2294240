"""The bank: all source sounds as 16-bit mono at 32 kHz in one file, with a table of their positions.

Whole packages (`sources.HELD_OUT`) and fold 4 of ESC-10 are held out: no training clip contains them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from audiotag.errors import AudioError
from audiotag.sound import audio
from models.train import generate, sources

RATE = 32000
LONGEST = 40 * RATE
SHORTEST = 800
"""Maximum and minimum number of samples that are taken of a sound."""

_LICENCES = {
    "esc10": "CC BY 3.0 or CC0, recording by recording",
    "voices": "made by GPL-3+ and BSD-like programs from made-up sentences",
    "midi": "made from random notes with the MIT-licensed FluidR3 instruments",
}


@dataclass(frozen=True)
class Sound:
    """A sound in the bank; `start` and `length` in samples; `origin` is the package or program that it comes from."""

    name: str
    origin: str
    group: str
    held_out: bool
    start: int
    length: int


class Bank:
    """Reader of the files written by `make`."""

    def __init__(self, folder: Path) -> None:
        self.sounds = [Sound(**row) for row in json.loads((folder / "bank.json").read_text())]
        self.samples = np.memmap(folder / "bank.raw", np.int16, "r")

    def read(self, sound: Sound, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return (at most `length`) samples of a sound from `start` on, float32 in [-1, 1]."""
        end = sound.length if length is None else min(sound.length, start + length)
        return self.samples[sound.start + start : sound.start + end].astype(np.float32) / 32768


def make(folder: Path, esc10: Path, speech: int, music: int, seed: int = 0) -> None:
    """Write all sounds to `bank.raw` and `bank.json`, and a summary of their sources to `sources.csv`.

    `speech` utterances and `music` minutes are synthesised for it. A sound that occurs twice is taken once;
    held-out sounds come first, so a copy of one in another package is never trained on.
    """
    seen: set[bytes] = set()
    sounds: list[Sound] = []
    position = 0
    with open(folder / "bank.raw", "wb") as file:
        for name, origin, group, held_out, content in _all(folder, esc10, speech, music, seed):
            try:
                samples = _start_of(content, name)
            except AudioError as error:
                print(f"left out: {error}")
                continue
            peak = float(np.abs(samples).max(initial=0))
            if len(samples) < SHORTEST or peak < 1e-4:
                continue
            stored = (samples * (0.9 / peak) * 32767).astype(np.int16).tobytes()
            if (digest := hashlib.sha256(stored).digest()) in seen:
                continue
            seen.add(digest)
            file.write(stored)
            sounds.append(Sound(name, origin, group, held_out, position, len(samples)))
            position += len(samples)
    (folder / "bank.json").write_text(json.dumps([asdict(sound) for sound in sounds]))
    _summary(folder, sounds)


def _all(
    folder: Path, esc10: Path, speech: int, music: int, seed: int
) -> Iterator[tuple[str, str, str, bool, Path | bytes]]:
    rng = random.Random(seed)
    for side in (sources.HELD_OUT, sources.PACKAGES):
        for group, packages in side.items():
            for package, most in packages.items():
                if (folder / "packages" / package).is_dir():
                    found = list(sources.sounds(folder / "packages" / package))
                    for name, content in rng.sample(found, min(most, len(found))):
                        yield name, package, group, side is sources.HELD_OUT, content
    for path in sorted(esc10.glob("*/*.ogg")):
        if (fold := int(path.name.partition("-")[0])) <= 4:
            yield f"{path.parent.name}/{path.name}", f"ESC-10 fold {fold}", "esc10", fold == 4, path
    soundfont = next((folder / "packages" / sources.SOUNDFONT).rglob("*.sf2"))
    made: Iterable[tuple[str, str, Path]] = [
        *(("espeak-ng, flite", *made) for made in generate.speech(folder / "made/speech", speech, seed)),
        *(("fluidsynth", *made) for made in generate.music(folder / "made/music", soundfont, music, seed)),
    ]
    for origin, name, path in made:
        yield name, origin, "voices" if name.startswith("speech") else "midi", False, path


def _start_of(content: Path | bytes, name: str) -> np.ndarray:
    """Return at most the first LONGEST samples of a sound file; the rest is not decoded."""
    blocks, count = [np.empty(0, np.float32)], 0
    for block in audio.stream(content, name=name):
        blocks.append(block)
        count += len(block)
        if count >= LONGEST:
            break
    return np.concatenate(blocks)[:LONGEST]


def _summary(folder: Path, sounds: list[Sound]) -> None:
    origins = dict.fromkeys(sound.origin for sound in sounds)
    with open(folder / "sources.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("source", "version", "kind", "trained on", "sounds", "minutes", "licences"))
        for origin in origins:
            own = [sound for sound in sounds if sound.origin == origin]
            package = folder / "packages" / origin
            known = package.is_dir()
            minutes = sum(sound.length for sound in own) / RATE / 60
            listed = "; ".join(sources.licences(package)) if known else _LICENCES[own[0].group]
            listed = listed or "free; prose, see the copyright file of the package"
            version, use = sources.version(origin) if known else "", "no" if own[0].held_out else "yes"
            writer.writerow((origin, version, own[0].group, use, len(own), f"{minutes:.1f}", listed))
