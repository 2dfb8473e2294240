"""Shape rules: whatever one claims, the operator then does, on every node of onnx's backend node cases."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.loader import load_model_tests

from tinyonnx.errors import ModelError, OpError
from tinyonnx.ir import Graph, Node
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load
from tinyonnx.registry import Info, lookup, registered
from tinyonnx.runtime.operator_call import OpContext, evaluate

LIMITS = Limits()


@pytest.fixture(scope="module")
def cases() -> dict[str, list[tuple[Any, Graph]]]:
    """(case, its graph) by its first operator, of cases without subgraphs whose operators are all registered."""
    found = defaultdict(list)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    for case in cases:
        try:
            graph = load(case.model.SerializeToString())
        except ModelError:
            continue
        if not any(node.subgraphs for node in graph.nodes):
            found[graph.nodes[0].op_type].append((case, graph))
    return found


OPERATORS = sorted({entry.name for entry in registered()})


def _value(proto: Any) -> Any:
    if isinstance(proto, onnx.TensorProto):
        return onnx.numpy_helper.to_array(proto)
    if isinstance(proto, onnx.SequenceProto):
        return onnx.numpy_helper.to_list(proto)
    if isinstance(proto, onnx.OptionalProto):
        return onnx.numpy_helper.to_optional(proto)
    return proto


def _info(value: Any, *, with_shape: bool = True, with_value: bool = True) -> Info | None:
    if value is None:
        return None
    if not isinstance(value, np.ndarray):
        return Info(None, None)
    return Info(value.dtype, value.shape if with_shape else None, value if with_value else None)


def _claims(node: Node, infos: list[Info | None]) -> list[Info | None]:
    op = lookup(node.domain, node.op_type, node.opset)
    assert op.shape is not None
    while infos and infos[-1] is None:
        infos = infos[:-1]
    ctx = OpContext(node, LIMITS)
    claimed = op.shape(*[ctx] * op.shape_takes_ctx, *infos, **node.attributes)
    return [claimed] if claimed is None or isinstance(claimed, Info) else list(claimed)


def _check(node: Node, claims: list[Info | None], results: list[Any]) -> None:
    for value, claim, result in zip(node.outputs, claims, results, strict=False):
        if value is None or claim is None:
            continue
        if claim.dtype is not None:
            assert result.dtype == claim.dtype, node
        if claim.shape is not None:
            assert result.shape == claim.shape, node
        if claim.value is not None:
            np.testing.assert_array_equal(result, claim.value, str(node), strict=True)


def _run(graph: Graph, feeds: list[Any]) -> Iterator[tuple[Node, list[Any], list[Any]]]:
    """Yield each node with its inputs and results."""
    known: dict[int, Any] = {id(v): v.const for v in graph.initializers}
    known.update({id(v): feed for v, feed in zip(graph.inputs, feeds, strict=False)})
    for node in graph.nodes:
        inputs = [None if v is None else v.const if v.const is not None else known[id(v)] for v in node.inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operators; that they give none is for their own tests
            results = evaluate("case", node, inputs, OpContext(node, LIMITS))
        known.update({id(v): result for v, result in zip(node.outputs, results, strict=True) if v is not None})
        yield node, inputs, results


def _check_case(case: Any, graph: Graph) -> None:
    feeds, _ = case.data_sets[0]
    for node, inputs, results in _run(graph, [_value(feed) for feed in feeds]):
        if lookup(node.domain, node.op_type, node.opset).shape is None:
            continue
        _check(node, _claims(node, [_info(x) for x in inputs]), results)
        _check(node, _claims(node, [_info(x, with_value=False) for x in inputs]), results)
        try:
            unknown = _claims(node, [_info(x, with_value=False, with_shape=False) for x in inputs])
        except (OpError, AssertionError, TypeError):
            continue  # a rule may need shapes, the planner then takes nothing as known
        _check(node, unknown, results)


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_a_rule_claims_is_what_happens(cases: dict[str, list[tuple[Any, Graph]]], operator: str) -> None:
    if operator not in cases:
        pytest.skip("no such case")
    for case, graph in cases[operator]:
        try:
            _check_case(case, graph)
        except Exception as error:
            error.add_note(f"in the case {case.name}")
            raise


def test_the_cases_cover_the_rules(cases: dict[str, list[tuple[Any, Graph]]]) -> None:
    covered = {node.op_type for group in cases.values() for _, graph in group for node in graph.nodes}
    assert len(covered) > 120
    assert {"Reshape", "Transpose", "Concat", "Slice", "Split", "Pad", "Gather", "Tile", "Conv", "Cast"} <= covered
    assert set(cases) <= set(OPERATORS)
