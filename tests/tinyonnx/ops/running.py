"""Run one operator through the registry, and through oracles."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

import tinyonnx.ops  # noqa: F401, registers the operators
from tinyonnx.errors import OpError
from tinyonnx.ir import Node
from tinyonnx.limits import Limits
from tinyonnx.registry import Info, lookup, registered
from tinyonnx.runtime.operator_call import OpContext

NEWEST = 22
"""Opset of a test that doesn't care."""


def context_of(name: str, opset: int, n_outputs: int) -> OpContext:
    return OpContext(Node(name, [], [None] * n_outputs, opset=opset), Limits())


def names_of(module: Any) -> list[str]:
    """Return the operators that a module registers."""
    return sorted({entry.name for entry in registered() if entry.function.__module__ == module.__name__})


def outputs_of(name: str, *inputs: Any, opset: int = NEWEST, n_outputs: int = 1, **attributes: Any) -> list[Any]:
    """Return the operator's outputs; check the shape rule's predictions, and that the inputs are unchanged."""
    entry = lookup("", name, opset)
    context = context_of(name, opset, n_outputs)
    before = [None if x is None else x.copy() for x in inputs]
    result = entry.function(*[context] * entry.takes_ctx, *inputs, **attributes)
    outputs = list(result) if isinstance(result, tuple) else [result]
    assert entry.shape is not None
    infos = [None if x is None else Info(x.dtype, x.shape, x) for x in inputs]
    foreseen = entry.shape(*[context] * entry.shape_takes_ctx, *infos, **attributes)
    foreseen = [foreseen] if isinstance(foreseen, Info) else foreseen
    for output, info in zip(outputs[:n_outputs], foreseen[:n_outputs], strict=True):
        assert isinstance(output, np.ndarray)
        assert (output.dtype, output.shape) == (info.dtype, info.shape)
    for old, new in zip(before, inputs, strict=True):
        assert old is None or old.tobytes() == new.tobytes()
    return outputs[:n_outputs]


def run(name: str, *inputs: Any, opset: int = NEWEST, **attributes: Any) -> Any:
    """Return the operator's first output."""
    return outputs_of(name, *inputs, opset=opset, **attributes)[0]


def onnxruntime_outputs(
    name: str, *inputs: Any, opset: int = NEWEST, n_outputs: int = 1, **attributes: Any
) -> list[Any]:
    """Return ONNX Runtime's outputs of the same node."""
    feeds = {f"x{i}": x for i, x in enumerate(inputs) if x is not None}
    node = onnx.helper.make_node(
        name,
        ["" if x is None else f"x{i}" for i, x in enumerate(inputs)],
        [f"y{i}" for i in range(n_outputs)],
        **attributes,
    )
    graph = onnx.helper.make_graph(
        [node],
        name,
        [
            onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for k, x in feeds.items()
        ],
        [onnx.ValueInfoProto(name=f"y{i}") for i in range(n_outputs)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@cache
def _backend_cases() -> dict[str, list[TestCase]]:
    cases: dict[str, list[TestCase]] = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            if len(case.model.graph.node) == 1:
                cases[case.model.graph.node[0].op_type].append(case)
    return cases


def check_backend_cases(name: str) -> None:
    """Check every single-node case that ONNX's own backend suite has for an operator."""
    cases = _backend_cases()[name]
    assert cases
    for case in cases:
        (node,) = case.model.graph.node
        opset = next(o.version for o in case.model.opset_import if o.domain in ("", "ai.onnx"))
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
        assert case.data_sets
        for inputs, expected in case.data_sets:
            feeds = dict(zip((i.name for i in case.model.graph.input), map(_array, inputs), strict=True))
            args = [feeds[i] if i else None for i in node.input]
            outputs = outputs_of(name, *args, opset=opset, n_outputs=len(node.output), **attributes)
            wanted = [o for o, output_name in zip(outputs, node.output, strict=True) if output_name]
            for output, reference in zip(wanted, map(_array, expected), strict=True):
                assert_same(output, reference, case.rtol, case.atol, case.name)


def _array(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def assert_same(output: Any, expected: Any, rtol: float = 1e-6, atol: float = 1e-6, message: str = "") -> None:
    """Assert equal dtypes and shapes, and close values."""
    assert output.dtype == expected.dtype, message
    assert output.shape == expected.shape, message
    if output.dtype.kind == "O":
        assert (output == expected).all(), message
    elif output.dtype.kind == "V":
        rtol = max(rtol, 2**-6) if output.dtype == ml_dtypes.bfloat16 else rtol  # as onnx's own runner has it
        np.testing.assert_allclose(output.astype(np.float32), expected.astype(np.float32), rtol, atol, err_msg=message)
    else:
        np.testing.assert_allclose(output, expected, rtol, atol, err_msg=message)


def check_against_onnxruntime(
    name: str, *inputs: Any, opset: int, n_outputs: int = 1, rtol: float = 1e-6, atol: float = 1e-6, **attributes: Any
) -> None:
    outputs = outputs_of(name, *inputs, opset=opset, n_outputs=n_outputs, **attributes)
    expected = onnxruntime_outputs(name, *inputs, opset=opset, n_outputs=n_outputs, **attributes)
    for output, reference in zip(outputs, expected, strict=True):
        assert_same(output, reference, rtol, atol)


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    """Return reproducible normal numbers."""
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def infos(*shapes: Sequence[int], dtype: Any = np.float32) -> list[Info]:
    return [Info(np.dtype(dtype), tuple(shape)) for shape in shapes]


def check_refused(
    name: str, opset: int, shapes: list[tuple[int, ...]], attributes: dict[str, int], message: str
) -> None:
    """Check that an operator and its shape rule refuse inputs of these shapes."""
    entry = lookup("", name, opset)
    assert entry.shape is not None
    with pytest.raises(OpError, match=message):
        entry.function(*(normal(*shape) for shape in shapes), **attributes)
    with pytest.raises(OpError, match=message):
        entry.shape(*infos(*shapes), **attributes)
