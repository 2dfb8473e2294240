"""Replace operators on floats between DequantizeLinear and QuantizeLinear by those on bytes.

Q(Conv(DQ(x), DQ(w), b)) = QLinearConv(x, w, b / (s_x s_w)), and likewise MatMul, Gemm and GlobalAveragePool: sums of
integers are exact, those of floats are not, so results differ by one quantum where a number lies between two. Add and
Mul become one operator of the same numbers. Where nothing but the order of elements changes, and for MaxPool, with the
scale of the result that of the input, the operator runs on the bytes themselves. This pass comes before constants are
folded, because the weights stay bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import Rewrite, producer, scalar, sole_reader, why_no_sole_reader
from tinyonnx.registry import FUSED

_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))

_MOVES = {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
"""Operators that commute with quantisation."""

_LARGEST_BIAS = 1 << 30


class _Quantised(NamedTuple):
    """A tensor of bytes with a constant scale and zero point; `node` quantises to it or dequantises it."""

    node: Node
    value: Value
    scale: Value
    zero: Value

    @property
    def scales(self) -> Array:
        assert self.scale.const is not None
        return self.scale.const

    @property
    def zeros(self) -> Array:
        assert self.zero.const is not None
        return self.zero.const

    @property
    def inputs(self) -> list[Value | None]:
        return [self.value, self.scale, self.zero]

    @property
    def is_one(self) -> bool:
        """Whether there is one scale."""
        return self.scales.size == 1 and self.zeros.size == 1


class _Call(NamedTuple):
    """An operator on bytes."""

    op_type: str
    inputs: list[Value | None]
    attributes: dict[str, Any]
    domain: str = ""


def fuse_quantised(rewrite: Rewrite) -> None:
    """Rewrite every operator in front of a QuantizeLinear."""
    for node in [n for n in rewrite.graph.nodes if n.op_type == "QuantizeLinear"]:
        result = _quantised(node)
        if result is None or not result.is_one:
            continue
        inner, skipped = _inner(node, result)
        if inner is None or inner.domain or inner.op_type not in _RULES:
            continue
        reason = next((why_no_sole_reader(n.output) for n in (inner, *skipped) if sole_reader(n.output) is None), None)
        call = reason or _RULES[inner.op_type](rewrite, inner, result)
        if isinstance(call, str):
            rewrite.refused(node, f"not fused with {inner.label}: {call}")
            continue
        sources = [n for v in inner.inputs if (n := producer(v)) is not None and n.op_type == "DequantizeLinear"]
        others = [*dict.fromkeys(sources), inner, *skipped[::-1]]
        opset = 1 if call.domain else inner.opset if call.op_type == inner.op_type else 10
        fused = rewrite.fuse(node, others, call.op_type, call.inputs, call.attributes, domain=call.domain, opset=opset)
        rewrite.applied(fused, f"{inner.label} runs on bytes")


def _quantised(node: Node | None) -> _Quantised | None:
    """Return the bytes of a QuantizeLinear or DequantizeLinear with constant scales of float32, not in blocks."""
    if node is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return None
    value, scale, zero = (*node.inputs, None)[:3]
    if value is None or scale is None or zero is None or scale.const is None or zero.const is None:
        return None
    special = any(node.attributes.get(name) for name in ("block_size", "precision", "output_dtype"))
    if special or scale.const.dtype != np.float32 or zero.const.dtype not in _BYTES or scale.const.ndim > 1:
        return None
    return _Quantised(node, value, scale, zero)


def _dequantised(value: Value | None) -> _Quantised | None:
    """Return the bytes that a float tensor comes from."""
    node = producer(value)
    return _quantised(node) if node is not None and node.op_type == "DequantizeLinear" else None


def _inner(node: Node, result: _Quantised) -> tuple[Node | None, list[Node]]:
    """Return the node before a QuantizeLinear, and the activations in between, whose effect saturation has anyway."""
    inner, skipped = producer(node.inputs[0]), []
    while inner is not None and not inner.domain and inner.op_type in ("Relu", "Clip") and _saturates(inner, result):
        skipped.append(inner)
        inner = producer(inner.inputs[0])
    return inner, skipped


def _saturates(node: Node, result: _Quantised) -> bool:
    """Return whether a quantised result has no numbers beyond the bounds of an activation."""
    least, greatest = (np.iinfo(result.zeros.dtype).min, np.iinfo(result.zeros.dtype).max)
    zero, scale = int(result.zeros.reshape(())), float(result.scales.reshape(()))
    if scale <= 0 or zero != least:
        return False
    if node.op_type == "Relu":
        return True
    low = scalar(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("min")
    high = scalar(node.inputs[2]) if len(node.inputs) > 2 else node.attributes.get("max")
    return low == 0 and high is not None and (greatest - zero) * scale <= high


# -- rules ------------------------------------------------------------------------------

_NO_BYTES = "an operand is not dequantised with constant scales"


def _weights(value: Value | None, axis: int) -> _Quantised | None:
    """Return constant weights with one scale, or one for each index of an axis."""
    found = _dequantised(value)
    if found is None or found.value.const is None:
        return None
    given = int(found.node.attributes.get("axis", 1))
    fits = found.is_one or (given % found.value.const.ndim == axis and found.scales.ndim == 1)
    return found if fits else None


def _bias(rewrite: Rewrite, value: Value | None, x: _Quantised, w: _Quantised, n: int) -> Value | str | None:
    """Return the bias [n] as multiples of the product of the scales; None if absent, text if that isn't possible."""
    if value is None:
        return None
    quantised = producer(value)
    if value.const is not None:
        sources, parts = [value.const], 1
    elif quantised is not None and quantised.op_type == "DequantizeLinear":
        given = [v for v in quantised.inputs if v is not None]
        sources, parts = [v.const for v in given if v.const is not None], len(given)
    else:
        return "the bias is not constant"
    if len(sources) != parts or sources[0].size != n or any(s.size not in (1, n) for s in sources):
        return "the bias is not constant"

    def divide(x_scale: Array, w_scale: Array, b: Array, *scales: Array) -> Array:
        wide = [s.reshape(-1).astype(np.float64) for s in (x_scale, w_scale, b, *scales)]
        real = wide[2] if not scales else (wide[2] - (wide[4] if len(scales) > 1 else 0)) * wide[3]
        with np.errstate(all="ignore"):
            multiples = np.rint(real / (wide[0] * wide[1]))
        ok = np.isfinite(multiples).all() and np.abs(multiples).max() < _LARGEST_BIAS
        return multiples.astype(np.int32) if ok else np.empty(0, np.int32)

    found = rewrite.constant(f"{value.name}:quantised", "bias of bytes", divide, x.scales, w.scales, *sources)
    return found if found.const is not None and found.const.size == n else "the bias is too large for its scale"


