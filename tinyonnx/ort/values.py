"""`OrtValue` and `OrtDevice`, named as in onnxruntime. All memory is CPU memory and belongs to numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.dtypes import NUMBERS, from_onnx_type, numpy_dtype, onnx_type, small_dtypes
from tinyonnx.errors import InputError
from tinyonnx.ir import Array


class OrtDevice:
    """A memory location; the CPU is the only one."""

    def __init__(self, device_type: str = "cpu", device_id: int = 0) -> None:
        check_device(device_type)
        self._device_id = device_id

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """Return the device of this name. Raises InputError unless it is "cpu"."""
        return OrtDevice(ort_device_name, device_id)

    @staticmethod
    def cpu() -> int:
        """Return onnxruntime's number for the CPU as a kind of device."""
        return 0

    @staticmethod
    def default_memory() -> int:
        """Return onnxruntime's number for the default kind of memory."""
        return 0

    def device_type(self) -> str:
        """Return "cpu"."""
        return "cpu"

    def device_id(self) -> int:
        """Return the number given when the device was made."""
        return self._device_id


class OrtValue:
    """A tensor (a numpy array), or a sequence or map as a Python object."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @classmethod
    def ortvalue_from_numpy(cls, numpy_obj: Any, device_type: str = "cpu", device_id: int = 0) -> OrtValue:
        """Wrap an array without copying it. Raises InputError for a device other than the CPU."""
        check_device(device_type)
        return cls(np.asarray(numpy_obj))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: Array, onnx_element_type: int) -> OrtValue:
        """Reinterpret the bits of an array as a type that numpy lacks; the type is a `TensorProto.DataType`."""
        return cls(data.view(element_dtype(onnx_element_type)))

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """Wrap a tensor that has `__dlpack__`, without copying it. Raises InputError if its memory is not the CPU's."""
        try:
            return cls(np.from_dlpack(data))
        except (BufferError, RuntimeError, AttributeError, TypeError) as error:
            raise InputError(f"not a tensor in the CPU's memory: {error}") from None

    @classmethod
    def ortvalue_from_shape_and_type(
        cls, shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """Allocate an uninitialised tensor; `element_type` is a numpy type or a `TensorProto.DataType`.

        Raises InputError for an unknown element type and for a device other than the CPU.
        """
        check_device(device_type)
        return cls(np.empty([int(n) for n in shape], element_dtype(element_type)))

    def numpy(self) -> Array:
        """Return the array, without copying it. Raises InputError if this is not a tensor."""
        return self._tensor()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._tensor(), dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self._tensor().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, index = self._tensor().__dlpack_device__()
        return int(kind), index

    def shape(self) -> list[int]:
        """Return the tensor's shape. Raises InputError if this is not a tensor."""
        return list(self._tensor().shape)

    def data_type(self) -> str:
        """Return the ONNX type: ``tensor(float)`` and so on, ``seq`` or ``map``."""
        if not isinstance(self._value, np.ndarray):
            return "seq" if isinstance(self._value, list) else "map"
        return onnx_type(self._value.dtype) or str(self._value.dtype)

    def element_type(self) -> int:
        """Return the element type as a `TensorProto.DataType`. Raises InputError if this is not a tensor."""
        dtype = self._tensor().dtype
        return next(number for number in NUMBERS.values() if numpy_dtype(number) == dtype)

    def data_ptr(self) -> int:
        """Return the address of the first element. Raises InputError if this is not a tensor."""
        return int(self._tensor().ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        """Return the tensor's size in bytes. Raises InputError if this is not a tensor."""
        return self._tensor().nbytes

    def device_name(self) -> str:
        """Return "cpu"."""
        return "cpu"

    def has_value(self) -> bool:
        """Return False for an optional without an element."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Return whether this is a tensor."""
        return isinstance(self._value, np.ndarray)

    def is_tensor_sequence(self) -> bool:
        """Return whether this is a sequence."""
        return isinstance(self._value, list)

    def is_sparse_tensor(self) -> bool:
        """Return False: sparse tensors are held dense."""
        return False

    def update_inplace(self, np_arr: Array) -> None:
        """Overwrite the elements. Raises InputError if dtype or shape differ."""
        target = self._tensor()
        if (np_arr.dtype, np_arr.shape) != (target.dtype, target.shape):
            raise InputError(
                f"a value of {target.dtype}{list(target.shape)} can't take {np_arr.dtype}{list(np_arr.shape)}"
            )
        target[...] = np_arr

    def _tensor(self) -> Array:
        if not isinstance(self._value, np.ndarray):
            raise InputError(f"the value is a {type(self._value).__name__}, not a tensor")
        return self._value


def unwrap(value: Any) -> Any:
    """Return the object inside an OrtValue; return anything else unchanged."""
    return value._value if isinstance(value, OrtValue) else value


def check_device(device_type: str) -> None:
    """Raise InputError unless the device is the CPU."""
    if str(device_type).lower() != "cpu":
        raise InputError(f"device {device_type!r} does not exist: everything is on the CPU")


def element_dtype(element_type: Any) -> np.dtype[Any]:
    """Return the dtype for a `TensorProto.DataType`, an ONNX type such as ``tensor(float)`` or a numpy type.

    Raises InputError if it is none of them.
    """
    if isinstance(element_type, int) and element_type in NUMBERS.values():
        return numpy_dtype(element_type)
    if isinstance(element_type, str):
        small_dtypes()  # a name may be one of theirs, such as "bfloat16"
    try:
        return from_onnx_type(element_type) if str(element_type).startswith("tensor(") else np.dtype(element_type)
    except (TypeError, KeyError):
        raise InputError(f"unknown element type {element_type!r}") from None
