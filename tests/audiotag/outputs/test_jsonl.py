from __future__ import annotations

import json

from audiotag.options import TagOptions
from tests.audiotag.outputs.examples import DOG, ERROR, SPEECH, encoded, result


def test_an_object_a_line():
    rows = [result(DOG, SPEECH), result(), ERROR, result(path="odd\n\u2028name\udcff")]
    lines = encoded("jsonl", *rows, options=TagOptions()).split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [row.to_dict() for row in rows]
    assert lines[-1] == ""


def test_names_stay_readable():
    (line,) = encoded("jsonl", result(path="日本 ü \U0001f415\x1b\u2028\udcff\x7f")).splitlines()
    assert r'"日本 ü 🐕\u001b\u2028\udcff\u007f"'.replace(r"\U0001f415", "\U0001f415") in line
    assert line.encode()
