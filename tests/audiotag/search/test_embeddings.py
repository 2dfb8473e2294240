"""The nearest embeddings, exactly, in every form of results."""

from __future__ import annotations

import json
import shutil
import tracemalloc

import numpy as np
import pytest

from audiotag.search.codes import MAX_SIZE, candidates, encode
from audiotag.search.embeddings import SearchError, nearest, open_results
from audiotag.search.index import write_index


def made(rows=300, size=8, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)
    return vectors, [{"path": f"{i}.wav", "start": 0.0, "end": 1.0, "tags": []} for i in range(rows)]


def expected(vectors, wanted, count):
    unit = vectors.astype(float) / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ (wanted / np.linalg.norm(wanted))
    order = np.argsort(-similarity)[:count]
    return [f"{i}.wav" for i in order], similarity[order]


def write_npy(folder, vectors, rows, parts=3):
    folder.mkdir()
    for number, chosen in enumerate(np.array_split(np.arange(len(rows)), parts)):
        np.save(folder / f"part-{number:05d}.npy", vectors[chosen])
        text = "".join(json.dumps(rows[i]) + "\n" for i in chosen)
        (folder / f"part-{number:05d}.jsonl").write_text(text)
    return folder


def write_jsonl(path, vectors, rows):
    lines = [json.dumps(row | {"embedding": vector.tolist()}) for row, vector in zip(rows, vectors, strict=True)]
    path.write_text("\n".join([*lines, json.dumps({"path": "bad.wav", "error": {}})]) + "\n")
    return path


def write_parquet(path, vectors, rows):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    column = [*[vector.tolist() for vector in vectors], None]
    table = pa.table({
        "path": [*[row["path"] for row in rows], "bad.wav"], "embedding": pa.array(column, pa.list_(pa.float32())),
        "start": [0.0] * len(column), "end": [1.0] * len(column),
    })  # fmt: skip
    parquet.write_table(table, path, row_group_size=70)
    return path


@pytest.mark.parametrize("kind", ["npy", "jsonl", "parquet", "index"])
def test_the_nearest_are_found_in_order(kind, tmp_path):
    vectors, rows = made()
    wanted = np.random.default_rng(1).standard_normal(8)
    if kind == "npy":
        vectors[17] = np.nan  # the embedding of a failure
    writers = {"npy": write_npy, "jsonl": write_jsonl, "parquet": write_parquet, "index": write_jsonl}
    path = writers[kind](tmp_path / ("results.parquet" if kind == "parquet" else "results"), vectors, rows)
    if kind == "index":
        assert write_index(open_results(str(path)), str(tmp_path / "index")) == 300
        path = tmp_path / "index"
    found = nearest(open_results(str(path)), wanted, 12)
    if kind == "npy":
        vectors[17] = -wanted
    names, similarity = expected(vectors, wanted, 12)
    assert [row["path"] for _, row in found] == names
    np.testing.assert_allclose([value for value, _ in found], similarity, rtol=0, atol=1e-6)


def test_more_are_wanted_than_there_are(tmp_path):
    vectors, rows = made(3)
    parts = open_results(str(write_npy(tmp_path / "npy", vectors, rows, parts=1)))
    assert len(nearest(parts, vectors[0], 10)) == 3


def test_results_that_can_not_be_searched(tmp_path):
    with pytest.raises(SearchError, match="missing: can't be read: No such file"):
        open_results(str(tmp_path / "missing"))
    with pytest.raises(SearchError, match=r"missing\.parquet: can't be read: No such file"):
        open_results(str(tmp_path / "missing.parquet"))
    with pytest.raises(SearchError, match="has no part-"):
        open_results(str(tmp_path))
    (tmp_path / "failures").mkdir()
    write_parquet(tmp_path / "failures" / "part-00000.parquet", [], [])
    with pytest.raises(SearchError, match="has no embeddings: make it with audiotag tag --embeddings"):
        open_results(str(tmp_path / "failures"))
    (tmp_path / "plain.jsonl").write_text('{"path": "a.wav", "tags": []}\n')
    with pytest.raises(SearchError, match="has no embeddings: make it with audiotag tag --embeddings"):
        open_results(str(tmp_path / "plain.jsonl"))
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(SearchError, match="line 1 is not JSON"):
        open_results(str(tmp_path / "text"))
    vectors, rows = made(3)
    with pytest.raises(SearchError, match=r"of 8 numbers were made with another model, .* has 9"):
        nearest(open_results(str(write_npy(tmp_path / "npy", vectors, rows))), np.ones(9), 1)


