"""Expected failures as data: one exact name and a reason a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from conformance import ConformanceError

EXPECTED_FAILURES = Path(__file__).with_name("expected_failures.txt")
"""What tinyonnx is known not to pass, and why."""


def read_expected(path: Path) -> dict[str, str]:
    """Reasons by case.

    Raises ConformanceError for a line without a reason and a name that is listed twice.
    """
    reasons: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, reason = line.partition(" ")
        if not reason.strip():
            raise ConformanceError(f"{path}:{number}: {name} has no reason")
        if name in reasons:
            raise ConformanceError(f"{path}:{number}: {name} is listed twice")
        reasons[name] = reason.strip()
    return reasons


def surprises(passed: dict[str, bool], expected: Iterable[str], suite: Iterable[str]) -> list[str]:
    """What isn't as the list says, one line each.

    `passed` has the cases that were run. A listed case that passes is as wrong as one
    that fails without being listed, and a listed name that the `suite` doesn't have.
    """
    expected, suite = set(expected), set(suite)
    lines = [f"{name}: not in the suite, but listed" for name in sorted(expected - suite)]
    lines += [f"{name}: passes, but is listed as a failure" for name, ok in passed.items() if ok and name in expected]
    lines += [f"{name}: fails" for name, ok in passed.items() if not ok and name not in expected]
    return lines
