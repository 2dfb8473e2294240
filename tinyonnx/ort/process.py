"""onnxruntime's functions for the process; those without a meaning here are accepted and ignored."""

from __future__ import annotations

import logging
from collections.abc import Callable
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


_Call = Callable[[int, str, str, str, str], object]


class _Callback(logging.Handler):
    def __init__(self, call: _Call) -> None:
        super().__init__()
        self.call = call

    def emit(self, record: logging.LogRecord) -> None:
        severity = min(max(record.levelno // 10 - 1, 0), 4)
        self.call(severity, record.name, "", f"{record.pathname}:{record.lineno}", record.getMessage())


def set_default_logger_callback(
    callback: Callable[[int, str, str, str, str], object] | None, severity: int = 2
) -> None:
    """Call `callback(severity, category, logid, code_location, message)` for messages of the logger "tinyonnx".

    None removes it. `severity` is the lowest that is passed on: 0 verbose, 1 information, 2 warning, 3 error, 4 fatal.
    """
    logger = logging.getLogger("tinyonnx")
    for handler in [h for h in logger.handlers if isinstance(h, _Callback)]:
        logger.removeHandler(handler)
    if callback is not None:
        logger.addHandler(_Callback(callback))
        logger.setLevel((severity + 1) * 10)


def disable_telemetry_events() -> None:
    """Do nothing: there is no telemetry."""


def enable_telemetry_events() -> None:
    """Do nothing: there is no telemetry."""


def preload_dlls(cuda: bool = True, cudnn: bool = True, msvc: bool = True, directory: Any = None) -> None:
    """Do nothing: there are no libraries to load."""
