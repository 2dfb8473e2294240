"""PyTorch, for the models that onnx2torch converts."""

from __future__ import annotations

from typing import Any

from onnx import load_from_string

from onnx_conformance.reproduce import torch_array, torch_tensor
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
                found = module(*(torch_tensor(feeds[name]) for name in names))
            return [torch_array(value) for value in (found if isinstance(found, (list, tuple)) else [found])]

        return run

    return prepare
