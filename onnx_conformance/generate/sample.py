"""The record of a generated model, and building one from a single node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TypeProto,
    ValueInfoProto,
    defs,
    helper,
    numpy_helper,
)

ML = "ai.onnx.ml"
"""The domain of classical machine learning."""

_IR_VERSION = 10

ATTRIBUTE_TYPES = {getattr(defs.OpSchema.AttrType, name): number
                   for name, number in onnx.AttributeProto.AttributeType.items() if name != "UNDEFINED"}  # fmt: skip
"""The types of attributes in schemas, and their numbers in nodes."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


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


def inferred(model: ModelProto) -> ModelProto:
    """Return a model with the types of its outputs, as far as they are known.

    Raises ValueError if onnx's inference or its checker finds a fault.
    """
    for node in all_nodes(model.graph):  # onnx asserts it in C++, which ends the process
        if node.op_type == "Split" and any(a.name == "num_outputs" and a.i != len(node.output) for a in node.attribute):
            raise ValueError("num_outputs of Split is not the number of its outputs")
    try:
        found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        for output in found.graph.output:
            _open_shape(output)
        for node in found.graph.node:
            _check_rules(node, found)
        del found.graph.value_info[:]
        if all(_is_complete(output) for output in found.graph.output):
            onnx.checker.check_model(found)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, TypeError) as error:
        raise ValueError(str(error)) from error
    return found


def _check_rules(node: NodeProto, model: ModelProto) -> None:
    """Raise ValueError if a node breaks a rule that onnx's checks leave out: types of attributes, rules in its text."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = next((o.version for o in model.opset_import if o.domain in (domain, domain or "ai.onnx")), 1)
    if not defs.has(node.op_type, domain=domain, max_inclusive_version=opset):
        return
    declared = defs.get_schema(node.op_type, opset, domain).attributes
    for attribute in node.attribute:
        if attribute.name in declared and ATTRIBUTE_TYPES[declared[attribute.name].type] != attribute.type:
            raise ValueError(f"{node.op_type}: {attribute.name} is of another type")
    values = (*model.graph.input, *model.graph.value_info)
    known = {value.name: value.type.tensor_type for value in values if value.type.HasField("tensor_type")}
    known |= {t.name: helper.make_tensor_type_proto(t.data_type, t.dims).tensor_type for t in model.graph.initializer}
    if node.op_type in ("Max", "Mean", "Min", "Sum") and opset < 8:
        shapes = {tuple(d.dim_value for d in known[n].shape.dim) if n in known else (None,) for n in node.input}
        if len(shapes) > 1:
            raise ValueError(f"{node.op_type} broadcasts since opset 8 only")
    if node.op_type == "TopK" and any(a.name == "sorted" and not a.i for a in node.attribute):
        raise ValueError("the order of TopK's results is open")
    if node.op_type == "Compress" and all(name in known for name in node.input):
        data, condition = ([d.dim_value for d in known[name].shape.dim] for name in node.input)
        axis = next((a.i for a in node.attribute if a.name == "axis"), None)
        if condition[0] > (math.prod(data) if axis is None else data[axis]):
            raise ValueError("Compress has more conditions than elements")
    floats = any(n in known and known[n].elem_type in _FLOATS for n in node.input)
    if node.op_type == "Mod" and floats and not any(a.name == "fmod" and a.i == 1 for a in node.attribute):
        raise ValueError("Mod of floats needs fmod")


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


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)
