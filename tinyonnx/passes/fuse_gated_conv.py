"""Fuse a product with one gate per channel with the 1×1 convolution that is its only reader: y = (x · g) ∗ W + b."""

from __future__ import annotations

from tinyonnx.ir import Node, Value
from tinyonnx.passes._convolutions import activation_of, is_pointwise, residual_of, weights_of
from tinyonnx.passes._pairs import FusedCall, Pair, PairFusion
from tinyonnx.passes._rewrite import Rewrite


def fuse_gated_conv(rewrite: Rewrite) -> None:
    """Fuse every Mul by one number per item and channel, and 1×1 convolution; the latter may have a residual."""
    _FUSION.apply(rewrite)


def _matches(pair: Pair) -> bool:
    return is_pointwise(pair.second) and _image_and_gate(pair.first) is not None


def _image_and_gate(mul: Node) -> list[Value | None] | None:
    """Return image [N, C, ...] and gate [N, C, 1, ...] of a Mul; None for any other node."""
    if mul.op_type != "Mul" or mul.domain:
        return None
    for x, gate in (mul.inputs, mul.inputs[::-1]):
        if x is None or gate is None or x.const is not None or gate.const is not None:
            continue
        shape = x.static_shape
        if shape is not None and len(shape) > 2 and gate.static_shape == (*shape[:2], *[1] * (len(shape) - 2)):
            return [x, gate]
    return None


def _call(pair: Pair) -> FusedCall:
    operands = _image_and_gate(pair.first)
    assert operands is not None
    inputs = [*operands, *weights_of(pair.second), residual_of(pair.second)]
    return FusedCall("GatedConv", inputs, activation_of(pair.second))


_FUSION = PairFusion(_matches, _call, "takes in the gate of")
