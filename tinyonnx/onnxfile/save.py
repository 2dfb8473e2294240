"""Write an `ir.Graph` as an ONNX file: the inverse of `tinyonnx.onnxfile.load`, for built and rewritten graphs."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Iterator
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

import numpy as np
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    defs,
    helper,
    numpy_helper,
)

from tinyonnx.errors import ModelError
from tinyonnx.files import target_of, write_file
from tinyonnx.ir import Array, Graph, Node, Value

_MAX_FILE_BYTES = (1 << 31) - 1
_OLDEST_IR = 8

_Scope = ChainMap[str, Value]


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph as an ONNX file atomically; symbolic links are followed.

    Raises ModelError if ONNX can't express the graph (see `to_bytes`) or `path` is not a regular file, OSError if it
    can't be written.
    """
    target_of(path)
    write_file(path, to_bytes(graph))


def to_bytes(graph: Graph) -> bytes:
    """Serialise a graph as an ONNX file; equal graphs give equal bytes.

    Constants become initializers with raw data. An output whose name differs from its value's gets an Identity.
    `Graph.metadata` is written under the names that `tinyonnx.onnxfile.load` reads.

    Raises ModelError if ONNX can't express the graph: duplicate names, inputs or outputs without a type, attributes or
    constants of a type that ONNX lacks, operators of different opsets of one domain, more than 2 GiB.
    """
    nbytes = sum(array.nbytes for array in _arrays(graph))
    if nbytes > _MAX_FILE_BYTES:
        raise ModelError(f"{_name(graph)}: has {nbytes} bytes of constants, one file may have {_MAX_FILE_BYTES}")
    try:
        return bytes(_Writer(graph).model().SerializeToString(deterministic=True))
    except (EncodeError, UnicodeEncodeError) as error:
        raise ModelError(f"{_name(graph)}: can't be written as ONNX: {error}") from None


