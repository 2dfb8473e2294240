"""onnxruntime's functions of the process, by its names; what has no meaning here is accepted and has no effect."""

from __future__ import annotations

from typing import Any


def get_available_providers() -> list[str]:
    """Always the CPU, as onnxruntime names it."""
    return ["CPUExecutionProvider"]


def get_all_providers() -> list[str]:
    """Always the CPU, as onnxruntime names it."""
    return ["CPUExecutionProvider"]


def get_device() -> str:
    """Always "CPU"."""
    return "CPU"


def get_build_info() -> str:
    """A line that says what this is."""
    from tinyonnx import __version__

    return f"tinyonnx {__version__}, not ONNX Runtime"


def set_seed(seed: int) -> None:
    """Make random operators without a seed of their own give the same numbers in every process, run after run."""
    from tinyonnx.ops import random

    random.set_seed(seed)


def set_default_logger_severity(severity: int) -> None:
    """Accepted; the logger is `logging.getLogger("tinyonnx")`."""


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted; the logger is `logging.getLogger("tinyonnx")`."""


def disable_telemetry_events() -> None:
    """Accepted; there is no telemetry."""


def enable_telemetry_events() -> None:
    """Accepted; there is no telemetry."""


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: Any = None) -> None:
    """Accepted; there are no libraries to load."""
