"""Judge the results of several runtimes: which of them differ, in what way, and whether rounding explains it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

VALUE, SHAPE, TYPE, REFUSED, CRASHED, HANGS = "value", "shape", "type", "refused", "crashed", "hangs"
"""Kinds of differences."""

_RELATIVE = {"float64": 2e-7, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
_SCALED = {"float64": 1e-7, "float32": 4e-6, "float16": 2e-3, "bfloat16": 1.6e-2}
_NARROW = 0.3
"""Tolerances relative to each number, and to the greatest of an output; `_NARROW` is for floats of a byte or less.

float64's are those of the attributes, which are float32."""

_DIGITS = 5e-4
"""Relative difference of numbers that are the same in float16, whose strings may have any further digits."""

_WHOLE = re.compile(r"[-+]?\d+")

_SPREADS = 8.0
"""Differences within this multiple of the effect of noise count as rounding."""


@dataclass(frozen=True)
class Difference:
    """A difference between two results: the kind, the output, and the difference in words."""

    kind: str
    output: int
    text: str


def is_off(outputs: Sequence[Any], truth: Sequence[Any], factor: float, scale: float, narrow: str = "") -> bool:
    """Return whether outputs are further from those of a float32 run than the rounding of their own type explains.

    The tolerance of a number is that of its type, or of the type `narrow` of an input if that is greater, times
    `factor`; for floats of 2 bytes or more it is at least a share of `scale`.
    """
    if len(outputs) != len(truth):
        return True
    for a, b in zip(outputs, truth, strict=True):
        if not isinstance(a, (np.ndarray, np.generic)) or not isinstance(b, (np.ndarray, np.generic)):
            return True
        x, y = np.asarray(a), np.asarray(b)
        if x.shape != y.shape or _is_text(x) or _is_text(y):
            return True
        wide, right = _wide(x), _wide(y)
        with np.errstate(all="ignore"):
            same = (wide == right) | ((wide != wide) & (right != right))
            finite = np.isfinite(wide) & np.isfinite(right)
            names = (x.dtype.name if x.dtype.itemsize < 4 else "float32", *([narrow] if narrow else []))
            allowed = np.max([_tolerance(name, wide, right, finite) for name in names], axis=0)
            allowed = factor * np.maximum(allowed, max(_SCALED.get(n, 0.0) for n in (x.dtype.name, narrow)) * scale)
            if not (same | (finite & (np.abs(wide - right) <= allowed))).all():
                return True
    return False


def first_difference(ours: Sequence[Any], others: Sequence[Any], noisy: Sequence[Sequence[Any]]) -> Difference | None:
    """Return the first difference of outputs that rounding does not explain.

    `noisy` are outputs of one runtime: without noise first, then with noise.
    """
    if len(ours) != len(others):
        return Difference(SHAPE, 0, f"{len(ours)} outputs against {len(others)}")
    for i, (a, b) in enumerate(zip(ours, others, strict=True)):
        runs = [run[i] for run in noisy if len(run) == len(ours)]
        found = _differs(a, b, runs)
        if found is not None:
            return Difference(found[0], i, found[1])
    return None


