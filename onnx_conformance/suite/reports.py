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
from tinyonnx.files import write_text

_PAGE = Path(__file__).with_name("backend.html")
_DATA = "/*DATA*/null"


@dataclass(frozen=True)
class CaseRow:
    """One case and its result; `expected` is the reason of a known failure, `type` that of the first input."""

    name: str
    kind: str
    operator: str
    status: str
    message: str
    seconds: float
    ulp: float | None
    expected: str | None
    opset: int = 0
    type: str = ""


@dataclass(frozen=True)
class Summary:
    """One run; `surprises` are the deviations that make it fail.

    A runtime that can't be started has no rows, and the cause as `unavailable`.
    """

    runtime: str
    version: str
    seconds: float
    rows: Sequence[CaseRow]
    surprises: Sequence[str]
    cases: str = f"suite of onnx {onnx.__version__}"
    unavailable: str = ""

    @property
    def title(self) -> str:
        return f"{f'{self.runtime} {self.version}'.strip()}, {self.cases}"


def as_data(summary: Summary) -> dict[str, Any]:
    """Return everything as JSON values; an infinite distance, which JSON lacks, is null."""
    data: dict[str, Any] = {"title": summary.title, "onnx": onnx.__version__, **asdict(summary)}
    for row in data["rows"]:
        if row["ulp"] is not None and not math.isfinite(row["ulp"]):
            row["ulp"] = None
        row["seconds"] = round(row["seconds"], 6)
    return data


def as_json(summary: Summary) -> str:
    """Return the result of `as_data` as text."""
    return json.dumps(as_data(summary), indent=1, allow_nan=False)


def write_json(summaries: Sequence[Summary], path: Path) -> None:
    """Write one run as it is, several as a list `runs`."""
    runs = [as_data(summary) for summary in summaries]
    data = runs[0] if len(runs) == 1 else {"runs": runs}
    write_text(str(path), json.dumps(data, indent=1, allow_nan=False) + "\n")


def write_html(summary: Summary, path: Path) -> None:
    """Write a self-contained page."""
    data = as_json(summary).replace("<", "\\u003c")
    write_text(str(path), _PAGE.read_text(encoding="utf-8").replace(_DATA, data))


def write_junit(summaries: Sequence[Summary], path: Path) -> None:
    """Write a suite per runtime and kind; expected failures count as skipped, crashes and timeouts as errors."""
    rows = [row for summary in summaries for row in summary.rows]
    name = "; ".join(summary.title for summary in summaries)
    root = ET.Element("testsuites", {"name": _xml(name), **_totals(rows)})
    for summary in summaries:
        _add_suites(root, summary, f"{summary.runtime}." if len(summaries) > 1 else "")
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    write_text(str(path), f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _add_suites(root: ET.Element, summary: Summary, prefix: str) -> None:
    for kind in dict.fromkeys(row.kind for row in summary.rows):
        rows = [row for row in summary.rows if row.kind == kind]
        suite = ET.SubElement(root, "testsuite", {"name": prefix + kind, **_totals(rows)})
        for row in rows:
            case = ET.SubElement(
                suite, "testcase", name=row.name, classname=f"{prefix}{kind}.{row.operator}", time=f"{row.seconds:.6f}"
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
        suite = ET.SubElement(root, "testsuite", {"name": f"{prefix}expected failures", **counts})
        for line in others:
            name, _, message = line.partition(": ")
            case = ET.SubElement(suite, "testcase", name=name, classname=f"{prefix}expected failures")
            ET.SubElement(case, "failure", message=_xml(message))


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
