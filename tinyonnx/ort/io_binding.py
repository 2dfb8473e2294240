"""`IOBinding`, named as in onnxruntime: inputs and outputs bound to memory before a run."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tinyonnx.errors import BindingError, InputError
from tinyonnx.ir import Array
from tinyonnx.ort.values import OrtValue, check_device, element_dtype, unwrap


class _Session(Protocol):
    """The part of `InferenceSession` that a binding uses."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None) -> Any:
        """Run the model."""

    def get_inputs(self) -> Sequence[Any]:
        """Return the inputs that must be fed."""

    def get_overridable_initializers(self) -> Sequence[Any]:
        """Return the inputs that may be left out."""


class IOBinding:
    """Inputs and outputs bound to memory before a run; made by `InferenceSession.io_binding`."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._inputs: dict[str, Any] = {}
        self._targets: dict[str, Array | None] = {}
        self._results: dict[str, OrtValue] = {}

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Feed an array; it is read when the session runs. Raises BindingError for an unknown name."""
        self._check(name)
        self._inputs[name] = arr_on_cpu

    def bind_input(
        self, name: str, device_type: str, device_id: int, element_type: Any, shape: Sequence[int], buffer_ptr: int
    ) -> None:
        """Feed the memory at an address. Raises InputError for a device other than the CPU."""
        check_device(device_type)
        self._check(name)
        self._inputs[name] = _at_address(buffer_ptr, element_type, shape)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Feed a value. Raises BindingError for an unknown name."""
        self._check(name)
        self._inputs[name] = unwrap(ortvalue)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Request an output; with an address, write it there. Raises InputError for a device other than the CPU."""
        check_device(device_type)
        placed = buffer_ptr is not None and shape is not None
        self._targets[name] = _at_address(buffer_ptr or 0, element_type, shape or ()) if placed else None

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Request an output and write it into the memory of a value."""
        self._targets[name] = ortvalue.numpy()

    def _check(self, name: str) -> None:
        known = [arg.name for arg in (*self._session.get_inputs(), *self._session.get_overridable_initializers())]
        if name not in known:
            raise BindingError(f"the model has no input {name!r}; inputs are {', '.join(map(repr, known))}")

    def get_outputs(self) -> list[OrtValue]:
        """Return the results of the last run in the order in which they were bound."""
        return [self._results[name] for name in self._targets if name in self._results]

    def copy_outputs_to_cpu(self) -> list[Any]:
        """Return the results of the last run as arrays."""
        return [unwrap(value) for value in self.get_outputs()]

    def clear_binding_inputs(self) -> None:
        """Unbind all inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Unbind all outputs and drop their results."""
        self._targets.clear()
        self._results.clear()

    def synchronize_inputs(self) -> None:
        """Do nothing: there are no asynchronous copies."""

    def synchronize_outputs(self) -> None:
        """Do nothing: there are no asynchronous copies."""

    def run(self, run_options: Any = None) -> None:
        """Run the session on the bound inputs and outputs.

        Raises BindingError if one doesn't fit the model, and the other errors of `InferenceSession.run`.
        """
        if not self._targets:
            raise BindingError("no output is bound")
        try:
            results = self._session.run(list(self._targets), self._inputs, run_options)
        except InputError as error:
            raise BindingError(str(error)) from None
        for (name, target), result in zip(self._targets.items(), results, strict=True):
            value = OrtValue(result if target is None else target)
            if target is not None:
                value.update_inplace(result)
            self._results[name] = value


def _at_address(address: int, element_type: Any, shape: Sequence[int]) -> Array:
    """Return an array over existing memory. Raises InputError for an unknown element type and for strings."""
    dtype, dims = element_dtype(element_type), tuple(int(n) for n in shape)
    if dtype.hasobject:
        raise InputError("strings can't be bound by address")
    memory = (ctypes.c_byte * (math.prod(dims) * dtype.itemsize)).from_address(address)
    return np.ndarray(dims, dtype, memoryview(memory))
