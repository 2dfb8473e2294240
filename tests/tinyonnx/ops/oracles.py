"""Oracles for operator tests: onnx's own node cases and onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from tinyonnx.registry import Info, lookup

onnxruntime.set_default_logger_severity(4)


class Sizes:
    """Records the outputs that an operator announces, with as many outputs as wanted."""

    opset = 22

    def __init__(self, n_outputs: int = 1) -> None:
        self.n_outputs = n_outputs
        self.announced: list[tuple[int, ...]] = []

    def check_size(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.announced.append(tuple(shape))


def call(name: str, opset: int, inputs: list[Any], attributes: dict[str, Any], n_outputs: int = 1) -> list[Any]:
    """Run the registered operator, and hold it to its own shape rule."""
    op = lookup("", name, opset)
    ctx = Sizes(n_outputs)
    result = op.function(*([ctx] if op.takes_ctx else []), *inputs, **attributes)
    results = list(result) if isinstance(result, tuple) else [result]
    infos = [None if x is None else Info(x.dtype, x.shape, x) for x in inputs]
    assert op.shape is not None
    known = op.shape(*([ctx] if op.shape_takes_ctx else []), *infos, **attributes)
    known = [known] if isinstance(known, Info) else list(known)
    assert [(i.dtype, i.shape) for i in known] == [(r.dtype, r.shape) for r in results]
    return results


@cache
def node_cases() -> list[Any]:
    """Return onnx's backend cases of a single node of the default domain, each with name, model, data and opset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        tests = load_model_tests(kind="node")
    found = []
    for test in tests:
        if test.model is None or len(test.model.graph.node) != 1 or test.model.graph.node[0].domain:
            continue
        opset = next(o.version for o in test.model.opset_import if not o.domain)
        found.append(SimpleNamespace(name=test.name, model=test.model, data=test.data_sets, opset=opset))
    return found


def check_cases(op_type: str, check: Callable[[Any], None] | None = None) -> None:
    """Check the node cases of an operator, which has some.

    They are loaded by the first test that asks for them, not when tests are collected: onnx takes seconds to make them.
    """
    found = [c for c in node_cases() if c.model.graph.node[0].op_type == op_type]
    assert found
    for case in found:
        try:
            (check or _check_case)(case)
        except BaseException as error:
            error.add_note(f"in onnx's case {case.name}")
            raise


def _check_case(case: Any) -> None:
    """Run a node case and compare with what onnx expects."""
    node = case.model.graph.node[0]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    assert case.data
    for feeds, expected in case.data:
        by_name = dict(zip((i.name for i in case.model.graph.input), feeds))
        inputs = [by_name[name] if name else None for name in node.input]
        results = call(node.op_type, case.opset, inputs, attributes, len(node.output))
        for got, wanted in zip(results, expected, strict=True):
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-7)


def ort(
    name: str, opset: int, inputs: list[Any], attributes: dict[str, Any], outputs: tuple[Any, ...] = ()
) -> list[Any]:
    """Run one node in onnxruntime, all inputs but the first being constants.

    `outputs` are dtypes; by default there is one, of the first input\'s.
    """
    element = helper.np_dtype_to_tensor_dtype
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    dtypes = outputs or (inputs[0].dtype,)
    given = [onnx.numpy_helper.from_array(x, n) for x, n in zip(inputs[1:], names[1:]) if x is not None]
    graph = helper.make_graph(
        [helper.make_node(name, names, [f"y{i}" for i in range(len(dtypes))], **attributes)],
        "one",
        [helper.make_tensor_value_info("x0", element(inputs[0].dtype), inputs[0].shape)],
        [helper.make_tensor_value_info(f"y{i}", element(np.dtype(d)), None) for i, d in enumerate(dtypes)],
        given,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return list(session.run(None, {"x0": inputs[0]}))
