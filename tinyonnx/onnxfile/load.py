"""ONNX files to `ir.Graph`: reads and parses them, decodes tensors and types, and trusts nothing."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import message as protobuf  # type: ignore[import-untyped]
from onnx import ModelProto, SparseTensorProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.defs import OpSchema, SchemaError, get_schema, onnx_opset_version

import tinyonnx.ops  # noqa: F401  (registers the operators)
from tinyonnx.dtypes import TENSOR_TYPES
from tinyonnx.errors import ModelError
from tinyonnx.files import read_file
from tinyonnx.ir import Array, Graph
from tinyonnx.limits import Limits, ModelLimitError
from tinyonnx.onnxfile.build import Builder, Type
from tinyonnx.onnxfile.check import check_operators
from tinyonnx.onnxfile.external_data import ExternalData
from tinyonnx.onnxfile.gradients import attach_functions
from tinyonnx.onnxfile.messages import Message
from tinyonnx.onnxfile.schemas import Input, Key, Schema, is_known, learn

_MAX_RANK = 64
_DATA_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")

_PACKED_BITS = {
    TensorProto.DataType.Value(name): bits
    for name, bits in {
        "UINT4": 4,
        "INT4": 4,
        "FLOAT4E2M1": 4,
        "UINT2": 2,
        "INT2": 2,
        "FLOAT6E2M3": 6,
        "FLOAT6E3M2": 6,
    }.items()
    if hasattr(TensorProto, name)
}


def load(
    source: str | os.PathLike[str] | bytes,
    limits: Limits | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
) -> Graph:
    """The graph of an ONNX model, with its functions inlined and its operators checked.

    `source` is a path or the file's bytes. External data is looked for in `folder`, by
    default the folder of the model; without a folder (bytes) it is refused.

    Inputs that have an initializer are only initializers, and `Graph.overridable`. `Graph.metadata` has
    producer_name, producer_version, domain, model_version, description (of the model),
    graph_name, graph_description and, as `custom:KEY`, the model's own metadata.

    Raises ModelError naming the file, the culprit in it and the cause, whatever is wrong;
    one that is a ResourceError, too, if a limit was reached.
    """
    limits = limits or Limits()
    if isinstance(source, bytes | bytearray | memoryview):
        return load_bytes(bytes(source), "<bytes>", limits, folder)
    file = os.fspath(source)
    return load_bytes(read_file(file), file, limits, os.path.dirname(file) or "." if folder is None else folder)


def load_bytes(data: bytes, file: str, limits: Limits, folder: str | os.PathLike[str] | None) -> Graph:
    """`load` of what a file holds; `file` is what errors call it."""
    model = _parse(data, file)
    external = None if folder is None else ExternalData(folder)
    try:
        return _to_graph(model, file, limits, external)
    finally:
        if external is not None:
            external.close()


def _parse(data: bytes, file: str) -> ModelProto:
    if not data:
        raise ModelError(f"{file}: is empty")
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (protobuf.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelError(f"{file}: is not an ONNX model, or truncated: it doesn't parse") from None
    if bad := _undecodable(model):
        raise ModelError(f"{file}: {bad} is not valid UTF-8")
    if not model.HasField("graph"):
        raise ModelError(f"{file}: is not an ONNX model: it has no graph")
    return model


def _undecodable(message: Message) -> str | None:
    """Path and bytes of the first string below `message` that isn't UTF-8.

    The parser leaves such strings as bytes, wherever they are.
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


def _to_graph(model: ModelProto, file: str, limits: Limits, external: ExternalData | None) -> Graph:
    opsets = _opset_imports(model.opset_import, file)
    builder = Builder(file, _Decoder(limits, external), limits, model.functions, _opset_imports)
    graph = builder.build(model.graph, opsets)
    if model.ir_version < 4:  # all initializers had to be inputs
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
    for node in graph.walk():
        key = (node.domain, node.op_type, node.opset)
        if not is_known(key):
            learn(key, _schema(key))
    check_operators(graph, file)
    attach_functions(graph, file)
    return graph


_TENSORS = Schema((Input("an input", frozenset(TENSOR_TYPES)),), True, 0, sys.maxsize)
"""ONNX Runtime's operators, which onnx has no schemas of, take nothing but tensors."""


def _schema(key: Key) -> Schema | None:
    domain, name, opset = key
    try:
        newest = get_schema(name, domain=domain)
    except SchemaError:
        return _TENSORS if domain == "com.microsoft" else None
    try:
        schema = get_schema(name, opset, domain)
    except SchemaError:  # an operator that some models use before it existed
        schema = newest
    inputs = []
    for position, formal in enumerate(schema.inputs):
        types = types_of(schema, position)
        if position < len(newest.inputs):
            types |= types_of(newest, position)
        is_shared = formal.is_homogeneous and not formal.type_str.endswith(")")
        options = OpSchema.FormalParameterOption
        required = formal.option == options.Single or (formal.option == options.Variadic and formal.is_homogeneous)
        inputs.append(Input(formal.name, frozenset(types), formal.type_str if is_shared else "", required))
    variadic = bool(schema.inputs) and schema.inputs[-1].option == OpSchema.FormalParameterOption.Variadic
    return Schema(tuple(inputs), variadic, schema.min_input, schema.max_output)


