"""The cases of the backend suite of the installed onnx, all in one form."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, OptionalProto, SequenceProto, TensorProto, TypeProto, numpy_helper

from onnx_conformance import ConformanceError

KINDS = ("real", "simple", "pytorch-converted", "pytorch-operator", "node")
"""Folders of the suite; `real` holds the light models: whole networks without their weights."""

SEVERAL = "several"
"""Operator of a case whose model has more than one node."""


@dataclass(frozen=True)
class DataSet:
    """Inputs by name and the expected outputs in the order of the model.

    A value is an array, a list (sequence), a dict (map), or None (an empty optional).
    """

    feeds: dict[str, Any]
    expected: list[Any]


@dataclass(frozen=True)
class Case:
    """One model with inputs, expected outputs and the tolerances of the suite.

    `operator` is the one tested: an expanded case counts for the operator that it decomposes.
    """

    name: str
    kind: str
    operator: str
    model: bytes
    data_sets: list[DataSet]
    rtol: float
    atol: float

    @property
    def opset(self) -> int:
        """Return the version of the operator's domain, of onnx's own domain for several operators."""
        model = onnx.load_from_string(self.model)
        opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
        domain = self.operator.rpartition(".")[0]
        return int(opsets.get(domain, next(iter(opsets.values()), 0)))

    @property
    def type(self) -> str:
        """Return the type of the first input, or of the first output of a model without inputs."""
        value = next((v for data in self.data_sets for v in (*data.feeds.values(), *data.expected)), None)
        value = value[0] if isinstance(value, list) and value else value
        found = str(getattr(value, "dtype", type(value).__name__))
        return "string" if found.startswith(("object", "<U", "|S")) else found


def load_suite(kinds: Iterable[str] = KINDS) -> list[Case]:
    """Load all cases of these kinds, sorted by kind and name; takes seconds, because onnx computes the node cases.

    Raises ConformanceError if onnx does not have them.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        cases = [
            _case(case)
            for kind in kinds
            for case in sorted(load_model_tests(kind=kind), key=lambda case: str(case.name))
        ]
    operators = {case.name: case.operator for case in cases}
    stems = (re.sub(r"_expanded.*", "", case.name) for case in cases)
    return [replace(case, operator=operators.get(stem, case.operator)) for case, stem in zip(cases, stems, strict=True)]


def load_folder(folder: Path, rtol: float = 1e-3, atol: float = 1e-7) -> list[Case]:
    """Load the cases below a folder: each has `model.onnx` and `test_data_set_*`, and is named by its path.

    Raises ConformanceError if there are none, or one can't be read.
    """
    if not folder.is_dir():
        raise ConformanceError(
            f"{folder}: {'is a file, not a folder' if folder.exists() else 'there is no such folder'}"
        )
    cases = []
    for path in sorted(folder.rglob("model.onnx")):
        if not any(path.parent.glob("test_data_set_*")):
            continue
        try:
            model, data_sets = _from_folder(str(path.parent))
        except Exception as error:  # a damaged file fails in many ways
            raise ConformanceError(f"{path.parent}: {error}") from error
        labels = list(dict.fromkeys(_label(node.domain, node.op_type) for node in model.graph.node))
        name = path.parent.relative_to(folder).as_posix() if path.parent != folder else folder.resolve().name
        operator = labels[0] if len(labels) == 1 else SEVERAL
        cases.append(Case(name, "folder", operator, model.SerializeToString(), data_sets, rtol, atol))
    if not cases:
        raise ConformanceError(f"{folder}: has no folders with model.onnx and test_data_set_*")
    return cases


def _case(case: Any) -> Case:
    if case.model is not None:
        model = case.model
        data_sets = [_data_set(model, inputs, outputs) for inputs, outputs in case.data_sets]
    elif case.model_dir is not None:
        model, data_sets = _from_folder(case.model_dir)
    else:
        model, data_sets = _light(case.url)
    labels = [_label(node.domain, node.op_type) for node in model.graph.node]
    operator = labels[0] if len(labels) == 1 else SEVERAL
    return Case(case.name, case.kind, operator, model.SerializeToString(), data_sets, case.rtol, case.atol)


def _label(domain: str, name: str) -> str:
    return f"{domain}.{name}" if domain not in ("", "ai.onnx") else name


def _data_set(model: ModelProto, inputs: Sequence[Any], outputs: Sequence[Any]) -> DataSet:
    return DataSet(
        dict(zip(_required(model), map(_value, inputs), strict=True)),
        [_value(output) for output in outputs],
    )


def _required(model: ModelProto) -> list[str]:
    """Return the names of the inputs without a value in the file."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in initializers]


def _value(value: Any) -> Any:
    """Convert a proto, a scalar or an array to the form of a runtime."""
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, SequenceProto):
        return numpy_helper.to_list(value)
    if isinstance(value, OptionalProto):
        return numpy_helper.to_optional(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


# -- cases in files ---------------------------------------------------------------------


def _from_folder(folder: str) -> tuple[ModelProto, list[DataSet]]:
    model = onnx.load(os.path.join(folder, "model.onnx"))
    data_sets = []
    for data in sorted(glob.glob(os.path.join(glob.escape(folder), "test_data_set_*"))):
        inputs = [_read(file, value.type) for file, value in zip(_numbered(data, "input"), model.graph.input)]
        outputs = [_read(file, value.type) for file, value in zip(_numbered(data, "output"), model.graph.output)]
        data_sets.append(_data_set(model, inputs, outputs))
    return model, data_sets


def _numbered(folder: str, stem: str) -> list[str]:
    count = len(glob.glob(os.path.join(glob.escape(folder), f"{stem}_*.pb")))
    return [os.path.join(folder, f"{stem}_{i}.pb") for i in range(count)]


def _read(file: str, kind: TypeProto) -> Any:
    proto: Any = TensorProto()
    if kind.HasField("sequence_type"):
        proto = SequenceProto()
    elif kind.HasField("optional_type"):
        proto = OptionalProto()
    with open(file, "rb") as stream:
        proto.ParseFromString(stream.read())
    return _value(proto)


def _light(url: str) -> tuple[ModelProto, list[DataSet]]:
    """Return a light model with the inputs of onnx's runner (a ramp).

    Expected outputs are from its file, or else from onnx's reference.
    """
    path = os.path.join(os.path.dirname(os.path.dirname(onnx.__file__)), *url.split("/"))
    if not url.startswith("onnx/backend/test/data/light/") or not os.path.isfile(path):
        raise ConformanceError(f"{url} doesn't come with onnx {onnx.__version__}; needs onnx >= 1.19")
    model = onnx.load(path)
    shapes = {value.name: _shape(value.type) for value in model.graph.input}
    inputs = [_ramp(shapes[name]) for name in _required(model)]
    stem = os.path.splitext(path)[0]
    files = [f"{stem}_output_{i}.pb" for i in range(len(model.graph.output))]
    if all(map(os.path.isfile, files)):
        outputs = [_read(file, value.type) for file, value in zip(files, model.graph.output)]
    else:
        from onnx.reference import ReferenceEvaluator

        outputs = list(ReferenceEvaluator(model).run(None, dict(zip(_required(model), inputs))))
    return model, [_data_set(model, inputs, outputs)]


def _shape(kind: TypeProto) -> tuple[int, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else 1 for d in kind.tensor_type.shape.dim)


def _ramp(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)
