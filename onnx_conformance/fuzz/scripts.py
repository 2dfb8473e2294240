"""Scripts that show a finding with nothing but onnx and the runtime in doubt."""

from __future__ import annotations

_HEAD = '''"""Show the finding in this folder: run the model, compare with the outputs on which the others agree."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

here = Path(__file__).resolve().parent
model = onnx.load(here / "model.onnx")


def read(path, kind):
    proto = onnx.SequenceProto() if kind.HasField("sequence_type") else onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_list(proto) if kind.HasField("sequence_type") else numpy_helper.to_array(proto)


def show(value):
    return value if isinstance(value, list) else f"{np.asarray(value).dtype}{list(np.shape(value))} {value}"


data = here / "test_data_set_0"
feeds = {value.name: read(data / f"input_{i}.pb", value.type) for i, value in enumerate(model.graph.input)}
'''

_RUN = {
    "onnxruntime": """
import onnxruntime

options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_{level}
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
results = session.run(None, feeds)
""",
    "reference": """
from onnx.reference import ReferenceEvaluator

results = ReferenceEvaluator(model).run(None, feeds)
""",
    "tinyonnx": """
import tinyonnx

options = tinyonnx.SessionOptions()
options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_{level}
results = tinyonnx.InferenceSession(model.SerializeToString(), options).run(None, feeds)
""",
    "openvino": """
import openvino

core = openvino.Core()
core.set_property("CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU")
found = compiled(feeds)
results = [found[i] for i in range(len(compiled.outputs))]
""",
}

_OTHER = """
from onnx_conformance.runtimes import find_runtime

results = find_runtime({name!r}).start()(model.SerializeToString())(feeds)
"""

_TAIL = """
for i, value in enumerate(model.graph.output):
    print(f"{value.name}: {show(results[i])}")
    expected = data / f"output_{i}.pb"
    if expected.exists():
        proto = onnx.TensorProto()
        proto.ParseFromString(expected.read_bytes())
        print(f"expected: {show(numpy_helper.to_array(proto))}")
"""

_LEVELS = {"disabled": "DISABLE_ALL", "unfused": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED"}


def script_for(runtime: str, trusted: bool) -> str:
    """Return the script for a runtime by its name; `trusted` if the folder has outputs to compare with."""
    family, _, level = runtime.partition("-")
    run = _RUN.get(family)
    body = run.format(level=_LEVELS.get(level, "ENABLE_ALL")) if run else _OTHER.format(name=runtime)
    return _HEAD + body + (_TAIL if trusted else '\nfor value, result in zip(model.graph.output, results):\n'
                           '    print(f"{value.name}: {show(result)}")\n')  # fmt: skip
