"""The work on one clip, identical in the command's own process and in workers."""

from __future__ import annotations

import codecs
import gc
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from audiotag.errors import AudioError, Error
from audiotag.outputs import FORMATS
from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel
    from audiotag.options import TagOptions
    from audiotag.tagger import Tagger


NAMES = "audiotag.names"
"""Error handler that encodes undecodable bytes of file names as they were, and escapes other surrogates."""


def _encode_names(error: UnicodeError) -> tuple[bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    parts = (
        bytes([ord(c) & 0xFF]) if "\udc80" <= c <= "\udcff" else c.encode(errors="backslashreplace") for c in characters
    )
    return b"".join(parts), error.end


codecs.register_error(NAMES, _encode_names)


LONG = 60.0
"""Seconds of a clip from which on the position in it is shown."""

CLIP_SECONDS = 10.0
"""Length of AudioSet's clips."""


def resume_collection() -> None:
    """Re-enable garbage collection and freeze every object that exists now; no effect if collection is enabled.

    Imported modules and loaded weights live until the process ends: scanning them repeatedly costs
    a fifth of the CPU time of tagging one clip.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def rows_of(tagger: Tagger, path: str, options: TagOptions) -> Iterator[Result | Failure]:
    """Yield the results of a clip as they are computed, then a failure if an error ended the work on it."""
    from audiotag.crawl.inputs import STDIN

    try:
        source: Any = path
        if path == STDIN:
            if sys.stdin is None:
                raise AudioError(path, "standard input is closed")
            source = sys.stdin.buffer
        yield from tagger.rows(source, options, path)
    except Exception as error:
        yield Failure.of(path, error)


class EncodedRows(NamedTuple):
    """Encoded rows of a clip; with the result itself if it is a single row computed in this process."""

    data: bytes
    result: Result | None = None


class End(NamedTuple):
    """The end of a clip: its error, if any, the seconds of sound that were analysed, and its warnings."""

    path: str
    failure: Failure | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


class Position(NamedTuple):
    """The seconds of a clip that have been read so far."""

    path: str
    seconds: float


JobEvent = EncodedRows | End | Position


class Job:
    """Turns clips into rows of an output format; can be pickled for workers, which then load the model themselves.

    Args:
        model: model argument of the tagger.
        threads: thread count of the tagger.
        options: what to compute for each clip.
        format: a name in `audiotag.outputs.FORMATS` or `PARTS`.
    """

    def __init__(self, model: str | None, threads: int, options: TagOptions, format: str) -> None:
        self._arguments = model, threads
        self.options = options
        self.format = format

    def __reduce__(self) -> tuple[type[Job], tuple[Any, ...]]:
        return type(self), (*self._arguments, self.options, self.format)

    @cached_property
    def tagger(self) -> Tagger:
        """The tagger, created on first use: a process that only sends the job to workers does not need one."""
        from audiotag.tagger import Tagger

        return Tagger(*self._arguments, channel=self.options.channel, precision=self.options.precision)

    def load(self) -> ResolvedModel:
        """Load the model and return its description, without its content.

        Raises ModelError.
        """
        _ = self.tagger.network
        return self.tagger.model.summary()

    def warm_up(self) -> None:
        """Tag silence, so that all kernels are compiled before the first clip."""
        import numpy as np

        seconds = self.options.window or CLIP_SECONDS
        with suppress(Error):  # a model of fixed length may still accept the clips themselves
            rate = self.tagger.rate
            self.tagger.tag(np.zeros(int(seconds * rate), np.float32), rate)

    def listen(self, reached: Callable[[float], None]) -> None:
        """Have a function called, in the middle of the work on a clip, with the seconds of it that have been read."""
        self.tagger.scorer.reached = reached

    def events(self, path: str) -> Iterator[EncodedRows | End]:
        """Yield the rows of a clip as they are computed, then its end."""
        seconds, failure, warnings = 0.0, None, dict[str, None]()
        for row in rows_of(self.tagger, path, self.options):
            if isinstance(row, Failure):
                failure = row
            else:
                seconds = max(seconds, row.end)
                warnings |= dict.fromkeys(row.warnings)
                yield EncodedRows(self.encode(row), row)
        yield End(path, failure, seconds, tuple(warnings))

    @cached_property
    def encode(self) -> Callable[[Result | Failure], bytes]:
        """Function that encodes a row for the output: a text, or a pickle for formats that are not text.

        Texts are UTF-8, except that undecodable bytes of file names stay as they are.
        """
        if self.format not in FORMATS:
            return pickle.dumps
        encoder = FORMATS[self.format](self.options)
        return lambda row: encoder.encode(row).encode(errors=NAMES)
