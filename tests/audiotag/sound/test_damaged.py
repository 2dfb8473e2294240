"""Damaged files through pipes: they end, as the same bytes from a file do."""

from __future__ import annotations

import faulthandler
import io
import multiprocessing
import os
import random
import threading

import numpy as np
import pytest
import soundfile

from audiotag import AudioError
from audiotag.sound import audio

FORMATS = ["WAV", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "W64", "RF64"]

ALIKE = ["CAF", "FLAC", "OGG", "MP3", "W64"]
"""Formats whose damaged lengths have the same meaning in a pipe, whose length is unknown."""

LIMIT = 600
"""Seconds for a file of some kilobytes, which takes milliseconds."""

FIELDS = (0, 1, 2, 3, 4, 16, 40, 1000, 0x7FFF, 0xFFFF, 1 << 27, 0x7FFF0000, 2**31 - 1, 2**31, 2**32 - 1)
NAMES = (b"LIST", b"JUNK", b"fact", b"data", b"fmt ", b"SSND", b"COMM", b"MARK", b"desc", b"free", b"ID3\4", bytes(4))


class Unseekable:
    def __init__(self, content):
        self._file = io.BytesIO(content)

    def read(self, size):
        return self._file.read(size)


def piped(content):
    """Return the samples that the content gives through a pipe of the operating system; None for an AudioError."""
    reading, writing = os.pipe()

    def write():
        try:
            with os.fdopen(writing, "wb", buffering=0) as file:
                file.write(content)
        except BrokenPipeError:
            pass  # it was refused by its beginning

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as file:
        result = read(file)
    thread.join()
    return result


def read(source):
    try:
        return audio.read(source)
    except AudioError:
        return None


def sound(format, frames=200):
    file = io.BytesIO()
    samples = np.random.default_rng(0).normal(0, 0.1, frames).astype(np.float32)
    soundfile.write(file, samples, 32000, format=format)
    return file.getvalue()


def mutated(chance, content):
    content = bytearray(content)
    header = min(len(content), chance.choice((60, 120, 500)))
    for _ in range(chance.choice((1, 1, 2, 3, 5))):
        at = chance.randrange(header + 1)
        match chance.randrange(5):
            case 0:
                content[at : at + 1] = chance.randbytes(1)
            case 1:
                content[at : at + 4] = chance.choice(FIELDS).to_bytes(4, chance.choice(("little", "big")))
            case 2:
                del content[at : at + chance.randrange(1, 9)]
            case 3:
                content[at:at] = bytes(chance.choice((1, 3, 8, 1000, 70_000)))
            case _:
                content[at : at + 4] = chance.choice(NAMES)
    return bytes(content[: chance.randrange(len(content) + 1)] if chance.random() < 0.3 else content)


def same(a, b):
    return a is b if a is None or b is None else np.array_equal(a, b)


def check(contents, agree):
    """Check that all files end; in another process, because a read that hangs holds libsndfile's lock."""
    for content in contents:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        result = piped(content)
        if agree:
            assert same(result, read(content)), content.hex()
        faulthandler.cancel_dump_traceback_later()


def run(contents, agree):
    process = multiprocessing.get_context("spawn").Process(target=check, args=(contents, agree))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_chunk_that_ends_at_an_odd_place():
    run([bytes.fromhex("52494646be030000574156454c4953540000")], True)


@pytest.mark.parametrize("format", FORMATS)
def test_every_beginning_of_a_file_is_what_it_is_as_a_file(format):
    content = sound(format)
    run([content[:end] for end in (*range(1, 200), *range(200, len(content), 61))], True)


@pytest.mark.parametrize("format", FORMATS)
def test_files_with_damaged_headers_end(format):
    contents = [sound(format, frames) for frames in (200, 40_000)]
    chance = random.Random(format)
    run([mutated(chance, chance.choice(contents)) for _ in range(200)], False)


@pytest.mark.parametrize("format", ALIKE)
def test_a_damaged_file_is_in_a_pipe_what_it_is_as_a_file(format):
    chance, content = random.Random(format), sound(format)
    run([mutated(chance, content) for _ in range(100)], True)


def test_a_wav_without_channels_is_no_sound():
    content = bytearray(whole := sound("WAV"))
    content[22:24], content[32:34] = bytes(2), b"\2\0"
    assert read(bytes(content)) is piped(bytes(content)) is None
    assert len(piped(whole)) == 200


def test_infinite_samples_in_all_channels_are_refused():
    file = io.BytesIO()
    samples = np.array([[np.inf, -np.inf]] * 9, np.float32)
    soundfile.write(file, samples, 32000, format="WAV", subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        audio.read(file.getvalue())


def test_an_error_while_it_is_opened_ends_it():
    class Failing(Unseekable):
        error = KeyboardInterrupt()

        def read(self, size):
            data = super().read(size)
            if not data:
                raise self.error
            return data

    content = bytes.fromhex("464f524dbe030000414946464c4953540000")
    with pytest.raises(KeyboardInterrupt):
        audio.read(Failing(content))
    Failing.error = OSError(5, "Input/output error")
    with pytest.raises(AudioError, match="Input/output error"):
        audio.read(Failing(content))


def test_a_source_without_partial_reads_is_not_read_byte_by_byte():
    sizes = []

    class Counted(Unseekable):
        def read(self, size):
            sizes.append(size)
            return super().read(size)

    content = sound("OGG", 32000)
    assert read(Counted(content)) is not None
    assert len(sizes) < 10 + len(content) / 4096
