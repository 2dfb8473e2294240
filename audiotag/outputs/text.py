"""Text for people: a heading for each clip, then its tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audiotag.errors import printable
from audiotag.outputs.interface import Encoder
from audiotag.results import Failure, Result

if TYPE_CHECKING:
    from audiotag.options import TagOptions


class TextEncoder(Encoder):
    """A heading for each clip; below it one line per tag or, with windows, per window.

    Failures are reported on stderr only.
    """

    def __init__(self, options: TagOptions) -> None:
        super().__init__(options)
        self._timeline = options.window is not None or options.events is not None
        self._clip: str | None = None

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure):
            return ""
        lines = []
        if not self._timeline or row.path != self._clip:
            lines += ["", self._heading(row)]
        self._clip = row.path
        if self._timeline:
            tags = ", ".join(f"{tag.score:.4f} {printable(tag.label)}" for tag in row.tags) or "-"
            lines.append(f"  {row.start:8.2f} {row.end:8.2f}  {tags}")
        else:
            lines += [f"  {tag.score:6.4f}  {printable(tag.label)}" for tag in row.tags] or [
                "  (no tag reaches the threshold)"
            ]
        return "\n".join(lines) + "\n"

    def _heading(self, row: Result) -> str:
        warning = "" if row.trained else ": untrained, scores mean nothing"
        length = "" if self._timeline else f"  ({row.duration:.2f} s)"
        return f"{printable(row.path)}{length}  [{printable(row.model)}{warning}]"
