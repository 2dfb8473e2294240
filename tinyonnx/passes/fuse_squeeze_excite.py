"""Fuse the gate of squeeze-and-excitation into one node: gate(W2·act(W1·mean(x) + b1) + b2).

The mean is a GlobalAveragePool or a ReduceMean over the spatial axes; the two linear maps are Gemms on [N, C]
(EfficientAT, timm) or 1×1 convolutions on [N, C, 1, 1] (torchvision). Reshapes between them must be single nodes, and
activations fused into the linear maps, by earlier passes.
Source: Hu et al., Squeeze-and-Excitation Networks, 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._convolutions import residual_of, weights_of
from tinyonnx.passes._rewrite import (
    Rewrite,
    axes_of,
    constant,
    first_reason,
    producer,
    sole_reader,
    why_no_sole_reader,
)
from tinyonnx.registry import FUSED

_MEANS = ("GlobalAveragePool", "ReduceMean")
_LINEAR = ("FusedGemm", "FusedConv", "Gemm", "Conv")
_LONGEST_CHAIN = 8
"""Maximum number of nodes from mean to gate: three and the reshapes between them."""


class _Block(NamedTuple):
    """The image [N, C, H, W] that is scaled, and the nodes from its mean to the gate in execution order."""

    x: Value
    chain: list[Node]

    @property
    def linear(self) -> list[Node]:
        return [node for node in self.chain if node.op_type in _LINEAR]


def fuse_squeeze_excite(rewrite: Rewrite) -> None:
    """Fuse the gate of every Mul by one number per item and channel that a mean and two linear maps compute."""
    for mul in [n for n in rewrite.graph.nodes if n.op_type == "Mul" and not n.domain]:
        for x, gate in (mul.inputs, mul.inputs[::-1]):
            block = _match(x, gate)
            if block is None:
                continue
            if reason := first_reason(_CHECKS, block):
                rewrite.refused(mul, reason)
                continue
            _fuse(rewrite, block)
            break


def _match(x: Value | None, gate: Value | None) -> _Block | None:
    """Match `gate` [N, C, 1, 1] as a chain of mean, linear map and linear map, with reshapes anywhere between."""
    if x is None or gate is None or x.static_shape is None or len(x.static_shape) != 4:
        return None
    if gate.static_shape != (*x.static_shape[:2], 1, 1):
        return None
    chain: list[Node] = []
    node = gate.producer
    while node is not None and node.domain in ("", FUSED) and len(chain) < _LONGEST_CHAIN:
        chain.insert(0, node)
        if node.op_type in _MEANS:
            block = _Block(x, chain)
            return block if len(block.linear) == 2 else None
        if node.op_type not in (*_LINEAR, "Reshape"):
            return None
        node = producer(node.inputs[0])
    return None


# -- checks: each returns a reason against the fusion, or None ---------------------------


def _other_mean(block: _Block) -> str | None:
    mean = block.chain[0]
    return None if mean.inputs[0] is block.x else f"{mean.label} is the mean of another tensor than the scaled one"


def _other_axes(block: _Block) -> str | None:
    mean = block.chain[0]
    axes = axes_of(mean) if mean.op_type == "ReduceMean" else [2, 3]
    spatial = axes is not None and sorted(a % 4 for a in axes) == [2, 3]
    return None if spatial else f"{mean.label} does not reduce exactly the spatial axes"


def _read_elsewhere(block: _Block) -> str | None:
    shared = next((node for node in block.chain[:-1] if sole_reader(node.output) is None), None)
    return None if shared is None else f"{shared.label}: {why_no_sole_reader(shared.output)}"


def _of_each_linear_map(check: Callable[[_Block, Node], str | None]) -> Callable[[_Block], str | None]:
    """Run a check for both linear maps; the label of the map goes before the reason."""

    def check_both(block: _Block) -> str | None:
        reasons = ((node, check(block, node)) for node in block.linear)
        return next((f"{node.label} {reason}" for node, reason in reasons if reason), None)

    return check_both


def _not_one_vector_per_item(block: _Block, node: Node) -> str | None:
    operand, image = node.inputs[0], block.x.static_shape
    shape = None if operand is None else operand.static_shape
    fits = shape is not None and image is not None and shape[0] == image[0] and all(n == 1 for n in shape[2:])
    return None if fits else f"maps {shape}, not one vector per item"


def _variable_weights(_: _Block, node: Node) -> str | None:
    weight, bias = weights_of(node)
    is_constant = constant(weight) is not None and (bias is None or bias.const is not None)
    return None if is_constant else "has weights that are not constant"


def _residual(_: _Block, node: Node) -> str | None:
    return None if residual_of(node) is None else "adds a residual"


def _gemm_factors(_: _Block, node: Node) -> str | None:
    get = node.attributes.get
    return "is a Gemm with factors" if get("transA") or get("alpha", 1.0) != 1 or get("beta", 1.0) != 1 else None


def _other_convolution(_: _Block, node: Node) -> str | None:
    weight = constant(node.inputs[1])
    assert weight is not None
    spatial, get = weight.shape[2:], node.attributes.get
    is_pointwise = spatial in ((), (1, 1)) and get("group", 1) == 1 and not any(get("pads") or ())
    return None if is_pointwise else "is not a 1×1 convolution"


def _other_bias(_: _Block, node: Node) -> str | None:
    bias = constant(weights_of(node)[1])
    if bias is None or bias.size == 1 or bias.shape[-1] == bias.size:
        return None
    return f"has a bias {list(bias.shape)}, not one number per output"


def _other_sizes(block: _Block) -> str | None:
    first, second = map(_sizes, block.linear)
    assert block.x.static_shape is not None
    channels = block.x.static_shape[1]
    if first[0] == second[1] == channels and first[1] == second[0]:
        return None
    return f"{' and '.join(n.label for n in block.linear)} are not maps from the channels and back"


def _no_activation(block: _Block) -> str | None:
    bare = next((node for node in block.linear if not node.attributes.get("activation")), None)
    return None if bare is None else f"{bare.label} has no activation that could be fused"


_CHECKS = (
    _other_mean,
    _other_axes,
    _read_elsewhere,
    _of_each_linear_map(_not_one_vector_per_item),
    _of_each_linear_map(_variable_weights),
    _of_each_linear_map(_residual),
    _of_each_linear_map(_gemm_factors),
    _of_each_linear_map(_other_convolution),
    _of_each_linear_map(_other_bias),
    _other_sizes,
    _no_activation,
)
"""Checks in their order: later checks rely on earlier ones (constant weights)."""


# -- rewrite ------------------------------------------------------------------------------


def _fuse(rewrite: Rewrite, block: _Block) -> None:
    first, second = block.linear
    attributes: dict[str, Any] = {}
    for node, name in ((first, "activation"), (second, "gate")):
        attributes[name] = node.attributes["activation"]
        for parameter in ("alpha", "beta"):
            attributes[f"{name}_{parameter}"] = node.attributes.get(f"activation_{parameter}", 0.0)
    operands = [*_packed_weights(rewrite, first), *_packed_weights(rewrite, second)]
    *others, last = block.chain
    fused = rewrite.fuse(last, others, "SqueezeGate", [block.x, *operands], attributes)
    rewrite.applied(fused, f"one node for {', '.join(n.label for n in block.chain)}")


def _is_matrix(node: Node) -> bool:
    """Return whether the constant weight of a linear map is a matrix [in, out]."""
    weight = constant(node.inputs[1])
    return weight is not None and weight.ndim == 2 and not node.attributes.get("transB")


def _sizes(node: Node) -> tuple[int, int]:
    """Return the numbers of inputs and outputs of a linear map with a constant weight."""
    weight = constant(node.inputs[1])
    assert weight is not None
    first, second = weight.shape[:2]
    return (first, second) if _is_matrix(node) else (second, first)


def _packed_weights(rewrite: Rewrite, node: Node) -> list[Value | None]:
    """Return the weight as [in, out] and the bias as [out], or None."""
    weight, bias = weights_of(node)
    assert weight is not None
    assert weight.const is not None
    is_matrix, (_, outputs) = _is_matrix(node), _sizes(node)

    def matrix(w: Array) -> Array:
        return w if is_matrix else np.ascontiguousarray(w.reshape(w.shape[0], -1).T)

    def vector(b: Array) -> Array:
        return np.ascontiguousarray(np.broadcast_to(b.reshape(-1), (outputs,)))

    packed = rewrite.constant(f"{weight.name}:matrix", ("squeeze_gate", is_matrix), matrix, weight.const)
    if bias is None or bias.const is None:
        return [packed, None]
    return [packed, rewrite.constant(f"{bias.name}:vector", ("squeeze_gate", outputs), vector, bias.const)]
