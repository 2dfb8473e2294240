"""Strings and n-grams: onnx's cases, onnxruntime, naive loops, refusals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.tinyonnx.ops.running import (
    assert_same,
    check_against_onnxruntime,
    check_backend_cases,
    context_of,
    onnxruntime_outputs,
    run,
)
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.limits import Limits
from tinyonnx.registry import lookup

F32, I64 = np.float32, np.int64


def strings(*values):
    return np.array(values, object)


def call(name, *inputs, opset=20, **attributes):
    """Return the outputs of operators without a shape rule."""
    entry = lookup("", name, opset)
    return entry.function(*[context_of(name, opset, 2)] * entry.takes_ctx, *inputs, **attributes)


@pytest.mark.parametrize("name", ["StringConcat", "RegexFullMatch", "TfIdfVectorizer"])
def test_backend_cases(name):
    check_backend_cases(name)


# -- StringConcat, StringSplit ----------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((), ()), ((0, 3), (1, 3))])
def test_concat_like_onnxruntime(a, b):
    x, y = (np.array([f"{c}{i}é" for i in range(int(np.prod(s)))], object).reshape(s) for c, s in (("x", a), ("y", b)))
    check_against_onnxruntime("StringConcat", x, y, opset=20)


@pytest.mark.parametrize(
    "attributes",
    [
        *({"maxsplit": n} for n in (-1, 0, 1)),
        *({"delimiter": d} for d in (",", "ab")),
        *({"delimiter": d, "maxsplit": 2} for d in ("", " ", ",")),
        {},
    ],
)
def test_split_like_onnxruntime(attributes):
    x = strings(" a  b c ", "  x", "a,b,,c", ",", "cababd", "y ").reshape(2, 3)
    parts, counts = call("StringSplit", x, **attributes)
    expected = onnxruntime_outputs("StringSplit", x, opset=20, n_outputs=2, **attributes)
    assert_same(parts, expected[0])
    assert_same(counts, expected[1])


def test_split_as_the_text_has_it():
    parts, counts = call("StringSplit", strings("", " ", "a\tb\n c", "a\u2003b"))
    assert counts.tolist() == [0, 0, 3, 2]
    assert parts.tolist() == [["", "", ""], ["", "", ""], ["a", "b", "c"], ["a", "b", ""]]
    assert call("StringSplit", strings(), delimiter=",")[0].shape == (0, 0)
    parts, counts = call("StringSplit", np.array("a,b", object), delimiter=",")
    assert (parts.tolist(), counts.shape, counts.item()) == (["a", "b"], (), 2)


# -- StringNormalizer -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ["Über", "the", "The", "x"]),
        ({"case_change_action": "UPPER"}, ["ÜBER", "THE", "THE", "X"]),
        ({"case_change_action": "LOWER", "locale": "de_DE"}, ["über", "the", "the", "x"]),
        ({"stopwords": ["THE"]}, ["Über", "x"]),
        ({"stopwords": ["THE", "über"], "case_change_action": "UPPER"}, ["X"]),
        ({"stopwords": ["the"], "is_case_sensitive": 1}, ["Über", "The", "x"]),
        ({"stopwords": ["the"], "is_case_sensitive": 1, "case_change_action": "LOWER"}, ["über", "the", "x"]),
        ({"stopwords": ["the", "x", "ÜBER"]}, [""]),
    ],
)
def test_normalizer(attributes, expected):
    x = strings("Über", "the", "The", "x")
    assert call("StringNormalizer", x, opset=10, **attributes).tolist() == expected
    assert call("StringNormalizer", x[None], opset=10, **attributes).tolist() == [expected]


def test_normalizer_like_onnxruntime():
    x = strings("a", "B", "b", "")
    attributes = {"stopwords": ["b", ""], "is_case_sensitive": 1}
    assert_same(
        call("StringNormalizer", x, opset=10, **attributes),
        onnxruntime_outputs("StringNormalizer", x, opset=10, **attributes)[0],
    )


# -- TfIdfVectorizer --------------------------------------------------------------------


def _vectorizer(rng, longest: int, vocabulary: int):
    """Return random different n-grams of every length, over a few tokens."""
    pool, counts = [], []
    for n in range(1, longest + 1):
        counts.append(len(pool))
        grams = {tuple(rng.integers(0, vocabulary, n).tolist()) for _ in range(int(rng.integers(1, 8)))}
        pool += [token for gram in grams for token in gram]
    ends = [*counts[1:], len(pool)]
    total = sum((end - start) // n for n, (start, end) in enumerate(zip(counts, ends), 1))
    return {"pool_int64s": pool, "ngram_counts": counts}, total


def _naive(x, attributes):
    """Count every n-gram of every row, by loops."""
    counts, pool = attributes["ngram_counts"], attributes["pool_int64s"]
    grams = []
    for n, (start, end) in enumerate(zip(counts, [*counts[1:], len(pool)]), 1):
        grams += [tuple(pool[i : i + n]) for i in range(start, end, n)]
    weights = attributes.get("weights", [1.0] * len(grams))
    result = np.zeros((len(x), max(attributes["ngram_indexes"]) + 1), F32)
    for row, tokens in zip(result, x.tolist()):
        seen = Counter()
        for n in range(attributes["min_gram_length"], attributes["max_gram_length"] + 1):
            for step in range(1, 2 if n == 1 else attributes["max_skip_count"] + 2):
                for i in range(len(tokens) - (n - 1) * step):
                    seen[tuple(tokens[i : i + (n - 1) * step + 1 : step])] += 1
        for gram, column, weight in zip(grams, attributes["ngram_indexes"], weights):
            times = seen[gram]
            factors = {"TF": times, "IDF": weight * (times > 0), "TFIDF": weight * times}
            row[column] += factors[attributes["mode"]]
    return result


@pytest.mark.parametrize("seed", range(40))
def test_n_grams_like_loops_and_onnxruntime(seed):
    rng = np.random.default_rng(seed)
    longest = int(rng.integers(1, 5))
    attributes, total = _vectorizer(rng, longest, vocabulary=int(rng.integers(2, 5)))
    shortest = int(rng.integers(1, longest + 1))
    attributes |= {
        "mode": ["TF", "IDF", "TFIDF"][seed % 3],
        "min_gram_length": shortest,
        "max_gram_length": int(rng.integers(shortest, longest + 1)),
        "max_skip_count": int(rng.integers(0, 4)),
        "ngram_indexes": list(range(total)),
    }
    if seed % 4:
        attributes["weights"] = rng.uniform(0.5, 2, total).astype(F32).tolist()
    x = rng.integers(0, 6, (3, int(rng.integers(1, 12)))).astype(np.int32 if seed % 2 else I64)
    np.testing.assert_allclose(run("TfIdfVectorizer", x, **attributes), _naive(x, attributes), rtol=1e-6)
    check_against_onnxruntime("TfIdfVectorizer", x, opset=9, **attributes)
    text = x.astype(str).astype(object)
    words = {k: v for k, v in attributes.items() if k != "pool_int64s"}
    words["pool_strings"] = list(map(str, attributes["pool_int64s"]))
    assert_same(run("TfIdfVectorizer", text, **words), run("TfIdfVectorizer", x, **attributes))
    # weights stay with their n-grams where these go to other columns, some to the same one
    attributes["ngram_indexes"] = rng.integers(0, total + 3, total).tolist()
    np.testing.assert_allclose(run("TfIdfVectorizer", x, **attributes), _naive(x, attributes), rtol=1e-6)


PAIRS = {"pool_int64s": [1, 2, 1, 2, 2, 3], "ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2, 3], "mode": "TF"}
PAIRS |= {"min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 0}


def test_n_grams_of_little():
    assert run("TfIdfVectorizer", np.array([1, 2, 3]), **PAIRS).tolist() == [1, 1, 1, 1]
    assert run("TfIdfVectorizer", np.array([2]), **PAIRS).tolist() == [0, 1, 0, 0]
    assert run("TfIdfVectorizer", np.zeros(0, I64), **PAIRS).tolist() == [0, 0, 0, 0]
    assert run("TfIdfVectorizer", np.zeros((2, 0), I64), **PAIRS).shape == (2, 4)
    assert run("TfIdfVectorizer", np.zeros((0, 5), I64), **PAIRS).shape == (0, 4)


# -- refusals ---------------------------------------------------------------------------

X, WORDS = np.array([1, 2]), strings("a", "b")


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("StringConcat", [WORDS, X], {}, "Y is int64, should be strings"),
        ("StringConcat", [WORDS, strings("a", "b", "c")], {}, "don't broadcast"),
        ("StringSplit", [X], {}, "X is int64, should be strings"),
        ("StringNormalizer", [X], {}, "X is int64, should be strings"),
        ("StringNormalizer", [np.array([["a"], ["b"]], object)], {}, r"X has shape \[2, 1\]"),
        ("StringNormalizer", [np.array("a", object)], {}, r"X has shape \[\]"),
        ("StringNormalizer", [WORDS], {"case_change_action": "TITLE"}, "case_change_action is 'TITLE'"),
        ("RegexFullMatch", [WORDS], {}, "pattern is missing"),
        ("RegexFullMatch", [X], {"pattern": "a"}, "X is int64, should be strings"),
        ("RegexFullMatch", [WORDS], {"pattern": "(?=a)"}, r"pattern '\(\?=a\)': invalid perl operator"),
        ("RegexFullMatch", [WORDS], {"pattern": "((a{1000}){1000}){1000}"}, "invalid repetition size"),
        ("TfIdfVectorizer", [X], {"mode": "BM25"}, "mode is 'BM25'"),
        ("TfIdfVectorizer", [X], {"min_gram_length": 0}, "n-grams of 0 to 2 tokens"),
        ("TfIdfVectorizer", [X], {"min_gram_length": 3}, "n-grams of 3 to 2 tokens"),
        ("TfIdfVectorizer", [X], {"max_skip_count": -1}, "-1 skipped"),
        ("TfIdfVectorizer", [X], {"max_gram_length": 3}, "no n-grams of length 3"),
        ("TfIdfVectorizer", [X], {"ngram_indexes": [0, 1, 2, -1]}, "none negative"),
        ("TfIdfVectorizer", [X], {"ngram_indexes": []}, "at least one"),
        ("TfIdfVectorizer", [X], {"ngram_indexes": [0, 1, 2]}, "leave other than 3 n-grams"),
        ("TfIdfVectorizer", [X], {"ngram_counts": [0, 3]}, "don't cut a pool of 6"),
        ("TfIdfVectorizer", [X], {"ngram_counts": [0, 8]}, "don't cut a pool of 6"),
        ("TfIdfVectorizer", [X], {"weights": [1.0]}, "1 weights for 4 n-grams"),
        ("TfIdfVectorizer", [X], {"pool_int64s": None}, "needs one of"),
        ("TfIdfVectorizer", [X], {"pool_strings": ["a"] * 6}, "needs one of"),
        ("TfIdfVectorizer", [X], {"pool_int64s": [1, 2, 1, 2, 1, 2]}, "duplicate n-grams"),
        ("TfIdfVectorizer", [WORDS], {}, "X is object, the pool has integers"),
        ("TfIdfVectorizer", [X.astype(F32)], {}, "X is float32"),
        ("TfIdfVectorizer", [np.zeros((1, 1, 1), I64)], {}, r"should be \[C\] or \[N, C\]"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    with pytest.raises(OpError, match=message):
        call(name, *inputs, **(PAIRS if name == "TfIdfVectorizer" else {}) | attributes)


def test_memory_bombs_are_refused(monkeypatch):
    monkeypatch.setattr("tests.tinyonnx.ops.running.Limits", lambda: Limits(max_tensor_bytes=1 << 20))
    long = strings("x" * (1 << 19) + "y")
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        call("StringConcat", long, long)
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        call("StringSplit", strings("," * 10_000, *"a" * 99), delimiter=",")
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        call("TfIdfVectorizer", X, **PAIRS | {"ngram_indexes": [0, 1, 2, 10**9]})