class _Writer:
    """Converts one model to protobuf messages."""

    def __init__(self, graph: Graph) -> None:
        self.main = graph
        self.opsets = dict(graph.opsets)

    def model(self) -> ModelProto:
        model = ModelProto()
        model.graph.CopyFrom(self.graph(self.main, ChainMap()))
        model.opset_import.extend(helper.make_opsetid(d, v) for d, v in sorted(self.opsets.items()))
        model.ir_version = max(_OLDEST_IR, helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True))
        metadata = self.main.metadata
        model.producer_name = metadata.get("producer_name", "tinyonnx")
        model.producer_version = metadata.get("producer_version", "")
        model.domain = metadata.get("domain", "")
        model.doc_string = metadata.get("description", "")
        model.graph.doc_string = metadata.get("graph_description", "")
        try:
            model.model_version = int(metadata.get("model_version") or 0)
        except ValueError as error:
            raise ModelError(f"{_name(self.main)}: model_version: {error}") from None
        custom = {k.removeprefix("custom:"): v for k, v in metadata.items() if k.startswith("custom:")}
        for key, value in custom.items():
            model.metadata_props.add(key=key, value=value)
        return model

    # -- graphs -----------------------------------------------------------------------

    def graph(self, graph: Graph, scope: _Scope) -> GraphProto:
        """Convert a graph; the first map of `scope` is for its own names, the others for enclosing graphs."""
        proto = GraphProto(name=_name(graph))
        for value in graph.inputs:
            self._define(value, scope)
            proto.input.append(self._declaration(value, value.name, required=graph is self.main))
        for value in _constants(graph, scope):
            self._define(value, scope)
            assert value.const is not None
            proto.initializer.append(_tensor(value.const, value.name, f'constant "{value.name}"'))
        for node in graph.nodes:
            proto.node.append(self._node(node, scope))
        for value, name in zip(graph.outputs, graph.output_names, strict=True):
            self._output(proto, value, name, scope)
        outputs = {o.name for o in proto.output}
        for node in graph.nodes:
            for result in node.outputs:
                if result is not None and result.name not in outputs and (result.type or result.dtype is not None):
                    proto.value_info.append(self._declaration(result, result.name, required=False))
        return proto

    def _define(self, value: Value, scope: _Scope) -> None:
        if not value.name:
            raise ModelError("a value has no name")
        if value.name in scope:
            raise ModelError(f'two values are called "{value.name}"')
        scope[value.name] = value

    def _output(self, proto: GraphProto, value: Value, name: str, scope: _Scope) -> None:
        if scope.get(value.name) is not value:
            raise ModelError(f'output "{name}": nothing produces "{value.name}"')
        is_main = len(scope.maps) == 1
        if is_main and any(o.name == name for o in proto.output):
            raise ModelError(f'two outputs are called "{name}"')
        # outputs of a subgraph are matched by position, so that one may be renamed; it must be defined in the subgraph
        if value.name != name or value.name not in scope.maps[0]:
            while not is_main and name in scope:
                name += "'"
            alias = Value(name, value.dtype, value.shape)
            self._define(alias, scope)
            proto.node.append(NodeProto(op_type="Identity", input=[value.name], output=[name]))
            self._import("", self.main.opsets.get("", 1), "Identity", f'output "{name}"')
        proto.output.append(self._declaration(value, name, required=is_main))

    def _declaration(self, value: Value, name: str, *, required: bool) -> ValueInfoProto:
        info = ValueInfoProto(name=name)
        what = f'"{name}"'
        if value.type:
            info.type.CopyFrom(_type(value.type, value.shape, what))
        elif value.dtype is not None:
            info.type.CopyFrom(helper.make_tensor_type_proto(_tensor_type(value.dtype, what), value.shape))
        elif required:
            raise ModelError(f"{what} is an input or output without a type")
        return info

    # -- nodes ------------------------------------------------------------------------

    def _node(self, node: Node, scope: _Scope) -> NodeProto:
        where = f'{node.op_type} "{node.label}"'
        self._import(node.domain, node.opset, node.op_type, where)
        for operand in node.inputs:
            if operand is not None and scope.get(operand.name) is not operand:
                raise ModelError(f'{where}: reads "{operand.name}", which nothing before it produces')
        proto = NodeProto(op_type=node.op_type, domain=node.domain or None, name=node.name or None)
        proto.input.extend("" if v is None else v.name for v in node.inputs)
        for key, value in node.attributes.items():
            if value is not None:
                proto.attribute.append(self._attribute(node, key, value, scope, where))
        for result in node.outputs:
            if result is not None:
                self._define(result, scope)
        proto.output.extend("" if v is None else v.name for v in node.outputs)
        return proto

    def _import(self, domain: str, opset: int, op_type: str, where: str) -> None:
        imported = self.opsets.setdefault(domain, opset)
        if imported != opset and _since(op_type, domain, imported) != _since(op_type, domain, opset):
            raise ModelError(f'{where} is of opset {opset} of "{domain}", the model imports opset {imported}')

    def _attribute(self, node: Node, key: str, value: Any, scope: _Scope, where: str) -> AttributeProto:
        what = f'{where}: attribute "{key}"'
        kind = _kind(value) or _declared_kind(node, key)
        if _declared_kind(node, key) in _REFINED.get(kind, ()):
            kind = _declared_kind(node, key)
        proto = AttributeProto(name=key, type=AttributeProto.AttributeType.Name(kind))
        try:
            match kind:
                case AttributeProto.FLOAT:
                    proto.f = float(value)
                case AttributeProto.INT:
                    proto.i = int(value)
                case AttributeProto.STRING:
                    proto.s = value.encode()
                case AttributeProto.TENSOR:
                    proto.t.CopyFrom(_tensor(value, "", what))
                case AttributeProto.SPARSE_TENSOR:
                    proto.sparse_tensor.CopyFrom(_sparse(value, what))
                case AttributeProto.GRAPH:
                    proto.g.CopyFrom(self.graph(value, scope.new_child()))
                case AttributeProto.TYPE_PROTO:
                    proto.tp.CopyFrom(value)
                case AttributeProto.FLOATS:
                    proto.floats.extend(map(float, value))
                case AttributeProto.INTS:
                    proto.ints.extend(map(int, value))
                case AttributeProto.STRINGS:
                    proto.strings.extend(s.encode() for s in value)
                case AttributeProto.TENSORS:
                    proto.tensors.extend(_tensor(a, "", what) for a in value)
                case AttributeProto.SPARSE_TENSORS:
                    proto.sparse_tensors.extend(_sparse(a, what) for a in value)
                case AttributeProto.TYPE_PROTOS:
                    proto.type_protos.extend(value)
                case _:
                    raise ModelError(f"{what} is {_describe(value)}, which ONNX can't represent")
        except (OverflowError, ValueError, TypeError) as error:
            raise ModelError(f"{what}: {error}") from None
        return proto


# -- attributes -------------------------------------------------------------------------

_REFINED: dict[int, set[int]] = {
    AttributeProto.INT: {AttributeProto.FLOAT},
    AttributeProto.INTS: {AttributeProto.FLOATS},
    AttributeProto.TENSOR: {AttributeProto.SPARSE_TENSOR},
    AttributeProto.TENSORS: {AttributeProto.SPARSE_TENSORS},
}
"""Types that the schema may demand where the Python type alone suggests the key."""

_PLURAL: dict[int, int] = {
    AttributeProto.FLOAT: AttributeProto.FLOATS,
    AttributeProto.INT: AttributeProto.INTS,
    AttributeProto.STRING: AttributeProto.STRINGS,
    AttributeProto.TENSOR: AttributeProto.TENSORS,
    AttributeProto.TYPE_PROTO: AttributeProto.TYPE_PROTOS,
}


