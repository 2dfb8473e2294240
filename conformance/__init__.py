"""Checks of this project's own models against PyTorch's results and real recordings, and findings in other runtimes.

This package is not installed. The checks for any runtime are the package `onnx_conformance`; `python -m conformance`
has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx_conformance import ConformanceError
from tinyonnx.ir import Array

N_CLASSES = 527


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
