"""Regular expressions in RE2's syntax, matched against whole strings in time linear in their length.

A pattern becomes a nondeterministic automaton, and that a deterministic one, state by state
as strings need them; there is no backtracking, so no pattern takes exponential time.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyonnx.errors import OpError
from tinyonnx.ops._regex_syntax import WORD, Assertion, Chars, Choice, Ranges, Sequence, Tree, contains, parse

_MAX_PROGRAM, _MAX_TRANSITIONS = 20_000, 50_000


class _Step(NamedTuple):
    """Consumes a character of `ranges`, or nothing where `assertion` (if any) holds; goes on at one of `targets`."""

    ranges: Ranges | None
    assertion: str | None
    targets: tuple[int, ...]


_EDGE, _NEWLINE, _LETTER, _OTHER = range(4)
"""What is on one side of a position: the end of the text, or a kind of character."""


def _kind(char: str) -> int:
    return _NEWLINE if char == "\n" else _LETTER if contains(WORD, ord(char)) else _OTHER


def _holds(assertion: str, before: int, after: int) -> bool:
    if assertion in "Az":
        return (before if assertion == "A" else after) == _EDGE
    if assertion in "^$":
        return (before if assertion == "^" else after) in (_EDGE, _NEWLINE)
    return ((before == _LETTER) != (after == _LETTER)) == (assertion == "b")


class _State:
    """A set of steps, with the kind of character before it."""

    def __init__(self, steps: frozenset[int], before: int) -> None:
        self.steps, self.before = steps, before
        self.following: dict[str, _State] = {}


class Pattern:
    """A pattern in RE2's syntax; raises OpError if it isn't one, or is too large."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._program = [_Step(None, None, ())]  # step 0: the end is reached
        start = self._emit(parse(pattern), 0)
        self._states: dict[tuple[frozenset[int], int], _State] = {}
        self._transitions = 0
        self._start = _State(frozenset([start]), _EDGE)

    def _add(self, step: _Step) -> int:
        if len(self._program) >= _MAX_PROGRAM:
            raise OpError(f"pattern {self._pattern!r} is too large: more than {_MAX_PROGRAM} steps")
        self._program.append(step)
        return len(self._program) - 1

    def _emit(self, tree: Tree, target: int) -> int:
        """Append the steps of `tree`, after which step `target` comes; where they start."""
        if isinstance(tree, Chars):
            return self._add(_Step(tree.ranges, None, (target,)))
        if isinstance(tree, Assertion):
            return self._add(_Step(None, tree.kind, (target,)))
        if isinstance(tree, Sequence):
            for part in reversed(tree.parts):
                target = self._emit(part, target)
            return target
        if isinstance(tree, Choice):
            return self._add(_Step(None, None, tuple(self._emit(option, target) for option in tree.options)))
        if tree.most is None:
            loop = self._add(_Step(None, None, ()))
            self._program[loop] = _Step(None, None, (self._emit(tree.body, loop), target))
            target = loop
        else:
            end = target
            for _ in range(tree.most - tree.least):
                target = self._add(_Step(None, None, (self._emit(tree.body, target), end)))
        for _ in range(tree.least):
            target = self._emit(tree.body, target)
        return target

    def _reached(self, state: _State, after: int) -> set[int]:
        """The steps that `state` leads to without consuming anything."""
        seen, todo = set(state.steps), list(state.steps)
        while todo:
            step = self._program[todo.pop()]
            if step.ranges is None and (step.assertion is None or _holds(step.assertion, state.before, after)):
                new = [t for t in step.targets if t not in seen]
                seen.update(new)
                todo += new
        return seen

    def _after(self, state: _State, char: str) -> _State:
        kind, code = _kind(char), ord(char)
        steps = (self._program[i] for i in self._reached(state, kind))
        found = frozenset(s.targets[0] for s in steps if s.ranges is not None and contains(s.ranges, code))
        self._transitions += 1
        if self._transitions > _MAX_TRANSITIONS:
            self._transitions = 0
            self._states.clear()
            self._start.following.clear()
        result = self._states.setdefault((found, kind), _State(found, kind))
        state.following[char] = result
        return result

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` is as the pattern says."""
        state = self._start
        for char in text:
            state = state.following.get(char) or self._after(state, char)
            if not state.steps:
                return False
        return 0 in self._reached(state, _EDGE)
