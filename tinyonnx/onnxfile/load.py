"""Read ONNX files into an `ir.Graph`: parse, build, check. No content of a file is trusted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import message as protobuf  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.defs import OpSchema, SchemaError, get_schema, onnx_opset_version

import tinyonnx.ops  # noqa: F401  (registers the operators)
from tinyonnx.dtypes import TENSOR_TYPES
from tinyonnx.errors import ModelContentError, ModelError
from tinyonnx.files import read_file
from tinyonnx.ir import Array, Graph
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.build import Builder
from tinyonnx.onnxfile.check import check_operators
from tinyonnx.onnxfile.external_data import ExternalData
from tinyonnx.onnxfile.gradients import attach_functions
from tinyonnx.onnxfile.messages import Message
from tinyonnx.onnxfile.schemas import InputSchema, Key, Schema, is_known, learn
from tinyonnx.onnxfile.tensors import TensorDecoder


def load(
    source: str | os.PathLike[str] | bytes,
    limits: Limits | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    given: Mapping[str, Array] | None = None,
) -> Graph:
    """Load an ONNX model: parse it, inline its functions and check its operators.

    `source` is a path or the content of a file. External data is read from `folder` (default: the folder of the model);
    without a folder, for bytes, it is refused. `given` has the arrays of initializers whose external data is not read.

    Inputs with an initializer are in `Graph.initializers` and `Graph.overridable` only. `Graph.metadata` has
    producer_name, producer_version, domain, model_version, description (of the model), graph_name, graph_description
    and, as `custom:KEY`, the model's own metadata.

    Raises ModelError, with file, location in it and cause, if anything is wrong; it is also a ResourceError if a limit
    was exceeded.
    """
    limits = limits or Limits()
    if isinstance(source, bytes | bytearray | memoryview):
        return load_bytes(bytes(source), "<bytes>", limits, folder, given)
    file = os.fspath(source)
    return load_bytes(read_file(file), file, limits, os.path.dirname(file) or "." if folder is None else folder, given)


def load_bytes(
    data: bytes,
    file: str,
    limits: Limits,
    folder: str | os.PathLike[str] | None,
    given: Mapping[str, Array] | None = None,
) -> Graph:
    """Load the content of a file; `file` is its name in error messages. See `load`."""
    model = parse(data, file)
    for tensor in model.graph.initializer if given else ():
        if given and tensor.name in given and tensor.data_location == TensorProto.EXTERNAL:
            _give(tensor, given[tensor.name], file)
    external = None if folder is None else ExternalData(folder)
    try:
        return _to_graph(model, file, limits, external)
    finally:
        if external is not None:
            external.close()


def _give(tensor: TensorProto, array: Array, file: str) -> None:
    """Store an array in a tensor in place of its external data. Raises ModelError if it doesn't fit."""
    stored = numpy_helper.from_array(np.asarray(array, order="C"))
    if (stored.data_type, list(stored.dims)) != (tensor.data_type, list(tensor.dims)):
        wanted = f"{TensorProto.DataType.Name(tensor.data_type).lower()}{list(tensor.dims)}"
        raise ModelError(f'{file}: initializer "{tensor.name}" is {wanted}, not {array.dtype}{list(array.shape)}')
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = stored.raw_data


def _undecodable(message: Message) -> str | None:
    """Return path and bytes of the first string below `message` that is not valid UTF-8, or None.

    The parser leaves such strings as bytes.
    """
    for name, is_text in _text_and_messages(message.DESCRIPTOR):
        value = getattr(message, name)
        if is_text:
            for text in (value,) if isinstance(value, str | bytes) else value:
                if isinstance(text, bytes):
                    return f"{name} {text[:40]!r}"
        elif not isinstance(value, protobuf.Message):
            for i, inner in enumerate(value):
                if bad := _undecodable(inner):
                    return f"{name}[{i}].{bad}"
        elif message.HasField(name) and (bad := _undecodable(value)):
            return f"{name}.{bad}"
    return None


@cache
def _text_and_messages(descriptor: Any) -> list[tuple[str, bool]]:
    kinds = (descriptor.fields[0].TYPE_STRING, descriptor.fields[0].TYPE_MESSAGE)
    return [(f.name, f.type == kinds[0]) for f in descriptor.fields if f.type in kinds]


