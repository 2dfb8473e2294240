"""tinyonnx, optimised and as its numpy operators."""

from __future__ import annotations

from functools import partial

from onnx_conformance.runtimes.base import Prepare, Run


def start(optimised: bool) -> Prepare:
    """Return the way to prepare a model; not `optimised`, without passes and kernels."""
    import tinyonnx

    def prepare(model: bytes) -> Run:
        options = tinyonnx.SessionOptions()
        options.intra_op_num_threads = 1
        if not optimised:
            options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
        return partial(tinyonnx.InferenceSession(model, options).run, None)

    return prepare
