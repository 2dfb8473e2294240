"""ONNX types in Python: element types as numpy dtypes and in onnxruntime's spelling, maps as typed dicts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

_NUMPY: list[tuple[int, str, Any]] = [
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
]
"""Numbers in `TensorProto.DataType`, names and dtypes of the element types that numpy has; strings are objects."""

_SMALL = [
    (16, "bfloat16", "bfloat16"),
    (17, "float8e4m3fn", "float8_e4m3fn"),
    (18, "float8e4m3fnuz", "float8_e4m3fnuz"),
    (19, "float8e5m2", "float8_e5m2"),
    (20, "float8e5m2fnuz", "float8_e5m2fnuz"),
    (21, "uint4", "uint4"),
    (22, "int4", "int4"),
    (23, "float4e2m1", "float4_e2m1fn"),
    (24, "float8e8m0", "float8_e8m0fnu"),
    (25, "uint2", "uint2"),
    (26, "int2", "int2"),
    (27, "float6e2m3", "float6_e2m3fn"),
    (28, "float6e3m2", "float6_e3m2fn"),
]
"""Numbers and names of all others, and their names in ml_dtypes, which is imported when one of them is needed."""

TENSOR_TYPES = tuple(f"tensor({name})" for _, name, _ in (*_NUMPY, *_SMALL))
"""All tensor types in onnxruntime's spelling, such as ``tensor(float)``."""

NUMBERS = {name: number for number, name, _ in (*_NUMPY, *_SMALL)}
"""Numbers in `TensorProto.DataType` of all element types by name."""

_NAME = {np.dtype(dtype): name for _, name, dtype in _NUMPY}
_DTYPE = {name: np.dtype(dtype) for _, name, dtype in _NUMPY}
_NAME_OF = {number: name for name, number in NUMBERS.items()}


@cache
def small_dtypes() -> dict[str, np.dtype[Any]]:
    """Return the dtypes that numpy lacks by the names of their types; from then on `np.dtype` knows their own names."""
    import ml_dtypes  # takes several ms

    return {name: np.dtype(getattr(ml_dtypes, own)) for _, name, own in _SMALL}


def numpy_dtype(number: int) -> np.dtype[Any]:
    """Return the dtype of a number in `TensorProto.DataType`, object for strings. Raises KeyError for any other."""
    return _dtype_of(_NAME_OF[number])


def onnx_type(dtype: np.dtype[Any]) -> str | None:
    """Return the type as onnxruntime spells it, ``tensor(float)`` for float32; None for a dtype that ONNX lacks."""
    name = _NAME.get(dtype)
    if name is None:
        name = next((name for name, small in small_dtypes().items() if small == dtype), None)
    return None if name is None else f"tensor({name})"


def from_onnx_type(text: str) -> np.dtype[Any]:
    """Return the dtype of ``tensor(float)`` and the like. Raises KeyError for any other text."""
    if text not in TENSOR_TYPES:
        raise KeyError(text)
    return _dtype_of(text[len("tensor(") : -1])


def _dtype_of(name: str) -> np.dtype[Any]:
    return _DTYPE[name] if name in _DTYPE else small_dtypes()[name]


class TypedMap(dict[Any, Any]):
    """A map as a dict with its ONNX type in onnxruntime's spelling and the dtype of its values."""

    def __init__(self, items: Mapping[Any, Any], type: str, dtype: np.dtype[Any]) -> None:
        super().__init__(items)
        self.type = type
        self.dtype = dtype


def round_to_bfloat16(x: Any) -> Any:
    """Return float32 rounded to bfloat16, ties to even, as float32; subnormals become 0, as with AVX512-BF16."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    rounded = np.where(is_nan, bits | np.uint32(0x400000), rounded)
    rounded = np.where(bits & np.uint32(0x7F800000), rounded, bits & np.uint32(0x80000000))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32).reshape(np.shape(x))