def _conv(rewrite: Rewrite, node: Node, y: _Quantised) -> _Call | str:
    x, w = _dequantised(node.inputs[0]), _weights(node.inputs[1], 0)
    if x is None or w is None or not x.is_one:
        return _NO_BYTES
    b = _bias(rewrite, node.inputs[2] if len(node.inputs) > 2 else None, x, w, w.value.const.shape[0])  # type: ignore[union-attr]
    if isinstance(b, str):
        return b
    return _Call("QLinearConv", [*x.inputs, *w.inputs, y.scale, y.zero, b], dict(node.attributes))


def _matmul(rewrite: Rewrite, node: Node, y: _Quantised) -> _Call | str:
    a, b = _dequantised(node.inputs[0]), _weights(node.inputs[1], 1)
    if a is None or b is None or not a.is_one or b.value.const is None or b.value.const.ndim != 2:
        return _NO_BYTES
    return _Call("QLinearMatMul", [*a.inputs, *b.inputs, y.scale, y.zero], {})


def _gemm(rewrite: Rewrite, node: Node, y: _Quantised) -> _Call | str:
    attributes = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0} | dict(node.attributes)
    transB = int(attributes["transB"])
    a, b = _dequantised(node.inputs[0]), _weights(node.inputs[1], 0 if transB else 1)
    if a is None or b is None or not a.is_one:
        return _NO_BYTES
    if attributes["transA"] or attributes["alpha"] != 1 or attributes["beta"] != 1:
        return "alpha, beta or transA"
    c = _bias(rewrite, node.inputs[2] if len(node.inputs) > 2 else None, a, b, b.value.const.shape[1 - transB])  # type: ignore[union-attr]
    if isinstance(c, str):
        return c
    return _Call("QGemm", [*a.inputs, *b.inputs, c, y.scale, y.zero], {"transB": transB}, "com.microsoft")


def _pair(rewrite: Rewrite, node: Node, y: _Quantised) -> _Call | str:
    a, b = map(_dequantised, node.inputs)
    if a is None or b is None or not (a.is_one and b.is_one):
        return _NO_BYTES
    if not a.zeros.dtype == b.zeros.dtype == y.zeros.dtype:
        return "the operands are of different types"
    return _Call(f"Quantized{node.op_type}", [*a.inputs, *b.inputs, y.scale, y.zero], {}, FUSED)


def _mean(rewrite: Rewrite, node: Node, y: _Quantised) -> _Call | str:
    x = _dequantised(node.inputs[0])
    if x is None or not x.is_one or x.zeros.dtype != y.zeros.dtype:
        return _NO_BYTES
    return _Call("QLinearGlobalAveragePool", [*x.inputs, y.scale, y.zero], {}, "com.microsoft")


def _move(rewrite: Rewrite, node: Node, y: _Quantised) -> _Call | str:
    x = _dequantised(node.inputs[0])
    if x is None or not x.is_one or len(node.outputs) > 1:
        return _NO_BYTES
    same = x.zeros.dtype == y.zeros.dtype and x.zeros.reshape(()) == y.zeros.reshape(())
    scales = float(x.scales.reshape(())), float(y.scales.reshape(()))
    if not same or scales[0] != scales[1] or not 1e-30 < scales[0] < 1e30:
        return "its result has another scale"
    return _Call(node.op_type, [x.value, *node.inputs[1:]], dict(node.attributes))


_RULES: dict[str, Callable[[Rewrite, Node, _Quantised], _Call | str]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _pair,
    "Mul": _pair,
    "GlobalAveragePool": _mean,
    **dict.fromkeys(_MOVES, _move),
}
