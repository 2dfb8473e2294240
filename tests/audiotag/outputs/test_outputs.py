from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from audiotag import Failure, Result, Tag, __version__
from audiotag.crawl.job import Options
from audiotag.outputs import FORMATS, PARTS
from audiotag.outputs.csv import COLUMNS

DOG = Tag("Dog", "/m/0bt9lr", 74, 0.75)
SPEECH = Tag("Male speech, man speaking", "/m/05zppz", 1, 0.5)
WINDOW = Options(window=2.0)
ERROR = Failure("b.wav", "AudioError", 'b.wav: is "empty"')


def result(*tags, path="a.wav", start=0.5, end=2.5, **more):
    return Result(path, start, end, end - start, tags, "linear", "00ff", True, **more)


def encoded(format, *rows, options=WINDOW):
    encoder = FORMATS[format](options)
    return encoder.header() + "".join(map(encoder.encode, rows))


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
        *("linear", "00ff", __version__, "", ""),
    ]


def test_audacity():
    text = encoded("audacity", result(DOG, SPEECH), result(), ERROR, result(SPEECH, start=3, end=4.25))
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines == [
        ["0.500000", "2.500000", "Dog, Male speech, man speaking"],
        ["3.000000", "4.250000", "Male speech, man speaking"],
    ]


def test_rttm():
    lines = encoded("rttm", result(DOG, SPEECH, path="my clip.wav"), result(), ERROR).splitlines()
    assert [line.split(" ") for line in lines] == [
        ["SPEAKER", "my_clip.wav", "1", "0.500", "2.000", "<NA>", "<NA>", "Dog", "0.7500", "<NA>"],
        [
            "SPEAKER",
            "my_clip.wav",
            "1",
            "0.500",
            "2.000",
            "<NA>",
            "<NA>",
            "Male_speech,_man_speaking",
            "0.5000",
            "<NA>",
        ],
    ]


def test_text_of_a_timeline_has_a_line_for_each_window():
    lines = encoded("text", result(DOG, SPEECH), result(), result(DOG, path="c.wav")).splitlines()
    assert lines == [
        "",
        "a.wav  [linear]",
        "      0.50     2.50  0.7500 Dog, 0.5000 Male speech, man speaking",
        "      0.50     2.50  -",
        "",
        "c.wav  [linear]",
        "      0.50     2.50  0.7500 Dog",
    ]


def test_npy(tmp_path):
    vectors = np.float32([[1, 2, 3], [4, 5, 6]])
    rows = [result(DOG, embedding=vectors[0]), ERROR, result(embedding=vectors[1]), result(DOG)]
    writer = PARTS["npy"](Options(embeddings=True))
    packs = [writer.pack(rows[:1])[0], writer.pack(rows[1:])[0]]
    writer.write(packs, 3, str(tmp_path), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-00002.jsonl", "part-00002.npy"]
    array = np.load(tmp_path / "part-00002.npy")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [vectors[0], [np.nan] * 3, vectors[1]])
    lines = (tmp_path / "part-00002.jsonl").read_text().splitlines()
    without = [result(DOG).to_dict(), ERROR.to_dict(), result().to_dict()]
    assert list(map(json.loads, lines)) == without


def test_names_that_are_no_text_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    writer = PARTS["parquet"](Options())
    odd = Result("\udcff.wav", 0.0, 1.0, 1.0, (), "\udcff.onnx", "00ff", True)
    writer.write([writer.pack([odd, Failure("\udcff", "AudioError", "bad")])[0]], 2, str(tmp_path), 0)
    first, second = parquet.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert (first["path"], first["model"]["name"], second["path"]) == ("\\udcff.wav", "\\udcff.onnx", "\\udcff")


def test_embeddings_in_parquet_and_jsonl(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    vector = np.float32([0.1, 1 / 3, -1e-9])
    options = Options(embeddings=True)
    writer = PARTS["parquet"](options)
    writer.write([writer.pack([result(DOG, embedding=vector), ERROR])[0]], 2, str(tmp_path), 0)
    column = parquet.read_table(tmp_path / "part-00000.parquet").column("embedding").to_pylist()
    np.testing.assert_array_equal(np.float32(column[0]), vector)
    assert column[1] is None
    row = json.loads(encoded("jsonl", result(DOG, embedding=vector), options=options))
    np.testing.assert_array_equal(np.float32(row["embedding"]), vector)
