"""onnx's own backend cases of every registered operator, through the whole session, optimised and not.

`onnx_conformance/suite/expected_failures.txt` names the cases that fail, with a reason; one that passes
after all fails the run. `onnx-conformance backend` runs the same in a minute, whole networks included.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from onnx import defs

from onnx_conformance.runtimes import RUNTIMES, UNFUSED
from onnx_conformance.suite.cases import KINDS, SEVERAL, Case
from onnx_conformance.suite.check import run_case
from onnx_conformance.suite.expected import EXPECTED_FAILURES, read_expected, surprises
from onnx_conformance.workers import PASSED, UNSUPPORTED

OPERATORS = [SEVERAL, *sorted({f"{s.domain}.{s.name}".removeprefix(".") for s in defs.get_all_schemas()})]
"""The operators that cases may have: known before the suite is loaded, which takes seconds."""


@pytest.fixture(scope="module")
def cases(onnx_cases: list[Case]) -> dict[str, list[Case]]:
    """The cases by operator, but for whole networks."""
    found = defaultdict(list)
    for case in onnx_cases:
        if case.kind != "real":
            found[case.operator].append(case)
    return found


def test_the_suite_is_whole(onnx_cases: list[Case]) -> None:
    assert {case.kind for case in onnx_cases} == set(KINDS)
    assert len({case.name for case in onnx_cases}) == len(onnx_cases)


def test_every_case_is_run(cases: dict[str, list[Case]]) -> None:
    assert set(cases) <= set(OPERATORS)


def test_expected_failures_name_cases_that_exist(onnx_cases: list[Case]) -> None:
    assert set(read_expected(EXPECTED_FAILURES)) <= {case.name for case in onnx_cases}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["tinyonnx", UNFUSED])
def test_cases(cases: dict[str, list[Case]], operator: str, name: str) -> None:
    runtime = RUNTIMES[name]
    outcomes = {case.name: run_case(case, runtime.start(), runtime) for case in cases[operator]}
    run = {case: outcome for case, outcome in outcomes.items() if outcome.status != UNSUPPORTED}
    expected = {case: reason for case, reason in read_expected(EXPECTED_FAILURES).items() if case in run}
    found = surprises({case: outcome.status == PASSED for case, outcome in run.items()}, expected, run)
    assert not found, "\n".join(f"{line} {run[line.partition(':')[0]].message}" for line in found)
    if not run:
        pytest.skip("no such case" if not outcomes else next(iter(outcomes.values())).message)
