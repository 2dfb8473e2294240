"""Expected failures as data: one exact name and a reason per line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx

from onnx_conformance import ConformanceError

EXPECTED_FAILURES = Path(__file__).with_name("expected_failures.txt")
"""Cases that tinyonnx is known to fail, with reasons."""

RANDOM = "random: "
"""Prefix of the reason of a case that may pass by chance."""


_VERSION = re.compile(r"onnx(?P<older><)?(?:>=)?(?P<major>\d+)\.(?P<minor>\d+): ")
"""Prefix of a reason that is valid for some releases of onnx only, such as `onnx<1.23: `."""


def read_expected(path: Path, onnx_version: str = onnx.__version__) -> dict[str, str]:
    """Return reasons by case, from the lines that apply to this release of onnx.

    Raises ConformanceError for a line without a reason, a name listed twice and a file that is not UTF-8 text.
    """
    reasons: dict[str, str] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConformanceError(f"{path}: is not UTF-8 text") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, reason = line.partition(" ")
        if not reason.strip():
            raise ConformanceError(f"{path}:{number}: {name} has no reason")
        if name in reasons:
            raise ConformanceError(f"{path}:{number}: {name} is listed twice")
        if _holds(reason.strip(), onnx_version):
            reasons[name] = reason.strip()
    return reasons


def _holds(reason: str, onnx_version: str) -> bool:
    condition = _VERSION.match(reason)
    if condition is None:
        return True
    major, minor = map(int, onnx_version.split(".")[:2])
    older = (major, minor) < (int(condition["major"]), int(condition["minor"]))
    return older == bool(condition["older"])


def surprises(passed: Mapping[str, bool], expected: Mapping[str, str], suite: Iterable[str]) -> list[str]:
    """Return the deviations from the list, one line each.

    `passed` has the cases that were run. A listed case that passes (unless it is random) is a deviation, and so are a
    case that fails without being listed and a listed name that the `suite` does not have.
    """
    strict = {name for name, reason in expected.items() if not reason.startswith(RANDOM)}
    lines = [f"{name}: not in the suite, but listed" for name in sorted(expected.keys() - set(suite))]
    lines += [f"{name}: passes, but is listed as a failure" for name, ok in passed.items() if ok and name in strict]
    lines += [f"{name}: fails" for name, ok in passed.items() if not ok and name not in expected]
    return lines
