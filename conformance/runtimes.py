"""The runtimes for the backend suite, each behind the same three calls: start, prepare, run.

All run on one thread, because the cases are spread over processes.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, load_from_string, numpy_helper

from conformance import ConformanceError

Run = Callable[[dict[str, Any]], Any]
"""From inputs by name to outputs in order."""

Prepare = Callable[[bytes], Run]
"""From a serialised model to its `Run`."""


@dataclass(frozen=True)
class Runtime:
    """A way to run models.

    `start` is called once in every worker, so it must be importable. `module` must be installed; pip installs it as
    `package`. Errors that match `unsupported` mean that the runtime does not claim to support the model.
    """

    name: str
    module: str
    package: str
    start: Callable[[], Prepare]
    unsupported: str

    def check_installed(self) -> None:
        """Raise ConformanceError if the runtime isn't installed."""
        if importlib.util.find_spec(self.module) is None:
            raise ConformanceError(f"--runtime {self.name} needs {self.package}: pip install {self.package}")

    def version(self) -> str:
        """Return the version of the installed module."""
        return str(getattr(importlib.import_module(self.module), "__version__", "")) or metadata.version(self.package)

    def is_unsupported(self, error: BaseException) -> bool:
        """Return whether the error means that the runtime lacks something that the model needs."""
        return re.search(self.unsupported, f"{type(error).__name__}: {error}") is not None


def _start_tinyonnx(optimised: bool) -> Prepare:
    import tinyonnx

    def prepare(model: bytes) -> Run:
        options = tinyonnx.SessionOptions()
        options.intra_op_num_threads = 1
        if not optimised:
            options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
        return partial(tinyonnx.InferenceSession(model, options).run, None)

    return prepare


def _start_reference() -> Prepare:
    from onnx.reference import ReferenceEvaluator

    def prepare(model: bytes) -> Run:
        return partial(ReferenceEvaluator(load_from_string(model)).run, None)

    return prepare


def _start_onnxruntime() -> Prepare:
    import onnxruntime

    def prepare(model: bytes) -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        types = [arg.type for arg in (*session.get_inputs(), *session.get_outputs())]
        return partial(run_bits, session) if any(map(_is_foreign, types)) else partial(session.run, None)

    def run_bits(session: Any, feeds: dict[str, Any]) -> list[Any]:
        """With values by their ONNX type, as numpy has none for bfloat16 and smaller floats."""
        values = {name: _to_ortvalue(onnxruntime.OrtValue, feed) for name, feed in feeds.items()}
        return [_from_ortvalue(value) for value in session.run_with_ort_values(None, values)]

    return prepare


def _is_foreign(onnx_type: str) -> bool:
    """Return whether numpy itself lacks the type."""
    return re.search(r"\((bfloat16|float8\w+|float4\w+|u?int[24])\)", onnx_type) is not None


def _to_ortvalue(kind: Any, array: Any) -> Any:
    if array.dtype.kind != "V" and array.dtype.name in np.sctypeDict:
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


def _start_openvino() -> Prepare:
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})

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
        for name, data_type in _OPENVINO_TYPES.items():
            if array.dtype == helper.tensor_dtype_to_np_dtype(data_type):
                tensor = openvino.Tensor(getattr(openvino.Type, name), openvino.Shape(array.shape))
                raw = numpy_helper.from_array(array).raw_data
                tensor.data.reshape(-1).view(np.uint8)[:] = np.frombuffer(raw, np.uint8)
                return tensor
        return array

    def from_tensor(tensor: Any) -> Any:
        data_type = _OPENVINO_TYPES.get(tensor.element_type.get_type_name())
        if data_type is None:
            return tensor.str_data if tensor.element_type == openvino.Type.string else tensor.data.copy()
        return numpy_helper.to_array(
            TensorProto(data_type=data_type, dims=tensor.shape, raw_data=np.ascontiguousarray(tensor.data).tobytes())
        )

    return prepare


_OPENVINO_TYPES = {
    "bf16": TensorProto.BFLOAT16,
    "f8e4m3": TensorProto.FLOAT8E4M3FN,
    "f8e5m2": TensorProto.FLOAT8E5M2,
    "f8e8m0": TensorProto.FLOAT8E8M0,
    "f4e2m1": TensorProto.FLOAT4E2M1,
    "i4": TensorProto.INT4,
    "u4": TensorProto.UINT4,
}
"""Types that numpy lacks, by OpenVINO's names."""


def _start_tract() -> Prepare:
    import tract

    def prepare(model: bytes) -> Run:
        def run(feeds: dict[str, Any]) -> list[Any]:
            try:
                return infer(model, feeds)
            except tract.TractError:
                # tract needs shapes and axes as constants
                first = next(iter(feeds), "")
                fixed = {name: feed for name, feed in feeds.items() if name != first}
                if not fixed:
                    raise
                return infer(_with_constants(model, fixed), {first: feeds[first]})

        return run

    def infer(model: bytes, feeds: dict[str, Any]) -> list[Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.onnx")
            path.write_bytes(model)
            loaded = tract.onnx().load(path)
        names = [loaded.input_name(i) for i in range(loaded.input_count())]
        inputs = [tract.Tensor.from_numpy(feeds[name]) for name in names]
        for i, (name, tensor) in enumerate(zip(names, inputs, strict=True)):
            kind = tensor.datum_type().name.lower()
            loaded.set_input_fact(i, ",".join([*map(str, feeds[name].shape), kind]))
        for i in range(loaded.output_count()):
            loaded.set_output_fact(i, None)
        return [output.to_numpy() for output in loaded.into_model().into_runnable().run(inputs)]

    return prepare


def _with_constants(model: bytes, values: dict[str, Any]) -> bytes:
    """Return the model with some of its inputs fixed."""
    proto = load_from_string(model)
    kept = [value for value in proto.graph.input if value.name not in values]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    serialised: bytes = proto.SerializeToString()
    return serialised


UNFUSED = "tinyonnx-unfused"
"""tinyonnx without passes and kernels: the numpy implementation of its operators."""

_LACKS = r"not supported|exists since opset"

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("tinyonnx", "tinyonnx", "audiotag", partial(_start_tinyonnx, True), _LACKS),
        Runtime(UNFUSED, "tinyonnx", "audiotag", partial(_start_tinyonnx, False), _LACKS),
        Runtime("reference", "onnx", "onnx", _start_reference, r"NotImplemented|RuntimeImplementationError"),
        Runtime(
            "onnxruntime", "onnxruntime", "onnxruntime", _start_onnxruntime,
            r"NOT_IMPLEMENTED|NotImplemented|not a registered function/op|under development|Unsupported model",
        ),
        Runtime("openvino", "openvino", "openvino", _start_openvino, r"not supported|OpConversionFailure"),
        Runtime("tract", "tract", "tract", _start_tract, r"Unimplemented|not implemented|[Uu]nsupported"),
    )
}  # fmt: skip
