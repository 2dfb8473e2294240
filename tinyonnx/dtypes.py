"""ONNX types in Python: element types as numpy dtypes and in onnxruntime's spelling, maps as typed dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

_TABLE: list[tuple[int, str, Any]] = [
    (1, "float", np.float32),
    (2, "uint8", np.uint8),
    (3, "int8", np.int8),
    (4, "uint16", np.uint16),
    (5, "int16", np.int16),
    (6, "int32", np.int32),
    (7, "int64", np.int64),
    (8, "string", object),
    (9, "bool", np.bool_),
    (10, "float16", np.float16),
    (11, "double", np.float64),
    (12, "uint32", np.uint32),
    (13, "uint64", np.uint64),
    (14, "complex64", np.complex64),
    (15, "complex128", np.complex128),
    (16, "bfloat16", ml_dtypes.bfloat16),
    (17, "float8e4m3fn", ml_dtypes.float8_e4m3fn),
    (18, "float8e4m3fnuz", ml_dtypes.float8_e4m3fnuz),
    (19, "float8e5m2", ml_dtypes.float8_e5m2),
    (20, "float8e5m2fnuz", ml_dtypes.float8_e5m2fnuz),
    (21, "uint4", ml_dtypes.uint4),
    (22, "int4", ml_dtypes.int4),
    (23, "float4e2m1", ml_dtypes.float4_e2m1fn),
    (24, "float8e8m0", ml_dtypes.float8_e8m0fnu),
    (25, "uint2", ml_dtypes.uint2),
    (26, "int2", ml_dtypes.int2),
    (27, "float6e2m3", ml_dtypes.float6_e2m3fn),
    (28, "float6e3m2", ml_dtypes.float6_e3m2fn),
]

NUMPY_DTYPE: dict[int, np.dtype[Any]] = {number: np.dtype(dtype) for number, _, dtype in _TABLE}
"""`TensorProto.DataType` → numpy dtype; strings are object arrays of str."""

_NAME = {np.dtype(dtype): name for _, name, dtype in _TABLE}
_DTYPE = {f"tensor({name})": np.dtype(dtype) for _, name, dtype in _TABLE}

TENSOR_TYPES = tuple(_DTYPE)
"""All tensor types in onnxruntime's spelling, such as ``tensor(float)``."""


def onnx_type(dtype: np.dtype[Any]) -> str | None:
    """Return the type as onnxruntime spells it, ``tensor(float)`` for float32; None for a dtype that ONNX lacks."""
    return f"tensor({_NAME[dtype]})" if dtype in _NAME else None


def from_onnx_type(text: str) -> np.dtype[Any]:
    """Return the dtype of ``tensor(float)`` and the like. Raises KeyError for any other text."""
    dtype: np.dtype[Any] = _DTYPE[text]
    return dtype


class TypedMap(dict[Any, Any]):
    """A map as a dict with its ONNX type in onnxruntime's spelling and the dtype of its values."""

    def __init__(self, items: Mapping[Any, Any], type: str, dtype: np.dtype[Any]) -> None:
        super().__init__(items)
        self.type = type
        self.dtype = dtype
