"""ONNX Runtime on the CPU, at one of its optimisation levels."""

from __future__ import annotations

from functools import partial
from typing import Any

from onnx_conformance.reproduce import from_ortvalue, is_foreign, to_ortvalue
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
        return partial(run_bits, session) if any(map(is_foreign, types)) else partial(session.run, None)

    def run_bits(session: Any, feeds: dict[str, Any]) -> list[Any]:
        """Run with values tagged by their ONNX type, because numpy lacks bfloat16 and smaller floats."""
        values = {name: to_ortvalue(onnxruntime.OrtValue, feed) for name, feed in feeds.items()}
        return [from_ortvalue(value) for value in session.run_with_ort_values(None, values)]

    return prepare