@pytest.mark.parametrize(
    "line",
    [
        "no JSON", b"\xff", [], {"start": 0, "end": 1}, {"path": "a.wav", "start": 0, "end": None},
        {"path": "a.wav", "start": 0, "end": 1, "model": "name"}, {"path": "a.wav", "start": 0, "end": 1, "tags": [1]},
        {"path": "a.wav", "start": 0, "end": 1, "tags": [{"label": "Dog"}]},
    ],
)  # fmt: skip
def test_a_line_without_a_result_is_named(line, tmp_path):
    vectors, rows = made(3)
    parts = write_npy(tmp_path / "npy", vectors, rows, parts=1)
    text = line if isinstance(line, bytes) else line.encode() if isinstance(line, str) else json.dumps(line).encode()
    lines = (parts / "part-00000.jsonl").read_bytes().splitlines()
    (parts / "part-00000.jsonl").write_bytes(b"\n".join([lines[0], text, lines[2]]))
    with pytest.raises(SearchError, match=r"part-00000\.jsonl: line 2 is not a result of audiotag tag"):
        nearest(open_results(str(parts)), vectors[0], 3)


def test_embeddings_that_are_no_numbers(tmp_path):
    vectors, rows = made(3)
    for name, array in {"text": np.full((3, 8), "a"), "integers": vectors.astype(int), "complex": vectors * 1j}.items():
        with pytest.raises(SearchError, match=r"has embeddings of type .*, not of floats"):
            open_results(str(write_npy(tmp_path / name, array, rows)))
    for name, value in {"object": {"a": 1}, "names": ["a"] * 8, "sizes": [1.0] * 7}.items():
        path = write_jsonl(tmp_path / name, vectors, rows)
        with path.open("a") as file:
            file.write(json.dumps(rows[0] | {"embedding": value}) + "\n")
        with pytest.raises(SearchError, match="an embedding is no list of numbers, or has another size"):
            open_results(str(path))
    (tmp_path / "null").write_text(json.dumps(rows[0] | {"embedding": None}) + "\n")
    with pytest.raises(SearchError, match="has no embeddings"):
        open_results(str(tmp_path / "null"))


@pytest.mark.parametrize("change", [lambda s: s * 2, lambda s: s[::-1], lambda s: s.astype(float), lambda s: s[:0]])
def test_an_index_with_places_that_do_not_belong_to_its_lines(change, tmp_path):
    vectors, rows = made(3)
    index = tmp_path / "index"
    write_index(open_results(str(write_jsonl(tmp_path / "results", vectors, rows))), str(index))
    np.save(index / "starts.npy", change(np.load(index / "starts.npy")))
    with pytest.raises(SearchError, match=r"starts\.npy does not belong to rows\.jsonl: write the index anew"):
        open_results(str(index))


