"""Regular expressions against onnxruntime, whose RegexFullMatch is RE2 itself."""

from __future__ import annotations

import random

import numpy as np
import onnxruntime
import pytest

from tests.tinyonnx.ops.running import onnxruntime_outputs
from tinyonnx.errors import OpError
from tinyonnx.ops._regex import Pattern

SYNTAX = (
    r"a b c . \d \w \s \W \D \S [a-c] [^b] \b \B ^ $ \n (?i) (?s) (?m) (?i:B) (a|b) () (?:ab)* \Qa.b\E [[:alpha:]] "
    r"[[:^digit:]x] \x41 \x{e9} é \pL \p{Lu} \PL \P{Lu} [\d-] [\W] [^\W] [[:^upper:]] [k-l] \A \z \101 \. - _ K s [k] "
    r"{ } {2} a{,2} []a] [a\]b] (?P<n>a) (?<m>b) | * + ? {1,2} {2,} ?? *? ( ) [z-a] \1 \q (?=a) (?!a) (?<=a) (?>a) "
    r"[[:foo:]] [a-b-c] [-a] [^]a] \_ \8 \0 \07 x{0} (?-i) (? (?U) \Q \pZ ] \p{^Lu} [\pL\d] (?i-s:k) ** a{1001} a{2,1} "
    r"(?#a) \x{110000} [a-\d] \x{}"
)
PIECES = SYNTAX.split()
TEXTS = r"a b ab abab aab a.b A B 1 a1 é É K ſ S s k K z aa aaa - _ ba abc \ [ ] a] ]a a{,2} { } x [] A1 ' aK q 8 ẞ ß"
TEXTS = ["", "\n", " ", "a\n", "a b", "b\na", "\x07", "1a", "\x00", "\v", "a.b|", *TEXTS.split()]


def _refuses(pattern: str) -> bool:
    try:
        Pattern(pattern)
    except OpError:
        return True
    return False


def _re2(pattern: str) -> list[bool] | None:
    try:
        (y,) = onnxruntime_outputs("RegexFullMatch", np.array(TEXTS, object), opset=20, pattern=pattern)
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        return None
    return y.tolist()


@pytest.mark.parametrize("seed", range(30))
def test_random_patterns_like_re2(seed):
    rng = random.Random(seed)
    accepted = 0
    for _ in range(20):
        pattern = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 5)))
        expected = _re2(pattern)
        if _refuses(pattern):
            # RE2 repeats what comes before flags, (?i) as in a(?i)*: we don't
            assert expected is None or "(?" in pattern, pattern
        else:
            assert [Pattern(pattern).matches(text) for text in TEXTS] == expected, pattern
            accepted += 1
    assert accepted > 3


@pytest.mark.parametrize("piece", PIECES)
def test_every_piece_like_re2(piece):
    expected = _re2(piece)
    assert _refuses(piece) == (expected is None)
    if expected is not None:
        assert [Pattern(piece).matches(text) for text in TEXTS] == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a(", "a \\) is missing"),
        ("a)", r"unexpected \) at 1"),
        ("[a", "ends too early"),
        ("a\\", "ends too early"),
        ("*a", "nothing to repeat at 0"),
        ("(|*)", "nothing to repeat at 2"),
        ("(?i)*", "nothing to repeat at 4"),
        ("a**", "repetition of a repetition at 2"),
        ("a{1001}", r"bad repetition \{1001\}"),
        ("a{3,2}", r"bad repetition \{3,2\}"),
        ("(?=a)", "RE2 has no lookahead"),
        ("(?<!a)", "RE2 has no lookbehind"),
        ("(?>a)", "RE2 has no atomic groups"),
        ("(?P=n)", "RE2 has no backreferences"),
        ("(a)\\1", r"RE2 has no \\1 \(backreferences\)"),
        ("(?x)a", r"unknown group \(\?x"),
        ("(?-)", "has none"),
        ("(?P<n-m>a)", "bad group name"),
        (r"\Z", r"RE2 has no \\Z"),
        (r"\C", r"RE2 has no \\C"),
        (r"\p{Greek}", "scripts are not supported"),
        (r"\p{Lu", "a } is missing"),
        (r"\x{110000}", "bad hexadecimal number"),
        ("[b-a]", "bad range in a class"),
        ("[[:none:]]", "unknown class"),
        ("(" * 101 + ")" * 101, "nested more than 100 deep"),
        ("((a{1000}){1000}){1000}", "too large"),
    ],
)
def test_refusals_say_what_is_wrong(pattern, message):
    with pytest.raises(OpError, match=message):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|aa)+b", "(a+)+b", "(.*)*(.*)*(.*)*b", "(a?){500}a{500}b"])
def test_no_pattern_backtracks(pattern):
    compiled = Pattern(pattern)
    assert not compiled.matches("a" * 3000)
    assert compiled.matches("a" * 800 + "b") or pattern.endswith("{500}a{500}b")
    assert compiled.matches("a" * 500 + "b")


@pytest.mark.parametrize("pattern", ["(((()()){1000}){1000}){1000}", "(((a{0}){1000}){1000}){1000}", "(|){1000}"])
def test_repeating_nothing_takes_no_time(pattern):
    assert Pattern(pattern).matches("")
    assert not Pattern(pattern).matches("a")


def test_many_characters_keep_the_automaton_small(monkeypatch):
    monkeypatch.setattr("tinyonnx.ops._regex._MAX_TRANSITIONS", 50)
    compiled = Pattern("(?:[a-z]|.\\d)*x")
    text = "".join(map(chr, range(0x100, 0x300)))
    assert not compiled.matches(text)
    assert compiled.matches("".join(c + "1" for c in text) + "abcx")
    assert len(compiled._states) <= 51
