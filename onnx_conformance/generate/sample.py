"""The record of a generated model, and building one from a single node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto, helper, numpy_helper

from onnx_conformance.generate.inference import inferred

ML = "ai.onnx.ml"
"""The domain of classical machine learning."""

_IR_VERSION = 10


@dataclass(frozen=True)
class Sample:
    """A model, its inputs by name, and how it was made."""

    model: ModelProto
    feeds: dict[str, Any]
    origin: str


@dataclass
class Draft:
    """One node with the values of its inputs, before it is a model.

    A value is an array, None (the input is left out), or a list or other value of the type in `types`. `version` is the
    opset of the node's domain; `constants` are positions of inputs that are initializers.
    """

    node: NodeProto
    values: list[Any]
    version: int
    types: dict[int, TypeProto] = field(default_factory=dict)
    constants: set[int] = field(default_factory=set)

    def copy(self) -> Draft:
        """Return a copy whose node and lists can be changed."""
        node = NodeProto()
        node.CopyFrom(self.node)
        return Draft(node, list(self.values), self.version, dict(self.types), set(self.constants))


def opset_imports(domain: str, version: int) -> list[Any]:
    """Return the imports of a model with nodes of this domain at this version."""
    if domain in ("", "ai.onnx"):
        return [helper.make_opsetid("", version)]
    return [helper.make_opsetid("", 21), helper.make_opsetid(domain, version)]


def model_of(draft: Draft, origin: str) -> Sample:
    """Return a draft as a model. Raises ValueError if it is not valid, as far as onnx's checks tell."""
    node = NodeProto()
    node.CopyFrom(draft.node)
    del node.input[:]
    names = ["" if value is None else f"x{i}" for i, value in enumerate(draft.values)]
    while names and not names[-1]:
        names.pop()
    node.input.extend(names)
    inputs, constants, feeds = [], [], {}
    for i, (name, value) in enumerate(zip(names, draft.values)):
        if not name:
            continue
        if isinstance(value, np.generic):
            value = np.asarray(value)
        if i in draft.constants and isinstance(value, np.ndarray):
            constants.append(numpy_helper.from_array(value, name))
            continue
        feeds[name] = value
        if isinstance(value, np.ndarray):
            inputs.append(helper.make_tensor_value_info(name, element_type(value), value.shape))
        else:
            if i not in draft.types:
                raise ValueError(f"the type of input {i} is unknown")
            inputs.append(helper.make_value_info(name, draft.types[i]))
    outputs = [ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "sample", inputs, outputs, constants)
    imports = opset_imports(draft.node.domain, draft.version)
    return Sample(inferred(helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)), feeds, origin)


def element_type(array: Any) -> int:
    """Return onnx's number of an array's type."""
    return int(onnx.TensorProto.STRING if array.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(array.dtype))


def drafts_of(samples: Sequence[Sample]) -> list[Draft]:
    """Return the samples with one node as drafts; initializers become constants."""
    drafts = []
    for sample in samples:
        graph = sample.model.graph
        (node,) = graph.node
        known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        kinds = {value.name: value.type for value in graph.input}
        values = [known.get(name, sample.feeds.get(name)) if name else None for name in node.input]
        opsets = {opset.domain: opset.version for opset in sample.model.opset_import}
        version = opsets.get(node.domain, opsets.get("ai.onnx" if not node.domain else node.domain, 1))
        draft = Draft(node, [np.asarray(v) if isinstance(v, np.generic) else v for v in values], version)
        draft.types = {i: kinds[name] for i, name in enumerate(node.input) if name in kinds}
        draft.constants = {i for i, name in enumerate(node.input) if name in known}
        if all(v is not None or not name for v, name in zip(values, node.input)):
            drafts.append(draft)
    return drafts
