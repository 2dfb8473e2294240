"""The front end of models that take the waveform itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tinyonnx.ir import Array


NO_SAMPLES = np.empty(0, np.float32)
"""A block without samples."""


class SampleStream:
    """Samples of a clip that arrives in blocks, as one row: the counterpart of `LogMelStream`."""

    def __init__(self) -> None:
        self.n_samples = 0

    def push(self, x: Array) -> Array:
        """Return (n,) samples as (1, n) float32 in memory of their own."""
        self.n_samples += len(x)
        return np.array(x, np.float32)[None]

    def finish(self, x: Array = NO_SAMPLES) -> Array:
        """Return the last samples as (1, n) float32."""
        return self.push(x)
