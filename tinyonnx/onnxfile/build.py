"""Build an `ir.Graph` from protobuf graphs and functions; uses the messages only, without importing onnx."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, cast

import numpy as np

from tinyonnx.errors import ModelError
from tinyonnx.ir import Array, Dim, Graph, Node, Value
from tinyonnx.limits import Limits, ModelLimitError
from tinyonnx.onnxfile.messages import Kind, Message, all_names, domain_of, function_label, in_order, label_of, where_is

_OPERANDS_PER_NODE = 16
"""Operands that count as one node against `Limits.max_nodes`: a node with more counts as several."""


@dataclass(frozen=True)
class Type:
    """A declared type: in onnxruntime's spelling, and for tensors dtype and shape; None where unknown."""

    text: str | None = None
    dtype: np.dtype[Any] | None = None
    shape: tuple[Dim, ...] | None = None


class Decoder(Protocol):
    """Converts the leaves of a model to Python objects; `what` names them in a ModelError."""

    def tensor(self, proto: Message, what: str) -> Array:
        """Return the values of a TensorProto, read-only."""

    def sparse(self, proto: Message, what: str) -> Array:
        """Return the values of a SparseTensorProto as a dense array, read-only."""

    def type(self, proto: Message, what: str) -> Type:
        """Return the type in a TypeProto."""


@dataclass(frozen=True)
class _Function:
    proto: Message
    label: str
    opsets: Mapping[str, int]
    types: Mapping[str, Type]
    nodes: list[tuple[int, Message]]
    defaults: Mapping[str, Message]
    attributes: frozenset[str]


@dataclass(frozen=True)
class Frame:
    """The context in which nodes are built: one graph or one call of a function.

    `scope` maps names to values, None for an absent optional input of a function. `attributes` maps names to functions
    that give the values for `ref_attr_name`; it is None outside of functions.
    """

    scope: ChainMap[str, Value | None]
    opsets: Mapping[str, int]
    types: Mapping[str, Type] = field(default_factory=dict)
    prefix: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    index: int | None = None
    attributes: Mapping[str, Callable[[], Any]] | None = None
    calls: tuple[str, ...] = ()
    depth: int = 0


ABSENT = object()


