"""For people: the clip, then its tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiotag.errors import printable
from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.crawl.job import Options


class TextEncoder:
    """A heading for each clip and a line for each tag or, of a timeline, each window. Failures are left to stderr."""

    def __init__(self, options: Options) -> None:
        self._timeline = options.window is not None
        self._clip: str | None = None

    def header(self) -> str:
        return ""

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure):
            return ""
        lines = []
        if not self._timeline or row.path != self._clip:
            lines += ["", self._heading(row)]
        self._clip = row.path
        if self._timeline:
            tags = ", ".join(f"{tag.score:.4f} {tag.label}" for tag in row.tags) or "-"
            lines.append(f"  {row.start:8.2f} {row.end:8.2f}  {tags}")
        else:
            lines += [f"  {tag.score:6.4f}  {tag.label}" for tag in row.tags] or ["  (no tag reaches the threshold)"]
        return "\n".join(lines) + "\n"

    def _heading(self, row: Result) -> str:
        warning = "" if row.trained else ": untrained, scores mean nothing"
        length = "" if self._timeline else f"  ({row.duration:.2f} s)"
        return f"{printable(row.path)}{length}  [{printable(row.model)}{warning}]"
