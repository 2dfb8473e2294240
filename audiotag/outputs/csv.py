"""CSV, for spreadsheets: one line per tag."""

from __future__ import annotations

import csv
import io

import audiotag
from audiotag.outputs.interface import Encoder
from audiotag.results import Failure, Result, Tag

COLUMNS = (
    *("path", "start", "end", "duration", "label", "mid", "index", "score"),
    *("model", "sha256", "audiotag", "error_type", "error", "warning"),
)


class CsvEncoder(Encoder):
    """A table with the columns `COLUMNS`, and `precision` unless float32 was asked for.

    A result without tags is one line with empty tag columns; a failure is one line with its path,
    type and message.
    """

    suffixes = (".csv",)

    def header(self) -> str:
        return _line((*COLUMNS, *self._further("precision")))

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure):
            return _line((row.path, *[""] * 10, row.type, row.message, "", *self._further("")))
        clip = (row.path, f"{row.start:.10g}", f"{row.end:.10g}", f"{row.duration:.10g}")
        origin = (row.model, row.sha256, audiotag.__version__, "", "", row.warning or "")
        further = self._further(row.precision)
        return "".join(_line((*clip, *_fields(tag), *origin, *further)) for tag in row.tags or (None,))

    def _further(self, precision: str) -> tuple[str, ...]:
        """Return the fields after those of `COLUMNS`."""
        return () if self.options.precision == "float32" else (precision,)


def _fields(tag: Tag | None) -> tuple[object, ...]:
    return ("", "", "", "") if tag is None else (tag.label, tag.mid, tag.index, f"{tag.score:.6g}")


def _line(fields: tuple[object, ...]) -> str:
    text = io.StringIO()
    # csv quotes fields that contain a character of the line terminator; \r must be quoted because it also ends a row
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n") + "\n"
