"""Fuse a depthwise convolution with the small 1×1 one that is its only reader; the kernel computes both row by row."""

from __future__ import annotations

from tinyonnx.passes._convolutions import (
    activation_of,
    geometry_of,
    is_depthwise,
    is_pointwise,
    residual_of,
    weights_of,
)
from tinyonnx.passes._pairs import FusedCall, Pair, PairFusion
from tinyonnx.passes._rewrite import Rewrite, constant

_MOST_WEIGHTS = 1 << 14
"""Largest weights of the 1×1 convolution: they are read again for each row and have to stay in the L1 cache."""


def fuse_depthwise_pointwise(rewrite: Rewrite) -> None:
    """Fuse every depthwise and 1×1 convolution; the second may have a residual."""
    _FUSION.apply(rewrite)


def _matches(pair: Pair) -> bool:
    return is_depthwise(pair.first) and is_pointwise(pair.second)


def _too_many_weights(pair: Pair) -> str | None:
    w = constant(pair.second.inputs[1])
    return f"more than {_MOST_WEIGHTS} weights" if w is not None and w.size > _MOST_WEIGHTS else None


def _call(pair: Pair) -> FusedCall:
    first, second = pair
    attributes = geometry_of(first) | activation_of(second)
    attributes |= {f"depthwise_{name}": value for name, value in activation_of(first).items()}
    inputs = [first.inputs[0], *weights_of(first), *weights_of(second), residual_of(second)]
    return FusedCall("DepthwisePointwise", inputs, attributes)


_FUSION = PairFusion(_matches, _call, "takes in the depthwise convolution", checks=(_too_many_weights,))
