"""Fuse the first convolution of a mobile network with the depthwise and 1×1 ones after it, row by row.

The images between these layers are the largest of the network; fused, they are never written to memory. The last
convolution may add the result of the first.
"""

from __future__ import annotations

from tinyonnx.errors import OpError
from tinyonnx.ops.conv import ConvAttributes, conv_windows
from tinyonnx.passes._convolutions import activation_of, geometry_of, is_convolution, residual_of, weights_of
from tinyonnx.passes._rewrite import Rewrite, producer, why_no_sole_reader
from tinyonnx.passes.specialise import info_of
from tinyonnx.registry import FUSED

_MOST_TAPS = 32
"""Maximum number of weights per filter of the first convolution: threads compute rows at their borders twice."""


def fuse_stem(rewrite: Rewrite) -> None:
    """Fuse every convolution with few taps with the DepthwisePointwise that is its only reader."""
    for node in [n for n in rewrite.graph.nodes if (n.op_type, n.domain) == ("DepthwisePointwise", FUSED)]:
        image, residual = node.inputs[0], node.inputs[5]
        first = producer(image)
        if image is None or first is None or not is_convolution(first) or residual_of(first) is not None:
            continue
        x, w = info_of(first.inputs[0]), info_of(first.inputs[1])
        if x is None or w is None or w.value is None or x.shape is None or len(x.shape) != 4:
            continue
        if w.value[0].size > _MOST_TAPS or first.attributes.get("group", 1) != 1:
            rewrite.refused(node, f"not fused with {first.label}: groups, or more than {_MOST_TAPS} taps")
            continue
        if residual not in (None, image) or any(user is not node for user, _ in image.uses):
            reason = why_no_sole_reader(image) if residual in (None, image) else "it adds something else"
            rewrite.refused(node, f"not fused with {first.label}: {reason}")
            continue
        try:
            windows = conv_windows(x, w, geometry=ConvAttributes(**geometry_of(first)))
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
