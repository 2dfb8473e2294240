"""Run nodes of ONNX Runtime's own operators, on us and on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime

import tinyonnx
from tests.tinyonnx.ops.running import assert_same
from tinyonnx.ir import Node
from tinyonnx.limits import Limits
from tinyonnx.registry import Info, lookup
from tinyonnx.runtime.operator_call import OpContext

OPSETS = {"com.microsoft": 1, "": 16}


def model_of(name: str, inputs: Any, n_outputs: int, domain: str, attributes: dict[str, Any]) -> bytes:
    """Return a model of one node.

    Inputs other than float32, float64, float16 and integer arrays of whole bytes are constants.
    """
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    present = {n: x for n, x in zip(names, inputs, strict=True) if x is not None}
    number = onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(name, names, [f"y{i}" for i in range(n_outputs)], domain=domain, **attributes)],
        name,
        [onnx.helper.make_tensor_value_info(n, number(x.dtype), x.shape) for n, x in present.items() if _feedable(x)],
        [onnx.ValueInfoProto(name=f"y{i}") for i in range(n_outputs)],
        [onnx.numpy_helper.from_array(x, n) for n, x in present.items() if not _feedable(x)],
    )
    opsets = [onnx.helper.make_opsetid(d, v) for d, v in OPSETS.items()]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def _feedable(x: Any) -> bool:
    return x.dtype.kind != "V"


def feeds_of(inputs: Any) -> dict[str, Any]:
    return {f"x{i}": x for i, x in enumerate(inputs) if x is not None and _feedable(x)}


def contrib_outputs(
    name: str, *inputs: Any, n_outputs: int = 1, domain: str = "com.microsoft", **attributes: Any
) -> list[Any]:
    """Return our outputs, through a session, and check the shape rule's predictions."""
    model = model_of(name, inputs, n_outputs, domain, attributes)
    outputs = tinyonnx.InferenceSession(model).run(None, feeds_of(inputs))
    entry = lookup(domain, name, OPSETS[domain])
    if entry.shape is not None:
        infos = [None if x is None else Info(x.dtype, x.shape, x) for x in inputs]
        context = OpContext(Node(name, [], [None] * n_outputs, opset=1), Limits())
        foreseen = entry.shape(*[context] * entry.shape_takes_ctx, *infos, **attributes)
        foreseen = [foreseen] if isinstance(foreseen, Info) else foreseen or []
        for output, info in zip(outputs, foreseen, strict=False):
            assert (output.dtype, output.shape) == (info.dtype, info.shape)
    return outputs


def call(name: str, *inputs: Any, n_outputs: int = 1, domain: str = "com.microsoft", **attributes: Any) -> Any:
    """Return the bare operator, which raises OpError; its first output."""
    entry = lookup(domain, name, OPSETS[domain])
    context = OpContext(Node(name, [], [None] * n_outputs, opset=1), Limits())
    result = entry.function(*[context] * entry.takes_ctx, *inputs, **attributes)
    return result[0] if isinstance(result, tuple) else result


def check_contrib(
    name: str,
    *inputs: Any,
    n_outputs: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    domain: str = "com.microsoft",
    **attributes: Any,
) -> list[Any]:
    """Return our outputs, which must be those of ONNX Runtime."""
    model = model_of(name, inputs, n_outputs, domain, attributes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, feeds_of(inputs))
    outputs = contrib_outputs(name, *inputs, n_outputs=n_outputs, domain=domain, **attributes)
    for output, reference in zip(outputs, expected, strict=True):
        assert_same(output, np.asarray(reference), rtol, atol)
    return outputs
