"""onnx's backend interface, through which its test suite and other tools run models::

    rep = tinyonnx.backend.prepare(model)
    outputs = rep.run([x])

`onnx.backend.test.BackendTest(tinyonnx.backend, __name__)` turns onnx's suite into test cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict
from onnx.defs import get_all_schemas_with_history, onnx_opset_version

from tinyonnx.errors import InputError, ModelError
from tinyonnx.ort.options import SessionOptions
from tinyonnx.ort.session import InferenceSession


class TinyonnxRep(BackendRep):
    """A loaded model."""

    def __init__(self, session: InferenceSession) -> None:
        self.session = session

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the model.

        Args:
            inputs: values by name, or one value per input in the model's order, without
                inputs that have an initializer; a single array for a single input.
            kwargs: accepted; there are no options.

        Returns:
            A named tuple of the outputs.

        Raises:
            Error: as in `InferenceSession.run`.
        """
        names = [arg.name for arg in self.session.get_inputs()]
        outputs = self.session.run(None, _named(inputs, names, self.session.name))
        named: tuple[Any, ...] = namedtupledict("Outputs", [arg.name for arg in self.session.get_outputs()])(*outputs)
        return named


class TinyonnxBackend(Backend):
    """The interface's class methods, which are also functions of this module."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Return whether the device is the CPU and the model can be loaded."""
        if not cls.supports_device(device):
            return False
        try:
            cls.prepare(model, device, **kwargs)
        except ModelError:
            return False
        return True

    @classmethod
    def prepare(
        cls,
        model: ModelProto | bytes | str,
        device: str = "CPU",
        sess_options: SessionOptions | None = None,
        **kwargs: Any,
    ) -> TinyonnxRep:
        """Load a ModelProto, its serialised bytes or a file.

        Raises ModelError if it can't be loaded, InputError for a device other than the CPU.
        """
        if not cls.supports_device(device):
            raise InputError(f"device {device!r} is not supported: everything runs on the CPU")
        source = model.SerializeToString() if isinstance(model, ModelProto) else model
        return TinyonnxRep(InferenceSession(source, sess_options))

    @classmethod
    def run_model(
        cls, model: ModelProto | bytes | str, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Load and run a model. Raises the errors of `prepare` and `TinyonnxRep.run`."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node.

        Args:
            node: the node; an input with an empty name is absent.
            inputs: values by name, or one value per input that is not absent.
            device: "CPU".
            outputs_info: dtypes and shapes of the outputs; ignored.
            kwargs: `opset_version` of the node's domain (default: the newest).

        Raises:
            Error: as in `InferenceSession` and its `run`.
        """
        names = list(filter(None, node.input))
        feeds = _named(inputs, names, node.op_type)
        domain = "" if node.domain == "ai.onnx" else node.domain
        opsets = {"": onnx_opset_version(), domain: kwargs.get("opset_version") or _newest(domain)}
        graph = helper.make_graph(
            [node],
            node.name or node.op_type,
            [ValueInfoProto(name=name, type=_type(value)) for name, value in feeds.items()],
            [ValueInfoProto(name=name) for name in node.output if name],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()])
        return cls.run_model(model, feeds, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether the device is the CPU, the only one supported."""
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except (AttributeError, ValueError):
            return False


is_compatible = TinyonnxBackend.is_compatible
prepare = TinyonnxBackend.prepare
run_model = TinyonnxBackend.run_model
run_node = TinyonnxBackend.run_node
supports_device = TinyonnxBackend.supports_device


def _named(inputs: Any, names: Sequence[str], where: str) -> Mapping[str, Any]:
    """Return values by name, given a mapping, a sequence in the order of the names, or a single array."""
    if isinstance(inputs, Mapping):
        return inputs
    values = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    if len(values) != len(names):
        raise InputError(f"{where}: takes {len(names)} inputs, got {len(values)}")
    return dict(zip(names, values, strict=True))


def _newest(domain: str) -> int:
    """Return the newest opset of a domain in the installed onnx; 1 for a domain that it does not have."""
    return max((s.since_version for s in get_all_schemas_with_history() if s.domain == domain), default=1)


def _type(value: Any) -> TypeProto:
    """Return the ONNX type of a value."""
    if isinstance(value, (list, tuple)):
        return helper.make_sequence_type_proto(_type(value[0]) if value else helper.make_tensor_type_proto(1, None))
    array = np.asarray(value)
    text = array.dtype.kind in "OUST"
    return helper.make_tensor_type_proto(
        TensorProto.STRING if text else helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
    )
