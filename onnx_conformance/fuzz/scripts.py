"""Scripts that show a finding with nothing but onnx and the runtime in doubt."""

from __future__ import annotations

from typing import NamedTuple

_SCRIPT = '''"""Show the finding in this folder: run the model, compare with the outputs on which the others agree."""

from pathlib import Path

import numpy as np
import onnx
{imports}

here = Path(__file__).resolve().parent
data = here / "test_data_set_0"
model = onnx.load(here / "model.onnx")


def read(path, kind):
    """Return the value of a file."""
    proto = onnx.SequenceProto() if kind.HasField("sequence_type") else onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_list(proto) if kind.HasField("sequence_type") else numpy_helper.to_array(proto)


def show(value):
    """Return a value as text."""
    return value if isinstance(value, list) else f"{{np.asarray(value).dtype}}{{list(np.shape(value))}} {{value}}"


def expected(i, value):
    """Return the output on which the others agree, if there is one."""
    path = data / f"output_{{i}}.pb"
    return show(read(path, value.type)) if path.exists() else "not known"


feeds = {{value.name: read(data / f"input_{{i}}.pb", value.type) for i, value in enumerate(model.graph.input)}}
for i, value in enumerate(model.graph.output):
    print(f"{{value.name}} should be {{expected(i, value)}}")

{body}
for value, result in zip(model.graph.output, results):
    print(f"{{value.name}} is {{show(result)}}")
'''


class _Runner(NamedTuple):
    """Imports before and after those of onnx's helpers, and the lines that compute `results`."""

    before: str
    after: str
    body: str


_RUNNERS = {
    "onnxruntime": _Runner(
        "import onnxruntime", "",
        """options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_{level}
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
results = session.run(None, feeds)""",
    ),
    "reference": _Runner(
        "", "from onnx.reference import ReferenceEvaluator", "results = ReferenceEvaluator(model).run(None, feeds)"
    ),
    "tinyonnx": _Runner(
        "", "\nimport tinyonnx",
        """options = tinyonnx.SessionOptions()
options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_{level}
results = tinyonnx.InferenceSession(model.SerializeToString(), options).run(None, feeds)""",
    ),
    "openvino": _Runner(
        "import openvino", "",
        """core = openvino.Core()
core.set_property("CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU")
found = compiled(feeds)
results = [found[i] for i in range(len(compiled.outputs))]""",
    ),
}  # fmt: skip

_LEVELS = {"disabled": "DISABLE_ALL", "unfused": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED"}


def script_for(runtime: str) -> str:
    """Return the script for a runtime by its name."""
    family, _, level = runtime.partition("-")
    other = f"results = find_runtime({runtime!r}).start()(model.SerializeToString())(feeds)"
    runner = _RUNNERS.get(family) or _Runner("", "\nfrom onnx_conformance.runtimes import find_runtime", other)
    imports = "\n".join(filter(None, (runner.before, "from onnx import numpy_helper", runner.after)))
    return _SCRIPT.format(imports=imports, body=runner.body.format(level=_LEVELS.get(level, "ENABLE_ALL")))
