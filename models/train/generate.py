"""Sounds made by other programs: speech by espeak-ng and flite, music by fluidsynth.

Each function yields (name, path of a WAV file); the same seed gives the same files.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

WORDS = """
time person year way day thing man world life hand part child eye woman place work week case point government company
number group problem fact good new first last long great little own other old right big high different small large
next early young important few public bad same able yes no please stop listen tomorrow yesterday rain river mountain
window music machine paper letter money engine garden question answer winter summer breakfast coffee street bridge
we they you she he it was is are were have had will would can could should said told asked went came saw made gave
quickly slowly never always perhaps because although under over between without against hello goodbye thank sorry
""".split()  # noqa: SIM905  a list of strings would take a page

VARIANTS = ["", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5"]
RARE_VARIANTS = ["+whisper", "+whisperf", "+croak", "+klatt2", "+klatt4"]
FLITE_VOICES = ["kal", "kal16", "awb", "rms", "slt"]


def speech(folder: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """Yield `count` utterances in the languages of espeak-ng, a tenth of them spoken by flite."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    listed = subprocess.run(["espeak-ng", "--voices"], capture_output=True, text=True, check=True).stdout
    languages = [line.split()[1] for line in listed.splitlines()[1:]]
    for i in range(count):
        path = folder / f"{i:05}.wav"
        language = "en" if rng.random() < 0.2 else rng.choice(languages)
        variant = rng.choice(RARE_VARIANTS if rng.random() < 0.06 else VARIANTS)
        # digits are spoken in every language; English words give the others an accent at worst
        text = " ".join(
            str(rng.randrange(10 ** rng.randint(1, 5))) if rng.random() < 0.35 else rng.choice(WORDS)
            for _ in range(rng.randint(3, 22))
        )
        text = "".join(c + ("," if c == " " and rng.random() < 0.05 else "") for c in text) + rng.choice(".?!")
        if rng.random() < 0.1:
            command = ["flite", "-voice", rng.choice(FLITE_VOICES), "-t", text, "-o", str(path)]
        else:
            speed, pitch = rng.randint(90, 260), rng.randint(10, 90)
            command = ["espeak-ng", "-v", language + variant, "-s", str(speed), "-p", str(pitch), "-w", str(path), text]
        if not path.exists():
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if path.exists() and path.stat().st_size > 8000:
            yield f"speech/{i:05}", path


def music(folder: Path, soundfont: Path, count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """Yield `count` pieces of a minute for one to five General MIDI instruments, some with drums."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for i in range(count):
        path = folder / f"{i:05}.wav"
        midi = path.with_suffix(".mid")
        midi.write_bytes(_piece(rng, i))
        if not path.exists():
            options = ["-ni", "-q", "-r", "32000", "-g", "0.6", "-F", str(path)]
            command = ["fluidsynth", *options, str(soundfont), str(midi)]
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if path.exists() and path.stat().st_size > 64000:
            yield f"music/{i:05}", path


_SCALES = ([0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 2, 4, 7, 9], [0, 3, 5, 6, 7, 10], [0, 1, 4, 5, 7, 8, 11])
_TICKS = 96


def _piece(rng: random.Random, index: int) -> bytes:
    """Return a standard MIDI file of six passages with different instruments."""
    events: list[tuple[int, bytes]] = []
    tempo, at = rng.randint(60, 180), 0
    passage = int(10 * tempo / 60 * _TICKS)
    for part in range(6):
        root, scale = rng.randint(36, 60), rng.choice(_SCALES)
        # the first voice cycles through all instruments
        voices = [(index * 6 + part) % 128] + [rng.randrange(112) for _ in range(rng.choice((0, 0, 0, 1, 2, 4)))]
        for channel, program in enumerate(voices):
            events.append((at, bytes((0xC0 | channel, program))))
            _melody(events, rng, channel, at, passage, root + 12 * rng.randint(-1, 2), scale)
        if rng.random() < 0.4:
            _drums(events, rng, at, passage)
        at += passage
    events.sort(key=lambda event: event[0])
    track, now = bytearray(b"\x00\xff\x51\x03" + (60_000_000 // tempo).to_bytes(3, "big")), 0
    for time, message in events:
        track += _varint(time - now) + message
        now = time
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + (0).to_bytes(2, "big") + (1).to_bytes(2, "big")
    return header + _TICKS.to_bytes(2, "big") + b"MTrk" + len(track).to_bytes(4, "big") + bytes(track)


def _melody(
    events: list[tuple[int, bytes]], rng: random.Random, channel: int, at: int, length: int, root: int, scale: list[int]
) -> None:
    step, time = rng.choice((_TICKS // 4, _TICKS // 2, _TICKS, _TICKS * 2)), at
    chords, degree = rng.random() < 0.35, rng.randrange(8)
    while time < at + length - step:
        duration = step * rng.choice((1, 1, 1, 2))
        if rng.random() < 0.85:
            degree = max(0, min(15, degree + rng.randint(-2, 2)))
            for third in (0, 2, 4) if chords else (0,):
                octave, tone = divmod(degree + third, len(scale))
                note = min(127, max(0, root + 12 * octave + scale[tone]))
                events.append((time, bytes((0x90 | channel, note, rng.randint(50, 120)))))
                events.append((min(time + duration, at + length) - 1, bytes((0x80 | channel, note, 0))))
        time += duration


def _drums(events: list[tuple[int, bytes]], rng: random.Random, at: int, length: int) -> None:
    patterns = [
        (rng.choice((35, 36)), rng.choice((2, 4))),
        (rng.choice((38, 40, 39)), 4),
        (rng.choice((42, 46, 51)), 1),
    ]
    patterns += [(rng.randint(35, 81), rng.choice((1, 2, 3, 6))) for _ in range(rng.randint(0, 2))]
    for note, every in patterns:
        for beat, time in enumerate(range(at, at + length, _TICKS // 2)):
            if (beat + note) % every == 0 and rng.random() < 0.93:
                events.append((time, bytes((0x99, note, rng.randint(60, 127)))))
                events.append((time + 10, bytes((0x89, note, 0))))


def _varint(value: int) -> bytes:
    out = bytearray([value & 0x7F])
    while value := value >> 7:
        out.insert(0, 0x80 | (value & 0x7F))
    return bytes(out)
