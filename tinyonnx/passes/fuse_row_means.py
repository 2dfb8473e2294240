"""Means of a depthwise convolution's rows, made while the rows are at hand: mean(y) = mean(rows' means)."""

from __future__ import annotations

from tinyonnx.ir import Value
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.registry import FUSED


def fuse_row_means(rewrite: Rewrite) -> None:
    """Apply the rewrite to every SqueezeGate of what an ExpandDepthwise gives."""
    for gate in [n for n in rewrite.graph.nodes if (n.op_type, n.domain) == ("SqueezeGate", FUSED)]:
        x = gate.inputs[0]
        source = x.producer if x is not None else None
        if x is None or x.shape is None or source is None or source.op_type != "ExpandDepthwise":
            continue
        if len(source.outputs) == 1:
            source.outputs.append(None)
            means = source.outputs[1] = Value(f"{x.name}:means", x.dtype, (*x.shape[:-1], 1))
            means.producer = source
        rewrite.graph.set_input(gate, 0, source.outputs[1])
        rewrite.applied(gate, f"takes its means from {source.label}")
