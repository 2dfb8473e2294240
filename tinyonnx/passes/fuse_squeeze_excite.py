"""The gate of squeeze-and-excitation in one step: gate(W2·act(W1·mean(x) + b1) + b2).

The mean is a GlobalAveragePool or a ReduceMean over the spatial axes; the two linear maps
are Gemms on [N, C] (EfficientAT, timm) or 1×1 convolutions on [N, C, 1, 1] (torchvision).
Needs cleaned-up reshapes, and activations fused into the linear maps.
Source: Hu et al., Squeeze-and-Excitation Networks, 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import Rewrite, axes_of, reader, why_not_private
from tinyonnx.registry import FUSED


def fuse_squeeze_excite(rewrite: Rewrite) -> None:
    """Apply the rewrite to the gate of every Mul that ends such a block."""
    for mul in [n for n in rewrite.graph.nodes if n.op_type == "Mul" and not n.domain and len(n.inputs) == 2]:
        a, b = mul.inputs
        for x, gate in ((a, b), (b, a)):
            if x is None or gate is None or x.static_shape is None or len(x.static_shape) != 4:
                continue
            if gate.static_shape != (*x.static_shape[:2], 1, 1):
                continue
            chain = _chain(gate)
            if chain is None:
                continue
            reason = _why_not(chain, x)
            if reason:
                rewrite.refused(mul, reason)
                continue
            _fuse(rewrite, x, chain)
            break


def _chain(gate: Value) -> list[Node] | None:
    """Nodes from the mean to the gate, in order, if they are mean, linear, linear with reshapes between."""
    nodes: list[Node] = []
    value: Value | None = gate
    linear = 0
    while value is not None and value.producer is not None and len(nodes) < 8:
        node = value.producer
        if node.domain not in ("", FUSED):
            return None
        nodes.append(node)
        if node.op_type in ("GlobalAveragePool", "ReduceMean"):
            return nodes[::-1] if linear == 2 else None
        if node.op_type in ("FusedGemm", "FusedConv", "Gemm", "Conv"):
            linear += 1
        elif node.op_type != "Reshape":
            return None
        value = node.inputs[0]
    return None


def _linear(chain: list[Node]) -> list[Node]:
    return [n for n in chain if n.op_type not in ("GlobalAveragePool", "ReduceMean", "Reshape")]


def _why_not(chain: list[Node], x: Value) -> str | None:
    mean = chain[0]
    if mean.inputs[0] is not x:
        return f"{mean.label} is the mean of another tensor than the one that is scaled"
    if mean.op_type == "ReduceMean":
        axes = axes_of(mean)
        if axes is None or sorted(a % 4 for a in axes) != [2, 3]:
            return f"{mean.label} does not reduce exactly the spatial axes"
    for node in chain[:-1]:
        if reader(node.output) is None:
            return f"{node.label}: {why_not_private(node.output)}"
    assert x.static_shape is not None
    for node in _linear(chain):
        operand = node.inputs[0]
        shape = None if operand is None else operand.static_shape
        if shape is None or shape[0] != x.static_shape[0] or any(n != 1 for n in shape[2:]):
            return f"{node.label} maps {shape}, not one vector per item"
        weight = node.inputs[1].const if node.inputs[1] is not None else None
        if weight is None or any(v is not None and v.const is None for v in node.inputs[2:]):
            return f"{node.label}: its weights are not constant"
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            return f"{node.label} also adds a residual"
        get = node.attributes.get
        if weight.ndim == 2:
            if get("transA") or get("alpha", 1.0) != 1 or get("beta", 1.0) != 1:
                return f"{node.label} is a Gemm with factors"
        elif weight.shape[2:] != (1, 1) or get("group", 1) != 1 or any(get("pads") or []):
            return f"{node.label} is not a 1×1 convolution"
        bias = node.inputs[2].const if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if bias is not None and bias.size != 1 and bias.shape[-1] != bias.size:
            return f"{node.label}: its bias {list(bias.shape)} is not one number per output"
    first, second = _linear(chain)
    inner = _sizes(first)[1]
    if (_sizes(first), _sizes(second)) != ((x.static_shape[1], inner), (inner, x.static_shape[1])):
        return f"{first.label} and {second.label} are not maps from the channels and back"
    if not first.attributes.get("activation") or not second.attributes.get("activation"):
        return f"{first.label} or {second.label} has no activation that could be fused"
    return None


def _fuse(rewrite: Rewrite, x: Value, chain: list[Node]) -> None:
    first, second = _linear(chain)
    attributes: dict[str, Any] = {}
    for node, name in ((first, "activation"), (second, "gate")):
        attributes[name] = node.attributes["activation"]
        for parameter in ("alpha", "beta"):
            attributes[f"{name}_{parameter}"] = node.attributes.get(f"activation_{parameter}", 0.0)
    operands = [*_weights(rewrite, first), *_weights(rewrite, second)]
    fused = rewrite.fuse(chain[-1], chain[:-1], "SqueezeGate", [x, *operands], attributes)
    rewrite.applied(fused, f"one step for {', '.join(n.label for n in chain)}")


def _sizes(node: Node) -> tuple[int, int]:
    """How many inputs and outputs a linear map with a constant weight has."""
    assert node.inputs[1] is not None
    assert node.inputs[1].const is not None
    first, second = node.inputs[1].const.shape[:2]
    return (first, second) if _is_matrix(node) else (second, first)


def _is_matrix(node: Node) -> bool:
    """Whether the weight is [in, out] as it stands."""
    weight = node.inputs[1]
    return (
        weight is not None and weight.shape is not None and len(weight.shape) == 2 and not node.attributes.get("transB")
    )


def _weights(rewrite: Rewrite, node: Node) -> list[Value | None]:
    """Weight as [in, out] and bias as [out]."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert weight is not None
    assert weight.const is not None
    as_is = _is_matrix(node)

    def matrix(w: Array) -> Array:
        return w if as_is else np.ascontiguousarray(w.reshape(w.shape[0], -1).T)

    channels = _sizes(node)[1]

    def vector(b: Array) -> Array:
        return np.ascontiguousarray(np.broadcast_to(b.reshape(-1), (channels,)))

    return [
        rewrite.constant(f"{weight.name}:matrix", ("squeeze_gate", as_is), matrix, weight.const),
        None
        if bias is None or bias.const is None
        else rewrite.constant(f"{bias.name}:vector", ("squeeze_gate", channels), vector, bias.const),
    ]
