"""Resource limits, which guard against hostile and broken models."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

import numpy as np

from tinyonnx.errors import InputError, ModelError, ResourceError

MAX_RANK = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
"""The highest rank of a numpy array."""


HOW_TO_RAISE_IT = "raise it in SessionOptions.limits or TINYONNX_MAX_MEMORY"
"""Advice of errors about bounds of bytes."""


class ModelLimitError(ModelError, ResourceError):
    """The model can't be loaded because it exceeds a limit."""


def _default_bytes() -> int:
    """Return 4 GiB, or the GiB that TINYONNX_MAX_MEMORY sets. Raises InputError if that is no positive number."""
    text = os.environ.get("TINYONNX_MAX_MEMORY") or "4"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(f"TINYONNX_MAX_MEMORY must be a positive number of GiB, not {text!r}")
    return int(number * (1 << 30))


@dataclass(frozen=True)
class Limits:
    """Upper bounds on the resources that loading and running a model may take.

    The defaults are far above what real models need and far below what harms a machine. Time is unlimited by
    default: only the caller knows how long is too long. The environment variable TINYONNX_MAX_MEMORY, in GiB, replaces
    the 4 GiB of both bounds of bytes, also for programs that know nothing of limits. Raises ValueError for a negative
    bound, InputError for a variable that is no positive number.
    """

    max_tensor_bytes: int = field(default_factory=_default_bytes)
    """Maximum bytes of one tensor, whether initializer or result."""

    max_run_bytes: int = field(default_factory=_default_bytes)
    """Maximum bytes that one run holds at a time: arena and results of numpy steps, without weights and feeds."""

    max_nodes: int = 1_000_000
    """Maximum nodes of the model after inlining model-local functions."""

    max_loop_iterations: int = 1_000_000
    """Maximum iterations of all Loop and Scan nodes in one run, taken together."""

    max_seconds: float | None = None
    """Maximum wall-clock seconds of one run; None for no limit."""

    max_depth: int = 64
    """Maximum nesting of subgraphs and function calls."""

    def __post_init__(self) -> None:
        for name in ("max_tensor_bytes", "max_run_bytes", "max_nodes", "max_loop_iterations", "max_depth"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"max_seconds must be positive or None, got {self.max_seconds}")
