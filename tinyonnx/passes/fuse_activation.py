"""Fuse a Conv, Gemm or Linear with the activation that is its only reader: act(x ∗ W + b)."""

from __future__ import annotations

from typing import Any

from tinyonnx.ir import Node
from tinyonnx.passes._pairs import FusedCall, Pair, PairFusion
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.passes.recognise_hardswish import clip_range
from tinyonnx.registry import FUSED

_FUSED_NAME = {
    "Conv": "FusedConv",
    "Gemm": "FusedGemm",
    "FusedConv": "FusedConv",
    "FusedGemm": "FusedGemm",
    "Linear": "Linear",
}


_GELUS = {"none": "Gelu", "tanh": "FastGelu"}


def fuse_activation(rewrite: Rewrite) -> None:
    """Fuse every convolution or Gemm, also one with a residual, and activation."""
    _FUSION.apply(rewrite)


def _matches(pair: Pair) -> bool:
    first, second = pair
    return first.op_type in _FUSED_NAME and first.domain in ("", FUSED) and _activation(second) is not None


def _activation(node: Node) -> dict[str, Any] | None:
    """Return the attributes that express a node as the activation of a fused one; None if that is impossible."""
    if node.domain:
        return None
    get = node.attributes.get
    match node.op_type:
        case "Relu" | "HardSwish" | "Sigmoid" | "Tanh":
            return {"activation": node.op_type}
        case "Gelu" if (name := _GELUS.get(get("approximate", "none"))) is not None:
            return {"activation": name}
        case "LeakyRelu":
            return {"activation": "LeakyRelu", "activation_alpha": get("alpha", 0.01)}
        case "Swish":
            return {"activation": "Swish", "activation_alpha": get("alpha", 1.0)}
        case "HardSigmoid":
            alpha, beta = get("alpha", 0.2), get("beta", 0.5)
            return {"activation": "HardSigmoid", "activation_alpha": alpha, "activation_beta": beta}
        case "Clip" if (bounds := clip_range(node)) is not None:
            return {"activation": "Clip", "activation_alpha": bounds[0], "activation_beta": bounds[1]}
    return None


def _integers(pair: Pair) -> str | None:
    dtype = pair.first.output.dtype
    return "its results are integers" if dtype is not None and dtype.kind in "iu" else None


def _second_activation(pair: Pair) -> str | None:
    activation = pair.first.attributes.get("activation")
    return f"it has the activation {activation} already" if activation else None


def _legacy_broadcast(pair: Pair) -> str | None:
    first = pair.first
    return f"its bias broadcasts as in opset {first.opset}" if first.op_type == "Gemm" and first.opset < 7 else None


def _call(pair: Pair) -> FusedCall:
    first, second = pair
    return FusedCall(_FUSED_NAME[first.op_type], first.inputs, first.attributes | (_activation(second) or {}))


_FUSION = PairFusion(_matches, _call, "is the epilogue of", checks=(_integers, _second_activation, _legacy_broadcast))
