"""onnx's own backend node cases of every registered operator, through the whole session.

`backend_expected_failures.txt` names the cases that fail, with a reason; one that passes
after all fails the run.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

import tinyonnx


def _cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return load_model_tests(kind="node")


CASES = _cases()
EXPECTED_FAILURES = dict(
    line.split(maxsplit=1)
    for line in Path(__file__).with_name("backend_expected_failures.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def test_expected_failures_name_cases_that_exist():
    assert set(EXPECTED_FAILURES) <= {case.name for case in CASES}


def _value(proto):
    """An array, a list for a sequence, None for an absent optional."""
    if isinstance(proto, onnx.SequenceProto):
        return onnx.numpy_helper.to_list(proto)
    if isinstance(proto, onnx.OptionalProto):
        return onnx.numpy_helper.to_optional(proto)
    return onnx.numpy_helper.to_array(proto) if isinstance(proto, onnx.TensorProto) else proto


def _assert_same(actual, wanted, case):
    if wanted is None:
        assert actual is None
    elif isinstance(wanted, list):
        assert isinstance(actual, list)
        for a, b in zip(actual, wanted, strict=True):
            _assert_same(a, b, case)
    else:
        assert actual.dtype == wanted.dtype
        assert actual.shape == wanted.shape
        if wanted.dtype.kind == "O":
            assert (actual == wanted).all()
        else:
            wide = np.float32 if wanted.dtype.kind == "V" else wanted.dtype
            np.testing.assert_allclose(actual.astype(wide), wanted.astype(wide), rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.parametrize("level", ["ORT_ENABLE_ALL", "ORT_DISABLE_ALL"])
def test_node_case(case, level, request):
    if case.name in EXPECTED_FAILURES:
        request.applymarker(pytest.mark.xfail(reason=EXPECTED_FAILURES[case.name], strict=True))
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = getattr(tinyonnx.GraphOptimizationLevel, level)
    try:
        session = tinyonnx.InferenceSession(case.model.SerializeToString(), options)
    except tinyonnx.ModelError as error:
        if "not supported" not in str(error) and "exists since opset" not in str(error):
            raise
        pytest.skip(str(error))
    for inputs, expected in case.data_sets:
        feeds = dict(zip((i.name for i in case.model.graph.input), map(_value, inputs), strict=False))
        for actual, wanted in zip(session.run(None, feeds), expected, strict=True):
            _assert_same(actual, _value(wanted), case)
