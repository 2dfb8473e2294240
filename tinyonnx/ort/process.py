"""onnxruntime's functions for the process; those without a meaning here are accepted and ignored."""

from __future__ import annotations

from typing import Any


def get_available_providers() -> list[str]:
    """Return onnxruntime's name for the CPU, the only provider."""
    return ["CPUExecutionProvider"]


def get_all_providers() -> list[str]:
    """Return onnxruntime's name for the CPU, the only provider."""
    return ["CPUExecutionProvider"]


def get_device() -> str:
    """Return "CPU"."""
    return "CPU"


def get_build_info() -> str:
    """Return name and version of this package."""
    from tinyonnx import __version__

    return f"tinyonnx {__version__}, not ONNX Runtime"


def set_seed(seed: int) -> None:
    """Seed random operators without a seed attribute, so that every process draws the same numbers."""
    from tinyonnx.ops import random

    random.set_seed(seed)


def set_default_logger_severity(severity: int) -> None:
    """Do nothing: configure `logging.getLogger("tinyonnx")` instead."""


def set_default_logger_verbosity(verbosity: int) -> None:
    """Do nothing: configure `logging.getLogger("tinyonnx")` instead."""


def disable_telemetry_events() -> None:
    """Do nothing: there is no telemetry."""


def enable_telemetry_events() -> None:
    """Do nothing: there is no telemetry."""


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: Any = None) -> None:
    """Do nothing: there are no libraries to load."""
