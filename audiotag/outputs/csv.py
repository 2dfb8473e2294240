"""For spreadsheets: one line for each tag."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import audiotag
from audiotag.results import Failure, Result, Tag

if TYPE_CHECKING:
    from audiotag.crawl.job import Options

COLUMNS = (
    *("path", "start", "end", "duration", "label", "mid", "index", "score"),
    *("model", "sha256", "audiotag", "error_type", "error"),
)


class CsvEncoder:
    """A table whose columns are always the same.

    A result without tags has a line with empty fields for them, a failure one with its path and
    the last two columns.
    """

    def __init__(self, options: Options) -> None:
        pass

    def header(self) -> str:
        return _line(COLUMNS)

    def encode(self, row: Result | Failure) -> str:
        if isinstance(row, Failure):
            return _line((row.path, *[""] * 10, row.type, row.message))
        where = (row.path, f"{row.start:.10g}", f"{row.end:.10g}", f"{row.duration:.10g}")
        whence = (row.model, row.sha256, audiotag.__version__, "", "")
        return "".join(_line((*where, *_fields(tag), *whence)) for tag in row.tags or (None,))


def _fields(tag: Tag | None) -> tuple[object, ...]:
    return ("", "", "", "") if tag is None else (tag.label, tag.mid, tag.index, f"{tag.score:.6g}")


def _line(fields: tuple[object, ...]) -> str:
    text = io.StringIO()
    # what is in the end of a line is put in quotes, wherever it is, and a \r would end a row, too
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue().removesuffix("\r\n") + "\n"
