"""Replace operators of ONNX Runtime's own domain by ONNX's, for which there are kernels and further passes.

ONNX Runtime writes them when it optimises a model: FusedConv(x, w, b, z; f) = f(Conv(x, w, b) + z), FusedGemm,
FusedMatMul = α · aᵀ bᵀ, BiasGelu = Gelu(a + b), SkipLayerNormalization = LayerNormalization(x + skip + bias), …
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Value
from tinyonnx.passes._lowering import Lowering, NotLowerable
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.registry import FUSED, lookup

_MICROSOFT = "com.microsoft"


def lower_microsoft(rewrite: Rewrite) -> None:
    """Replace every such operator of float32 or, where its name says so, of bytes."""
    for node in list(rewrite.graph.nodes):
        rule = _RULES.get((node.domain, node.op_type))
        if rule is None or (not node.domain and node.opset >= _SINCE.get(node.op_type, 1 << 30)):
            continue
        try:
            rule(Lowering(rewrite, node))
        except NotLowerable as reason:
            rewrite.refused(node, str(reason))


# -- activations ------------------------------------------------------------------------


def _activated(low: Lowering, x: Value, parameters: list[float | None]) -> tuple[str, list[Value], dict[str, Any]]:
    """Return the activation that is part of the node: operator, inputs, attributes."""
    name = low.attribute("activation", "")
    keys = {"LeakyRelu": ["alpha"], "Elu": ["alpha"], "HardSigmoid": ["alpha", "beta"]}.get(name, [])
    if name == "Clip":
        bounds = [default if n is None else n for n, default in zip([*parameters, None, None], (0.0, 6.0))]
        return name, [x, *map(low.constant, bounds)], {}
    if name not in ("Relu", "Tanh", "Sigmoid", "HardSwish", "LeakyRelu", "Elu", "HardSigmoid", "Softplus", "Softsign"):
        raise NotLowerable(f"it has the activation {name!r}")
    return name, [x], {key: n for key, n in zip(keys, parameters) if n is not None}


def _biased(low: Lowering, x: Value) -> Value:
    bias = low.input(1)
    if bias is None:
        return x
    if bias.static_shape != (x.static_shape or ())[-1:]:
        raise NotLowerable("the bias has another shape than the last axis")
    return low.one("Add", x, bias)


def _gelu(low: Lowering, approximate: str = "none") -> None:
    x = low.required(0)
    low.check_floats(x, low.input(1))
    low.finish("Gelu", [_biased(low, x)], {"approximate": approximate})


def _fast_gelu(low: Lowering) -> None:
    _gelu(low, "tanh")


def _quick_gelu(low: Lowering) -> None:
    x = low.required(0)
    low.check_floats(x)
    low.finish("Swish", [x], {"alpha": float(low.attribute("alpha", 1.702))})


# -- products and convolutions ----------------------------------------------------------


def _fused_conv(low: Lowering) -> None:
    x, w, b, z = low.required(0), low.required(1), low.input(2), low.input(3)
    low.check_floats(x, w, b, z)
    own = ("activation", "activation_params")
    attributes = {name: value for name, value in low.node.attributes.items() if name not in own}
    inputs = [x, w, b] if b is not None else [x, w]
    parts = [("Conv", inputs, attributes)]
    if z is not None:
        parts.append(("Add", [z], {}))
    if low.attribute("activation", ""):
        name, others, more = _activated(low, x, list(low.attribute("activation_params", [])))
        parts.append((name, others[1:], more))
    _chain(low, parts)


def _chain(low: Lowering, parts: list[tuple[str, list[Value], dict[str, Any]]]) -> None:
    """Replace the node by operators in a row, each of which has the result of the one before as its first input."""
    value: list[Value] = []
    for op_type, inputs, attributes in parts[:-1]:
        value = [low.add(op_type, [*value, *inputs], attributes)[0]]
    op_type, inputs, attributes = parts[-1]
    low.finish(op_type, [*value, *inputs], attributes)


def _fused_gemm(low: Lowering) -> None:
    a, b, c = low.required(0), low.required(1), low.input(2)
    low.check_floats(a, b, c)
    own = {"activation", "activation_alpha", "activation_beta", "activation_gamma"}
    attributes = {name: value for name, value in low.node.attributes.items() if name not in own}
    parts = [("Gemm", [a, b] if c is None else [a, b, c], attributes)]
    if low.attribute("activation", ""):
        name, others, more = _activated(low, a, [low.node.attributes.get(f"activation_{n}") for n in ("alpha", "beta")])
        if name == "Clip":
            raise NotLowerable("it has the activation 'Clip'")
        parts.append((name, others[1:], more))
    _chain(low, parts)


def _fused_matmul(low: Lowering) -> None:
    a, b = low.required(0), low.required(1)
    low.check_floats(a, b)
    if low.attribute("transBatchA", 0) or low.attribute("transBatchB", 0):
        raise NotLowerable("it moves the first axis")
    operands = []
    for x, name in ((a, "transA"), (b, "transB")):
        rank = len(x.static_shape or ())
        if low.attribute(name, 0) and rank > 1:
            x = low.one("Transpose", x, attributes={"perm": [*range(rank - 2), rank - 1, rank - 2]})
        operands.append(x)
    alpha = low.attribute("alpha", 1.0)
    if alpha == 1:
        low.finish("MatMul", operands)
    else:
        low.finish("Mul", [low.one("MatMul", *operands), low.constant(alpha)])


def _dynamic_matmul(low: Lowering) -> None:
    a, b, b_scale = low.required(0), low.required(1), low.required(2)
    low.check_floats(a, b_scale, low.input(4))
    small, scale, zero = low.add("DynamicQuantizeLinear", [a], outputs=3)
    inputs = [small, b, scale, b_scale, zero, low.input(3), low.input(4)]
    low.finish("MatMulIntegerToFloat", inputs, domain=_MICROSOFT)


# -- bytes ------------------------------------------------------------------------------


def _quantised_concat(low: Lowering) -> None:
    """Bring parts to the scale of the result by tables of their 256 bytes, and join them."""
    y_scale, y_zero = low.required(0), low.required(1)
    operator = lookup(_MICROSOFT, "QLinearConcat", 1).function
    parts = []
    for i in range(2, len(low.node.inputs), 3):
        x, scale, zero = low.required(i), low.required(i + 1), low.input(i + 2)
        numbers = [y_scale.const, y_zero.const, scale.const, None if zero is None else zero.const]
        if any(n is None or n.size != 1 for n in (numbers if zero is not None else numbers[:3])):
            raise NotLowerable("a scale or zero point is not one constant number")
        if x.dtype not in (np.int8, np.uint8):
            raise NotLowerable(f"a part is of {x.dtype}")
        every = np.arange(256, dtype=np.uint8).view(x.dtype)
        try:
            table = operator(numbers[0], numbers[1], every, *numbers[2:], axis=0)
        except OpError as error:
            raise NotLowerable(str(error)) from None
        same = table.dtype == x.dtype and np.array_equal(table, every)
        parts.append(x if same else low.one("ByteTable", x, low.constant(table, table.dtype), domain=FUSED))
    low.finish("Concat", parts, {"axis": int(low.attribute("axis", 0))})


# -- normalisation ----------------------------------------------------------------------


def _check_only(low: Lowering, *allowed: int) -> None:
    """Raise NotLowerable if an output is read that isn't allowed."""
    read = [i for i in range(len(low.node.outputs)) if low.reads(i) and i not in allowed]
    if read:
        raise NotLowerable(f"its output {read[0]} is read")


