"""ONNX Runtime on the CPU, at one of its optimisation levels."""

from __future__ import annotations

import ctypes
import re
from functools import partial
from typing import Any

from onnx import TensorProto, numpy_helper

from onnx_conformance.runtimes.base import Prepare, Run


def start(level: str) -> Prepare:
    """Return the way to prepare a model at the level ORT_<level>: ENABLE_ALL, ENABLE_BASIC and so on."""
    import onnxruntime

    def prepare(model: bytes) -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        types = [arg.type for arg in (*session.get_inputs(), *session.get_outputs())]
        return partial(run_bits, session) if any(map(_is_foreign, types)) else partial(session.run, None)

    def run_bits(session: Any, feeds: dict[str, Any]) -> list[Any]:
        """Run with values tagged by their ONNX type, because numpy lacks bfloat16 and smaller floats."""
        values = {name: _to_ortvalue(onnxruntime.OrtValue, feed) for name, feed in feeds.items()}
        return [_from_ortvalue(value) for value in session.run_with_ort_values(None, values)]

    return prepare


def _is_foreign(onnx_type: str) -> bool:
    """Return whether numpy itself lacks the type."""
    return re.search(r"\((bfloat16|float8\w+|float4\w+|u?int[24])\)", onnx_type) is not None


def _to_ortvalue(kind: Any, array: Any) -> Any:
    if array.dtype.isbuiltin == 1:
        return kind.ortvalue_from_numpy(array)
    proto = numpy_helper.from_array(array)
    value = kind.ortvalue_from_shape_and_type(list(array.shape), proto.data_type)
    ctypes.memmove(value.data_ptr(), proto.raw_data, len(proto.raw_data))
    return value


def _from_ortvalue(value: Any) -> Any:
    if not _is_foreign(value.data_type()):
        return value.numpy()
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return numpy_helper.to_array(TensorProto(data_type=value.element_type(), dims=value.shape(), raw_data=data))
