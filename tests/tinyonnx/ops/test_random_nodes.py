"""Random nodes: tinyonnx, optimised and not, agrees with onnxruntime.

What onnxruntime refuses says nothing; each family has to get enough cases through that it accepts.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import tinyonnx
from onnx_conformance.generate.draws import Random, RandomNode
from onnx_conformance.generate.nodes import FAMILIES
from onnx_conformance.generate.sample import opset_imports

CASES = 30
"""Number of cases of each family; cases that onnxruntime refuses are replaced by others."""


def described(case: RandomNode) -> str:
    inputs = ("-" if x is None else f"{np.asarray(x).dtype}{list(np.shape(x))}" for x in case.inputs)
    return f"{case.op}-{case.opset}({', '.join(inputs)}) {case.attributes}, constant {case.constants}"


def build(case: RandomNode) -> tuple[bytes, dict[str, Any]]:
    """Return the model, and what to feed it."""
    arrays = {f"x{i}": np.asarray(x) for i, x in enumerate(case.inputs) if x is not None}
    feeds = {name: x for name, x in arrays.items() if int(name[1:]) not in case.constants}
    names = [f"x{i}" if f"x{i}" in arrays else "" for i in range(len(case.inputs))]
    outputs = [f"y{i}" for i in range(case.outputs)]
    graph = helper.make_graph(
        [helper.make_node(case.op, names, outputs, domain=case.domain, **case.attributes)],
        "random",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in feeds.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(x, name) for name, x in arrays.items() if name not in feeds],
    )
    opsets = opset_imports(case.domain, case.opset)
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(), feeds


def expected(model: bytes, feeds: dict[str, Any]) -> list[Any] | None:
    """Return onnxruntime's answer, None if it refuses."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        results: list[Any] = session.run(None, feeds)
        return results
    except Exception:
        return None


def answers(model: bytes, feeds: dict[str, Any], level: int) -> list[Any]:
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel(level)
    options.intra_op_num_threads = 1
    return tinyonnx.InferenceSession(model, options).run(None, feeds)


def check(result: Any, reference: Any, case: RandomNode) -> None:
    """Assert equal type and shape, floats within the tolerance of the greatest, and whole numbers within it."""
    assert (result.dtype, result.shape) == (reference.dtype, reference.shape), described(case)
    a, b = result.astype(np.float64), reference.astype(np.float64)
    scale = max(1.0, np.abs(b).max(initial=0, where=np.isfinite(b))) if reference.dtype.kind == "f" else 1
    np.testing.assert_allclose(a, b, rtol=0, atol=case.tolerance * scale, err_msg=described(case))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_random_nodes(family: Callable[[Random], RandomNode]) -> None:
    r = np.random.default_rng(zlib.crc32(family.__name__.encode()))
    compared = 0
    for _ in range(2 * CASES):
        case = family(r)
        model, feeds = build(case)
        wanted = expected(model, feeds)
        if wanted is None:
            continue
        compared += 1
        for level in (99, 0):
            for result, reference in zip(answers(model, feeds, level), wanted, strict=True):
                check(result, reference, case)
        if compared == CASES:
            break
    assert compared == CASES
