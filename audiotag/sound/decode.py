"""Decode sound files, bytes and pipes to blocks of samples.

The first bytes of a source decide how it is read, never its name: uncompressed WAV, AIFF, AU and CAF by `pcm`, all
other formats by `compressed`. All are read sequentially, so that a pipe gives the same samples as a file. The decoded
length is compared with that of the source, found or declared; a shortfall is an error or a note.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiotag.errors import AudioError, reason
from audiotag.sound import pcm, pcm_headers, wav_header
from audiotag.sound.id3 import id3_size
from audiotag.sound.reader import Reader

if TYPE_CHECKING:
    from tinyonnx.ir import Array

    Blocks = Iterator[tuple[int, Array]]


def open_blocks(source: Any, name: str, stack: ExitStack, notes: list[str]) -> Blocks:
    """Decode a source; yield the rate in Hz and a block (frames, channels) float32 of full scale 1.0, many times.

    Args:
        source: a path, the bytes of a file, or a binary file object.
        name: its name in errors.
        stack: closes what is opened.
        notes: takes messages about what is missing or damaged, at the latest before the end.

    Raises:
        AudioError: it can't be read or is not sound.
    """
    path = os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        if path is not None:
            if "\0" in path:
                raise AudioError(name, "is no path: it contains a null byte")
            try:
                os.fsencode(path)
            except UnicodeEncodeError:
                raise AudioError(name, "is no path: it contains a character that no file name has") from None
            source = stack.enter_context(io.FileIO(path))
        elif isinstance(source, (bytes, bytearray, memoryview)):
            source = io.BytesIO(source)
        reader = Reader(source)
        if not reader.peek(1):
            raise AudioError(name, "is empty")
        while size := id3_size(reader.peek(10)):
            reader.skip(size)
        blocks = _uncompressed(reader, name, notes)
        if blocks:
            reader.commit()
        else:
            # imported only when needed: libsndfile takes 12 ms to load, a twentieth of the time to tag a WAV file
            from audiotag.sound import compressed

            blocks = compressed.blocks(reader, None if path is None else Path(path), name, stack, notes)
        yield from blocks
    except OSError as error:
        if path is not None and os.path.isdir(path):
            raise AudioError(name, "is a directory") from None
        raise AudioError(name, reason(error)) from None


def _uncompressed(reader: Reader, name: str, notes: list[str]) -> Blocks | None:
    """Return the blocks of WAV, AIFF, AU or CAF whose samples are plain numbers; None for other sources."""
    marker = reader.peek(4)
    if marker in wav_header.MARKERS:
        wav = wav_header.read_wav_header(reader)
        if wav and wav.problem:
            raise AudioError(name, wav.problem)
        if wav and wav.format:
            return _plain(reader, wav.format, wav_header.runs(reader, wav, notes), name)
    elif marker in pcm_headers.MARKERS:
        header = pcm_headers.read_pcm_header(reader)
        if header:
            return _plain(reader, header.format, pcm_headers.runs(reader, header, notes), name)
    return None


def _plain(reader: Reader, format: pcm.SampleFormat, runs: Iterable[pcm.SampleRun], name: str) -> Blocks:
    for block in pcm.blocks(reader, format, runs, name):
        yield format.rate, block
