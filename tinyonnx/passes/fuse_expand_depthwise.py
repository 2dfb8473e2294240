"""A 1×1 convolution read by a depthwise one alone: both in one step, and the wide image never exists."""

from __future__ import annotations

from tinyonnx.passes._convolutions import (
    activation_of,
    has_residual,
    is_convolution,
    is_depthwise,
    is_pointwise,
    weights_of,
)
from tinyonnx.passes._rewrite import Rewrite, reader, why_not_private


def fuse_expand_depthwise(rewrite: Rewrite) -> None:
    """Apply the rewrite to every depthwise convolution that widens nothing and is fed by a 1×1 one."""
    for second in [n for n in rewrite.graph.nodes if is_convolution(n)]:
        first = second.inputs[0].producer if second.inputs[0] is not None else None
        if first is None or not is_depthwise(second) or not is_pointwise(first) or has_residual(first):
            continue
        if reader(first.output) is not second:
            rewrite.refused(second, f"not fused with {first.label}: {why_not_private(first.output)}")
            continue
        attributes = {k: v for k, v in second.attributes.items() if k != "group"}
        attributes |= {f"expand_{k}": v for k, v in activation_of(first).items()}
        inputs = [first.inputs[0], *weights_of(first), *weights_of(second)]
        fused = rewrite.fuse(second, [first], "ExpandDepthwise", inputs, attributes)
        rewrite.applied(fused, f"takes in the 1×1 convolution {first.label}")
