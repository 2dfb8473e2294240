"""Cut parts out of ONNX models, as protobuf messages: nodes between tensors, or a chosen set of nodes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tinyonnx.errors import InputError, ModelError
from tinyonnx.files import write_file
from tinyonnx.ir import Array, Value
from tinyonnx.onnxfile.messages import reads_of
from tinyonnx.runtime.shapes import infer_shapes
from tinyonnx.tools.inspect import read_outline

_LARGEST = 1_900_000_000
"""Bytes of tensors from which on a file gets them as external data: protobuf messages end at 2 GiB."""


def open_model(path: str) -> ModelProto:
    """Read a model with its external data; functions are inlined.

    Raises ModelError if it can't be read, OSError if the file can't be.
    """
    with open(path, "rb"):
        pass  # the system's own error for a file that is not there
    try:
        model = onnx.load(path)
        if model.functions:
            from onnx.inliner import inline_local_functions

            model = inline_local_functions(model)
    except Exception as error:
        raise ModelError(
            f"{path}: can't be read: {next(iter(str(error).splitlines()), type(error).__name__)}"
        ) from error
    assert isinstance(model, ModelProto)
    return model


def save(model: ModelProto, path: str) -> None:
    """Write a model, its tensors as external data beside it if they are too large for one file. Raises OSError."""
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < _LARGEST:
        write_file(path, model.SerializeToString())
        return
    onnx.save_model(model, path, save_as_external_data=True, location=f"{os.path.basename(path)}.data")


def extract(path: str, sources: Collection[str], targets: Collection[str]) -> ModelProto:
    """Return the nodes of a model between tensors, with the weights that they read.

    `sources` become inputs, `targets` outputs; none stands for the model's own. An input of the model that is reached
    without passing `sources` stays one. Raises InputError for a tensor that does not exist, for sources from which no
    target is computed, or where no node is between them; the errors of `open_model`.
    """
    return between(open_model(path), path, sources, targets, _typed_values(path))


def between(
    model: ModelProto, name: str, sources: Collection[str], targets: Collection[str], values: Mapping[str, Value]
) -> ModelProto:
    """Extract a part of an open model like `extract`; `values` have types and shapes, `name` is for errors."""
    graph = model.graph
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    constants = _constants(model)
    own_inputs = {value.name for value in graph.input if value.name not in constants}
    targets = list(targets) or [value.name for value in graph.output]
    for tensor in (*sources, *targets):
        if tensor not in producer and tensor not in own_inputs and tensor not in constants:
            raise InputError(f"{name}: no tensor is called {tensor!r}; `tinyonnx inspect` lists them")
    needed: set[int] = set()
    reached: set[str] = set()
    inputs = dict.fromkeys(tensor for tensor in sources if tensor not in constants)
    pending = [tensor for tensor in targets if tensor not in inputs]
    while pending:
        tensor = pending.pop()
        if tensor in reached:
            continue
        reached.add(tensor)
        if tensor in inputs:
            continue
        if tensor in own_inputs:
            inputs[tensor] = None
        elif tensor in producer and producer[tensor] not in needed:
            needed.add(producer[tensor])
            pending += reads_of(graph.node[producer[tensor]])
    unused = [tensor for tensor in sources if tensor not in reached and tensor not in constants]
    if unused and any(_reaches(graph, producer, source, target) for source in unused for target in targets):
        raise InputError(
            f"{name}: {_quoted(unused)} is computed from {_quoted(targets)}, not the other way round: "
            f"swap --from and --to"
        )
    if not needed:
        raise InputError(f"{name}: there is no node between {_quoted(sources)} and {_quoted(targets)}")
    if unused:
        raise InputError(f"{name}: {_quoted(targets)} does not depend on {_quoted(unused)}: leave it out of --from")
    part = _part(model, needed, [values.get(t) or Value(t) for t in inputs if t in reached], {})
    part.graph.output.extend(_value_info(values.get(t) or Value(t)) for t in targets)
    return part


def _reaches(graph: onnx.GraphProto, producer: Mapping[str, int], tensor: str, wanted: str) -> bool:
    """Return whether a tensor is computed from another one."""
    pending, seen = [tensor], set[str]()
    while pending:
        name = pending.pop()
        if name == wanted and name != tensor:
            return True
        if name not in seen and name in producer:
            pending += reads_of(graph.node[producer[name]])
        seen.add(name)
    return False


def part_of(model: ModelProto, kept: Collection[int], feeds: Mapping[str, Array], fixed: Collection[str]) -> ModelProto:
    """Return a model of the nodes at these positions.

    Tensors that they read from other nodes become inputs with the type and shape of the array in `feeds`, or constants
    if they are in `fixed`; tensors that other nodes read become outputs. Raises KeyError if such an input has no array.
    """
    graph = model.graph
    constants = _constants(model)
    produced = {name for i in kept for name in graph.node[i].output if name}
    read = dict.fromkeys(name for i in sorted(kept) for name in reads_of(graph.node[i]))
    outer = [name for name in read if name not in produced and name not in constants]
    inputs = [Value(name, feeds[name].dtype, feeds[name].shape) for name in outer if name not in fixed]
    part = _part(model, kept, inputs, {name: feeds[name] for name in outer if name in fixed})
    outside = {name for i, node in enumerate(graph.node) if i not in kept for name in reads_of(node)}
    outside |= {value.name for value in graph.output}
    inner = {name for i in kept for name in reads_of(graph.node[i])}
    for i in sorted(kept):
        for name in graph.node[i].output:
            if name and (name in outside or name not in inner):
                part.graph.output.append(onnx.ValueInfoProto(name=name))
    return part


def _part(model: ModelProto, kept: Collection[int], inputs: list[Value], fixed: Mapping[str, Array]) -> ModelProto:
    """Return the nodes at these positions in a model without outputs."""
    graph = model.graph
    nodes = [graph.node[i] for i in sorted(kept)]
    read = {name for node in nodes for name in reads_of(node)}
    part = ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    part.opset_import.extend(model.opset_import)
    part.graph.name = graph.name or "part"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(t for t in graph.initializer if t.name in read)
    part.graph.sparse_initializer.extend(t for t in graph.sparse_initializer if t.values.name in read)
    part.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in fixed.items())
    if model.ir_version < 4:  # initializers had to be inputs as well
        part.ir_version = 4
    part.graph.input.extend(_value_info(value) for value in inputs)
    return part


def _constants(model: ModelProto) -> set[str]:
    graph = model.graph
    return {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}


def _typed_values(path: str) -> dict[str, Value]:
    """Return the tensors of a model by name, with types and shapes as far as they can be inferred."""
    outline = read_outline(path)
    declared = outline.graph.values()
    inferred = infer_shapes(outline.graph, outline.limits).values
    return declared | {name: value for name, value in inferred.items() if value.dtype is not None}


def _value_info(value: Value) -> onnx.ValueInfoProto:
    """Return the declaration of a tensor; expressions of dimensions are left open."""
    if value.dtype is None:
        return onnx.ValueInfoProto(name=value.name)
    kind = helper.np_dtype_to_tensor_dtype(value.dtype) if value.dtype != object else TensorProto.STRING
    shape = value.shape
    dims: Any = None if shape is None else [d if isinstance(d, int) or str(d).isidentifier() else None for d in shape]
    info = helper.make_tensor_value_info(value.name, kind, dims)
    assert isinstance(info, onnx.ValueInfoProto)
    return info


def labels_of(nodes: Iterable[NodeProto]) -> list[str]:
    """Return the label of every node, as `ir.Node.label`."""
    return [node.name or next(filter(None, node.output), f"#{i}") for i, node in enumerate(nodes)]


def copy_of(model: ModelProto) -> ModelProto:
    """Return a copy of a model."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def forget_shapes(graph: GraphProto) -> None:
    """Remove the declared shapes of results, also in subgraphs: those of a model whose inputs change don't hold."""
    del graph.value_info[:]
    for value in graph.output:
        _forget_shape(value)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                forget_shapes(attribute.g)
                for value in attribute.g.input:
                    _forget_shape(value)


def _forget_shape(value: onnx.ValueInfoProto) -> None:
    if value.type.HasField("tensor_type"):
        value.type.tensor_type.ClearField("shape")


def set_array(tensor: TensorProto, array: Array) -> None:
    """Replace the content of an initializer."""
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array, order="C"), tensor.name))


def as_array(tensor: TensorProto) -> Array:
    """Return the array of an initializer."""
    return np.asarray(numpy_helper.to_array(tensor))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "the inputs"
