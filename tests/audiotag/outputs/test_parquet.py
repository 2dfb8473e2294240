from __future__ import annotations

import json

import numpy as np
import pytest

from audiotag import Failure, Result
from audiotag.options import TagOptions
from audiotag.outputs import PARTS
from tests.audiotag.outputs.examples import DOG, ERROR, encoded, result


def test_names_that_are_no_text_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    writer = PARTS["parquet"](TagOptions())
    odd = Result("\udcff.wav", 0.0, 1.0, 1.0, (), "\udcff.onnx", "00ff", True)
    writer.write([writer.pack([odd, Failure("\udcff", "AudioError", "bad")])[0]], 2, str(tmp_path), 0)
    first, second = parquet.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert (first["path"], first["model"]["name"], second["path"]) == ("\\udcff.wav", "\\udcff.onnx", "\\udcff")


def test_embeddings_in_parquet_and_jsonl(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    vector = np.float32([0.1, 1 / 3, -1e-9])
    options = TagOptions(embeddings=True)
    writer = PARTS["parquet"](options)
    writer.write([writer.pack([result(DOG, embedding=vector), ERROR])[0]], 2, str(tmp_path), 0)
    column = parquet.read_table(tmp_path / "part-00000.parquet").column("embedding").to_pylist()
    np.testing.assert_array_equal(np.float32(column[0]), vector)
    assert column[1] is None
    row = json.loads(encoded("jsonl", result(DOG, embedding=vector), options=options))
    np.testing.assert_array_equal(np.float32(row["embedding"]), vector)


def test_parquet_says_the_precision_where_one_was_asked_for(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    writer = PARTS["parquet"](TagOptions(precision="bfloat16"))
    rows = [result(DOG, precision="bfloat16"), result(DOG), ERROR]
    writer.write([writer.pack(rows)[0]], len(rows), str(tmp_path), 0)
    models = parquet.read_table(tmp_path / "part-00000.parquet").column("model").to_pylist()
    assert [model and model["precision"] for model in models] == ["bfloat16", None, None]
