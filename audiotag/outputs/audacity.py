"""Label tracks for Audacity (File > Import > Labels), for one recording."""

from __future__ import annotations

from audiotag.errors import printable
from audiotag.outputs.interface import Encoder
from audiotag.results import Failure, Result


class AudacityEncoder(Encoder):
    """One label per event, or per window with the names of its tags. Failures are reported on stderr only."""

    one_clip = True

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure) or not row.tags:
            return ""
        return f"{row.start:.6f}\t{row.end:.6f}\t{printable(', '.join(tag.label for tag in row.tags))}\n"
