"""RegexFullMatch compared with onnxruntime, which also uses RE2; without the library the message names the extra."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.tinyonnx.ops.running import NEWEST, check_against_onnxruntime
from tinyonnx.errors import OpError
from tinyonnx.registry import lookup

PATTERNS = [
    r"a*",
    r"\w+",
    r"[^b]",
    r"(?i)AB",
    r"(?s).",
    r"a|b",
    r"\p{Lu}.*",
    r"\d{2,3}",
    r"(?:ab)+",
    r"\Qa.b\E",
    r"[[:alpha:]]+",
    r"^a$",
    r"\x{e9}",
]
TEXTS = ["", "a", "aaa", "ab", "AB", "a.b", "a\nb", "\n", "É1", "é", "12", "1234", "abab", "a\0"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_like_onnxruntime(pattern):
    check_against_onnxruntime("RegexFullMatch", np.array(TEXTS, object).reshape(2, 7), opset=20, pattern=pattern)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|aa)+b", "(a+)+b", "(.*)*(.*)*(.*)*b"])
def test_no_pattern_backtracks(pattern):
    """A backtracking matcher would need 2**10000 steps."""
    match = lookup("", "RegexFullMatch", NEWEST).function
    assert match(np.array(["a" * 10_000, "a" * 10_000 + "b"], object), pattern=pattern).tolist() == [False, True]


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(OpError, match=r"needs RE2: pip install 'tinyonnx\[regex\]'"):
        lookup("", "RegexFullMatch", NEWEST).function(np.array(["a"], object), pattern="a")
