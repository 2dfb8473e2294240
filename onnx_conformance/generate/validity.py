"""The rules of the specification that onnx's own checks leave out: a model that breaks one is not valid."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, defs, helper, inliner

_ATTRIBUTE_TYPES = {getattr(defs.OpSchema.AttrType, name): number
                    for name, number in AttributeProto.AttributeType.items() if name != "UNDEFINED"}  # fmt: skip
"""The types of attributes in schemas, and their numbers in nodes."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)

_FLOORED_MOD = 28
"""The first version of Mod that takes floats without fmod."""

_ONE_NUMBER = re.compile(r"(^|[^-\w])scalar\b", re.IGNORECASE)
_ANY_NUMBER = re.compile(r"per-|N-D|either|empty tensor|considered|of rank|C is a scalar", re.IGNORECASE)
"""Descriptions of inputs that are one number, and of those that are one number among other choices."""

_RANK = re.compile(r"\b(\d)-D (?:tensor|input|feature map) of shape \(")
"""Descriptions of inputs that have a number of axes."""


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from all_nodes(attribute.g)


def opset_of(node: NodeProto, model: ModelProto) -> int:
    """Return the version of a node's domain."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    return next((o.version for o in model.opset_import if o.domain in (domain, domain or "ai.onnx")), 1)


def schema_of_node(node: NodeProto, model: ModelProto) -> Any:
    """Return the schema of a node, None if onnx does not know its operator."""
    domain, opset = "" if node.domain == "ai.onnx" else node.domain, opset_of(node, model)
    if not defs.has(node.op_type, domain=domain, max_inclusive_version=opset):
        return None
    return defs.get_schema(node.op_type, opset, domain)


def check_before(model: ModelProto) -> None:
    """Raise ValueError if a node breaks a rule that onnx's inference takes for granted: it would end the process."""
    for node in all_nodes(model.graph):
        if node.op_type == "Split" and any(a.name == "num_outputs" and a.i != len(node.output) for a in node.attribute):
            raise ValueError("num_outputs of Split is not the number of its outputs")


def check_nodes(model: ModelProto) -> None:
    """Raise ValueError if a node of a model with inferred types breaks a rule: types of attributes, rules in texts."""
    values = (*model.graph.input, *model.graph.value_info)
    known = {value.name: value.type.tensor_type for value in values if value.type.HasField("tensor_type")}
    known |= {t.name: helper.make_tensor_type_proto(t.data_type, t.dims).tensor_type for t in model.graph.initializer}
    for node in model.graph.node:
        schema = schema_of_node(node, model)
        if schema is not None:
            _check_attributes(node, schema, known)
            _check_shapes(node, opset_of(node, model), known)
            _check_ranks(node, schema, known)
            if schema.has_function or schema.has_context_dependent_function:
                _check_body(node, model, known)


def _check_attributes(node: NodeProto, schema: Any, known: Mapping[str, Any]) -> None:
    for attribute in node.attribute:
        declared = schema.attributes.get(attribute.name)
        if declared is not None and _ATTRIBUTE_TYPES[declared.type] != attribute.type:
            raise ValueError(f"{node.op_type}: {attribute.name} is of another type")
    names = {attribute.name for attribute in node.attribute}
    tables = {stem for name in schema.attributes if (stem := name.removesuffix("_strings")) != name}
    for stem in tables & {"pool", "cats"}:  # a table is of the type of the input
        given = {name for name in names if name in (f"{stem}_strings", f"{stem}_int64s")}
        kind = known[node.input[0]].elem_type if node.input[0] in known else 0
        wanted = f"{stem}_strings" if kind == onnx.TensorProto.STRING else f"{stem}_int64s"
        if kind and f"{stem}_strings" in schema.attributes and given != {wanted} and node.op_type != "CategoryMapper":
            raise ValueError(f"{node.op_type}: input and {stem} are of different types")
    floats = any(name in known and known[name].elem_type in _FLOATS for name in node.input)
    fmod = any(a.name == "fmod" and a.i == 1 for a in node.attribute)
    if node.op_type == "Mod" and floats and not fmod and schema.since_version < _FLOORED_MOD:
        raise ValueError("Mod of floats needs fmod")
    if node.op_type == "TopK" and any(a.name == "sorted" and not a.i for a in node.attribute):
        raise ValueError("the order of TopK's results is open")


