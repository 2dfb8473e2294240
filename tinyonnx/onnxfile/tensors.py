"""Decode the tensors and types of an ONNX file. Sizes are checked before memory is allocated."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from onnx import SparseTensorProto, TensorProto, TypeProto, helper, numpy_helper

from tinyonnx.errors import ModelError
from tinyonnx.ir import Array
from tinyonnx.limits import MAX_RANK, Limits, ModelLimitError
from tinyonnx.onnxfile.build import Type
from tinyonnx.onnxfile.external_data import ExternalData

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


class TensorDecoder:
    """Decodes tensors and types of one model; sizes are checked before memory is allocated."""

    def __init__(self, limits: Limits, external: ExternalData | None) -> None:
        self.limits = limits
        self.external = external
        self._densified = 0

    def tensor(self, proto: TensorProto, what: str) -> Array:
        """Return the values of a TensorProto, read-only; strings as an object array of str. Raises ModelError."""
        dtype = self.dtype(proto.data_type, what)
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
            raise ModelError(f"{what} has data in several fields: {' and '.join(sources)}")
        if raw or external:
            array = self._from_bytes(proto, raw, dtype, shape, what)
        elif proto.data_type == TensorProto.STRING:
            array = _strings(proto, shape, what)
        else:
            array = _from_field(proto, dtype, shape, what)
        array.flags.writeable = False
        return array

    def sparse(self, proto: SparseTensorProto, what: str) -> Array:
        """Return the values of a SparseTensorProto as a dense array, read-only. Raises ModelError."""
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
        """Return a type in onnxruntime's spelling; for tensors with dtype and shape, None for unknown dimensions."""
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
        return Type(self._spelling(proto, what), self.dtype(tensor.elem_type, what), shape)

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
        return None if self.dtype(number, what) is None else TensorProto.DataType.Name(number).lower()

    def dtype(self, number: int, what: str) -> np.dtype[Any] | None:
        """Return the dtype of an ONNX element type; None if it is undefined. Raises ModelError."""
        if number == TensorProto.UNDEFINED:
            return None
        if number not in TensorProto.DataType.values():
            raise ModelError(f"{what} has the unknown data type {number}")
        return np.dtype(helper.tensor_dtype_to_np_dtype(number))

    def _shape(self, dims: Iterable[int], dtype: np.dtype[Any], what: str) -> tuple[int, ...]:
        shape = tuple(dims)
        if len(shape) > MAX_RANK:
            raise ModelError(f"{what} has rank {len(shape)}, supported are up to {MAX_RANK}")
        if any(d < 0 for d in shape):
            raise ModelError(f"{what} has the negative dimension {min(shape)}")
        # the other dimensions of an empty tensor must not overflow numpy's strides either
        if math.prod(max(d, 1) for d in shape) * dtype.itemsize > self.limits.max_tensor_bytes:
            raise ModelLimitError(f"{what} has shape {list(shape)}, over {self.limits.max_tensor_bytes} bytes")
        return shape

    def _from_bytes(
        self, proto: TensorProto, raw: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], what: str
    ) -> Array:
        if proto.data_type == TensorProto.STRING:
            raise ModelError(f"{what} contains strings, which can't be raw bytes")
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
            # any non-zero byte is true; numpy and kernels rely on 1
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
        # some writers leave the length at 0: it then follows from shape and type, like an absent one
        length = _number(entries.get("length", "0"), f"{what}: length") or nbytes
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
    # to_array prefers raw data, even if it is empty
    proto.ClearField("raw_data")
    return np.asarray(numpy_helper.to_array(proto))
