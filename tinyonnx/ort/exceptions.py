"""onnxruntime's exceptions under their own names.

The exceptions of `tinyonnx.errors` derive from those that onnxruntime raises in the same situation.
"""

from __future__ import annotations


class Fail(Exception):
    """The model can't be loaded or run."""


class InvalidArgument(Exception):
    """A feed, a requested output or an input of a node does not fit."""


class NoSuchFile(Exception):
    """The model file does not exist."""


class InvalidProtobuf(Exception):
    """The file is not an ONNX model."""


class InvalidGraph(Exception):
    """The graph breaks a rule of ONNX."""


class NotImplemented(Exception):
    """An operator is not implemented."""


class RuntimeException(Exception):
    """A node failed."""


class NotFound(Exception):
    """Something was not found. Never raised here."""


class NoModel(Exception):
    """There is no model. Never raised here."""


class EngineError(Exception):
    """The engine failed. Never raised here."""


class ModelLoaded(Exception):
    """A model is loaded already. Never raised here."""


class EPFail(Exception):
    """An execution provider failed. Never raised here."""


class ModelLoadCanceled(Exception):
    """Loading was cancelled. Never raised here."""


class ModelRequiresCompilation(Exception):
    """The model must be compiled first. Never raised here."""


class DeviceReset(Exception):
    """A device was reset. Never raised here."""


EXCEPTIONS = {
    kind.__name__: kind
    for kind in (
        *(Fail, InvalidArgument, NoSuchFile, InvalidProtobuf, InvalidGraph, NotImplemented, RuntimeException, NotFound),
        *(NoModel, EngineError, ModelLoaded, EPFail, ModelLoadCanceled, ModelRequiresCompilation, DeviceReset),
    )
}
"""All of them by name."""