def types_of(schema: OpSchema, position: int) -> set[str]:
    """The types of an input, as values have them; what onnx 1.20 has of them itself can't be read."""
    name = schema.inputs[position].type_str
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return {re.sub(r"map\((\w+), (\w+)\)", r"map(\1,tensor(\2))", t) for t in constraints.get(name, [name])}


def _opset_imports(imports: Iterable[Message], where: str) -> dict[str, int]:
    """Versions by domain, `ai.onnx` as the empty domain."""
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


class _Decoder:
    """Tensors and types of one model; nothing is allocated before its size was checked."""

    def __init__(self, limits: Limits, external: ExternalData | None) -> None:
        self.limits = limits
        self.external = external
        self._densified = 0

    def tensor(self, proto: TensorProto, what: str) -> Array:
        """The values of a TensorProto, read-only; strings as an object array of str."""
        dtype = self._dtype(proto.data_type, what)
        if dtype is None:
            raise ModelError(f"{what} has no data type")
        shape = self._shape(proto.dims, dtype, what)
        if proto.HasField("segment"):
            raise ModelError(f"{what} is split into segments, which is not supported")
        raw = proto.raw_data
        external = proto.data_location == TensorProto.EXTERNAL
        sources = [name for name in _DATA_FIELDS if len(getattr(proto, name))]
        sources += ["raw_data"] * bool(raw) + ["external_data"] * external
        if len(sources) > 1:
            raise ModelError(f"{what} has its data twice, in {' and '.join(sources)}")
        if raw or external:
            array = self._from_bytes(proto, raw, dtype, shape, what)
        elif proto.data_type == TensorProto.STRING:
            array = _strings(proto, shape, what)
        else:
            array = _from_field(proto, dtype, shape, what)
        array.flags.writeable = False
        return array

    def sparse(self, proto: SparseTensorProto, what: str) -> Array:
        """The values of a SparseTensorProto as a dense array, read-only."""
        values = self.tensor(proto.values, f"{what}, values")
        indices = self.tensor(proto.indices, f"{what}, indices")
        shape = self._shape(proto.dims, values.dtype, what)
        size = math.prod(shape)
        if (
            values.ndim != 1
            or indices.dtype != np.int64
            or indices.shape
            not in (
                values.shape,
                (len(values), len(shape)),
            )
        ):
            raise ModelError(f"{what} has indices {indices.dtype}{list(indices.shape)} for values {list(values.shape)}")
        if indices.ndim == 2:
            if len(indices) and ((indices < 0).any() or (indices >= shape).any()):
                raise ModelError(f"{what} has an index outside of its shape {list(shape)}")
            strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
            indices = indices @ np.array(strides, np.int64)
        if len(indices) and (indices[0] < 0 or indices[-1] >= size or (np.diff(indices) <= 0).any()):
            raise ModelError(f"{what} has indices that are not ascending or outside of its shape {list(shape)}")
        self._densified += size * values.dtype.itemsize
        if self._densified > self.limits.max_tensor_bytes:
            raise ModelLimitError(f"{what}: sparse tensors take over {self.limits.max_tensor_bytes} bytes when dense")
        dense = np.full(size, "" if values.dtype == object else 0, values.dtype)
        dense[indices] = values
        dense.flags.writeable = False
        return dense.reshape(shape)

    def type(self, proto: TypeProto, what: str) -> Type:
        """onnxruntime's spelling; for tensors dtype and shape (unknown dimensions None)."""
        kind = proto.WhichOneof("value")
        if kind not in ("tensor_type", "sparse_tensor_type"):
            return Type(self._spelling(proto, what))
        tensor = getattr(proto, kind)
        shape = None
        if tensor.HasField("shape"):
            shape = tuple(
                d.dim_param or None if d.HasField("dim_param") else d.dim_value if _is_known(d) else None
                for d in tensor.shape.dim
            )
        return Type(self._spelling(proto, what), self._dtype(tensor.elem_type, what), shape)

    def _spelling(self, proto: TypeProto, what: str) -> str | None:
        kind = proto.WhichOneof("value")
        if kind in ("tensor_type", "sparse_tensor_type"):
            element = self._element(getattr(proto, kind).elem_type, what)
            return element and f"{kind.removesuffix('_type')}({element})"
        if kind == "map_type":
            key, value = self._element(proto.map_type.key_type, what), self._spelling(proto.map_type.value_type, what)
            return key and value and f"map({key},{value})"
        if kind in ("sequence_type", "optional_type"):
            inner = self._spelling(getattr(proto, kind).elem_type, what)
            return inner and f"{'seq' if kind == 'sequence_type' else 'optional'}({inner})"
        return None

    def _element(self, number: int, what: str) -> str | None:
        return None if self._dtype(number, what) is None else TensorProto.DataType.Name(number).lower()

    def _dtype(self, number: int, what: str) -> np.dtype[Any] | None:
        if number == TensorProto.UNDEFINED:
            return None
        if number not in TensorProto.DataType.values():
            raise ModelError(f"{what} has the unknown data type {number}")
        return np.dtype(helper.tensor_dtype_to_np_dtype(number))

    def _shape(self, dims: Iterable[int], dtype: np.dtype[Any], what: str) -> tuple[int, ...]:
        shape = tuple(dims)
        if len(shape) > _MAX_RANK:
            raise ModelError(f"{what} has rank {len(shape)}, supported are up to {_MAX_RANK}")
        if any(d < 0 for d in shape):
            raise ModelError(f"{what} has the negative dimension {min(shape)}")
        # An empty tensor's other dimensions must not overflow numpy's strides either.
        if math.prod(max(d, 1) for d in shape) * dtype.itemsize > self.limits.max_tensor_bytes:
            raise ModelLimitError(f"{what} has shape {list(shape)}, over {self.limits.max_tensor_bytes} bytes")
        return shape

    def _from_bytes(
        self, proto: TensorProto, raw: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], what: str
    ) -> Array:
        if proto.data_type == TensorProto.STRING:
            raise ModelError(f"{what} is of strings, which can't be raw bytes")
        bits = _PACKED_BITS.get(proto.data_type, 8 * dtype.itemsize)
        nbytes = -(-math.prod(shape) * bits // 8)
        if proto.data_location == TensorProto.EXTERNAL:
            data = self._read_external(proto, nbytes, what)
        elif len(raw) == nbytes:
            data = np.frombuffer(raw, np.uint8)
        else:
            raise ModelError(f"{what} has {len(raw)} bytes, its shape {list(shape)} and type need {nbytes}")
        if proto.data_type in _PACKED_BITS:
            packed = TensorProto(dims=shape, data_type=proto.data_type, raw_data=data.tobytes())
            return np.asarray(numpy_helper.to_array(packed))
        if dtype == np.bool_:
            # Any non-zero byte is true; numpy and kernels rely on ones.
            return data.astype(np.bool_).reshape(shape)
        array = data.view(dtype).reshape(shape)
        return array if sys.byteorder == "little" else array.byteswap()

    def _read_external(self, proto: TensorProto, nbytes: int, what: str) -> Array:
        entries = {entry.key: entry.value for entry in proto.external_data}
        if self.external is None:
            raise ModelError(f"{what} has external data, but a model from bytes has no folder")
        if "location" not in entries:
            raise ModelError(f"{what} has external data without a location")
        offset = _number(entries.get("offset", "0"), f"{what}: offset")
        length = _number(entries.get("length", str(nbytes)), f"{what}: length")
        if length != nbytes:
            raise ModelError(f"{what} has external data of {length} bytes, its shape and type need {nbytes}")
        try:
            return self.external.read(entries["location"], offset, length)
        except ModelError as error:
            raise ModelError(f"{what}: {error}") from None


def _is_known(dim: Any) -> bool:
    return bool(dim.HasField("dim_value") and dim.dim_value >= 0)


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"{what} {text[:40]!r} is not a valid number")
    return int(text)