def learn_schemas(graph: Graph) -> None:
    """Make the schemas of all operators of a graph known to `schemas`."""
    for node in graph.walk():
        key = (node.domain, node.op_type, node.opset)
        if not is_known(key):
            learn(key, _schema(key))


def parse(data: bytes, file: str) -> ModelProto:
    """Parse the content of a file; `file` is its name in messages. Raises ModelError."""
    if not data:
        raise ModelContentError(f"{file}: is empty")
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (protobuf.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelContentError(f"{file}: is not an ONNX model, or truncated: it doesn't parse") from None
    if bad := _undecodable(model):
        raise ModelContentError(f"{file}: {bad} is not valid UTF-8")
    if not model.HasField("graph"):
        raise ModelContentError(f"{file}: is not an ONNX model: it has no graph")
    return model


def _to_graph(model: ModelProto, file: str, limits: Limits, external: ExternalData | None) -> Graph:
    opsets = _opset_imports(model.opset_import, file)
    builder = Builder(file, TensorDecoder(limits, external), limits, model.functions, _opset_imports)
    graph = builder.build(model.graph, opsets)
    if model.ir_version < 4:  # before IR version 4 all initializers had to be inputs
        graph.overridable.clear()
    graph.metadata = {
        "producer_name": model.producer_name,
        "producer_version": model.producer_version,
        "domain": model.domain,
        "model_version": str(model.model_version),
        "description": model.doc_string,
        "graph_name": model.graph.name,
        "graph_description": model.graph.doc_string,
        **{f"custom:{entry.key}": entry.value for entry in model.metadata_props},
    }
    learn_schemas(graph)
    check_operators(graph, file)
    attach_functions(graph, file)
    return graph


_TENSORS = Schema((InputSchema("an input", frozenset(TENSOR_TYPES)),), True, 0, sys.maxsize)
"""Schema of ONNX Runtime's own operators, for which onnx has no schemas: tensors of all types."""


def _schema(key: Key) -> Schema | None:
    domain, name, opset = key
    try:
        newest = get_schema(name, domain=domain)
    except SchemaError:
        return _TENSORS if domain == "com.microsoft" else None
    try:
        schema = get_schema(name, opset, domain)
    except SchemaError:  # some models use an operator of an opset before it existed
        schema = newest
    inputs = []
    for position, formal in enumerate(schema.inputs):
        types = types_of(schema, position)
        if position < len(newest.inputs):
            types |= types_of(newest, position)
        is_shared = formal.is_homogeneous and not formal.type_str.endswith(")")
        options = OpSchema.FormalParameterOption
        required = formal.option == options.Single or (formal.option == options.Variadic and formal.is_homogeneous)
        inputs.append(InputSchema(formal.name, frozenset(types), formal.type_str if is_shared else "", required))
    variadic = bool(schema.inputs) and schema.inputs[-1].option == OpSchema.FormalParameterOption.Variadic
    return Schema(tuple(inputs), variadic, _required_inputs(schema, variadic), schema.max_output)


def _required_inputs(schema: OpSchema, variadic: bool) -> int:
    """Return how many inputs a node has to list; optional ones count only if required ones follow."""
    if schema.min_input > len(schema.inputs) - variadic:
        return int(schema.min_input)
    single = [i for i, formal in enumerate(schema.inputs) if formal.option == OpSchema.FormalParameterOption.Single]
    return max(single, default=-1) + 1


def types_of(schema: OpSchema, position: int) -> set[str]:
    """Return the allowed types of an input, spelled as in `dtypes`; onnx 1.20's own attribute can't be read."""
    name = schema.inputs[position].type_str
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return {re.sub(r"map\((\w+), (\w+)\)", r"map(\1,tensor(\2))", t) for t in constraints.get(name, [name])}


def _opset_imports(imports: Iterable[Message], where: str) -> dict[str, int]:
    """Check opset imports and return versions by domain, with `ai.onnx` as "". Raises ModelError."""
    opsets: dict[str, int] = {}
    for entry in imports:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if entry.version < 1 or opsets.get(domain, entry.version) != entry.version:
            raise ModelError(f'{where}: opset {entry.version} of domain "{domain}" is invalid or contradicts another')
        opsets[domain] = entry.version
    if not opsets:
        raise ModelError(f"{where}: imports no opset")
    if opsets.get("", 0) > onnx_opset_version():
        raise ModelError(f"{where}: uses opset {opsets['']}, the newest supported one is {onnx_opset_version()}")
    return opsets