def test_an_index_is_written_over_itself_and_over_another(tmp_path):
    vectors, rows = made(50)
    index = str(tmp_path / "index")
    write_index(open_results(str(write_jsonl(tmp_path / "results", vectors, rows))), index)
    for _ in range(2):
        assert write_index(open_results(index), index) == 50
        assert nearest(open_results(index), vectors[7], 1)[0].row == rows[7]
    vectors, rows = made(20, 4, seed=1)
    assert write_index(open_results(str(write_jsonl(tmp_path / "others", vectors, rows))), index) == 20
    assert nearest(open_results(index), vectors[3], 1)[0].row == rows[3]
    names = ["codes.npy", "rows.jsonl", "scales.npy", "starts.npy", "vectors.npy"]
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == names
    vectors, rows = made(20, MAX_SIZE + 1)
    assert write_index(open_results(str(write_npy(tmp_path / "wide", vectors, rows))), index) == 20
    assert nearest(open_results(index), vectors[3], 1)[0].row == rows[3]
    with pytest.raises(SearchError, match=r"embeddings of different models, of \[4, 8\] numbers"):
        write_index([*open_results(str(tmp_path / "others")), *open_results(str(tmp_path / "results"))], index)
    assert nearest(open_results(index), vectors[3], 1)[0].row == rows[3]
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["rows.jsonl", "starts.npy", "vectors.npy"]


def test_codes_of_another_index_are_refused(tmp_path):
    for name, rows in (("a", 20), ("b", 30)):
        write_index(open_results(str(write_npy(tmp_path / f"{name}.parts", *made(rows)))), str(tmp_path / name))
    shutil.copy(tmp_path / "b" / "codes.npy", tmp_path / "a")
    with pytest.raises(SearchError, match=r"codes\.npy does not belong to vectors\.npy: write the index anew"):
        open_results(str(tmp_path / "a"))


def near_duplicates(rng):
    """Return unit vectors that differ less than their codes tell apart."""
    vectors = rng.standard_normal(96) + 1e-4 * rng.standard_normal((5000, 96))
    return vectors


def rectified(rng):
    return np.maximum(rng.standard_normal((5000, 96)) - 1, 0) + 1e-9


def with_peaks(rng):
    vectors = rng.standard_normal((5000, 96)) / 100
    vectors[np.arange(5000), rng.integers(0, 96, 5000)] = 1
    return vectors


@pytest.mark.parametrize("make", [near_duplicates, rectified, with_peaks])
@pytest.mark.parametrize("count", [1, 10, 6000])
def test_candidates_contain_the_nearest(make, count):
    rng = np.random.default_rng(3)
    vectors = make(rng)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    wanted = vectors[17] + 0.3 * make(rng)[5].astype(np.float32) / 10
    wanted = (wanted / np.linalg.norm(wanted)).astype(np.float32)
    found = candidates(encode(vectors), wanted, count)
    products = vectors.astype(float) @ wanted
    assert set(np.argsort(-products)[:count]) <= set(found.tolist())
    if count == 1 and make is not near_duplicates:
        assert len(found) < 500


def test_vectors_that_are_not_finite_are_candidates():
    vectors = np.eye(8, dtype=np.float32)
    vectors[2, 3], vectors[4, 1], vectors[5] = np.nan, np.inf, 0
    codes = encode(vectors)
    assert {0, 2, 4} <= set(candidates(codes, vectors[0], 1).tolist())
    assert not np.isnan(codes.scales).any()


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_files_are_searched_in_parts(kind, tmp_path):
    vectors, rows = made(13_000, 32)
    path = tmp_path / f"results.{kind}"
    (write_jsonl if kind == "jsonl" else write_parquet)(path, vectors, rows)
    list(open_results(str(path)))
    tracemalloc.start()
    try:
        found = nearest(open_results(str(path)), vectors[10_000], 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found[0].row["path"] == "10000.wav"
    # objects of a list of 32 floats take 32 bytes a number, and 4,096 rows are read at a time
    assert peak < 4096 * 32 * 32 * 3 < 13_000 * 32 * 32


def test_an_index_is_searched_without_copying_it(tmp_path):
    vectors, rows = made(20_000, 96)
    write_index(open_results(str(write_npy(tmp_path / "npy", vectors, rows, parts=1))), str(tmp_path / "index"))
    tracemalloc.start()
    try:
        parts = open_results(str(tmp_path / "index"))
        found = nearest(parts, vectors[5], 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found[0].row["path"] == "5.wav"
    assert peak < vectors.nbytes / 5
