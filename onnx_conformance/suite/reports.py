"""Results of the backend suite as JSON, as a page, and as JUnit XML."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import onnx

from onnx_conformance.suite.expected import RANDOM
from onnx_conformance.workers import CRASHED, PASSED, TIMED_OUT

_PAGE = Path(__file__).with_name("backend.html")
_DATA = "/*DATA*/null"


@dataclass(frozen=True)
class CaseRow:
    """One case and its result; `expected` is the reason of a known failure."""

    name: str
    kind: str
    operator: str
    status: str
    message: str
    seconds: float
    ulp: float | None
    expected: str | None


@dataclass(frozen=True)
class Summary:
    """One run; `surprises` are the deviations that make it fail."""

    runtime: str
    version: str
    seconds: float
    rows: Sequence[CaseRow]
    surprises: Sequence[str]

    @property
    def title(self) -> str:
        return f"{self.runtime} {self.version}, suite of onnx {onnx.__version__}"


def as_json(summary: Summary) -> str:
    """Return everything as JSON; an infinite distance, which JSON lacks, is null."""
    data: dict[str, Any] = {"title": summary.title, "onnx": onnx.__version__, **asdict(summary)}
    for row in data["rows"]:
        if row["ulp"] is not None and not math.isfinite(row["ulp"]):
            row["ulp"] = None
        row["seconds"] = round(row["seconds"], 6)
    return json.dumps(data, indent=1, allow_nan=False)


def write_json(summary: Summary, path: Path) -> None:
    """Write the result of `as_json`."""
    path.write_text(as_json(summary) + "\n", encoding="utf-8")


def write_html(summary: Summary, path: Path) -> None:
    """Write a self-contained page."""
    data = as_json(summary).replace("<", "\\u003c")
    path.write_text(_PAGE.read_text(encoding="utf-8").replace(_DATA, data), encoding="utf-8")


def write_junit(summary: Summary, path: Path) -> None:
    """Write a suite per kind; expected failures count as skipped, crashes and timeouts as errors."""
    root = ET.Element("testsuites", {"name": _xml(summary.title), **_totals(summary.rows)})
    for kind in dict.fromkeys(row.kind for row in summary.rows):
        rows = [row for row in summary.rows if row.kind == kind]
        suite = ET.SubElement(root, "testsuite", {"name": kind, **_totals(rows)})
        for row in rows:
            case = ET.SubElement(
                suite, "testcase", name=row.name, classname=f"{kind}.{row.operator}", time=f"{row.seconds:.6f}"
            )
            if tag := _tag(row):
                reason = row.message.partition("\n")[0]
                if row.expected is not None:
                    reason = (
                        f"{'expected' if tag == 'skipped' else 'passes, but is listed as a failure'}: {row.expected}"
                    )
                ET.SubElement(case, tag, type=row.status, message=_xml(reason)).text = _xml(row.message)
    run = {row.name for row in summary.rows}
    if others := [line for line in summary.surprises if line.partition(":")[0] not in run]:
        counts = {"tests": str(len(others)), "failures": str(len(others))}
        suite = ET.SubElement(root, "testsuite", {"name": "expected failures", **counts})
        for line in others:
            name, _, message = line.partition(": ")
            case = ET.SubElement(suite, "testcase", name=name, classname="expected failures")
            ET.SubElement(case, "failure", message=message)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _tag(row: CaseRow) -> str:
    if row.status == PASSED:
        listed = row.expected is not None and not row.expected.startswith(RANDOM)
        return "failure" if listed else ""
    if row.expected is not None:
        return "skipped"
    return "error" if row.status in (CRASHED, TIMED_OUT) else "failure"


def _totals(rows: Sequence[CaseRow]) -> dict[str, str]:
    tags = [_tag(row) for row in rows]
    return {
        "tests": str(len(rows)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "skipped": str(tags.count("skipped")),
        "time": f"{sum(row.seconds for row in rows):.6f}",
    }


def _xml(text: str) -> str:
    """Remove the characters that XML 1.0 does not allow."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", text)