def _normalised(low: Lowering, x: Value, scale: Value, shift: Value | None, **others: Value) -> None:
    """Replace the node by the normalisation of the last axis."""
    positions = {int(name[1:]): value for name, value in others.items()}
    attributes = {"axis": -1, "epsilon": float(low.attribute("epsilon", 1e-12))}
    if low.node.op_type.startswith("SkipSimplified"):
        low.finish("RMSNormalization", [x, scale], attributes, others=positions)
    else:
        inputs = [x, scale] if shift is None else [x, scale, shift]
        low.finish("LayerNormalization", inputs, attributes, others=positions)


def _skip_norm(low: Lowering) -> None:
    x, skip, gamma = low.required(0), low.required(1), low.required(2)
    simplified = low.node.op_type.startswith("SkipSimplified")
    beta, bias = (None, low.input(3)) if simplified else (low.input(3), low.input(4))
    low.check_floats(x, skip, gamma, beta, bias)
    _check_only(low, 0, 3)
    total = low.one("Add", x, skip)
    if bias is not None:
        total = low.one("Add", total, bias)
    _normalised(low, total, gamma, beta, **({"_3": total} if low.reads(3) else {}))


def _embed_norm(low: Lowering) -> None:
    ids, segment_ids, mask, position_ids = low.required(0), low.input(1), low.input(7), low.input(8)
    words, positions, gamma, beta = (low.required(i) for i in (2, 3, 5, 6))
    low.check_floats(words, positions, low.input(4), gamma, beta)
    length = (ids.static_shape or (0, 0))[1]
    if position_ids is None and (positions.static_shape or (0,))[0] < length:
        raise NotLowerable("there are more positions than rows of the table")
    rows = low.sliced(positions, 0, 0, length) if position_ids is None else low.rows(positions, position_ids)
    total = low.one("Add", low.rows(words, ids), rows)
    if segment_ids is not None:
        total = low.one("Add", total, low.rows(low.required(4), segment_ids))
    others = {"_2": total} if low.reads(2) else {}
    if low.reads(1):
        if mask is None or mask.dtype != np.int32:
            raise NotLowerable("its mask is absent, or not of int32")
        kept = low.one("Cast", low.one("Equal", mask, low.constant(1, np.int32)), attributes={"to": 6})
        others["_1"] = low.one("ReduceSum", kept, low.sizes([1]), attributes={"keepdims": 0})
    _normalised(low, total, gamma, beta, **others)


