"""Values and bindings by onnxruntime's names; all memory is the CPU's, and numpy's."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyonnx.dtypes import NUMPY_DTYPE, from_onnx_type, onnx_type
from tinyonnx.errors import InputError
from tinyonnx.ir import Array

if TYPE_CHECKING:
    from tinyonnx.ort.session import InferenceSession


class OrtDevice:
    """Where memory is: always on the CPU."""

    def __init__(self, device_type: str = "cpu", device_id: int = 0) -> None:
        _check_device(device_type)
        self._device_id = device_id

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """A device by name. Raises InputError unless it is "cpu"."""
        return OrtDevice(ort_device_name, device_id)

    @staticmethod
    def cpu() -> int:
        """The number of the CPU among kinds of devices."""
        return 0

    @staticmethod
    def default_memory() -> int:
        """The number of the default kind of memory."""
        return 0

    def device_type(self) -> str:
        return "cpu"

    def device_id(self) -> int:
        return self._device_id


class OrtValue:
    """A tensor (a numpy array), or a sequence or map as a Python object."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @classmethod
    def ortvalue_from_numpy(cls, numpy_obj: Any, device_type: str = "cpu", device_id: int = 0) -> OrtValue:
        """A value that shares the array's memory. Raises InputError for another device than the CPU."""
        _check_device(device_type)
        return cls(np.asarray(numpy_obj))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: Array, onnx_element_type: int) -> OrtValue:
        """An array of bits seen as a type that numpy itself lacks; `onnx_element_type` is a `TensorProto.DataType`."""
        return cls(data.view(_dtype(onnx_element_type)))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls, shape: Sequence[int], element_type: Any, device_type: str = "cpu", device_id: int = 0
    ) -> OrtValue:
        """Uninitialised memory of a shape; `element_type` is a numpy type or a `TensorProto.DataType`."""
        _check_device(device_type)
        return cls(np.empty([int(n) for n in shape], _dtype(element_type)))

    def numpy(self) -> Array:
        """The array. Raises InputError if this is no tensor."""
        return self._tensor()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._tensor(), dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        return self._tensor().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, index = self._tensor().__dlpack_device__()
        return int(kind), index

    def shape(self) -> list[int]:
        return list(self._tensor().shape)

    def data_type(self) -> str:
        """Such as ``tensor(float)``."""
        if not isinstance(self._value, np.ndarray):
            return "seq" if isinstance(self._value, list) else "map"
        return onnx_type(self._value.dtype) or str(self._value.dtype)

    def element_type(self) -> int:
        """The `TensorProto.DataType`."""
        dtype = self._tensor().dtype
        return next(number for number, known in NUMPY_DTYPE.items() if known == dtype)

    def data_ptr(self) -> int:
        """The address of the first element."""
        return int(self._tensor().ctypes.data)

    def tensor_size_in_bytes(self) -> int:
        return self._tensor().nbytes

    def device_name(self) -> str:
        return "cpu"

    def has_value(self) -> bool:
        return self._value is not None

    def is_tensor(self) -> bool:
        return isinstance(self._value, np.ndarray)

    def is_tensor_sequence(self) -> bool:
        return isinstance(self._value, list)

    def is_sparse_tensor(self) -> bool:
        return False

    def update_inplace(self, np_arr: Array) -> None:
        """Overwrite the numbers. Raises InputError if the array's dtype or shape is another."""
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


class IOBinding:
    """Inputs and outputs that are bound to memory before a run; made by `InferenceSession.io_binding`."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._targets: dict[str, Array | None] = {}
        self._results: dict[str, OrtValue] = {}

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Feed an array; it is read when the session runs."""
        self._inputs[name] = arr_on_cpu

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Feed the memory at an address. Raises InputError for another device than the CPU."""
        _check_device(device_type)
        self._inputs[name] = _at_address(buffer_ptr, element_type, shape)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Feed a value."""
        self._inputs[name] = ortvalue._value

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Ask for an output; with an address it is written there. Raises InputError for another device."""
        _check_device(device_type)
        placed = buffer_ptr is not None and shape is not None
        self._targets[name] = _at_address(buffer_ptr or 0, element_type, shape or ()) if placed else None

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Ask for an output and write it into a value's memory."""
        self._targets[name] = ortvalue.numpy()

    def get_outputs(self) -> list[OrtValue]:
        """The results of the last run in the order of binding."""
        return [self._results[name] for name in self._targets if name in self._results]

    def copy_outputs_to_cpu(self) -> list[Any]:
        """The results of the last run as arrays."""
        return [value._value for value in self.get_outputs()]

    def clear_binding_inputs(self) -> None:
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        self._targets.clear()
        self._results.clear()

    def synchronize_inputs(self) -> None:
        """Nothing has to be waited for."""

    def synchronize_outputs(self) -> None:
        """Nothing has to be waited for."""

    def run(self, run_options: Any = None) -> None:
        """Run the session on what is bound. Raises what `InferenceSession.run` raises."""
        results = self._session.run(list(self._targets), self._inputs, run_options)
        for (name, target), result in zip(self._targets.items(), results, strict=True):
            value = OrtValue(result if target is None else target)
            if target is not None:
                value.update_inplace(result)
            self._results[name] = value


def _check_device(device_type: str) -> None:
    if str(device_type).lower() != "cpu":
        raise InputError(f"there is no device {device_type!r}: everything is on the CPU")


def _dtype(element_type: Any) -> np.dtype[Any]:
    if isinstance(element_type, int) and element_type in NUMPY_DTYPE:
        return NUMPY_DTYPE[element_type]
    try:
        return from_onnx_type(element_type) if str(element_type).startswith("tensor(") else np.dtype(element_type)
    except (TypeError, KeyError):
        raise InputError(f"unknown element type {element_type!r}") from None


def _at_address(address: int, element_type: Any, shape: Sequence[int]) -> Array:
    dtype, dims = _dtype(element_type), tuple(int(n) for n in shape)
    if dtype.hasobject:
        raise InputError("strings can't be bound by address")
    memory = (ctypes.c_byte * (math.prod(dims) * dtype.itemsize)).from_address(address)
    return np.ndarray(dims, dtype, memoryview(memory))
