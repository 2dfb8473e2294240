"""Decoder processes: a sound that crashes its decoder costs its own request, not the server.

Decoding runs third-party C code on untrusted data. Each decoder is a process that decodes one sound at
a time; it is killed and replaced when it crashes, takes too long, or its client has left.
"""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from audiotag.crawl.job import EncodedRows, End
from audiotag.crawl.signals import blocked
from audiotag.crawl.workers import Process, Ready, describe_exit, process_source
from audiotag.errors import AudioError, CrashError, Error
from audiotag.results import Failure
from audiotag.serve.arriving import ArrivingFile
from audiotag.sound.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from audiotag.sound.audio import RawFormat
    from tinyonnx.ir import Array

DECODE_SECONDS = 120.0
"""Maximum time for decoding one sound."""

_POLL_SECONDS = 0.1
"""Seconds between checks whether the client of a waiting request has disconnected."""

_PATIENCE = 1.0
"""Seconds that a decoder whose pipe is closed gets to exit by itself, so that its exit code is known."""

_ATTEMPTS = 3
"""Maximum attempts to send one sound to a decoder, as decoders may die while idle."""


class TooLongError(AudioError):
    """The sound, or the answer to a request, is longer than the server allows."""


class ClientGoneError(Exception):
    """The client has disconnected, so nobody reads the answer."""


@dataclass(frozen=True)
class Sound:
    """The content of a sound file, or headerless samples if `raw` is given; the other fields are for `audio.stream`.

    With `path`, the content is in that file; with `length`, it is still being written, up to this size in bytes.
    """

    name: str
    data: bytes
    max_seconds: float
    raw: RawFormat | None = None
    channel: str | int = "mean"
    target: int = SAMPLE_RATE
    path: str | None = None
    length: int | None = None

    def open(self) -> IO[bytes]:
        """Open the content. Raises OSError."""
        if self.path is None:
            return io.BytesIO(self.data)
        if self.length is not None:
            return io.BufferedReader(ArrivingFile(self.path, self.length))
        return open(self.path, "rb")


class Decoding:
    """The work of a decoder process, see `audiotag.crawl.workers.Work`: mono float32 samples as rows."""

    def load(self) -> None:
        """Import the decoding libraries."""
        import audiotag.sound.audio  # noqa: F401  imported for later calls

    def warm_up(self) -> None:
        """Do nothing: nothing else is slow."""

    def listen(self, reached: Callable[[float], None]) -> None:
        """Do nothing: positions are not needed, because the reader has the samples."""

    def events(self, item: Sound) -> Iterator[EncodedRows | End]:
        """Yield the samples of a sound, then its end with the error, if any."""
        from audiotag.sound import audio

        size = 0
        notes: list[str] = []
        try:
            with item.open() as file:
                blocks = audio.stream(
                    file, raw=item.raw, name=item.name, channel=item.channel, notes=notes, target=item.target
                )
                for block in blocks:
                    size += len(block)
                    if size > item.max_seconds * item.target:
                        raise TooLongError(item.name, f"longer than {item.max_seconds:g} s")
                    yield EncodedRows(block.tobytes())
        except Exception as error:
            yield End(item.name, Failure.of(item.name, error))
        else:
            yield End(item.name, warnings=tuple(notes))


@dataclass
class _Decoder:
    process: Process
    pid: int


