"""A depthwise convolution read by a small 1×1 one alone: both in one step, row by row."""

from __future__ import annotations

from tinyonnx.passes._convolutions import (
    activation_of,
    has_residual,
    is_convolution,
    is_depthwise,
    is_pointwise,
    weights_of,
)
from tinyonnx.passes._rewrite import Rewrite, constant, reader, why_not_private

_LARGEST = 1 << 14
"""Weights of the 1×1 convolution: they are read again for each row, and have to stay in the nearest cache."""


def fuse_depthwise_pointwise(rewrite: Rewrite) -> None:
    """Apply the rewrite to every 1×1 convolution that is fed by a depthwise one."""
    for second in [n for n in rewrite.graph.nodes if is_convolution(n) and is_pointwise(n)]:
        first = second.inputs[0].producer if second.inputs[0] is not None else None
        if first is None or not is_depthwise(first):
            continue
        w = constant(second.inputs[1])
        if w is None or w.size > _LARGEST:
            rewrite.refused(second, f"not fused with {first.label}: more than {_LARGEST} weights")
            continue
        if reader(first.output) is not second:
            rewrite.refused(second, f"not fused with {first.label}: {why_not_private(first.output)}")
            continue
        attributes = {k: v for k, v in first.attributes.items() if k != "group" and k not in activation_of(first)}
        attributes |= {f"depthwise_{k}": v for k, v in activation_of(first).items()} | activation_of(second)
        residual = second.inputs[3] if has_residual(second) else None
        inputs = [first.inputs[0], *weights_of(first), *weights_of(second), residual]
        fused = rewrite.fuse(second, [first], "DepthwisePointwise", inputs, attributes)
        rewrite.applied(fused, f"takes in the depthwise convolution {first.label}")
