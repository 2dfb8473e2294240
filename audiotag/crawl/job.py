"""The work on one clip, the same in the command's own process and in workers."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from audiotag.errors import AudioError, Error
from audiotag.outputs import FORMATS
from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.events import EventOptions
    from audiotag.models.catalog import ResolvedModel
    from audiotag.sound.audio import RawFormat
    from audiotag.tagger import Tagger


CLIP_SECONDS = 10.0
"""The length of AudioSet's clips."""


@dataclass(frozen=True)
class Options:
    """What is asked for each clip; names and meanings are those of the command's options.

    With `events` there is a `window`, too.
    """

    top: int | None = 10
    threshold: float | None = None
    labels: tuple[int, ...] | None = None
    window: float | None = None
    hop: float | None = None
    events: EventOptions | None = None
    embeddings: bool = False
    raw: RawFormat | None = None

    def to_dict(self) -> dict[str, Any]:
        """The settings, fit for JSON."""
        return dataclasses.asdict(self)


def rows_of(tagger: Tagger, path: str, options: Options) -> Iterator[Result | Failure]:
    """What comes of a clip, as it comes: its results and, if something goes wrong, a failure after them."""
    try:
        yield from _results(tagger, path, options)
    except Exception as error:
        yield Failure.of(path, error)


def _results(tagger: Tagger, path: str, options: Options) -> Iterator[Result]:
    from audiotag.crawl.inputs import STDIN

    source: Any = path
    if path == STDIN:
        if sys.stdin is None:
            raise AudioError(path, "standard input is closed")
        source = sys.stdin.buffer
    common: Any = {"labels": options.labels, "raw": options.raw, "name": path}
    choice: Any = {"top": options.top, "threshold": options.threshold, "embedding": options.embeddings}
    if options.window is None:
        yield tagger.tag(source, **common, **choice)
    elif options.events is None:
        yield from tagger.tag_windows(source, options.window, options.hop, **common, **choice)
    else:
        yield from tagger.find_events(source, options.events, options.window, options.hop, **common)


class Rows(NamedTuple):
    """Some of a clip's rows, as the output takes them; also as it is, if it is one that was made in this process."""

    data: bytes
    result: Result | None = None


class End(NamedTuple):
    """A clip is done: seconds of it that were heard, and what went wrong."""

    path: str
    failure: Failure | None = None
    seconds: float = 0.0


Event = Rows | End


class Job:
    """From clips to rows of an output format; it can be sent to workers, which load the model then.

    Args:
        model: the tagger's.
        threads: the tagger's.
        options: what is asked for each clip.
        format: a name in `audiotag.outputs.FORMATS` or `PARTS`.
    """

    def __init__(self, model: str | None, threads: int, options: Options, format: str) -> None:
        self._arguments = model, threads
        self.options = options
        self.format = format

    def __reduce__(self) -> tuple[type[Job], tuple[Any, ...]]:
        return type(self), (*self._arguments, self.options, self.format)

    @cached_property
    def tagger(self) -> Tagger:
        """Not made before it is needed, as a process that only sends the job to others can do without."""
        from audiotag.tagger import Tagger

        return Tagger(*self._arguments)

    def load(self) -> ResolvedModel:
        """Load the model and say which it is.

        Raises ModelError.
        """
        _ = self.tagger.network
        return self.tagger.model

    def warm_up(self) -> None:
        """Tag silence, so that what has to be compiled is."""
        import numpy as np

        from audiotag.sound.audio import SAMPLE_RATE

        seconds = self.options.window or CLIP_SECONDS
        with suppress(Error):  # clips of their own length may do better
            self.tagger.tag(np.zeros(int(seconds * SAMPLE_RATE), np.float32), SAMPLE_RATE)

    def events(self, path: str) -> Iterator[Event]:
        """What comes of a clip: its rows as they come, then its end."""
        seconds, failure = 0.0, None
        for row in rows_of(self.tagger, path, self.options):
            if isinstance(row, Failure):
                failure = row
            else:
                seconds = max(seconds, row.end)
                yield Rows(self.encode(row), row)
        yield End(path, failure, seconds)

    @cached_property
    def encode(self) -> Callable[[Result | Failure], bytes]:
        """A row as the output takes it: UTF-8 text or, for formats that are no text, a pickle."""
        if self.format not in FORMATS:
            return pickle.dumps
        encoder = FORMATS[self.format](self.options)
        return lambda row: encoder.encode(row).encode(errors="backslashreplace")
