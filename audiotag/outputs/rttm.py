"""RTTM, the format of diarisation and detection tools: one line per tag."""

from __future__ import annotations

from audiotag.outputs.interface import Encoder
from audiotag.results import Failure, Result


class RttmEncoder(Encoder):
    """`SPEAKER file 1 start duration <NA> <NA> class score <NA>`, with whitespace in names replaced by `_`.

    The type is SPEAKER because most readers ignore lines of other types. Failures are reported on stderr only.
    """

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