class Decoders:
    """Decoder processes, started as needed and reused; `decode` may be called from any number of threads."""

    def __init__(self) -> None:
        self._source = process_source(Decoding())
        self._lock = threading.Lock()
        self._idle: list[_Decoder] = []
        self._closed = False

    def start(self) -> None:
        """Start the first decoder and wait until it is ready. Raises Error.

        Call it in the main thread: on Linux a decoder ends together with the thread that started it.
        """
        self._idle.append(self._start_one())

    def decode(self, sound: Sound, abandoned: threading.Event | None = None, notes: list[str] | None = None) -> Array:
        """Decode a sound to mono samples (n,) float32 at the rate `sound.target`.

        Args:
            sound: what to decode.
            abandoned: set from another thread to stop, because the result is no longer needed.
            notes: takes warnings about the sound.

        Raises:
            AudioError: the sound can't be decoded or takes too long.
            TooLongError: it is longer than allowed.
            CrashError: the decoder crashed.
            ClientGoneError: `abandoned` was set.
            Error: no process could be started, or the decoder raised an unexpected exception.
        """
        deadline = time.monotonic() + DECODE_SECONDS
        samples = bytearray()
        for block in self._blocks(sound, abandoned, notes, lambda: deadline):
            samples += block
        return np.frombuffer(samples, np.float32)

    def stream(
        self,
        sound: Sound,
        abandoned: threading.Event | None = None,
        notes: list[str] | None = None,
        arriving: Callable[[], bool] = lambda: False,
    ) -> Iterator[Array]:
        """Yield the samples of a sound block by block; the decoder waits for the reader.

        Arguments and errors are those of `decode`; DECODE_SECONDS is the maximum time for one block, without that in
        which `arriving` tells that the sound is still being written.
        """

        def deadline() -> float:
            return math.inf if arriving() else time.monotonic() + DECODE_SECONDS

        for block in self._blocks(sound, abandoned, notes, deadline):
            if len(block):
                yield np.frombuffer(block, np.float32)

    def _blocks(
        self, sound: Sound, abandoned: threading.Event | None, notes: list[str] | None, deadline: Callable[[], float]
    ) -> Iterator[bytes]:
        """Yield the bytes of a sound; `deadline` is called for each block."""
        for _ in range(_ATTEMPTS):
            decoder = self._take()
            try:
                decoder.process.pipe.send([sound])
            except OSError:  # it died while it was idle
                self._end(decoder)
                continue
            warnings = yield from self._receive(decoder, sound, abandoned or threading.Event(), deadline)
            if notes is not None:
                notes += warnings
            return
        raise Error("decoder processes die before they get any work")

    def close(self) -> None:
        """Kill all decoders: the idle ones here, those at work with the process that they come from."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for decoder in idle:
            self._end(decoder)
        with self._lock:
            self._source.close()

    def _receive(
        self, decoder: _Decoder, sound: Sound, abandoned: threading.Event, deadline: Callable[[], float]
    ) -> Generator[bytes, None, tuple[str, ...]]:
        """Yield the bytes of a sound and return its warnings.

        On an error, or when the generator is closed, the decoder is ended, or else it becomes idle again.
        """
        last = deadline()
        end: End | None = None
        try:
            while end is None:
                if abandoned.is_set():
                    raise ClientGoneError
                if last == math.inf:  # until the sound has arrived
                    last = deadline()
                if time.monotonic() > last:
                    raise AudioError(sound.name, f"decoding took longer than {DECODE_SECONDS:g} s")
                if decoder.process.pipe.poll(_POLL_SECONDS):
                    data, end = decoder.process.pipe.recv()
                    yield data
                    last = deadline()
        except (EOFError, OSError):
            how = describe_exit(self._end(decoder, _PATIENCE))
            raise CrashError(sound.name, f"crashed the decoder: {how}") from None
        except BaseException:
            self._end(decoder)
            raise
        with self._lock:
            self._idle.append(decoder)
        if end.failure is not None:
            raise _error_of(end.failure)
        return end.warnings

    def _take(self) -> _Decoder:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._start_one()

    def _start_one(self) -> _Decoder:
        try:
            with self._lock:
                if self._closed:
                    raise Error("the server is stopping")
                self._source.prepare()
                with blocked():
                    process = self._source.start()
            message = process.pipe.recv()
        except (EOFError, OSError) as error:
            raise Error(f"decoder processes can't be started: {error}") from None
        if not isinstance(message, Ready):
            raise message
        return _Decoder(process, message.pid)

    def _end(self, decoder: _Decoder, patience: float = 0) -> int | None:
        with self._lock:
            return decoder.process.end(decoder.pid, patience)


def _error_of(failure: Failure) -> Error:
    """Return the exception that the decoder process reported."""
    problem = failure.message.removeprefix(f"{failure.path}: ")
    for kind in (TooLongError, AudioError):
        if failure.type == kind.__name__:
            return kind(failure.path, problem)
    return Error(str(failure))
