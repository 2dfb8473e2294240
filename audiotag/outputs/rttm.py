"""RTTM, as programs for diarisation and detection read it: one line for each tag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.crawl.job import Options


class RttmEncoder:
    """`SPEAKER file 1 start duration <NA> <NA> class score <NA>`, without spaces in names. Failures go to stderr.

    That type of line is the only one that most readers look at.
    """

    def __init__(self, options: Options) -> None:
        pass

    def header(self) -> str:
        return ""

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure):
            return ""
        return "".join(
            f"SPEAKER {_word(row.path)} 1 {row.start:.3f} {row.duration:.3f} <NA> <NA> {_word(tag.label)}"
            f" {tag.score:.4f} <NA>\n"
            for tag in row.tags
        )


def _word(text: str) -> str:
    return "_".join(text.split()) or "_"
