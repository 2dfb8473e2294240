r"""Fold BatchNormalization into the convolution before it.

With σ = √(var + ε) per output channel: W' = W·γ/σ and b' = β + (b − mean)·γ/σ. This holds for any number of groups,
because γ/σ scales whole output channels. The new weights are computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.ir import Array, Node
from tinyonnx.passes._rewrite import Rewrite, constant, producer, sole_reader, why_no_sole_reader


def fold_batchnorm(rewrite: Rewrite) -> None:
    """Fold every BatchNormalization that reads a Conv or ConvTranspose."""
    for norm in [n for n in rewrite.graph.nodes if n.op_type == "BatchNormalization" and not n.domain]:
        conv = producer(norm.inputs[0])
        if conv is None or conv.op_type not in ("Conv", "ConvTranspose") or conv.domain:
            continue
        reason = _why_not(rewrite, conv, norm)
        if reason:
            rewrite.refused(norm, reason)
            continue
        weight, bias = constant(conv.inputs[1]), constant(conv.inputs[2]) if len(conv.inputs) > 2 else None
        parameters = [constant(v) for v in norm.inputs[1:5]]
        assert weight is not None
        arrays = [weight, *(p for p in parameters if p is not None), *([bias] if bias is not None else [])]
        epsilon = float(norm.attributes.get("epsilon", 1e-5))
        group = int(conv.attributes.get("group", 1)) if conv.op_type == "ConvTranspose" else 0

        def new_weight(w: Array, *rest: Array, epsilon: float = epsilon, group: int = group) -> Array:
            return scale_outputs(w, _scale(rest, epsilon), group)

        def new_bias(w: Array, *rest: Array, epsilon: float = epsilon) -> Array:
            _, shift, mean, _ = rest[:4]
            old: Any = rest[4].astype(np.float64) if len(rest) > 4 else 0.0
            return np.asarray((shift + (old - mean.astype(np.float64)) * _scale(rest, epsilon)).astype(w.dtype))

        tag = ("fold_batchnorm", epsilon, group)
        name = conv.label
        folded = rewrite.fuse(
            norm,
            [conv],
            conv.op_type,
            [
                conv.inputs[0],
                rewrite.constant(f"{name}:weight", (*tag, "weight"), new_weight, *arrays),
                rewrite.constant(f"{name}:bias", (*tag, "bias"), new_bias, *arrays),
            ],
            conv.attributes,
            domain="",
            opset=conv.opset,
        )
        rewrite.applied(folded, f"BatchNormalization is folded into the weights of {name}")


def scale_outputs(w: Array, factor: Array, group: int) -> Array:
    """Return the weight of a convolution times one factor per output channel, [C].

    `group` is 0 for Conv, with the weight [out, in/group, ...], and the number of groups for ConvTranspose, with the
    weight [in, out/group, ...], whose output channels lie on axis 1 within each group of inputs.
    """
    if group:
        split = w.reshape(group, w.shape[0] // group, w.shape[1], -1)
        return np.asarray((split * factor.reshape(group, 1, -1, 1)).reshape(w.shape).astype(w.dtype))
    return np.asarray((w * factor.reshape(-1, *[1] * (w.ndim - 1))).astype(w.dtype))


def why_not_scaled(rewrite: Rewrite, weight: Array, factor: Array) -> str | None:
    """Return the reason why products of weights and factors may leave the range of the weights' dtype, or None."""
    if weight.dtype.itemsize < 4:
        return f"{weight.dtype} has too little range for scaled weights"
    largest = float(rewrite.pool.derive("largest", lambda w: np.asarray(np.abs(w).max(initial=0)), weight))
    if not largest * float(np.abs(factor).max(initial=0)) < float(np.finfo(weight.dtype).max):
        return "the scaled weights would overflow"
    return None


def _scale(parameters: tuple[Array, ...], epsilon: float) -> Array:
    """Return γ/σ, [C] of float64, from (γ, β, mean, variance)."""
    gamma, _, _, variance = parameters[:4]
    return np.asarray(gamma / np.sqrt(variance.astype(np.float64) + epsilon))


def _why_not(rewrite: Rewrite, conv: Node, norm: Node) -> str | None:
    """Return the reason against folding `norm`, or None."""
    if sole_reader(conv.output) is not norm:
        return why_no_sole_reader(conv.output)
    if norm.output.dtype is None:
        return "its inputs or attributes are invalid"
    weight = constant(conv.inputs[1])
    if weight is None:
        return "the convolution's weight is not constant"
    if len(conv.inputs) > 2 and conv.inputs[2] is not None and conv.inputs[2].const is None:
        return "the convolution's bias is not constant"
    parameters = [constant(v) for v in norm.inputs[1:5]]
    if len(parameters) < 4 or any(p is None for p in parameters):
        return "scale, bias, mean or variance is not constant"
    if norm.attributes.get("training_mode") or len(norm.outputs) > 1:  # before opset 14 further outputs mean training
        return "it runs in training mode"
    variance = parameters[3]
    epsilon = float(norm.attributes.get("epsilon", 1e-5))
    if variance is not None and not (variance.astype(np.float64) + epsilon > 0).all():
        return "its variance is not positive"
    factor = _scale(tuple(p for p in parameters if p is not None), epsilon)
    return why_not_scaled(rewrite, weight, factor)
