r"""Fold BatchNormalization into the convolution before it.

With σ = √(var + ε) per output channel: W' = W·γ/σ and b' = β + (b − mean)·γ/σ. This holds for any number of groups,
because γ/σ scales whole output channels. The new weights are computed in float64 and rounded once. Weights that are
computed during the run get a Mul, which has fewer elements to scale than the image has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.ir import Array, Node, Value
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
        inputs = [conv.inputs[0], _scaled_weight(rewrite, conv, norm), _new_bias(rewrite, conv, norm)]
        name = conv.label
        folded = rewrite.fuse(norm, [conv], conv.op_type, inputs, conv.attributes, domain="", opset=conv.opset)
        rewrite.applied(folded, f"BatchNormalization is folded into the weights of {name}")


def _scaled_weight(rewrite: Rewrite, conv: Node, norm: Node) -> Value:
    """Return the weight times γ/σ: a constant, or the result of a new Mul."""
    value, parameters, epsilon = conv.inputs[1], parameters_of(norm), epsilon_of(norm)
    assert value is not None
    if value.const is not None:
        group = int(conv.attributes.get("group", 1)) if conv.op_type == "ConvTranspose" else 0

        def scaled(w: Array, *rest: Array) -> Array:
            return scale_outputs(w, scale_of(rest, epsilon), group)

        tag = ("fold_batchnorm", epsilon, group, "weight")
        return rewrite.constant(f"{conv.label}:weight", tag, scaled, value.const, *parameters)
    assert value.shape is not None
    axes, dtype = (1,) * (len(value.shape) - 1), value.dtype

    def column(*rest: Array) -> Array:
        return np.asarray(scale_of(rest, epsilon).reshape(-1, *axes).astype(dtype))

    factors = rewrite.constant(f"{conv.label}:factors", ("batchnorm factors", epsilon, axes), column, *parameters)
    result = Value(f"{conv.label}:weight", value.dtype, value.shape)
    mul = Node("Mul", [value, factors], [result], opset=14, name=result.name, index=norm.index, origin=norm.origin)
    rewrite.graph.add_node(mul, rewrite.graph.position(conv))
    return result


def _new_bias(rewrite: Rewrite, conv: Node, norm: Node) -> Value:
    """Return β + (b − mean)·γ/σ as a constant."""
    epsilon, dtype = epsilon_of(norm), norm.output.dtype
    old = constant(conv.inputs[2]) if len(conv.inputs) > 2 else None

    def shifted(*rest: Array) -> Array:
        bias: Any = rest[4].astype(np.float64) if len(rest) > 4 else 0.0
        return np.asarray((rest[1] + (bias - rest[2].astype(np.float64)) * scale_of(rest, epsilon)).astype(dtype))

    arrays = [*parameters_of(norm), *([] if old is None else [old])]
    return rewrite.constant(f"{conv.label}:bias", ("fold_batchnorm", epsilon, "bias"), shifted, *arrays)


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


def parameters_of(norm: Node) -> list[Array]:
    """Return those of γ, β, mean and variance that are constant."""
    return [v.const for v in norm.inputs[1:5] if v is not None and v.const is not None]


def epsilon_of(norm: Node) -> float:
    """Return ε."""
    return float(norm.attributes.get("epsilon", 1e-5))


def scale_of(parameters: Sequence[Array], epsilon: float) -> Array:
    """Return γ/σ, [C] of float64, from (γ, β, mean, variance)."""
    gamma, _, _, variance = parameters[:4]
    return np.asarray(gamma / np.sqrt(variance.astype(np.float64) + epsilon))


def _why_not(rewrite: Rewrite, conv: Node, norm: Node) -> str | None:
    """Return the reason against folding `norm`, or None."""
    if sole_reader(conv.output) is not norm:
        return why_no_sole_reader(conv.output)
    if norm.output.dtype is None:
        return "its inputs or attributes are invalid"
    weight = conv.inputs[1]
    if weight is None or weight.shape is None or (weight.const is None and conv.op_type != "Conv"):
        return "the convolution's weight is not constant"
    if len(conv.inputs) > 2 and conv.inputs[2] is not None and conv.inputs[2].const is None:
        return "the convolution's bias is not constant"
    if reason := why_not_affine(norm):
        return reason
    factor = scale_of(parameters_of(norm), epsilon_of(norm))
    if weight.const is not None:
        return why_not_scaled(rewrite, weight.const, factor)
    return None if is_float32(norm.output, factor) else "its factors are not finite numbers of float32"


def why_not_affine(norm: Node) -> str | None:
    """Return the reason why a node isn't a scale and shift by constants of each channel, or None."""
    parameters = parameters_of(norm)
    if len(parameters) < 4:
        return "scale, bias, mean or variance is not constant"
    if norm.attributes.get("training_mode") or len(norm.outputs) > 1:  # before opset 14 further outputs mean training
        return "it runs in training mode"
    if any(p.ndim != 1 for p in parameters):  # before opset 9, with spatial=0
        return "its statistics differ from pixel to pixel"
    if not (parameters[3].astype(np.float64) + epsilon_of(norm) > 0).all():
        return "its variance is not positive"
    return None


def is_float32(value: Value, *numbers: Array) -> bool:
    """Return whether a value is of float32, in which these numbers of float64 are finite."""
    largest = float(np.finfo(np.float32).max)
    return value.dtype == np.float32 and all(bool((np.abs(n) < largest).all()) for n in numbers)
