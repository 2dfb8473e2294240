"""Types and shapes of models, as onnx infers and checks them.

Its inference is C++ that may end the process; `isolated` has it run in a worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, ValueInfoProto, numpy_helper

from onnx_conformance.generate.validity import check_before, check_nodes, check_values, with_defaults
from onnx_conformance.runtimes.base import Prepare, Run, Runtime
from onnx_conformance.workers import FAILED, PASSED, Bench, JobOutcome

_SECONDS = 60.0

_worker: Bench | None = None


def inferred(model: ModelProto) -> ModelProto:
    """Return a model with the types of its outputs, as far as they are known.

    Raises ValueError if onnx's inference or its checker finds a fault, or a node breaks a rule that these leave out.
    """
    return _run(InferTypes(model.SerializeToString()))


def sized(model: ModelProto) -> ModelProto:
    """Return a model with the types and sizes of all values, as far as they are known. Raises ValueError."""
    return _run(InferTypes(model.SerializeToString(), sizes=True))


def with_values(model: ModelProto, feeds: Mapping[str, Any]) -> ModelProto:
    """Return a model whose inputs are constants with these values, with the types and sizes of all values.

    Raises ValueError if the values break a rule, such as that of a shape that an input has as its numbers.
    """
    known = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray)}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    check_values(model, {**constants, **known})
    fixed = ModelProto()
    fixed.CopyFrom(model)
    inputs = [value for value in fixed.graph.input if value.name not in known]
    del fixed.graph.input[:]
    fixed.graph.input.extend(inputs)
    fixed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in known.items())
    for output in fixed.graph.output:
        _open_shape(output)
    return sized(with_defaults(fixed))


@dataclass(frozen=True)
class InferTypes:
    """The job to infer types; the outcome has the model as bytes, or the fault as message.

    With `sizes`, all that is inferred is kept; without, the sizes of outputs are left open.
    """

    model: bytes
    sizes: bool = False

    def __call__(self, _: Prepare, runtime: Runtime) -> JobOutcome:
        """Run the job in this process."""
        try:
            found = _inferred(onnx.load_from_string(self.model), self.sizes)
        except ValueError as error:
            return JobOutcome(FAILED, str(error))
        return JobOutcome(PASSED, outputs=[[found.SerializeToString()]])


def _run(job: InferTypes) -> ModelProto:
    if _worker is None:
        return _inferred(onnx.load_from_string(job.model), job.sizes)
    outcome = _worker.run(job)[_RUNTIME.name]
    if outcome.outputs is None:
        raise ValueError(f"{outcome.status}: {outcome.message}")
    return onnx.load_from_string(outcome.outputs[0][0])


@contextmanager
def isolated() -> Iterator[None]:
    """Run the inference in a worker meanwhile: a model that ends or holds up its process raises ValueError."""
    global _worker
    with Bench([_RUNTIME], _SECONDS) as _worker:
        try:
            yield
        finally:
            _worker = None


def _start() -> Prepare:
    def prepare(_: bytes) -> Run:
        raise NotImplementedError("this worker runs no models")

    return prepare


_RUNTIME = Runtime("onnx's inference", "onnx", "onnx", _start, "$^")


def _inferred(model: ModelProto, sizes: bool) -> ModelProto:
    check_before(model)
    try:
        found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        if sizes:
            return found
        for output in found.graph.output:
            _open_shape(output)
        check_nodes(found)
        del found.graph.value_info[:]
        if all(_is_complete(output) for output in found.graph.output):
            onnx.checker.check_model(found)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, TypeError) as error:
        raise ValueError(str(error)) from error
    return found


def _is_complete(output: ValueInfoProto) -> bool:
    """Return whether an output has the type and the rank that onnx's checker requires."""
    kind = output.type
    return kind.tensor_type.HasField("shape") if kind.HasField("tensor_type") else kind.WhichOneof("value") is not None


def _open_shape(output: ValueInfoProto) -> None:
    """Remove the sizes of an output, so that the runtimes' results decide."""
    kind = output.type.tensor_type
    if output.type.HasField("tensor_type") and kind.HasField("shape"):
        for dim in kind.shape.dim:
            dim.Clear()
