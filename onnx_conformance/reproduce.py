"""Show a finding: run its model on the runtime in doubt, beside the outputs on which the others agree.

    python reproduce.py [FOLDER] [RUNTIME]

FOLDER is by default the one of this file, RUNTIME the first in doubt. Needs onnx and that runtime, nothing else.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEVELS = {"disabled": "DISABLE_ALL", "unfused": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED"}


OPENVINO_TYPES = {
    "bf16": TensorProto.BFLOAT16,
    "f8e4m3": TensorProto.FLOAT8E4M3FN,
    "f8e5m2": TensorProto.FLOAT8E5M2,
    "f8e8m0": TensorProto.FLOAT8E8M0,
    "f4e2m1": TensorProto.FLOAT4E2M1,
    "i4": TensorProto.INT4,
    "u4": TensorProto.UINT4,
}
"""OpenVINO's names of types that numpy lacks."""


def run_session(module: Any, model: Any, feeds: dict[str, Any], level: str) -> Any:
    """Run a model with onnxruntime, or tinyonnx, which has the same interface."""
    options = module.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(module.GraphOptimizationLevel, f"ORT_{LEVELS.get(level, 'ENABLE_ALL')}")
    session = module.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = [arg.type for arg in (*session.get_inputs(), *session.get_outputs())]
    if module.__name__ != "onnxruntime" or not any(map(is_foreign, types)):
        return session.run(None, feeds)
    values = {name: to_ortvalue(module.OrtValue, feed) for name, feed in feeds.items()}
    return [from_ortvalue(value) for value in session.run_with_ort_values(None, values)]


def is_foreign(onnx_type: str) -> bool:
    """Return whether numpy itself lacks a type."""
    return re.search(r"\((bfloat16|float8\w+|float4\w+|u?int[24])\)", onnx_type) is not None


def to_ortvalue(kind: Any, array: Any) -> Any:
    """Return an array as a value of onnxruntime, tagged by its type."""
    if array.dtype.isbuiltin == 1:
        return kind.ortvalue_from_numpy(array)
    proto = numpy_helper.from_array(array)
    value = kind.ortvalue_from_shape_and_type(list(array.shape), proto.data_type)
    ctypes.memmove(value.data_ptr(), proto.raw_data, len(proto.raw_data))
    return value


def from_ortvalue(value: Any) -> Any:
    """Return a value of onnxruntime as an array."""
    if not is_foreign(value.data_type()):
        return value.numpy()
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return numpy_helper.to_array(TensorProto(data_type=value.element_type(), dims=value.shape(), raw_data=data))


