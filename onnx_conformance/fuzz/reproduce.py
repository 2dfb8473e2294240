"""Show a finding: run its model on the runtime in doubt, beside the outputs on which the others agree.

    python reproduce.py [FOLDER] [RUNTIME]

FOLDER is by default the one of this file, RUNTIME the first in doubt. Needs onnx and that runtime, nothing else.
"""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

LEVELS = {"disabled": "DISABLE_ALL", "unfused": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED"}


def run_session(module: Any, model: Any, feeds: dict[str, Any], level: str) -> Any:
    """Run a model with onnxruntime, or tinyonnx, which has the same interface."""
    options = module.SessionOptions()
    options.graph_optimization_level = getattr(module.GraphOptimizationLevel, f"ORT_{LEVELS.get(level, 'ENABLE_ALL')}")
    session = module.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def run_reference(model: Any, feeds: dict[str, Any]) -> Any:
    """Run a model with onnx's reference."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, feeds)


def run_openvino(model: Any, feeds: dict[str, Any], precision: str) -> Any:
    """Run a model with OpenVINO."""
    import openvino

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"})
    compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU")
    found = compiled(feeds)
    return [found[i] for i in range(len(compiled.outputs))]


def run_tract(model: Any, feeds: dict[str, Any]) -> Any:
    """Run a model with tract."""
    import tract

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

    module = onnx2torch.convert(model).eval()
    with torch.no_grad():
        found = module(*(torch.from_numpy(np.array(feeds[value.name])) for value in model.graph.input))
    return [value.numpy() for value in (found if isinstance(found, (list, tuple)) else [found])]


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
