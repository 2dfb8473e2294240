from __future__ import annotations

import json

import numpy as np

from audiotag.options import TagOptions
from audiotag.outputs import PARTS
from tests.audiotag.outputs.examples import DOG, ERROR, result


def test_npy(tmp_path):
    vectors = np.float32([[1, 2, 3], [4, 5, 6]])
    rows = [result(DOG, embedding=vectors[0]), ERROR, result(embedding=vectors[1]), result(DOG)]
    writer = PARTS["npy"](TagOptions(embeddings=True))
    packs = [writer.pack(rows[:1])[0], writer.pack(rows[1:])[0]]
    writer.write(packs, 3, str(tmp_path), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part-00002.jsonl", "part-00002.npy"]
    array = np.load(tmp_path / "part-00002.npy")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [vectors[0], [np.nan] * 3, vectors[1]])
    lines = (tmp_path / "part-00002.jsonl").read_text().splitlines()
    without = [result(DOG).to_dict(), ERROR.to_dict(), result().to_dict()]
    assert list(map(json.loads, lines)) == without
