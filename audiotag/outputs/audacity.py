"""Labels for Audacity (File > Import > Labels): when, and what is heard, of one recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiotag.errors import OutputError
from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.work import Options


class AudacityEncoder:
    """A label for each event, or for each window the names of its tags. Failures are left to stderr.

    Raises:
        OutputError: labels say nothing of the recording that they belong to, so there can be one only.
    """

    def __init__(self, options: Options) -> None:
        self._clip: str | None = None

    def header(self) -> str:
        return ""

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure) or not row.tags:
            return ""
        if self._clip not in (None, row.path):
            raise OutputError(row.path, f"is a second recording after {self._clip}: Audacity's labels are for one")
        self._clip = row.path
        return f"{row.start:.6f}\t{row.end:.6f}\t{', '.join(tag.label for tag in row.tags)}\n"