def run_reference(model: Any, feeds: dict[str, Any]) -> Any:
    """Run a model with onnx's reference."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, feeds)


def run_openvino(model: Any, feeds: dict[str, Any], precision: str) -> Any:
    """Run a model with OpenVINO."""
    import openvino

    core = openvino.Core()
    hint = "bf16" if precision == "bfloat16" else "f32"
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": hint})
    compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU")
    names = {name for port in compiled.inputs for name in port.get_names()}
    request = compiled.create_infer_request()
    request.infer({name: to_openvino(openvino, feed) for name, feed in feeds.items() if name in names})
    return [from_openvino(openvino, request.get_output_tensor(i)) for i in range(len(compiled.outputs))]


def to_openvino(openvino: Any, array: Any) -> Any:
    """Return an array as OpenVINO takes it."""
    for name, data_type in OPENVINO_TYPES.items():
        if array.dtype == helper.tensor_dtype_to_np_dtype(data_type):
            tensor = openvino.Tensor(getattr(openvino.Type, name), openvino.Shape(array.shape))
            raw = numpy_helper.from_array(array).raw_data
            tensor.data.reshape(-1).view(np.uint8)[:] = np.frombuffer(raw, np.uint8)
            return tensor
    return array


def from_openvino(openvino: Any, tensor: Any) -> Any:
    """Return a tensor of OpenVINO as an array."""
    data_type = OPENVINO_TYPES.get(tensor.element_type.get_type_name())
    if data_type is None:
        return tensor.str_data if tensor.element_type == openvino.Type.string else tensor.data.copy()
    raw = np.ascontiguousarray(tensor.data).tobytes()
    return numpy_helper.to_array(TensorProto(data_type=data_type, dims=tensor.shape, raw_data=raw))


def run_tract(model: Any, feeds: dict[str, Any]) -> Any:
    """Run a model with tract; if that fails, with all inputs but the first as constants: shapes and axes must be."""
    import tract

    try:
        return run_tract_as_it_is(tract, model, feeds)
    except tract.TractError:
        first = next(iter(feeds), "")
        if len(feeds) < 2:
            raise
    kept = [value for value in model.graph.input if value.name == first]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(feeds[name], name) for name in feeds if name != first)
    return run_tract_as_it_is(tract, model, {first: feeds[first]})


def run_tract_as_it_is(tract: Any, model: Any, feeds: dict[str, Any]) -> Any:
    """Run a model with tract, with these inputs."""
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, str(Path(folder, "model.onnx")))
        loaded = tract.onnx().load(Path(folder, "model.onnx"))
    names = [loaded.input_name(i) for i in range(loaded.input_count())]
    inputs = [tract.Tensor.from_numpy(feeds[name]) for name in names]
    for i, (name, tensor) in enumerate(zip(names, inputs)):
        loaded.set_input_fact(i, ",".join([*map(str, feeds[name].shape), tensor.datum_type().name.lower()]))
    for i in range(loaded.output_count()):
        loaded.set_output_fact(i, None)
    return [output.to_numpy() for output in loaded.into_model().into_runnable().run(inputs)]


def run_torch(model: Any, feeds: dict[str, Any]) -> Any:
    """Run a model with PyTorch, as onnx2torch converts it."""
    import onnx2torch
    import torch

    torch.set_num_threads(1)
    module = onnx2torch.convert(model).eval()
    with torch.no_grad():
        found = module(*(torch_tensor(feeds[value.name]) for value in model.graph.input))
    return [torch_array(value) for value in (found if isinstance(found, (list, tuple)) else [found])]


def torch_tensor(array: Any) -> Any:
    """Return an array as a tensor of PyTorch."""
    import torch

    if array.dtype == helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16):
        return torch.from_numpy(np.array(array, np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def torch_array(value: Any) -> Any:
    """Return a tensor of PyTorch as an array."""
    import torch

    if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
        return value.to(torch.float32).numpy().astype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
    return value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def run_backend(model: Any, feeds: dict[str, Any], path: str) -> Any:
    """Run a model with an implementation of onnx.backend.base.Backend."""
    module, _, name = path.partition(":")
    backend = importlib.import_module(module)
    backend = getattr(backend, name) if name else backend
    return backend.prepare(model).run([feeds[value.name] for value in model.graph.input])


def run_command(model: Any, feeds: dict[str, Any], command: str) -> Any:
    """Run a model with a program: PROGRAM ARGUMENTS... model.onnx inputs.npz outputs.npz."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, name)) for name in ("model.onnx", "inputs.npz", "outputs.npz")]
        onnx.save(model, paths[0])
        np.savez(paths[1], **feeds)
        subprocess.run([*shlex.split(command), *paths], check=True)
        with np.load(paths[2]) as found:
            return [found[value.name] for value in model.graph.output]


def run(runtime: str, model: Any, feeds: dict[str, Any]) -> Any:
    """Run a model on a runtime by the name that it has in `onnx-conformance`."""
    kind, _, path = runtime.partition(":")
    if path:
        return (run_backend if kind == "backend" else run_command)(model, feeds, path)
    family, _, variant = runtime.partition("-")
    if family in ("onnxruntime", "tinyonnx"):
        return run_session(importlib.import_module(family), model, feeds, variant)
    if family == "openvino":
        return run_openvino(model, feeds, variant)
    runners = {"reference": run_reference, "tract": run_tract, "torch": run_torch}
    if family not in runners:
        sys.exit(f"there is no runtime {runtime!r}")
    return runners[family](model, feeds)


def read(path: Path, kind: Any) -> Any:
    """Return the value of a file."""
    proto = onnx.SequenceProto() if kind.HasField("sequence_type") else onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_list(proto) if kind.HasField("sequence_type") else numpy_helper.to_array(proto)


def show(value: Any) -> Any:
    """Return a value as text."""
    return value if isinstance(value, list) else f"{np.asarray(value).dtype}{list(np.shape(value))} {value}"


def main(folder: str | Path, runtime: str = "") -> None:
    """Print the expected outputs of a finding and those of the runtime."""
    place = Path(folder)
    if not (place / "finding.json").is_file():
        sys.exit(f"{place}: is not the folder of a finding: it has no finding.json")
    data = place / "test_data_set_0"
    runtime = runtime or json.loads((place / "finding.json").read_text(encoding="utf-8"))["suspects"][0]
    model = onnx.load(str(place / "model.onnx"))
    feeds = {value.name: read(data / f"input_{i}.pb", value.type) for i, value in enumerate(model.graph.input)}
    for i, value in enumerate(model.graph.output):
        path = data / f"output_{i}.pb"
        print(f"{value.name} should be {show(read(path, value.type)) if path.exists() else 'not known'}")
    try:
        results = run(runtime, model, feeds)
    except Exception as error:
        sys.exit(f"{runtime}: {type(error).__name__}: {error}")
    for value, result in zip(model.graph.output, results):
        print(f"{value.name} is {show(result)}")


if __name__ == "__main__":
    main(*(sys.argv[1:3] or [str(Path(__file__).resolve().parent)]))
