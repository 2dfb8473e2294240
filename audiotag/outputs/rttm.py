"""RTTM, the format of diarisation and detection tools: one line per tag."""

from __future__ import annotations

from audiotag.errors import printable
from audiotag.outputs.interface import Encoder
from audiotag.results import Failure, Result


class RttmEncoder(Encoder):
    """`SPEAKER file 1 start duration <NA> <NA> class score <NA>`, with blanks in names replaced by `_`.

    Other whitespace, control characters and undecodable bytes in names are escaped with a backslash.
    The type is SPEAKER because most readers ignore lines of other types. Failures are reported on stderr only.
    """

    suffixes = (".rttm",)

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure):
            return ""
        return "".join(
            f"SPEAKER {_word(row.path)} 1 {row.start:.3f} {row.duration:.3f} <NA> <NA> {_word(tag.label)}"
            f" {tag.score:.4f} <NA>\n"
            for tag in row.tags
        )


def _word(text: str) -> str:
    return printable("_".join(text.split(" "))) or "_"
