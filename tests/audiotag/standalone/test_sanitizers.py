"""Mutated files and arguments through the C front end, compiled with sanitizers; kernels are replaced by checks.

    python -m tests.audiotag.standalone.test_sanitizers [COUNT [SEED]]

runs more of them with each front end.
"""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from audiotag.models.families import descriptions
from audiotag.standalone.build import SOURCES
from audiotag.standalone.source import FOLDER, Facts, texts
from tests.audiotag.standalone.front import PARTS, compiler
from tests.system.fuzz.fuzz_wav import mutated
from tinyonnx.native.products import HERE

_ADDRESS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
_UNDEFINED = ["-fsanitize=undefined", "-fsanitize-trap=undefined"]

ARGUMENTS = (
    *(b"--json", b"--top", b"--top=3", b"--window", b"--window=0.3", b"--hop=0.1", b"--hop", b"1e300", b"0.02"),
    *(
        b"--raw=s16le",
        b"--rate=8000",
        b"--raw",
        b"f32le",
        b"--channels=3",
        b"--threshold=.5",
        b"--help",
        b"--version=1",
    ),
    *(b"-", b"-", b"a.wav", b"--", b"error", b"e", b"\xff\xc3\xa4\xf0\x9f\x90\x95\n\x1b", b"", b"="),
)


FAMILIES = ("efficientat", "ced", "waveform_16k")
"""Descriptions of front ends: clips in one piece, the mean of pieces, and waveforms."""


def build(folder: Path, family: str) -> Path:
    """Compile the program with the address and undefined-behaviour sanitizers, or what there is of them."""
    facts = Facts("model", "0" * 64, description=descriptions()[family])
    for name, text in texts(facts, 20).items():
        (folder / name).write_text(text, encoding="ascii")
    files = [*SOURCES, folder / "facts.c", PARTS / "stubs.c"]
    include = [f"-I{path}" for path in (folder, FOLDER, HERE)]
    for options in (_ADDRESS, _UNDEFINED):
        command = [*compiler(), "-O1", "-g", *options, *include, *map(str, files), "-o", str(folder / "front")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return folder / "front"
    raise AssertionError(done.stderr)


def cases(count: int, seed: int) -> Iterator[bytes]:
    """Return arguments and files, as `c/stubs.c` reads them."""
    for i in range(seed, seed + count):
        chance = random.Random(i)
        content = mutated(chance)
        if chance.random() < 0.3:
            # data after the samples: silence, sound, chunks, nothing
            for _ in range(chance.randrange(1, 4)):
                size = chance.choice((1, 7, 100, 4095, 4096, 5000, 70_000))
                content += chance.choice(
                    (bytes(size), chance.randbytes(size), b"data\x20\x00\x00\x00", b"LIST\4\0\0\0ab")
                )
        arguments = [b"front", *chance.choice(([b"-"], [b"--json", b"-"], [b"--window=0.02", b"-"], []))]
        if len(arguments) == 1 or chance.random() < 0.1:
            arguments += chance.choices(ARGUMENTS, k=chance.randrange(7))
        text = b"".join(argument + b"\0" for argument in arguments)
        memory = chance.choice((0, 0, 0, 1000, 400_000, 3_000_000))
        yield (
            struct.pack("<IIII", len(text), len(content), chance.choice((1, 7, 1000, 1 << 20)), memory) + text + content
        )


def check(folder: Path, family: str, count: int, seed: int = 0) -> str:
    """Run cases; return the last line, which counts them by exit code."""
    done = subprocess.run(
        [build(folder, family)],
        input=b"".join(cases(count, seed)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:].decode(errors="replace")
    return done.stderr.splitlines()[-1].decode()


@pytest.mark.parametrize("family", FAMILIES)
def test_mutated_headers_and_arguments(tmp_path: Path, family: str) -> None:
    line = check(tmp_path, family, 2000)
    assert line.startswith("2000 cases: ")
    # files that are tagged, that are not, and wrong usage
    assert all(int(number) > 50 for number in line.partition(": ")[2].split(", "))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        wanted, first = (int(number) for number in [*sys.argv[1:], *("10000", "0")[len(sys.argv) - 1 :]])
        for at in range(first, first + wanted, 10_000):
            for family in FAMILIES:
                print(family, check(Path(name), family, min(10_000, first + wanted - at), at), flush=True)
