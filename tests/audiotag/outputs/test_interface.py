"""Every format keeps to the interface."""

from __future__ import annotations

import pytest

from audiotag.options import TagOptions
from audiotag.outputs import ALL, FORMATS, PARTS, format_of
from audiotag.outputs.interface import Encoder, PartWriter
from tests.audiotag.outputs.examples import DOG, ERROR, encoded, result


def test_all_formats():
    assert ALL == {**FORMATS, **PARTS}
    assert all(issubclass(kind, Encoder) for kind in FORMATS.values())
    assert all(issubclass(kind, PartWriter) for kind in PARTS.values())
    assert {kind.embeddings for kind in ALL.values()} == {"never", "optional", "always"}


@pytest.mark.parametrize("format", FORMATS)
def test_rows_are_whole_lines(format):
    for rows in ([result(DOG)], [ERROR], [result(), result(DOG, path="b.wav")]):
        text = encoded(format, *rows, options=TagOptions())
        assert text == "" or text.endswith("\n")


@pytest.mark.parametrize("format", FORMATS)
def test_outputs_of_many_clips_name_them(format):
    text = encoded(format, result(DOG, path="first.wav"), result(DOG, path="second.wav"))
    assert ("first.wav" in text and "second.wav" in text) != FORMATS[format].one_clip


@pytest.mark.parametrize(
    ("path", "format"),
    [
        ("x.csv", "csv"), ("X.CSV", "csv"), ("x.jsonl", "jsonl"), ("x.json", "jsonl"), ("x.ndjson", "jsonl"),
        ("x.parquet", "parquet"), ("x.npy", "npy"), ("a.csv/x.rttm", "rttm"), ("x.txt", "text"), ("x", "text"),
        (".csv", "text"), (None, "text"), ("x.csv.gz", "text"),
    ],
)  # fmt: skip
def test_suffixes(path, format):
    assert format_of(path) == format