def _kind(value: Any) -> int:
    """Return the AttributeType for a Python value; 0 if the value alone does not determine it."""
    match value:
        case Graph():
            return AttributeProto.GRAPH
        case np.ndarray():
            return AttributeProto.TENSOR
        case str():
            return AttributeProto.STRING
        case Integral() | np.bool_():
            return AttributeProto.INT
        case Real():
            return AttributeProto.FLOAT
        case TypeProto():
            return AttributeProto.TYPE_PROTO
        case list() | tuple():
            kinds = {_kind(item) for item in value}
            if kinds == {AttributeProto.INT, AttributeProto.FLOAT}:
                return AttributeProto.FLOATS
            return _PLURAL.get(kinds.pop(), 0) if len(kinds) == 1 else 0
    return 0


def _declared_kind(node: Node, key: str) -> int:
    """Return the AttributeType in the operator's schema; without a schema INTS for an empty list, else 0."""
    value = node.attributes[key]
    with suppress(defs.SchemaError):
        declared = defs.get_schema(node.op_type, node.opset, node.domain).attributes.get(key)
        if declared is not None:
            kind: Any = declared.type
            return int(kind.value)
    return AttributeProto.INTS if isinstance(value, list | tuple) and not value else 0


def _since(op_type: str, domain: str, opset: int) -> int | None:
    try:
        return int(defs.get_schema(op_type, opset, domain).since_version)
    except defs.SchemaError:
        return None if domain == "" else opset


# -- tensors and types ------------------------------------------------------------------


def _tensor_type(dtype: np.dtype[Any], what: str) -> int:
    try:
        return int(helper.np_dtype_to_tensor_dtype(dtype.newbyteorder("=")))
    except (ValueError, KeyError):
        raise ModelError(f"{what} has dtype {dtype}, which ONNX lacks") from None


def _tensor(array: Array, name: str, what: str) -> TensorProto:
    if _tensor_type(array.dtype, what) == TensorProto.STRING:
        if not all(isinstance(item, str) for item in array.flat):
            raise ModelError(f"{what} contains objects other than strings")
        strings = [str(item).encode() for item in array.flat]
        return TensorProto(name=name, data_type=TensorProto.STRING, dims=array.shape, string_data=strings)
    native = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    return numpy_helper.from_array(native, name)


def _sparse(array: Array, what: str) -> SparseTensorProto:
    flat = array.reshape(-1)
    indices = np.flatnonzero(flat != ("" if array.dtype == object else 0)).astype(np.int64)
    return helper.make_sparse_tensor(_tensor(flat[indices], "", what), _tensor(indices, "", what), list(array.shape))


def _type(text: str, shape: tuple[Any, ...] | None, what: str) -> TypeProto:
    """Return the TypeProto for a type in onnxruntime's spelling; `shape` is for a tensor at the top level."""
    kind, _, inner = text.partition("(")
    inner = inner.removesuffix(")")
    match kind:
        case "tensor":
            return helper.make_tensor_type_proto(_element(inner, what), shape)
        case "sparse_tensor":
            return helper.make_sparse_tensor_type_proto(_element(inner, what), shape)
        case "seq":
            return helper.make_sequence_type_proto(_type(inner, None, what))
        case "optional":
            return helper.make_optional_type_proto(_type(inner, None, what))
        case "map":
            key, _, value = inner.partition(",")
            return helper.make_map_type_proto(_element(key, what), _type(value, None, what))
    raise ModelError(f"{what} has the unknown type {text}")


def _element(name: str, what: str) -> int:
    if name.upper() not in TensorProto.DataType.keys():  # noqa: SIM118  (a protobuf enum is not a mapping)
        raise ModelError(f"{what} has the unknown element type {name}")
    return int(TensorProto.DataType.Value(name.upper()))


# -- graphs -----------------------------------------------------------------------------


def _name(graph: Graph) -> str:
    return graph.name or "graph"


def _constants(graph: Graph, outer: _Scope) -> Iterator[Value]:
    """Yield the initializers of a graph, and the folded constants that it reads without listing them."""
    seen = {id(v) for v in graph.initializers}
    yield from graph.initializers
    read = [v for node in graph.nodes for v in node.inputs if v is not None]
    for value in (*read, *graph.outputs):
        if value.const is not None and value.producer is None and id(value) not in seen:
            seen.add(id(value))
            if outer.get(value.name) is not value:
                yield value


def _arrays(graph: Graph) -> Iterator[Array]:
    for value in _constants(graph, ChainMap()):
        assert value.const is not None
        yield value.const
    for node in graph.walk():
        for attribute in node.attributes.values():
            if isinstance(attribute, np.ndarray):
                yield attribute


def _describe(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
    return f"a {type(value).__name__}"
