"""The work on one clip, the same in the command's own process and in workers."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audiotag.errors import AudioError
from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.audio import RawFormat
    from audiotag.tagger import Tagger


@dataclass(frozen=True)
class Options:
    """What is asked for each clip; names and meanings are those of the command's options."""

    top: int | None = 10
    threshold: float | None = None
    labels: tuple[int, ...] | None = None
    window: float | None = None
    hop: float | None = None
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
    from audiotag.inputs import STDIN

    source: Any = path
    if path == STDIN:
        if sys.stdin is None:
            raise AudioError(path, "standard input is closed")
        source = sys.stdin.buffer
    yield tagger.tag(source, None, options.top, options.threshold, options.labels, raw=options.raw, name=path)
