"""Labels for Audacity (File > Import > Labels): when, and what is heard, of one recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.crawl.job import Options


class AudacityEncoder:
    """A label for each event, or for each window the names of its tags. Failures are left to stderr.

    Labels say nothing of the recording that they belong to, so all are of one.
    """

    def __init__(self, options: Options) -> None:
        pass

    def header(self) -> str:
        return ""

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure) or not row.tags:
            return ""
        return f"{row.start:.6f}\t{row.end:.6f}\t{', '.join(tag.label for tag in row.tags)}\n"
