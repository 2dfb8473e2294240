"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import Any

from onnx_conformance.reproduce import from_openvino, to_openvino
from onnx_conformance.runtimes.base import Prepare, Run


def start(precision: str) -> Prepare:
    """Return the way to prepare a model with a precision by OpenVINO's name, such as f32 or bf16."""
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision})

    def prepare(model: bytes) -> Run:
        compiled = core.compile_model(core.read_model(model, b""), "CPU")

        def run(feeds: dict[str, Any]) -> list[Any]:
            names = {name for port in compiled.inputs for name in port.get_names()}
            inputs = {name: to_openvino(openvino, feed) for name, feed in feeds.items() if name in names}
            request = compiled.create_infer_request()
            request.infer(inputs)
            return [from_openvino(openvino, request.get_output_tensor(i)) for i in range(len(compiled.outputs))]

        return run

    return prepare
