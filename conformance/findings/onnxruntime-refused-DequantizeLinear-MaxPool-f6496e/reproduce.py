"""Show the finding in this folder: run the model, compare with the outputs on which the others agree."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

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
    return value if isinstance(value, list) else f"{np.asarray(value).dtype}{list(np.shape(value))} {value}"


def expected(i, value):
    """Return the output on which the others agree, if there is one."""
    path = data / f"output_{i}.pb"
    return show(read(path, value.type)) if path.exists() else "not known"


feeds = {value.name: read(data / f"input_{i}.pb", value.type) for i, value in enumerate(model.graph.input)}
for i, value in enumerate(model.graph.output):
    print(f"{value.name} should be {expected(i, value)}")

options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
results = session.run(None, feeds)
for value, result in zip(model.graph.output, results):
    print(f"{value.name} is {show(result)}")