def _check_shapes(node: NodeProto, opset: int, known: Mapping[str, Any]) -> None:
    if node.op_type in ("Max", "Mean", "Min", "Sum") and opset < 8:
        shapes = {tuple(d.dim_value for d in known[n].shape.dim) if n in known else (None,) for n in node.input}
        if len(shapes) > 1:
            raise ValueError(f"{node.op_type} broadcasts since opset 8 only")
    if node.op_type == "AveragePool" and opset < 7 and any(a.name in ("auto_pad", "pads") for a in node.attribute):
        raise ValueError("AveragePool says since opset 7 only whether padding counts")
    onesided = next((a.i for a in node.attribute if a.name == "onesided"), int(node.op_type == "STFT"))
    if onesided and node.op_type in ("DFT", "STFT") and node.input[0] in known:
        dims = [d.dim_value for d in known[node.input[0]].shape.dim]
        inverse = any(a.name == "inverse" and a.i for a in node.attribute)
        if len(dims) > 2 and dims[-1] == 2 and not inverse:
            raise ValueError(f"{node.op_type} of a complex signal is not one-sided")
    if node.op_type.endswith("Loss") and len(node.input) > 2 and all(name in known for name in node.input):
        classes, weights = ([d.dim_value for d in known[node.input[i]].shape.dim] for i in (0, 2))
        if weights != classes[1:2]:
            raise ValueError(f"{node.op_type} has a weight for each class")
    if node.op_type == "Compress" and all(name in known for name in node.input):
        data, condition = ([d.dim_value for d in known[name].shape.dim] for name in node.input)
        axis = next((a.i for a in node.attribute if a.name == "axis"), None)
        if condition[0] > (math.prod(data) if axis is None else data[axis]):
            raise ValueError("Compress has more conditions than elements")


def _check_ranks(node: NodeProto, schema: Any, known: Mapping[str, Any]) -> None:
    for formal, name in zip(schema.inputs, node.input):
        ranks = {int(rank) for rank in _RANK.findall(formal.description)}
        if ranks and name in known and known[name].HasField("shape") and len(known[name].shape.dim) not in ranks:
            raise ValueError(f"{node.op_type}: {formal.name} has {min(ranks)} axes")


def _check_body(node: NodeProto, model: ModelProto, known: Mapping[str, Any]) -> None:
    """Raise ValueError if the inputs of a node do not fit the function by which the specification defines it."""
    inputs = [name for name in dict.fromkeys(node.input) if name]
    if any(name not in known for name in inputs) or any(a.type == AttributeProto.GRAPH for a in node.attribute):
        return
    values = []
    for name in inputs:
        value = ValueInfoProto(name=name)
        value.type.tensor_type.CopyFrom(known[name])
        values.append(value)
    outputs = [ValueInfoProto(name=name) for name in node.output if name]
    alone = helper.make_model(
        helper.make_graph([node], "body", values, outputs), opset_imports=model.opset_import, ir_version=10
    )
    try:
        onnx.shape_inference.infer_shapes(with_bodies(alone), check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(f"{node.op_type}: {error}") from error


def with_bodies(model: ModelProto) -> ModelProto:
    """Return a model in which the functions by which the specification defines operators replace their nodes.

    The same model if onnx can't do it, or if a function has a loop, which onnx's inference and reference get wrong.
    """
    names = sorted({("" if n.domain == "ai.onnx" else n.domain, n.op_type) for n in model.graph.node})
    try:
        found: ModelProto = inliner.inline_selected_functions(with_defaults(model), names, False, True)
    except Exception:  # onnx raises its own types, some of them without a base
        return model
    loops = [sum(node.op_type in ("If", "Loop", "Scan") for node in each.graph.node) for each in (model, found)]
    return found if loops[0] == loops[1] else model


def with_defaults(model: ModelProto) -> ModelProto:
    """Return a model whose nodes have every attribute with a default, which onnx's inliner does not fill in."""
    full = ModelProto()
    full.CopyFrom(model)
    for node in full.graph.node:
        schema = schema_of_node(node, full)
        given = {attribute.name for attribute in node.attribute}
        for name, declared in schema.attributes.items() if schema is not None else ():
            if name not in given and declared.default_value.name:
                node.attribute.append(declared.default_value)
    return full


@cache
def _is_one_number(description: str) -> bool:
    return bool(_ONE_NUMBER.search(description)) and not _ANY_NUMBER.search(description)


def check_values(model: ModelProto, values: Mapping[str, Any]) -> None:
    """Raise ValueError if an input of a node can't have its value.

    These are inputs that the specification calls a scalar and have several numbers or none, and scales of quantised
    tensors that are not positive normal numbers.
    """
    for node in model.graph.node:
        schema = schema_of_node(node, model)
        if schema is None or not schema.inputs:
            continue
        quantised = "Quantize" in node.op_type or "QLinear" in node.op_type
        for i, name in enumerate(node.input):
            formal = schema.inputs[min(i, len(schema.inputs) - 1)]
            array = values.get(name)
            if not isinstance(array, np.ndarray):
                continue
            if array.size != 1 and _is_one_number(formal.description):
                raise ValueError(f"{node.op_type}: {formal.name} is one number, not of shape {list(array.shape)}")
            if quantised and formal.name.endswith("scale") and not _are_positive(array):
                raise ValueError(f"{node.op_type}: {formal.name} is not a positive number")


def _are_positive(array: Any) -> bool:
    """Return whether all floats are positive normal numbers; other types are not asked."""
    return array.dtype.kind != "f" or bool((np.isfinite(array) & (array >= np.finfo(array.dtype).tiny)).all())
