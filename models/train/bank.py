"""The bank: every source sound as 16-bit mono at 32 kHz in one file, and a table of what is where.

A sound of every twentieth source is held out: never trained on, kept to measure agreement.
"""

from __future__ import annotations

import csv
import json
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from audiotag.errors import AudioError
from audiotag.sound import audio
from models.train import generate, sources

RATE = 32000
LONGEST = 60 * RATE
SHORTEST = 800
_LICENCES = {
    "esc10": "CC BY 3.0 or CC0, recording by recording",
    "voices": "made by GPL-3+ and BSD-like programs from made-up sentences",
    "midi": "made from random notes with the MIT-licensed FluidR3 instruments",
}


@dataclass(frozen=True)
class Sound:
    """A piece of the bank, in samples; `origin` is the package or program that it came from."""

    name: str
    origin: str
    group: str
    held_out: bool
    start: int
    length: int


class Bank:
    """A bank that was made by `make`."""

    def __init__(self, folder: Path) -> None:
        self.sounds = [Sound(**row) for row in json.loads((folder / "bank.json").read_text())]
        self.samples = np.memmap(folder / "bank.raw", np.int16, "r")

    def read(self, sound: Sound, start: int = 0, length: int | None = None) -> np.ndarray:
        """Samples as float32."""
        end = sound.length if length is None else min(sound.length, start + length)
        return self.samples[sound.start + start : sound.start + end].astype(np.float32) / 32768


def make(folder: Path, esc10: Path, speech: int, music: int, seed: int = 0) -> None:
    """Read everything there is into `bank.raw` and `bank.json`, and its summary into `sources.csv`.

    So many utterances and minutes of music are made for it.
    """
    sounds: list[Sound] = []
    position = 0
    with open(folder / "bank.raw", "wb") as file:
        for name, origin, group, held_out, content in _all(folder, esc10, speech, music, seed):
            try:
                samples = audio.read(content, name=name)[:LONGEST]
            except AudioError as error:
                print(f"left out: {error}")
                continue
            peak = float(np.abs(samples).max(initial=0))
            if len(samples) < SHORTEST or peak < 1e-4:
                continue
            file.write((samples * (0.9 / peak) * 32767).astype(np.int16).tobytes())
            sounds.append(Sound(name, origin, group, held_out, position, len(samples)))
            position += len(samples)
    (folder / "bank.json").write_text(json.dumps([asdict(sound) for sound in sounds]))
    _summary(folder, sounds)


def _all(
    folder: Path, esc10: Path, speech: int, music: int, seed: int
) -> Iterator[tuple[str, str, str, bool, Path | bytes]]:
    rng = random.Random(seed)
    for path in sorted(esc10.glob("*/*.ogg")):
        if (fold := int(path.name.partition("-")[0])) <= 4:
            yield f"{path.parent.name}/{path.name}", f"ESC-10 fold {fold}", "esc10", fold == 4, path
    for group, packages in sources.PACKAGES.items():
        for package, most in packages.items():
            if not (folder / "packages" / package).is_dir():
                continue
            found = list(sources.sounds(folder / "packages" / package))
            for name, content in rng.sample(found, min(most, len(found))):
                yield name, package, group, _held_out(f"{package}/{name}"), content
    soundfont = next((folder / "packages" / sources.SOUNDFONT).rglob("*.sf2"))
    made: Iterable[tuple[str, str, Path]] = [
        *(("espeak-ng, flite", *made) for made in generate.speech(folder / "made/speech", speech, seed)),
        *(("fluidsynth", *made) for made in generate.music(folder / "made/music", soundfont, music, seed)),
    ]
    for origin, name, path in made:
        yield name, origin, "voices" if name.startswith("speech") else "midi", _held_out(name), path


def _held_out(name: str) -> bool:
    return zlib.crc32(name.encode()) % 20 == 0


def _summary(folder: Path, sounds: list[Sound]) -> None:
    origins = dict.fromkeys(sound.origin for sound in sounds)
    with open(folder / "sources.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("source", "version", "kind", "sounds", "minutes", "licences in its copyright file"))
        for origin in origins:
            own = [sound for sound in sounds if sound.origin == origin]
            package = folder / "packages" / origin
            known = package.is_dir()
            minutes = sum(sound.length for sound in own) / RATE / 60
            listed = "; ".join(sources.licences(package)) if known else _LICENCES[own[0].group]
            listed = listed or "free; prose, see the copyright file of the package"
            writer.writerow(
                (origin, sources.version(origin) if known else "", own[0].group, len(own), f"{minutes:.1f}", listed)
            )
