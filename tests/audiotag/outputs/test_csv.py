from __future__ import annotations

import csv
import io

from audiotag import __version__
from audiotag.options import TagOptions
from audiotag.outputs.csv import COLUMNS
from tests.audiotag.outputs.examples import DOG, ERROR, SPEECH, encoded, result


def test_csv():
    text = encoded(
        "csv", result(DOG, SPEECH), result(), ERROR, result(DOG, path='odd "name",\n.wav'), result(path="\r")
    )
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert all(None not in row and None not in row.values() for row in rows)
    assert [row["label"] for row in rows] == ["Dog", "Male speech, man speaking", "", "", "Dog", ""]
    assert [row["path"] for row in rows] == ["a.wav"] * 3 + ["b.wav", 'odd "name",\n.wav', "\r"]
    assert [row["error"] for row in rows] == ["", "", "", 'b.wav: is "empty"', "", ""]
    assert list(rows[0].values()) == [
        *("a.wav", "0.5", "2.5", "2", "Dog", "/m/0bt9lr", "74", "0.75"),
        *("linear", "00ff", __version__, "", "", ""),
    ]


def test_csv_says_the_precision_where_one_was_asked_for():
    rows = result(DOG, precision="bfloat16"), result(precision="float32"), ERROR
    text = encoded("csv", *rows, options=TagOptions(precision="bfloat16"))
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(lines[0]) == (*COLUMNS, "precision")
    assert [line["precision"] for line in lines] == ["bfloat16", "float32", ""]
    assert all(None not in line for line in lines)
