"""tinyonnx, optimised, or as its numpy operators."""

from __future__ import annotations

from functools import partial
from typing import Any

from onnx_conformance.runtimes.base import Prepare, Run


def start(optimised: bool) -> Prepare:
    """Return the way to prepare a model; without `optimised`, passes and kernels are off."""
    import tinyonnx

    def prepare(model: bytes) -> Run:
        options = tinyonnx.SessionOptions()
        options.intra_op_num_threads = 1
        if not optimised:
            options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
        return partial(tinyonnx.InferenceSession(model, options).run, None)

    return prepare


def applied_passes(model: bytes, feeds: dict[str, Any]) -> list[str]:
    """Return the passes that rewrite a model for these inputs. Raises tinyonnx.Error."""
    import tinyonnx

    remarks = tinyonnx.InferenceSession(model).rewrite(feeds).remarks
    return sorted({remark.pass_name for remark in remarks if remark.applied})