def _differs(a: Any, b: Any, runs: Sequence[Any]) -> tuple[str, str] | None:
    a, b = _bare(a, b), _bare(b, a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return SHAPE, f"sequences of {len(a)} and {len(b)}"
        if isinstance(a and a[0], dict) and isinstance(b and b[0], dict):
            return _differs([list(x.values()) for x in a], [list(x.values()) for x in b], [])
        alike = [run for run in runs if isinstance(run, (list, tuple)) and len(run) == len(a)]
        pairs = enumerate(zip(a, b, strict=True))
        return next((d for j, (x, y) in pairs if (d := _differs(x, y, [run[j] for run in alike]))), None)
    if a is None or b is None or isinstance(a, dict) or isinstance(b, dict):
        return None if type(a) is type(b) else (TYPE, f"{type(a).__name__} against {type(b).__name__}")
    x, y = np.asarray(a), np.asarray(b)
    if _is_text(x) or _is_text(y):
        same = x.shape == y.shape and all(map(_same_text, x.ravel(), y.ravel()))
        return None if same else (VALUE, "other strings")
    if x.dtype != y.dtype:
        return TYPE, f"{x.dtype} against {y.dtype}"
    others = [np.asarray(run) for run in runs]
    if x.shape != y.shape:
        unstable = any(run.shape != others[0].shape for run in others[1:])
        return None if unstable else (SHAPE, f"{list(x.shape)} against {list(y.shape)}")
    return _numbers(x, y, [run for run in others if run.shape == x.shape])


def _same_text(a: Any, b: Any) -> bool:
    """Return whether two strings are equal, or the same number, whose digits and case the specification leaves open.

    Those of whole numbers are not open.
    """
    if str(a) == str(b):
        return True
    if all(_WHOLE.fullmatch(str(text)) for text in (a, b)):
        return False
    try:
        return bool(np.isclose(float(a), float(b), rtol=_DIGITS, atol=0, equal_nan=True))
    except ValueError:
        return False


def _bare(value: Any, other: Any) -> Any:
    """Return the content of an optional, which one runtime returns as a list and another directly."""
    if isinstance(value, list) and len(value) == 1 and isinstance(other, (np.ndarray, np.generic)):
        return value[0]
    return value


def _numbers(x: Any, y: Any, runs: Sequence[Any]) -> tuple[str, str] | None:
    a, b = _wide(x), _wide(y)
    with np.errstate(all="ignore"):
        same = (a == b) | ((a != a) & (b != b))
        if same.all():
            return None
        error = np.where(same, 0.0, np.abs(a - b))
        finite = np.isfinite(a) & np.isfinite(b)
        allowed = np.array(same)
        if x.dtype.kind in "fV":
            allowed |= finite & (error <= _tolerance(x.dtype.name, a, b, finite))
        if len(runs) > 1 and not allowed.all():
            base, moved = _wide(runs[0]), [_wide(run) for run in runs[1:]]
            spread = np.max([np.abs(run - base) for run in moved], axis=0)
            unstable = ~np.isfinite(spread) & ~((base != base) & np.all([run != run for run in moved], axis=0))
            unstable &= ~np.all([run == base for run in moved], axis=0)
            if x.dtype.kind in "fV":
                still = np.isfinite(spread)  # few runs leave some elements where they are by chance
                typical = float(np.median(spread[still])) if still.any() else 0.0
                allowed |= unstable | (finite & (error <= _SPREADS * np.maximum(spread, typical)))
            else:
                allowed |= (spread > 0) & (error <= _SPREADS * spread)
                if x.dtype.itemsize > 2 and np.mean(spread > 0) > 0.25:  # an order that is decided by ties
                    allowed[...] = True
    if allowed.all():
        return None
    at = tuple(int(i) for i in np.argwhere(~allowed)[0])
    wrong = int(allowed.size - np.count_nonzero(allowed))
    return VALUE, f"{wrong} of {allowed.size} numbers differ, first at {list(at)}: {x[at]} against {y[at]}"


def _tolerance(name: str, a: Any, b: Any, finite: Any) -> Any:
    scale = float(np.max(np.abs(b), initial=0.0, where=finite))
    greater = np.maximum(np.abs(a), np.abs(b))
    tiny = {"float64": 1e-307, "float32": 1e-37, "bfloat16": 1e-37, "float16": 1e-7}.get(name, 0.0)
    return _RELATIVE.get(name, _NARROW) * greater + _SCALED.get(name, _NARROW) * scale + tiny


def _wide(array: Any) -> Any:
    if array.dtype.kind == "c":
        return array.astype(np.complex128)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        return array.astype(np.longdouble)
    if array.dtype.kind == "V":
        return array.astype(np.float32).astype(np.float64)
    return array.astype(np.float64)


def _is_text(array: Any) -> bool:
    return array.dtype.kind in "OUST"


def groups(names: Sequence[str], agree: Mapping[frozenset[str], bool]) -> list[list[str]]:
    """Return groups of runtimes that agree, the largest first; `agree` has each pair."""
    found: list[list[str]] = []
    for name in names:
        for group in found:
            if all(agree[frozenset((name, other))] for other in group):
                group.append(name)
                break
        else:
            found.append([name])
    return sorted(found, key=len, reverse=True)
