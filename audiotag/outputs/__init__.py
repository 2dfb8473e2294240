"""How results are written: one file per format, and its line in `FORMATS` or `PARTS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from audiotag.outputs.audacity import AudacityEncoder
from audiotag.outputs.csv import CsvEncoder
from audiotag.outputs.jsonl import JsonlEncoder
from audiotag.outputs.npy import NpyWriter
from audiotag.outputs.parquet import ParquetWriter
from audiotag.outputs.rttm import RttmEncoder
from audiotag.outputs.text import TextEncoder

if TYPE_CHECKING:
    from audiotag.crawl.job import Options
    from audiotag.results import Failure, Result


class Encoder(Protocol):
    """Rows to text. What an encoder gives is whole lines: sinks may append the rows of a file in one write.

    Encoders may remember rows that they were given, for headings; the rows of a clip come one after the other. An empty
    line at the beginning of an output is left out.
    """

    def header(self) -> str:
        """What a new file begins with."""
        ...

    def encode(self, row: Result | Failure) -> str:
        """The text of a row, empty if the format has none for it."""
        ...


class PartWriter(Protocol):
    """Rows to one of the files of a folder."""

    def pack(self, rows: Sequence[Result | Failure]) -> tuple[Any, int]:
        """Rows in a form that takes less memory, and how many bytes that are."""
        ...

    def write(self, packs: Sequence[Any], rows: int, folder: str, number: int) -> None:
        """Write the first rows of what was packed as the part of that number, durable, whole or not at all.

        Raises OSError.
        """
        ...


FORMATS: dict[str, Callable[[Options], Encoder]] = {
    "text": TextEncoder,
    "jsonl": JsonlEncoder,
    "csv": CsvEncoder,
    "audacity": AudacityEncoder,
    "rttm": RttmEncoder,
}
"""Formats that are text, in one file or on standard output."""

PARTS: dict[str, Callable[[Options], PartWriter]] = {"parquet": ParquetWriter, "npy": NpyWriter}
"""Formats whose output is a folder of files."""