class Builder:
    """Builds the graph of one model.

    `functions` are the model's FunctionProtos. Each call is inlined: values and nodes are named `<label of the
    call>/<name in the function>`, subgraphs and attribute references are resolved. `opset_imports` checks a list of
    OperatorSetIdProto and returns versions by domain.
    """

    def __init__(
        self,
        file: str,
        decoder: Decoder,
        limits: Limits,
        functions: Iterable[Message],
        opset_imports: Callable[[Iterable[Message], str], dict[str, int]],
    ) -> None:
        self.file = file
        self.limits = limits
        self.decoder = decoder
        self._opset_imports = opset_imports
        self._operands = 0
        self._nodes = 0
        self._used_names: set[str] = set()
        self._decoded: dict[int, tuple[Message, Any]] = {}
        self._prepared: dict[tuple[str, str, str], _Function] = {}
        self._functions: dict[tuple[str, str, str], Message] = {}
        for function in functions:
            key = (domain_of(function.domain), function.name, function.overload)
            if key in self._functions:
                raise ModelError(f"{file}: function {function_label(key)} is defined twice")
            self._functions[key] = function

    def build(self, proto: Message, opsets: Mapping[str, int]) -> Graph:
        """Build the main graph from its GraphProto. Raises ModelError."""
        if self._functions:
            self._used_names = all_names(proto)
        return self._graph(proto, Frame(ChainMap(), opsets))

    # -- graphs -----------------------------------------------------------------------

    def _graph(self, proto: Message, frame: Frame) -> Graph:
        """Build one graph; the first map of `frame.scope` is for its own names."""
        where = f'{self.file}: graph "{proto.name}"'
        self._spend(0, len(proto.input) + len(proto.output) + len(proto.initializer) + len(proto.value_info), where)
        graph = Graph(proto.name, frame.opsets)
        declared = [*proto.value_info, *proto.input, *proto.output]
        frame = replace(frame, types=self._types(declared), names={})
        own = frame.scope.maps[0]

        for tensor in proto.initializer:
            self._initializer(graph, tensor.name, tensor, self.decoder.tensor, frame)
        for sparse in proto.sparse_initializer:
            self._initializer(graph, sparse.values.name, sparse, self.decoder.sparse, frame)
        initialized = {name: value for name, value in own.items() if value is not None}
        for value_info in proto.input:
            if value_info.name in initialized:
                graph.overridable.append(initialized.pop(value_info.name))
                continue
            if not value_info.name or value_info.name in own:
                self._refuse(f'{where}: input "{value_info.name}" is declared twice or has no name')
            graph.add_input(self._define(value_info.name, frame))

        for index, node in self._in_order(proto.node, set(own), where):
            self._node(node, index, graph, frame)
        for value_info in proto.output:
            value = frame.scope.get(value_info.name)
            if value is None:
                self._refuse(f'{where}: output "{value_info.name}" is never produced')
                value = self._define(value_info.name, frame)
            if value.type is None:
                _declare(value, frame.types.get(value_info.name))
            graph.add_output(value, value_info.name if not frame.prefix else None)
        return graph

    def _in_order(self, nodes: Iterable[Message], defined: set[str], where: str) -> list[tuple[int, Message]]:
        return in_order(nodes, defined, self.file, where)

    def _initializer(
        self, graph: Graph, name: str, proto: Message, decode: Callable[[Message, str], Array], frame: Frame
    ) -> None:
        kind = "sparse initializer" if hasattr(proto, "values") else "initializer"
        array = self._once(proto, decode, f'{self.file}: {kind} "{name}"')
        if not name or name in frame.scope.maps[0]:
            raise ModelError(f'{self.file}: initializer "{name}" is defined twice or has no name')
        value = graph.add_initializer(self._public_name(name, frame), array)
        value.type = frame.types.get(name, Type()).text
        frame.scope[name] = value

    def _types(self, value_infos: Iterable[Message]) -> dict[str, Type]:
        return {v.name: self.decoder.type(v.type, f'{self.file}: value "{v.name}"') for v in value_infos}

    def _public_name(self, name: str, frame: Frame) -> str:
        if not frame.prefix:
            return name
        if name in frame.names:
            return frame.names[name]
        fresh = frame.prefix + name
        while fresh in self._used_names:
            fresh += "'"
        self._used_names.add(fresh)
        return fresh

    def _define(self, name: str, frame: Frame) -> Value:
        value = Value(self._public_name(name, frame))
        _declare(value, frame.types.get(name))
        frame.scope[name] = value
        return value

    # -- nodes ------------------------------------------------------------------------

    def _node(self, proto: Message, index: int, graph: Graph, frame: Frame) -> None:
        if frame.index is not None:
            index = frame.index
        where = where_is(self.file, proto, index, frame.prefix)
        self._spend(1, len(proto.input) + len(proto.output) + len(proto.attribute), where)
        inputs = [self._operand(name, frame, where) for name in proto.input]
        domain = domain_of(proto.domain)
        key = (domain, proto.op_type, proto.overload)
        if key in self._functions:
            self._call(key, proto, inputs, index, graph, frame, where)
            return
        if domain not in frame.opsets:
            self._refuse(f'{where}: no opset is imported for domain "{domain}"')
        while inputs and inputs[-1] is None:
            inputs.pop()
        attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.name in attributes:
                self._refuse(f'{where}: attribute "{attribute.name}" is given twice')
            value = self._attribute(attribute, frame, where)
            if value is not ABSENT:
                attributes[attribute.name] = value
        outputs = [self._define(name, frame) if name else None for name in proto.output]
        graph.add_node(
            Node(
                proto.op_type,
                inputs,
                outputs,
                attributes,
                domain=domain,
                opset=frame.opsets.get(domain, 1),
                name=frame.prefix + proto.name if proto.name else "",
                index=index,
            )
        )

    def _operand(self, name: str, frame: Frame, where: str) -> Value | None:
        if not name:
            return None
        value = frame.scope.get(name, ABSENT)
        if value is ABSENT:
            self._refuse(f'{where}: reads "{name}", which nothing produces')
            return self._define(name, frame)
        return cast(Value | None, value)

    def _attribute(self, proto: Message, frame: Frame, where: str) -> Any:
        """Return the Python value; ABSENT for a reference to an attribute that the caller omitted."""
        if proto.ref_attr_name:
            if frame.attributes is None:
                raise ModelError(f'{where}: attribute "{proto.name}" refers to a function\'s, outside of any function')
            return frame.attributes.get(proto.ref_attr_name, lambda: ABSENT)()
        what = f'{where}: attribute "{proto.name}"'
        if proto.type == Kind.GRAPH:
            return self._graph(proto.g, self._deeper(frame, what, scope=frame.scope.new_child()))
        return self._once(proto, self._leaf, what)

    def _leaf(self, proto: Message, what: str) -> Any:
        match proto.type:
            case Kind.FLOAT:
                return proto.f
            case Kind.INT:
                return proto.i
            case Kind.STRING:
                return _text(proto.s, what)
            case Kind.TENSOR:
                return self.decoder.tensor(proto.t, what)
            case Kind.SPARSE_TENSOR:
                return self.decoder.sparse(proto.sparse_tensor, what)
            case Kind.FLOATS:
                return list(proto.floats)
            case Kind.INTS:
                return list(proto.ints)
            case Kind.STRINGS:
                return [_text(s, what) for s in proto.strings]
            case Kind.TENSORS:
                return [self.decoder.tensor(t, what) for t in proto.tensors]
            case Kind.SPARSE_TENSORS:
                return [self.decoder.sparse(t, what) for t in proto.sparse_tensors]
            case Kind.TYPE_PROTO:
                return proto.tp
            case Kind.TYPE_PROTOS:
                return list(proto.type_protos)
        raise ModelError(f"{what} has a type that is not supported ({proto.type})")

    # -- functions --------------------------------------------------------------------

    def _call(
        self,
        key: tuple[str, str, str],
        proto: Message,
        inputs: list[Value | None],
        index: int,
        graph: Graph,
        frame: Frame,
        where: str,
    ) -> None:
        function = self._prepare(key)
        if function.label in frame.calls:
            raise ModelError(f"{where}: function {function.label} calls itself")
        for formal, actual, what in (
            (function.proto.input, inputs, "inputs"),
            (function.proto.output, proto.output, "outputs"),
        ):
            if len(actual) > len(formal):
                raise ModelError(f"{where}: has {len(actual)} {what}, function {function.label} has {len(formal)}")
        self._spend(0, len(function.proto.input) + len(function.proto.output), where)

        outside = replace(frame, scope=ChainMap(), opsets=function.opsets, attributes=None)
        attributes = {n: partial(self._attribute, a, outside, where) for n, a in function.defaults.items()}
        for attribute in proto.attribute:
            if attribute.name not in function.attributes:
                raise ModelError(f'{where}: function {function.label} has no attribute "{attribute.name}"')
            default = attributes.get(attribute.name)
            attributes[attribute.name] = partial(self._given, attribute, frame, where, default)
        names: dict[str, str] = {}
        for formal, actual in zip(function.proto.output, proto.output):
            if actual:
                names.setdefault(formal, self._public_name(actual, frame))
        inner = self._deeper(
            frame,
            where,
            scope=ChainMap[str, Value | None](dict.fromkeys(function.proto.input)),
            opsets=function.opsets,
            types=function.types,
            prefix=f"{frame.prefix}{label_of(proto, index)}/",
            names=names,
            index=index,
            attributes=attributes,
            calls=(*frame.calls, function.label),
        )
        inner.scope.update(zip(function.proto.input, inputs))
        for position, node in function.nodes:
            self._node(node, position, graph, inner)
        for formal, actual in zip(function.proto.output, proto.output):
            if formal not in inner.scope:
                raise ModelError(f'{where}: function {function.label} never produces its output "{formal}"')
            if actual:
                value = frame.scope[actual] = inner.scope[formal]
                if value is not None and value.type is None:
                    _declare(value, frame.types.get(actual))

    def _given(self, proto: Message, frame: Frame, where: str, default: Callable[[], Any] | None) -> Any:
        """Return the attribute that a call passes; if that is an unresolved reference, the function's default."""
        value = self._attribute(proto, frame, where)
        return default() if value is ABSENT and default is not None else value

    def _prepare(self, key: tuple[str, str, str]) -> _Function:
        if key not in self._prepared:
            proto = self._functions[key]
            label = function_label(key)
            where = f"{self.file}: function {label}"
            if len(set(proto.input)) < len(proto.input):
                raise ModelError(f"{where}: two inputs have the same name")
            defaults = {a.name: a for a in proto.attribute_proto}
            self._prepared[key] = _Function(
                proto,
                label,
                self._opset_imports(proto.opset_import, where),
                self._types(proto.value_info),
                self._in_order(proto.node, set(proto.input), where),
                defaults,
                frozenset((*proto.attribute, *defaults)),
            )
        return self._prepared[key]

    # -- helpers ----------------------------------------------------------------------

    def _refuse(self, problem: str) -> None:
        """Raise ModelError. A subclass that returns instead gets a graph of the parts that could be read."""
        raise ModelError(problem)

    def _deeper(self, frame: Frame, where: str, **changes: Any) -> Frame:
        if frame.depth >= self.limits.max_depth:
            raise ModelLimitError(f"{where}: subgraphs and functions are nested more than {frame.depth} deep")
        return replace(frame, depth=frame.depth + 1, **changes)

    def _spend(self, nodes: int, operands: int, where: str) -> None:
        """Count nodes against the limit: functions that call functions can expand a small file exponentially."""
        self._nodes += nodes
        self._operands += operands
        limit = self.limits.max_nodes
        if self._nodes > limit or self._operands > max(limit * _OPERANDS_PER_NODE, 1 << 16):
            raise ModelLimitError(f"{where}: the model has more than {limit} nodes, its functions inlined")

    def _once(self, proto: Message, decode: Callable[[Message, str], Any], what: str) -> Any:
        """Decode a message once, so that all calls of a function share its constants.

        The message is kept alive so that its identity is not reused.
        """
        if id(proto) not in self._decoded:
            self._decoded[id(proto)] = (proto, decode(proto, what))
        return self._decoded[id(proto)][1]


def _declare(value: Value, declared: Type | None) -> None:
    if declared is not None:
        value.type = declared.text
        value.dtype = value.dtype or declared.dtype
        value.shape = declared.shape if value.shape is None else value.shape


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ModelError(f"{what} is not valid UTF-8: {data[:40]!r}") from None
