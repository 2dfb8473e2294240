"""Proof against oracles that are not us: onnx.reference, PyTorch's golden numbers, ONNX Runtime, real recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyonnx.ir import Array

N_CLASSES = 527


class ConformanceError(Exception):
    """A run that can't be made: its data is missing or unusable, or the oracle fails."""


def pick_logits(names: Sequence[str], results: Sequence[Any]) -> Array:
    """The logits of one clip, (527,): the output `logits`, or else the first of that size, as `audiotag` takes it.

    Exporters bake squeezes in, so that the batch axis may be missing. Raises
    ConformanceError if no output has 527 values.
    """
    sized = {name: result for name, result in zip(names, results, strict=True) if result.size == N_CLASSES}
    if not sized:
        raise ConformanceError(f"none of {', '.join(names)} has {N_CLASSES} logits")
    logits: Array = sized.get("logits", next(iter(sized.values())))
    return logits.reshape(N_CLASSES)
