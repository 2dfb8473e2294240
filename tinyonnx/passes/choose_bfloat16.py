"""Round operands of products to bfloat16: y = x ∗ W + b becomes r(x) ∗ r(W) + b'; sums stay float32.

Two errors arise. That of x differs from pixel to pixel and mostly averages out. That of W, x ∗ (W - r(W)), is the
same everywhere, but its mean is known as far as the mean of x is: b' = b + E[x] ∗ (W - r(W)). What remains is a sum
over the weights' rounding errors, which are independent: the more weights a layer has, the less of its result it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.dtypes import round_to_bfloat16
from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import Rewrite, constant

_FEWEST = 1024
"""Minimum number of weights of a product that is rounded. Measured with EfficientAT's mn04, see docs/precision.md."""

_PRODUCTS = {
    "Conv": 1,
    "FusedConv": 1,
    "Gemm": 1,
    "FusedGemm": 1,
    "MatMul": 1,
    "Linear": 1,
    "ExpandDepthwise": 1,
    "DepthwisePointwise": 1,
    "Stem": 1,
    "GatedConv": 1,
    "SqueezeGate": 2,
}
"""Operators with kernels for rounded operands, and the number of products in one node."""


class RoundableProduct(NamedTuple):
    """A node that multiplies with constant weights; `matrix` is [k, n] in float32."""

    node: Node
    weight: Value
    matrix: Array


def products(rewrite: Rewrite) -> Iterator[RoundableProduct]:
    """Yield the 1×1 convolutions, Gemms and MatMuls with a constant float32 matrix."""
    for node in list(rewrite.graph.nodes):
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        w = constant(weight)
        if weight is None or w is None or w.dtype != np.float32 or node.domain:
            continue
        if node.op_type == "Conv" and _is_pointwise(node, w):
            yield RoundableProduct(node, weight, w.reshape(w.shape[:2]).T)
        elif node.op_type in ("Gemm", "MatMul") and w.ndim == 2:
            yield RoundableProduct(node, weight, w.T if node.attributes.get("transB") else w)


def _is_pointwise(conv: Node, w: Array) -> bool:
    get = conv.attributes.get
    if any(n != 1 for n in w.shape[2:]) or get("group", 1) != 1 or any(n != 1 for n in get("strides") or ()):
        return False
    return not any(get("pads") or ())


def round_weights(rewrite: Rewrite) -> None:
    """Round the weights of all products that have enough of them, and correct their biases."""
    if rewrite.input_means is None:
        return
    for product in products(rewrite):
        node, size = product.node, product.matrix.size
        if size < _FEWEST:
            rewrite.refused(node, f"float32: {size} weights, fewer than the {_FEWEST} over which errors average out")
            continue
        corrected = _correct_bias(rewrite, product)
        weight = product.weight
        assert weight.const is not None
        rounded = rewrite.constant(f"{weight.name}:bfloat16", "bfloat16", round_to_bfloat16, weight.const)
        rewrite.graph.set_input(node, 1, rounded)
        rewrite.rounded.add(node.origin[0])
        rewrite.applied(node, f"bfloat16: {size} weights{', bias corrected' if corrected else ''}")


def _correct_bias(rewrite: Rewrite, product: RoundableProduct) -> bool:
    """Add the mean error of the weights to the bias, if both are known."""
    node, weight, matrix = product
    x, bias = node.inputs[0], constant(node.inputs[2]) if len(node.inputs) > 2 else None
    mean = rewrite.input_means.get(x.name) if x is not None and rewrite.input_means is not None else None
    has_factors = node.attributes.get("alpha", 1.0) != 1 or node.attributes.get("beta", 1.0) != 1
    if mean is None or bias is None or bias.size != matrix.shape[1] or len(mean) != len(matrix) or has_factors:
        return False

    def add_mean_error(b: Array, _: Array) -> Array:
        error: Any = matrix.astype(np.float64) - round_to_bfloat16(matrix)
        return np.asarray((b + (mean @ error).reshape(b.shape)).astype(np.float32))

    assert weight.const is not None
    corrected = rewrite.constant(f"{weight.name}:bias", "bfloat16 bias", add_mean_error, bias, weight.const)
    rewrite.graph.set_input(node, 2, corrected)
    return True


def mark_rounded(rewrite: Rewrite) -> None:
    """Mark the nodes whose products all have rounded weights: their kernels round the other operand, too."""
    if not rewrite.rounds_operands:
        return
    for node in rewrite.graph.nodes:
        count = sum(name in rewrite.rounded for name in node.origin)
        node.rounded = count > 0 and count == _PRODUCTS.get(node.op_type)
