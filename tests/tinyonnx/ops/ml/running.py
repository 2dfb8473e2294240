"""Run one operator of ai.onnx.ml through a whole session, and through ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import tinyonnx
from tests.tinyonnx.ops.running import assert_same, context_of
from tinyonnx.errors import OpError
from tinyonnx.registry import lookup

MAPS = {
    f"map({k},tensor({v}))": onnx.helper.make_map_type_proto(
        getattr(onnx.TensorProto, k.upper()),
        onnx.helper.make_tensor_type_proto(getattr(onnx.TensorProto, v.upper()), None),
    )
    for k in ("int64", "string")
    for v in ("float", "double", "int64", "string")
}
"""Type protos of maps by onnxruntime's spelling."""


def _type_of(value: Any, spelled: str | None) -> onnx.TypeProto:
    if spelled is not None:
        return MAPS[spelled]
    return onnx.helper.make_tensor_type_proto(onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


def make_model(
    name: str, *inputs: Any, opset: int = 3, n_outputs: int = 1, maps: str | None = None, **attributes: Any
) -> bytes:
    """Return a model of one node; `maps` is the type of the inputs where they are maps."""
    names = [f"x{i}" for i in range(len(inputs))]
    outputs = [f"y{i}" for i in range(n_outputs)]
    node = onnx.helper.make_node(name, names, outputs, domain="ai.onnx.ml", **attributes)
    graph = onnx.helper.make_graph(
        [node],
        name,
        [onnx.helper.make_value_info(n, _type_of(x, maps)) for n, x in zip(names, inputs, strict=True)],
        [onnx.ValueInfoProto(name=n) for n in outputs],
    )
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", opset)]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def outputs_of(name: str, *inputs: Any, **options: Any) -> list[Any]:
    """Return all outputs; optimised or not makes no difference, and inputs stay as they are."""
    model = make_model(name, *inputs, **options)
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    before = [x.copy() for x in inputs]
    results = []
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        session_options = tinyonnx.SessionOptions()
        session_options.graph_optimization_level = getattr(tinyonnx.GraphOptimizationLevel, level)
        results.append(tinyonnx.InferenceSession(model, session_options).run(None, feeds))
    for a, b in zip(*results, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, strict=True)
        else:
            assert a == b
    for old, new in zip(before, inputs, strict=True):
        assert old == new if isinstance(new, dict) else old.tobytes() == new.tobytes()
    return results[0]


def run(name: str, *inputs: Any, **options: Any) -> Any:
    """Return the only output."""
    (output,) = outputs_of(name, *inputs, **options)
    return output


def onnxruntime_outputs(name: str, *inputs: Any, **options: Any) -> list[Any]:
    """Return ONNX Runtime's outputs of the same model."""
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 4
    session_options.intra_op_num_threads = 1
    model = make_model(name, *inputs, **options)
    session = onnxruntime.InferenceSession(model, session_options, providers=["CPUExecutionProvider"])
    return session.run(None, {f"x{i}": x for i, x in enumerate(inputs)})


def check_against_onnxruntime(
    name: str, *inputs: Any, rtol: float = 1e-5, atol: float = 1e-6, **options: Any
) -> list[Any]:
    """Assert equal labels and maps and close numbers; return the outputs."""
    outputs = outputs_of(name, *inputs, **options)
    for output, expected in zip(outputs, onnxruntime_outputs(name, *inputs, **options), strict=True):
        if isinstance(expected, np.ndarray):
            assert_same(output, expected, rtol, atol)
        else:
            assert output == expected
    return outputs


def check_refused(name: str, *inputs: Any, match: str, **options: Any) -> None:
    """Assert that a NodeError is raised whose message matches."""
    with pytest.raises(tinyonnx.NodeError, match=match):
        outputs_of(name, *inputs, **options)


def check_op_refuses(name: str, *inputs: Any, match: str, opset: int = 3, **attributes: Any) -> None:
    """Assert that the operator alone raises an OpError, for input that a session would refuse before."""
    entry = lookup("ai.onnx.ml", name, opset)
    with pytest.raises(OpError, match=match):
        entry.function(*[context_of(name, opset, 1)] * entry.takes_ctx, *inputs, **attributes)
