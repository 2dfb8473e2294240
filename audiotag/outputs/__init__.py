"""Output formats: one module each, and its entry in `FORMATS` or `PARTS`."""

from __future__ import annotations

import os

from audiotag.outputs.audacity import AudacityEncoder
from audiotag.outputs.csv import CsvEncoder
from audiotag.outputs.interface import Encoder, Format, PartWriter
from audiotag.outputs.jsonl import JsonlEncoder
from audiotag.outputs.npy import NpyWriter
from audiotag.outputs.parquet import ParquetWriter
from audiotag.outputs.rttm import RttmEncoder
from audiotag.outputs.text import TextEncoder

FORMATS: dict[str, type[Encoder]] = {
    "text": TextEncoder,
    "jsonl": JsonlEncoder,
    "csv": CsvEncoder,
    "audacity": AudacityEncoder,
    "rttm": RttmEncoder,
}
"""Text formats: one file, or standard output."""

PARTS: dict[str, type[PartWriter]] = {"parquet": ParquetWriter, "npy": NpyWriter}
"""Binary formats: a folder of part files."""

ALL: dict[str, type[Format]] = {**FORMATS, **PARTS}
"""All formats by the name that `--format` takes."""

DEFAULT = "text"


def format_of(path: str | None) -> str:
    """Return the name of the format that an output's suffix selects, `DEFAULT` if it selects none."""
    suffix = os.path.splitext(path or "")[1].lower()
    return next((name for name, format in ALL.items() if suffix in format.suffixes), DEFAULT)
