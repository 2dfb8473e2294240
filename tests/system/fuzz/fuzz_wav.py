"""Mutated WAV headers through the executable's decoder, compared with what the package reads from a pipe.

python -m tests.system.fuzz.fuzz_wav [COUNT [SEED]]

A finding is a file that is read without end, or with samples other than the package's; it is printed and ends the run.
"""

from __future__ import annotations

import io
import random
import struct
import sys
from collections import Counter

import numpy as np

from audiotag import AudioError
from audiotag.sound import audio
from tests.audiotag.standalone.decoding import Decoder

FIELDS = (0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 24, 25, 32, 40, 64, 100, 1000, 1024, 1025, 8000, 16000, 44100, 96000,
          0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 1_000_000, 0x7FFF0000, 2**31 - 1, 2**31, 0xFFFF0000, 2**32 - 1)  # fmt: skip

NAMES = (b"RIFF", b"RF64", b"WAVE", b"fmt ", b"data", b"ds64", b"LIST", b"JUNK", b"fact", b"\0\0\0\0")


class Pipe:
    """A file object that can't seek."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def whole(chance: random.Random) -> bytes:
    """Return a file that is fine."""
    code, bits = chance.choice([(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
    channels = chance.choice([1, 1, 2, 3, 6, 9])
    frame = channels * bits // 8
    rate = chance.choice([32000, 32000, 44100, 16000, 8000, 1000, 96000, 44056, 1_000_000])
    samples = np.array([chance.uniform(-1, 1) for _ in range(50 * channels)])
    if code == 3:
        data = samples.astype(f"<f{bits // 8}").tobytes()
    else:
        data = b"".join(
            int(x * (2 ** (bits - 1) - 1) + 128 * (bits == 8)).to_bytes(bits // 8, "little", signed=bits > 8)
            for x in samples
        )
    fmt = struct.pack("<HHIIHH", code, channels, rate, rate * frame, frame, bits)
    if chance.random() < 0.3:
        guid = struct.pack("<IHH", code, 0, 0x10) + bytes.fromhex("800000aa00389b71")
        fmt = struct.pack("<H", 0xFFFE) + fmt[2:] + struct.pack("<HHI", 22, bits, 0) + guid
    chunks = [chunk(b"fmt ", fmt), chunk(b"data", data)]
    for _ in range(chance.randrange(3)):
        name = chance.choice((b"LIST", b"JUNK", b"fact"))
        chunks.insert(chance.randrange(3), chunk(name, bytes(chance.randrange(9))))
    body = b"WAVE" + b"".join(chunks)
    if chance.random() < 0.1:
        body = b"WAVE" + chunk(b"ds64", struct.pack("<QQQI", len(body), len(data), 50, 0)) + body[4:]
        return b"RF64\xff\xff\xff\xff" + body
    return b"RIFF" + struct.pack("<I", len(body)) + body


def mutated(chance: random.Random) -> bytes:
    """Return a file with bytes or fields of the header changed, inserted or removed, or without its end."""
    content = bytearray(whole(chance))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 5))):
        at = chance.randrange(min(120, len(content) + 1))
        match chance.randrange(7):
            case 0:
                content[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                content[at : at + 2] = struct.pack("<H", chance.choice(FIELDS) & 0xFFFF)
            case 2 | 3:
                content[at : at + 4] = struct.pack("<I", chance.choice(FIELDS))
            case 4:
                del content[at : at + chance.randrange(1, 9)]
            case 5:
                content[at:at] = chance.randbytes(chance.randrange(1, 9))
            case _:
                content[at : at + 4] = chance.choice(NAMES)
    return bytes(content[: chance.randrange(len(content) + 1)] if chance.random() < 0.2 else content)


def check(decoder: Decoder, content: bytes, piece: int) -> str:
    """Return the outcome for a file; raise AssertionError for a finding."""
    problem, found = decoder(content, piece)
    try:
        expected = audio.read(Pipe(content), notes=[])
    except AudioError:
        return "refused by both" if problem else "read here only"
    if problem:
        return "read by the package only"
    assert len(found) == len(expected), f"{len(found)} samples here, {len(expected)} in the package"
    if decoder.rate == audio.SAMPLE_RATE:
        assert np.array_equal(found, expected), "other samples than the package's"
    return "read by both"


def main(count: int = 100_000, seed: int = 0) -> int:
    decoder, outcomes = Decoder(), Counter[str]()
    for i in range(seed, seed + count):
        chance = random.Random(i)
        content, piece = mutated(chance), chance.choice((1, 7, 100, 1 << 20))
        try:
            outcomes[check(decoder, content, piece)] += 1
        except AssertionError as finding:
            print(f"seed {i}, in pieces of {piece} bytes: {finding}\n{content.hex()}")
            return 1
    print(", ".join(f"{outcome}: {n}" for outcome, n in sorted(outcomes.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
