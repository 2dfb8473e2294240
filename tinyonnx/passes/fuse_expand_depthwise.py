"""Fuse a 1×1 convolution with the depthwise one that is its only reader, to avoid the wide image between them."""

from __future__ import annotations

from tinyonnx.passes._convolutions import (
    activation_of,
    is_depthwise,
    is_pointwise,
    residual_of,
    weights_of,
)
from tinyonnx.passes._pairs import FusedCall, Pair, PairFusion
from tinyonnx.passes._rewrite import Rewrite


def fuse_expand_depthwise(rewrite: Rewrite) -> None:
    """Fuse every 1×1 convolution, without residual, and depthwise convolution."""
    _FUSION.apply(rewrite)


def _matches(pair: Pair) -> bool:
    return is_depthwise(pair.second) and is_pointwise(pair.first) and residual_of(pair.first) is None


def _call(pair: Pair) -> FusedCall:
    first, second = pair
    attributes = second.attributes | {f"expand_{name}": value for name, value in activation_of(first).items()}
    return FusedCall("ExpandDepthwise", [first.inputs[0], *weights_of(first), *weights_of(second)], attributes)


_FUSION = PairFusion(_matches, _call, "takes in the 1×1 convolution")