def _plain_norm(low: Lowering) -> None:
    """Replace the versions of LayerNormalization and SimplifiedLayerNormalization that preceded ONNX's own."""
    x, scale, shift = low.required(0), low.required(1), low.input(2)
    low.check_floats(x, scale, shift)
    _check_only(low, 0)
    attributes = {name: v for name, v in low.node.attributes.items() if name in ("axis", "epsilon")}
    if low.node.op_type.startswith("Simplified"):
        low.finish("RMSNormalization", [x, scale], attributes)
    else:
        low.finish("LayerNormalization", [x, scale] if shift is None else [x, scale, shift], attributes)


_RULES: dict[tuple[str, str], Callable[[Lowering], None]] = {
    **{
        (_MICROSOFT, name): rule
        for name, rule in (
            ("BiasGelu", _gelu),
            ("Gelu", _gelu),
            ("FastGelu", _fast_gelu),
            ("QuickGelu", _quick_gelu),
            ("FusedConv", _fused_conv),
            ("FusedGemm", _fused_gemm),
            ("FusedMatMul", _fused_matmul),
            ("TransposeMatMul", _fused_matmul),
            ("DynamicQuantizeMatMul", _dynamic_matmul),
            ("QLinearConcat", _quantised_concat),
            ("SkipLayerNormalization", _skip_norm),
            ("SkipSimplifiedLayerNormalization", _skip_norm),
            ("EmbedLayerNormalization", _embed_norm),
        )
    },
    ("", "SimplifiedLayerNormalization"): _plain_norm,
    ("", "LayerNormalization"): _plain_norm,
}
"""Rules by domain and operator."""

_SINCE = {"LayerNormalization": 17, "SimplifiedLayerNormalization": 1 << 30}
"""The opset in which ONNX's own operator of this name begins."""
