"""PyTorch, for the models that onnx2torch converts."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import load_from_string

from onnx_conformance.runtimes.base import Prepare, Run


def start() -> Prepare:
    """Return the way to prepare a model."""
    import onnx2torch
    import torch

    torch.set_num_threads(1)

    def prepare(model: bytes) -> Run:
        proto = load_from_string(model)
        initialised = {tensor.name for tensor in proto.graph.initializer}
        names = [value.name for value in proto.graph.input if value.name not in initialised]
        module = onnx2torch.convert(proto).eval()

        def run(feeds: dict[str, Any]) -> list[Any]:
            with torch.no_grad():
                found = module(*(to_tensor(feeds[name]) for name in names))
            return [to_array(value) for value in (found if isinstance(found, (list, tuple)) else [found])]

        return run

    def to_tensor(array: Any) -> Any:
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(np.array(array, np.float32)).to(torch.bfloat16)
        return torch.from_numpy(np.array(array))

    def to_array(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
            return value.to(torch.float32).numpy().astype(ml_dtypes.bfloat16)
        return value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)

    return prepare
