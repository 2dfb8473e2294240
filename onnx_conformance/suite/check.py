"""The job of a worker for one case: run the model, compare its outputs with the expected ones."""

from __future__ import annotations

import time
from dataclasses import dataclass

from onnx_conformance.comparison import mismatch, ulp_distance
from onnx_conformance.runtimes.base import Prepare, Runtime
from onnx_conformance.suite.cases import Case
from onnx_conformance.workers import FAILED, LONGEST_MESSAGE, PASSED, JobOutcome, refusal


@dataclass(frozen=True)
class CheckCase:
    """The job to run a case; with `ulp`, distances are measured."""

    case: Case
    ulp: bool = False

    def __call__(self, prepare: Prepare, runtime: Runtime) -> JobOutcome:
        """Run the job in this process."""
        return run_case(self.case, prepare, runtime, self.ulp)


def run_case(case: Case, prepare: Prepare, runtime: Runtime, ulp: bool = False) -> JobOutcome:
    """Run one case in this process."""
    started = time.perf_counter()
    seconds = 0.0
    distances = []
    try:
        run = prepare(case.model)
        for data in case.data_sets:
            results = run(dict(data.feeds))
            seconds = seconds or time.perf_counter() - started
            if found := mismatch(list(results), data.expected, case.rtol, case.atol, "outputs"):
                return JobOutcome(FAILED, found[:LONGEST_MESSAGE], seconds)
            if ulp:
                distances.append(ulp_distance(list(results), data.expected))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # another runtime may raise any exception, including Rust panics
        return refusal(error, runtime, time.perf_counter() - started)
    return JobOutcome(PASSED, "", seconds, max(distances, default=0.0) if ulp else None)