def _strings(proto: TensorProto, shape: tuple[int, ...], what: str) -> Array:
    if len(proto.string_data) != math.prod(shape):
        raise ModelError(
            f"{what} has {len(proto.string_data)} strings, its shape {list(shape)} needs {math.prod(shape)}"
        )
    array = np.empty(len(proto.string_data), object)
    for i, text in enumerate(proto.string_data):
        try:
            array[i] = text.decode()
        except UnicodeDecodeError:
            raise ModelError(f"{what} has a string that is not valid UTF-8: {text[:40]!r}") from None
    return array.reshape(shape)


def _from_field(proto: TensorProto, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> Array:
    field = helper.tensor_dtype_to_field(proto.data_type)
    expected = math.prod(shape)
    if dtype.kind == "c":
        expected *= 2
    elif _PACKED_BITS.get(proto.data_type) in (2, 4):
        expected = -(-expected * _PACKED_BITS[proto.data_type] // 8)
    actual = len(getattr(proto, field))
    if actual != expected:
        raise ModelError(f"{what} has {actual} values in {field}, its shape {list(shape)} and type need {expected}")
    if not expected:
        return np.empty(shape, dtype)
    # to_array prefers raw data that is set but empty.
    proto.ClearField("raw_data")
    return np.asarray(numpy_helper.to_array(proto))
