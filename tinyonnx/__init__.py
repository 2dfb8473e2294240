"""An ONNX interpreter in Python.

onnx parses the file, numpy defines the meaning of every operator, numba compiles kernels for the frequent ones::

    session = tinyonnx.InferenceSession("model.onnx")
    (logits,) = session.run(["logits"], {"melspec": features})
"""

import os
from typing import TYPE_CHECKING, Any

from tinyonnx.errors import Error, InputError, ModelError, NodeError, OpError, ResourceError
from tinyonnx.ir import Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.ort.io_binding import IOBinding
from tinyonnx.ort.options import ExecutionMode, ExecutionOrder, GraphOptimizationLevel, RunOptions, SessionOptions
from tinyonnx.ort.process import (
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_available_providers,
    get_build_info,
    get_device,
    preload_dlls,
    set_default_logger_callback,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)
from tinyonnx.ort.session import InferenceSession, ModelMetadata, NodeArg
from tinyonnx.ort.values import OrtDevice, OrtValue
from tinyonnx.registry import op

if TYPE_CHECKING:
    from tinyonnx.codegen.kernel import jit, kernel

__version__ = "0.2.0"

__all__ = [
    "Error",
    "ExecutionMode",
    "ExecutionOrder",
    "Graph",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InputError",
    "Limits",
    "ModelError",
    "ModelMetadata",
    "Node",
    "NodeArg",
    "NodeError",
    "OpError",
    "OrtDevice",
    "OrtValue",
    "ResourceError",
    "RunOptions",
    "SessionOptions",
    "Value",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "install_as_onnxruntime",
    "jit",
    "kernel",
    "op",
    "preload_dlls",
    "save_model",
    "set_default_logger_callback",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
    "to_bytes",
]


def __getattr__(name: str) -> Any:
    if name in ("jit", "kernel"):  # imported on first use, because the compiler takes long to import
        from tinyonnx.codegen import kernel as module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install_as_onnxruntime() -> None:
    """Make `import onnxruntime` give this package, for packages that can't be edited.

    Raises RuntimeError if the real onnxruntime was imported before.
    """
    from tinyonnx.ort.drop_in import install

    install()


def save_model(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph as an ONNX file, atomically.

    Raises ModelError if ONNX can't express it, OSError if it can't be written.
    """
    from tinyonnx.onnxfile.save import save

    save(graph, path)


def to_bytes(graph: Graph) -> bytes:
    """Serialise a graph as an ONNX file. Raises ModelError if ONNX can't express it."""
    from tinyonnx.onnxfile import save

    return save.to_bytes(graph)
