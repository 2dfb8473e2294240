"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnx_conformance.runtimes.base import Prepare, Run

TYPES = {
    "bf16": TensorProto.BFLOAT16,
    "f8e4m3": TensorProto.FLOAT8E4M3FN,
    "f8e5m2": TensorProto.FLOAT8E5M2,
    "f8e8m0": TensorProto.FLOAT8E8M0,
    "f4e2m1": TensorProto.FLOAT4E2M1,
    "i4": TensorProto.INT4,
    "u4": TensorProto.UINT4,
}
"""OpenVINO's names of types that numpy lacks."""


def start(precision: str) -> Prepare:
    """Return the way to prepare a model with a precision by OpenVINO's name, such as f32 or bf16."""
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision})

    def prepare(model: bytes) -> Run:
        compiled = core.compile_model(core.read_model(model, b""), "CPU")

        def run(feeds: dict[str, Any]) -> list[Any]:
            names = {name for port in compiled.inputs for name in port.get_names()}
            inputs = {name: to_tensor(feed) for name, feed in feeds.items() if name in names}
            request = compiled.create_infer_request()
            request.infer(inputs)
            return [from_tensor(request.get_output_tensor(i)) for i in range(len(compiled.outputs))]

        return run

    def to_tensor(array: Any) -> Any:
        for name, data_type in TYPES.items():
            if array.dtype == helper.tensor_dtype_to_np_dtype(data_type):
                tensor = openvino.Tensor(getattr(openvino.Type, name), openvino.Shape(array.shape))
                raw = numpy_helper.from_array(array).raw_data
                tensor.data.reshape(-1).view(np.uint8)[:] = np.frombuffer(raw, np.uint8)
                return tensor
        return array

    def from_tensor(tensor: Any) -> Any:
        data_type = TYPES.get(tensor.element_type.get_type_name())
        if data_type is None:
            return tensor.str_data if tensor.element_type == openvino.Type.string else tensor.data.copy()
        return numpy_helper.to_array(
            TensorProto(data_type=data_type, dims=tensor.shape, raw_data=np.ascontiguousarray(tensor.data).tobytes())
        )

    return prepare
