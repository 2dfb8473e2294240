"""The first convolution of a mobile network in one step with the depthwise and 1×1 ones after it, row by row.

An image never is as large again as between these layers; so it is not written to memory. The
sum of the first convolution's result and the last one's may be part of it.
"""

from __future__ import annotations

from tinyonnx.errors import OpError
from tinyonnx.ops.conv import conv_windows
from tinyonnx.passes._convolutions import activation_of, has_residual, is_convolution, weights_of
from tinyonnx.passes._rewrite import Rewrite, why_not_private
from tinyonnx.passes.specialise import info_of
from tinyonnx.registry import FUSED

_TAPS = 32
"""Of the first convolution: so few that a row of its result is quickly computed again for another thread."""


def fuse_stem(rewrite: Rewrite) -> None:
    """Apply the rewrite to every DepthwisePointwise that is fed by a convolution of few taps."""
    for node in [n for n in rewrite.graph.nodes if (n.op_type, n.domain) == ("DepthwisePointwise", FUSED)]:
        image, residual = node.inputs[0], node.inputs[5]
        first = image.producer if image is not None else None
        if image is None or first is None or not is_convolution(first) or has_residual(first):
            continue
        x, w = info_of(first.inputs[0]), info_of(first.inputs[1])
        if x is None or w is None or w.value is None or x.shape is None or len(x.shape) != 4:
            continue
        if w.value[0].size > _TAPS or first.attributes.get("group", 1) != 1:
            rewrite.refused(node, f"not fused with {first.label}: groups, or more than {_TAPS} taps")
            continue
        if residual not in (None, image) or any(user is not node for user, _ in image.uses):
            reason = why_not_private(image) if residual in (None, image) else "it adds something else"
            rewrite.refused(node, f"not fused with {first.label}: {reason}")
            continue
        geometry = {k: v for k, v in first.attributes.items() if not k.startswith("activation")}
        try:
            windows = conv_windows(x, w, **geometry)
        except OpError as error:
            rewrite.refused(node, f"not fused with {first.label}: {error}")
            continue
        if set(windows.dilations) != {1} or min(windows.begin + windows.end) < 0:
            rewrite.refused(node, f"not fused with {first.label}: dilations, or negative pads")
            continue
        attributes = {**node.attributes, **{f"stem_{k}": v for k, v in activation_of(first).items()}}
        attributes |= {"stem_strides": list(windows.strides), "stem_pads": [*windows.begin, *windows.end]}
        attributes["residual"] = int(residual is image)
        inputs = [first.inputs[0], *weights_of(first), *node.inputs[1:5]]
        fused = rewrite.fuse(node, [first], "Stem", inputs, attributes)
        rewrite.applied(fused, f"takes in the convolution {first.label}")
