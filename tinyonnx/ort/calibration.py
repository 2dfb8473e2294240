"""Means of the tensors that products read, for the correction of rounded weights (`passes.choose_bfloat16`)."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from tinyonnx.dtypes import from_onnx_type
from tinyonnx.errors import Error
from tinyonnx.ir import Array, Graph
from tinyonnx.ort.options import SessionOptions
from tinyonnx.ort.session import InferenceSession
from tinyonnx.passes import PIPELINE
from tinyonnx.passes.choose_bfloat16 import products, round_weights

_SIZE = 256
"""Size of dimensions that the file leaves open, except for the first of an input, which is 1."""

_LOG = logging.getLogger("tinyonnx")


def input_means(graph: Graph, name: str, given: SessionOptions) -> dict[str, Array]:
    """Return the mean of each channel of the operands of products, by tensor, when all inputs are 0.

    Zeros need no data, and every run of a file gets the same means. Empty if the model can't run with them.
    """
    options = SessionOptions()
    options.limits, options.intra_op_num_threads = given.limits, given.intra_op_num_threads
    session = InferenceSession.of_graph(graph.clone(), name, options)
    try:
        feeds = {arg.name: _zeros(arg.type, arg.shape) for arg in session.get_inputs()}
        rewrite = session.rewrite(feeds, PIPELINE[: PIPELINE.index(round_weights)])
        known = graph.values()
        operands = {
            product.node.inputs[0].name: product.node.op_type
            for product in products(rewrite)
            if product.node.inputs[0] is not None and product.node.inputs[0].name in known
        }
        results = session.run(list(operands), feeds) if operands else []
    except (Error, KeyError) as error:
        _LOG.info("%s: rounded weights are not corrected: a run of zeros failed: %s", name, error)
        return {}
    means = {}
    for (operand, op_type), x in zip(operands.items(), results, strict=True):
        axis = 1 if op_type == "Conv" else x.ndim - 1
        mean = x.mean(axis=tuple(i for i in range(x.ndim) if i != axis), dtype=np.float64)
        if np.isfinite(mean).all():
            means[operand] = mean
    return means


def _zeros(kind: str, shape: list[Any]) -> Array:
    sizes = [dim if isinstance(dim, int) else 1 if axis == 0 else _SIZE for axis, dim in enumerate(shape)]
    dtype = from_onnx_type(kind)
    return np.full(sizes, "", object) if dtype.kind == "O" else np.zeros(sizes, dtype)
