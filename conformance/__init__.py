"""Conformance checks against independent oracles: onnx.reference, PyTorch's results, ONNX Runtime, real recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyonnx.ir import Array

N_CLASSES = 527


class ConformanceError(Exception):
    """A check that can't be run: its data is missing or unusable, or the oracle fails."""


def pick_logits(names: Sequence[str], results: Sequence[Any]) -> Array:
    """Return the logits of one clip, (527,): the output `logits`, else the first output of that size.

    Exporters may squeeze outputs, so that the batch axis may be missing. Raises ConformanceError if no output has 527
    values.
    """
    sized = {name: result for name, result in zip(names, results, strict=True) if result.size == N_CLASSES}
    if not sized:
        raise ConformanceError(f"no output has {N_CLASSES} logits; the outputs are {', '.join(names)}")
    logits: Array = sized.get("logits", next(iter(sized.values())))
    return logits.reshape(N_CLASSES)
