"""Replace BatchNormalization by a product and a sum with constants: x·γ/σ + (β − mean·γ/σ), σ = √(var + ε).

This is for those that no convolution takes in. The constants are computed in float64 and rounded once.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.passes.fold_batchnorm import epsilon_of, is_float32, parameters_of, scale_of, why_not_affine


def lower_batchnorm(rewrite: Rewrite) -> None:
    """Replace every BatchNormalization of float32 with constant parameters."""
    for norm in [n for n in rewrite.graph.nodes if n.op_type == "BatchNormalization" and not n.domain]:
        x = norm.inputs[0]
        reason = _why_not(norm)
        if reason or x is None or x.shape is None:
            rewrite.refused(norm, reason or "the rank of its input is unknown")
            continue
        factors, summands = _constants(rewrite, norm, max(len(x.shape) - 2, 0))
        scaled = Value(f"{norm.label}:scaled", x.dtype, x.shape)
        mul = Node("Mul", [x, factors], [scaled], opset=14, name=scaled.name, index=norm.index, origin=norm.origin)
        rewrite.graph.add_node(mul, rewrite.graph.position(norm))
        add = rewrite.fuse(norm, [], "Add", [scaled, summands], {}, domain="", opset=14)
        rewrite.applied(add, "BatchNormalization is replaced by a product and a sum")


def _constants(rewrite: Rewrite, norm: Node, spatial: int) -> tuple[Value, Value]:
    """Return factors and summands, [C] followed by `spatial` axes of size 1."""
    epsilon = epsilon_of(norm)

    def factors(*parameters: Array) -> Array:
        return _column(scale_of(parameters, epsilon), spatial)

    def summands(*parameters: Array) -> Array:
        return _column(_shift(parameters, epsilon), spatial)

    tag, parameters = ("lower_batchnorm", epsilon, spatial), parameters_of(norm)
    return (
        rewrite.constant(f"{norm.label}:factors", (*tag, "factors"), factors, *parameters),
        rewrite.constant(f"{norm.label}:summands", (*tag, "summands"), summands, *parameters),
    )


def _column(numbers: Array, spatial: int) -> Array:
    return np.asarray(numbers.reshape(-1, *(1,) * spatial).astype(np.float32))


def _shift(parameters: tuple[Array, ...] | list[Array], epsilon: float) -> Array:
    """Return β − mean·γ/σ, [C] of float64."""
    _, shift, mean, _ = parameters
    return np.asarray(shift.astype(np.float64) - mean.astype(np.float64) * scale_of(parameters, epsilon))


def _why_not(norm: Node) -> str | None:
    """Return the reason against replacing `norm`, or None."""
    if norm.output.dtype is None:
        return "its inputs or attributes are invalid"
    if reason := why_not_affine(norm):
        return reason
    parameters, epsilon = parameters_of(norm), epsilon_of(norm)
    if any(p.dtype != np.float32 for p in parameters):
        return "it is not of float32"
    if not is_float32(norm.output, scale_of(parameters, epsilon), _shift(parameters, epsilon)):
        return "its factors are not finite numbers of float32"
    return None
