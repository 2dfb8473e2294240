"""What a model may cost at most: the guard against hostile and broken models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyonnx.errors import ModelError, ResourceError

MAX_RANK = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
"""The highest rank of a numpy array."""


class ModelLimitError(ModelError, ResourceError):
    """The model can't be loaded because it goes over one of its limits."""


@dataclass(frozen=True)
class Limits:
    """Upper bounds on what loading and running a model may take.

    The defaults are far above what real models need and far below what harms a machine,
    except that time is not bounded: how long is too long only the caller can say.
    """

    max_tensor_bytes: int = 4 << 30
    """Bytes of any one tensor, initializers and results alike."""

    max_nodes: int = 1_000_000
    """Nodes of the model, after model-local functions were inlined."""

    max_loop_iterations: int = 1_000_000
    """Iterations of all Loop and Scan nodes in one run, taken together."""

    max_seconds: float | None = None
    """Wall-clock seconds of one run."""

    max_depth: int = 64
    """Subgraphs within subgraphs and function calls within function calls."""

    def __post_init__(self) -> None:
        for name in ("max_tensor_bytes", "max_nodes", "max_loop_iterations", "max_depth"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"max_seconds must be positive or None, got {self.max_seconds}")
