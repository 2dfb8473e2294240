"""RE2's syntax of regular expressions, read into trees."""

from __future__ import annotations

import sys
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, NoReturn

from tinyonnx.errors import OpError

Ranges = tuple[tuple[int, int], ...]
"""Code points as sorted ranges that don't touch, both ends included."""

_LAST = sys.maxunicode
_MAX_REPEAT, _MAX_DEPTH = 1000, 100


# -- sets of characters -----------------------------------------------------------------


def _union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _complement(ranges: Ranges) -> Ranges:
    edges = [-1, *(edge for pair in ranges for edge in pair), _LAST + 1]
    gaps = zip(edges[::2], edges[1::2])
    return tuple((low + 1, high - 1) for low, high in gaps if low + 1 < high)


def contains(ranges: Ranges, code: int) -> bool:
    i = bisect_right(ranges, (code, _LAST)) - 1
    return i >= 0 and code <= ranges[i][1]


_DIGIT, _SPACE, WORD = (
    ((48, 57),),
    _union([(9, 10), (12, 13), (32, 32)]),
    _union([(48, 57), (65, 90), (95, 95), (97, 122)]),
)
_PERL = {"d": _DIGIT, "s": _SPACE, "w": WORD}
_NAMED: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": _DIGIT,
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": WORD,
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_ESCAPED = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}


@cache
def _category(name: str) -> Ranges:
    """The characters of a general category, `L` or `Lu`; empty if there is none such."""
    codes = range(_LAST + 1)
    return _union((c, c) for c in codes if unicodedata.category(chr(c)).startswith(name))


@cache
def _same_letters() -> list[list[int]]:
    """Groups of characters that differ in nothing but case."""
    groups = defaultdict(list)
    for code in range(0x1F000):
        char = chr(code)
        folded = char.casefold()
        groups[folded if len(folded) == 1 else char.lower()].append(code)
    return [group for group in groups.values() if len(group) > 1]


def _caseless(ranges: Ranges) -> Ranges:
    groups = (group for group in _same_letters() if any(contains(ranges, code) for code in group))
    return _union([*ranges, *((code, code) for group in groups for code in group)])


# -- syntax trees -----------------------------------------------------------------------


class Chars(NamedTuple):
    ranges: Ranges


class Assertion(NamedTuple):
    kind: str


class Sequence(NamedTuple):
    parts: tuple[Tree, ...]


class Choice(NamedTuple):
    options: tuple[Tree, ...]


class Repeat(NamedTuple):
    body: Tree
    least: int
    most: int | None


Tree = Chars | Assertion | Sequence | Choice | Repeat


def _is_empty(tree: Tree) -> bool:
    """Such trees are left out, so that repeating them takes no time."""
    return isinstance(tree, Sequence) and not tree.parts


_UNSUPPORTED = {"=": "lookahead", "!": "lookahead", "<=": "lookbehind", "<!": "lookbehind", ">": "atomic groups"}
_UNSUPPORTED |= {"#": "comments", "P=": "backreferences", "P>": "recursion", "(": "conditions"}


