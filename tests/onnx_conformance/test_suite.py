"""onnx's own backend cases of every registered operator, through the whole session, optimised and not.

`onnx_conformance/suite/expected_failures.txt` names the cases that fail, with a reason; one that passes
after all fails the run. `onnx-conformance backend` runs the same in a minute, whole networks included.
"""

from __future__ import annotations

import pytest

from onnx_conformance.runtimes import RUNTIMES, UNFUSED
from onnx_conformance.suite.cases import KINDS, load_suite
from onnx_conformance.suite.check import run_case
from onnx_conformance.suite.expected import EXPECTED_FAILURES, read_expected, surprises
from onnx_conformance.workers import PASSED, UNSUPPORTED

SUITE = load_suite()
CASES = [case for case in SUITE if case.kind != "real"]
NAMES = {case.name for case in SUITE}
EXPECTED = read_expected(EXPECTED_FAILURES)


def test_the_suite_is_whole():
    assert {case.kind for case in SUITE} == set(KINDS)
    assert len(NAMES) == len(SUITE)


def test_expected_failures_name_cases_that_exist():
    assert set(EXPECTED) <= NAMES


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.parametrize("name", ["tinyonnx", UNFUSED])
def test_case(case, name):
    runtime = RUNTIMES[name]
    outcome = run_case(case, runtime.start(), runtime)
    if outcome.status == UNSUPPORTED:
        pytest.skip(outcome.message)
    if found := surprises({case.name: outcome.status == PASSED}, EXPECTED, NAMES):
        pytest.fail(f"{found[0]}: {outcome.message}")
    if outcome.status != PASSED:
        pytest.xfail(EXPECTED[case.name])
