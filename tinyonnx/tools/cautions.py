"""Find nodes whose results are random or differ between runtimes."""

from __future__ import annotations

import numpy as np

from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.onnxfile.check import describe


def cautions(graph: Graph) -> list[str]:
    """Return a sentence about each such node, including those of subgraphs."""
    found = []
    for node in graph.walk():
        reason = None if node.domain else _training_dropout(node) or _shrinks_to_fraction(node)
        if reason is not None:
            found.append(f"{describe(node.op_type, node.domain, node.label, node.index)} {reason}")
    return found


def _constant(value: Value | None) -> Array | None:
    """Return the value of an initializer or of a Constant node, else None."""
    if value is None or value.const is not None:
        return None if value is None else value.const
    producer = value.producer
    given = producer.attributes.get("value") if producer is not None and producer.op_type == "Constant" else None
    return given if isinstance(given, np.ndarray) else None


def _training_dropout(node: Node) -> str | None:
    """Return the caution of a Dropout exported in training mode, or of one whose mode is an input of the model."""
    mode = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
    given = _constant(mode)
    if mode is None or (given is not None and not given.any()):
        return None
    return (
        "is in training mode: optimised graphs leave it out, as in onnxruntime; its result is random "
        "if it is an output, if its mask is read, or without optimisation"
    )


def _shrinks_to_fraction(node: Node) -> str | None:
    """Return the caution of a Resize with align_corners that cuts off a fraction of an element."""
    if node.op_type != "Resize" or node.attributes.get("coordinate_transformation_mode") != "align_corners":
        return None
    x, scales = [*node.inputs, None, None][:3:2]
    factors = _constant(scales)
    if x is None or factors is None or x.shape is None:
        return None
    axes = node.attributes.get("axes") or range(len(x.shape))
    for size, scale in zip((x.shape[axis] for axis in axes), factors.ravel().astype(np.float32)):
        if scale < 1 and not (isinstance(size, int) and float(np.float32(size) * scale).is_integer()):
            return (
                "shrinks by a scale with align_corners: ONNX keeps the fraction of an element that is cut off "
                "the new size, PyTorch and onnxruntime don't"
            )
    return None