class _Parser:
    """Recursive descent; `flags` are those of the group that is being read."""

    def __init__(self, pattern: str) -> None:
        self.text, self.at, self.depth = pattern, 0, 0
        self.flags: frozenset[str] = frozenset()

    def fail(self, why: str) -> NoReturn:
        raise OpError(f"pattern {self.text!r}: {why}")

    def take(self, literal: str) -> bool:
        found = self.text.startswith(literal, self.at)
        self.at += len(literal) * found
        return found

    def next(self) -> str:
        if self.at >= len(self.text):
            self.fail("ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def whole(self) -> Tree:
        tree = self.choice()
        if self.at < len(self.text):
            self.fail(f"unexpected ) at {self.at}")
        return tree

    def choice(self) -> Tree:
        options = [self.sequence()]
        while self.take("|"):
            options.append(self.sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self) -> Tree:
        parts: list[Tree] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts += [part for part in self.repeated() if not _is_empty(part)]
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repeated(self) -> list[Tree]:
        start = self.at
        if self.bounds() is not None:
            self.fail(f"nothing to repeat at {start}")
        if self.take("\\Q"):
            parts = self.quoted()
        else:
            atom = self.atom()
            parts = [] if atom is None else [atom]
        start = self.at
        bounds = self.bounds()
        if bounds is None:
            return parts
        if not parts:
            self.fail(f"nothing to repeat at {start}")
        self.take("?")  # which of several matches is found doesn't matter here
        again = self.at
        if self.bounds() is not None:
            self.fail(f"repetition of a repetition at {again}")
        return parts[:-1] if _is_empty(parts[-1]) or bounds[1] == 0 else [*parts[:-1], Repeat(parts[-1], *bounds)]

    def bounds(self) -> tuple[int, int | None] | None:
        """How often, if a repetition follows."""
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return bounds
        inside, brace, _ = self.text[self.at + 1 :].partition("}")
        least, comma, most = inside.partition(",")
        if not (
            self.text[self.at : self.at + 1] == "{" and brace and _is_number(least) and (not most or _is_number(most))
        ):
            return None
        self.at += len(inside) + 2
        low = int(least)
        high = low if not comma else int(most) if most else None
        if max(low, high or 0) > _MAX_REPEAT or (high is not None and high < low):
            self.fail(f"bad repetition {{{inside}}}")
        return low, high

    def quoted(self) -> list[Tree]:
        inside, _, _ = self.text[self.at :].partition("\\E")
        self.at = min(self.at + len(inside) + 2, len(self.text))
        return [Chars(self.folded(ord(c))) for c in inside]

    def folded(self, chars: int | Ranges) -> Ranges:
        """The set of a character, or of several, in either case if that makes no difference."""
        ranges = ((chars, chars),) if isinstance(chars, int) else chars
        return _caseless(ranges) if "i" in self.flags else ranges

    def atom(self) -> Tree | None:
        """One thing to repeat; None for what only sets flags."""
        char = self.next()
        if char == "(":
            return self.group()
        if char == "[":
            return self.char_class()
        if char == ".":
            return Chars(((0, _LAST),) if "s" in self.flags else _complement(((10, 10),)))
        if char in "^$":
            return Assertion(char if "m" in self.flags else "A" if char == "^" else "z")
        if char == "\\":
            if self.text[self.at : self.at + 1] in ("A", "z", "b", "B"):
                return Assertion(self.next())
            return Chars(self.member(self.escape()))
        return Chars(self.folded(ord(char)))

    # -- groups

    def group(self) -> Tree | None:
        outside = self.flags
        if self.take("?"):
            for syntax, what in _UNSUPPORTED.items():
                if self.text.startswith(syntax, self.at):
                    self.fail(f"RE2 has no {what}")
            if self.take("P<") or self.take("<"):
                self.name()
            elif not self.set_flags():
                return None
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.fail(f"groups are nested more than {_MAX_DEPTH} deep")
        tree = self.choice()
        self.depth -= 1
        if not self.take(")"):
            self.fail("a ) is missing")
        self.flags = outside
        return tree

    def name(self) -> None:
        name, end, _ = self.text[self.at :].partition(">")
        if not end or not name.replace("_", "a").isalnum():
            self.fail(f"bad group name {name!r}")
        self.at += len(name) + 1

    def set_flags(self) -> bool:
        """Whether a group follows, rather than flags for the rest of this one."""
        flags, on, empty = set(self.flags), True, True
        while (char := self.next()) not in ":)":
            if char == "-" and on:
                on, empty = False, True
            elif char in "imsU":
                (flags.add if on else flags.discard)(char)
                empty = False
            else:
                self.fail(f"unknown group (?{char}")
        if empty and (char == ")" or not on):
            self.fail("a group with flags has none")
        self.flags = frozenset(flags)
        return char == ":"

    # -- characters

    def member(self, found: int | Ranges) -> Ranges:
        return self.folded(found) if isinstance(found, int) else found

    def escape(self) -> int | Ranges:
        """What follows a backslash: a character, or a set of characters, folded before it is negated."""
        char = self.next()
        if char.isascii() and char.lower() in _PERL:
            ranges = self.folded(_PERL[char.lower()])
            return ranges if char.islower() else _complement(ranges)
        return self.category(char == "P") if char in "pP" else self.code(char)

    def category(self, negated: bool) -> Ranges:
        name = self.next()
        if name == "{":
            name, end, _ = self.text[self.at :].partition("}")
            self.at += len(name) + 1
            if not end:
                self.fail("a } is missing")
        if name.startswith("^"):
            name, negated = name[1:], not negated
        ranges = ((0, _LAST),) if name == "Any" else _category(name) if 1 <= len(name) <= 2 else ()
        if not ranges:
            self.fail(f"\\p{{{name}}} is no general category; scripts are not supported")
        ranges = self.folded(ranges)
        return _complement(ranges) if negated else ranges

    def code(self, char: str) -> int:
        """The code point of an escaped character."""
        if char in _ESCAPED:
            return _ESCAPED[char]
        if char in "01234567" and (char == "0" or self.text[self.at : self.at + 1] in tuple("01234567")):
            digits = char
            while len(digits) < 3 and self.text[self.at : self.at + 1] in tuple("01234567"):
                digits += self.next()
            return int(digits, 8)
        if char == "x":
            digits = self.next()
            if digits == "{":
                digits, _, _ = self.text[self.at :].partition("}")
                self.at += len(digits) + 1
            else:
                digits += self.next()
            if not digits or any(d not in "0123456789abcdefABCDEF" for d in digits) or int(digits, 16) > _LAST:
                self.fail(f"bad hexadecimal number {digits!r}")
            return int(digits, 16)
        if not char.isascii() or char.isalnum():
            self.fail(f"RE2 has no \\{char}" + (" (backreferences)" if char.isdigit() else ""))
        return ord(char)

    def char_class(self) -> Tree:
        negated, first, ranges = self.take("^"), True, list[tuple[int, int]]()
        while first or not self.take("]"):
            first = False
            if self.take("[:"):
                ranges += self.named_class()
                continue
            low = self.class_member()
            after = self.text[self.at : self.at + 2]
            if isinstance(low, int) and after[:1] == "-" and after[1:] not in ("]", ""):
                self.at += 1
                high = self.class_member()
                if not isinstance(high, int) or high < low:
                    self.fail(f"bad range in a class before {self.at}")
                ranges += self.folded(((low, high),))
            else:
                ranges += self.member(low)
        return Chars(_complement(_union(ranges)) if negated else _union(ranges))

    def named_class(self) -> Ranges:
        name, end, _ = self.text[self.at :].partition(":]")
        self.at += len(name) + 2
        if not end or name.removeprefix("^") not in _NAMED:
            self.fail(f"unknown class [:{name}")
        ranges = self.folded(_NAMED[name.removeprefix("^")])
        return _complement(ranges) if name.startswith("^") else ranges

    def class_member(self) -> int | Ranges:
        char = self.next()
        return self.escape() if char == "\\" else ord(char)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9


def parse(pattern: str) -> Tree:
    """Raises OpError, saying what is wrong, unless the pattern is one that RE2 has, too.

    Missing are `\\C` (a byte) and classes of scripts.
    """
    return _Parser(pattern).whole()
