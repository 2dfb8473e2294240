"""The scoreboard's Dockerfile names a module that onnx's own runner of the suite accepts."""

from __future__ import annotations

import importlib
import re
import unittest
from pathlib import Path

import onnx.backend.test
import pytest

import conformance

FOLDER = Path(conformance.__file__).parent / "scoreboard"


@pytest.mark.filterwarnings("ignore")  # onnx computes all cases when it is imported
@pytest.mark.trials
def test_the_backend_of_the_dockerfile_runs_cases() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    match = re.search(r"^ENV ONNX_BACKEND=(\S+)$", text, re.MULTILINE)
    assert match is not None
    assert "--onnx_backend=${ONNX_BACKEND}" in text
    backend = importlib.import_module(match[1])
    assert callable(backend.run_model)
    runner = onnx.backend.test.BackendTest(backend, __name__)
    runner.include(r"^test_(abs|relu|gemm_default_no_bias)_cpu$")
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(case) for case in runner.test_cases.values()
    )
    result = unittest.TestResult()
    suite.run(result)
    assert (result.failures, result.errors) == ([], [])
    assert result.testsRun - len(result.skipped) == 3
