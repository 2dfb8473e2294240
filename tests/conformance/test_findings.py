"""The findings in other runtimes are cases that tinyonnx passes, each checked twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import conformance
from onnx_conformance.runtimes import RUNTIMES, UNFUSED
from onnx_conformance.suite.cases import Case, load_folder
from onnx_conformance.suite.check import run_case
from onnx_conformance.workers import PASSED

FOLDER = Path(conformance.__file__).parent / "findings"
CASES = load_folder(FOLDER)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.parametrize("name", ["tinyonnx", UNFUSED])
def test_tinyonnx_passes(case: Case, name: str) -> None:
    runtime = RUNTIMES[name]
    outcome = run_case(case, runtime.start(), runtime)
    assert outcome.status == PASSED, outcome.message


def test_findings_are_listed_and_checked() -> None:
    text = (FOLDER / "README.md").read_text()
    assert {path.parent.name for path in FOLDER.glob("*/finding.json")} == {case.name for case in CASES}
    for case in CASES:
        finding = json.loads((FOLDER / case.name / "finding.json").read_text())
        assert f"[{case.name}]({case.name}/README.md)" in text
        assert len(finding["checked"]) >= 2
        assert not {"tinyonnx", UNFUSED} & set(finding["suspects"])
        assert all(finding["versions"][name] for name in finding["suspects"])
