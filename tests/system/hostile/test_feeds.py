"""Feeds that don't fit the model, and feeds that do though they look odd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyonnx
from tests.system.hostile.models import LEVELS, model, refused, session

X = np.arange(6, dtype=np.float32).reshape(2, 3)

FEEDS: dict[str, tuple[dict[Any, Any], str]] = {
    "rank": ({"x": X[0]}, "expects shape [2, 3], got [3]"),
    "shape": ({"x": X.T}, "expects shape [2, 3], got [3, 2]"),
    "nothing": ({"x": X[:0]}, "expects shape [2, 3], got [0, 3]"),
    "dtype": ({"x": X.astype(np.float64)}, "expects tensor(float), got tensor(double)"),
    "objects": ({"x": X.astype(object)}, "expects tensor(float)"),
    "objects of objects": ({"x": np.array([[object()] * 3] * 2)}, "expects tensor(float)"),
    "words": ({"x": np.full((2, 3), "word")}, "expects tensor(float), got tensor(string)"),
    "dates": ({"x": np.zeros((2, 3), "datetime64[s]")}, "expects tensor(float)"),
    "records": ({"x": np.zeros((2, 3), [("a", "f4")])}, "expects tensor(float)"),
    "long doubles": ({"x": X.astype(np.longdouble)}, "expects tensor(float)"),
    "a name": ({"z": X}, "unknown 'z'; missing 'x'"),
    "one too many": ({"x": X, "z": X}, "unknown 'z'"),
    "none": ({}, "missing 'x'"),
    "None": ({"x": None}, "expects an array, got NoneType"),
    "a dict": ({"x": {}}, "expects an array, got dict"),
    "a ragged list": ({"x": [[1, 2], [3]]}, 'input "x"'),
    "a nested list of objects": ({"x": [[{}, 1, 2], [3, 4, 5]]}, 'input "x"'),
    "a number as a name": ({1: X}, "unknown 1"),
}


@pytest.mark.parametrize("case", FEEDS)
def test_feeds_that_do_not_fit(case: str, tmp_path: Path) -> None:
    feeds, cause = FEEDS[case]
    refused(model("y = Relu(x)", "float[2,3] x"), tinyonnx.InputError, cause, folder=tmp_path, feeds=feeds)


@pytest.mark.parametrize("feeds", [None, [X], "x", 3])
def test_feeds_that_are_no_dict(feeds: Any) -> None:
    with pytest.raises(tinyonnx.InputError, match="must be a dict"):
        session(model("y = Relu(x)", "float[2,3] x")).run(None, feeds)


def test_bytes_are_strings(tmp_path: Path) -> None:
    proto = model("y = Identity(x)", "string[n] x")
    words = np.array(["é", "abc"])
    np.testing.assert_array_equal(session(proto).run(None, {"x": np.char.encode(words, "utf-8")})[0], words)
    refused(proto, tinyonnx.InputError, "can't decode", folder=tmp_path, feeds={"x": np.array([b"\xff\xfe"])})


class Array(np.ndarray):  # type: ignore[type-arg]
    """A subclass with its own ideas."""

    def __add__(self, other: Any) -> Any:
        raise RuntimeError("never called")


@pytest.mark.parametrize("level", LEVELS)
def test_feeds_that_fit(level: int) -> None:
    """Strided, Fortran's order, backwards, big-endian, read-only, unaligned, overlapping, masked, a subclass."""
    s = session(model("y = Add(x, x)", "float[2,3] x"), level)
    wide = np.zeros((4, 6), np.float32)
    wide[::2, ::2] = X
    unaligned = np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3)
    unaligned[...] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    backwards = np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    for fed in (
        wide[::2, ::2], np.asfortranarray(X), backwards, X.astype(">f4"), read_only, unaligned, X.tolist(),
        np.ma.array(X), X.copy().view(Array),
    ):  # fmt: skip
        (y,) = s.run(None, {"x": fed})
        assert y.tolist() == (X + X).tolist()
    row = np.broadcast_to(np.float32([1, 2, 3]), (2, 3))
    assert s.run(None, {"x": row})[0].tolist() == [[2, 4, 6]] * 2


@pytest.mark.parametrize(
    ("declared", "fed", "cause"),
    [
        ("seq(float[a,b])", X, r"expects seq\(tensor\(float\)\), a list, got ndarray"),
        ("seq(float[a,b])", [X, "word"], r"element 1 expects tensor\(float\), got tensor\(string\)"),
        ("seq(float[a,b])", [X, None], "element 1 expects an array, got NoneType"),
        ("seq(float[a,b])", [X.astype(np.float64)], r"element 0 expects tensor\(float\), got tensor\(double\)"),
        ("seq(float[a,b])", None, "got NoneType"),
        ("optional(float[a,b])", X.astype(np.int32), r"expects tensor\(float\), got tensor\(int32\)"),
        ("string[a]", np.array(["a", 1, None], object), "expects strings, got other objects"),
        ("", np.zeros(2, "datetime64[s]"), "expects a tensor, got datetime64"),
        ("", {}, "expects an array, got dict"),
    ],
)
def test_other_types(declared: str, fed: Any, cause: str) -> None:
    proto = model("y = Identity(x)", f"{declared or 'float'} x")
    if not declared:
        proto.graph.input[0].ClearField("type")
    with pytest.raises(tinyonnx.InputError, match=cause):
        session(proto).run(None, {"x": fed})
