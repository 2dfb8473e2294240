"""Replace ONNX's and ONNX Runtime's attention operators by FusedAttention and operators around it.

Heads become an axis of their own, keys and values are appended to those of the past, masks become a bias, and groups of
heads that share keys are an axis before the queries. RotaryEmbedding becomes products and sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.ir import Value
from tinyonnx.ops.fused_attention import FROM_FIRST, FROM_LAST
from tinyonnx.passes._lowering import HEADS, Lowering, NotLowerable
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.registry import FUSED
from tinyonnx.sizes.integers import are_sizes, vector


def lower_attention(rewrite: Rewrite) -> None:
    """Replace every such operator of float32."""
    for node in list(rewrite.graph.nodes):
        rule = _RULES.get((node.domain, node.op_type))
        if rule is None:
            continue
        try:
            rule(Lowering(rewrite, node))
        except NotLowerable as reason:
            rewrite.refused(node, str(reason))


class _Operand(NamedTuple):
    """A tensor of rank 4 and whether its axes are [batch, position, head, element] instead of heads first."""

    value: Value
    apart: bool

    @property
    def heads(self) -> int:
        """The number of heads."""
        return _shape(self.value)[2 if self.apart else 1]

    @property
    def length(self) -> int:
        """The number of positions."""
        return _shape(self.value)[1 if self.apart else 2]


class _Scores(NamedTuple):
    """Scale, bias and masking of scores, as FusedAttention's inputs and attributes."""

    scale: float
    bias: Value | None
    causal: int
    lenient: int = 0


def _shape(value: Value) -> tuple[int, ...]:
    shape = value.static_shape
    assert shape is not None
    return shape


def _in_heads(low: Lowering, x: Value, heads: int) -> _Operand:
    """Split heads: [batch, length, heads · size] becomes [batch, length, heads, size]; rank 4 stays, heads first."""
    shape = _shape(x)
    if len(shape) == 4:
        return _Operand(x, False)
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        raise NotLowerable("heads don't divide an operand")
    return _Operand(low.reshaped(x, [0, 0, heads, shape[2] // heads]), True)


def _heads_first(low: Lowering, x: _Operand) -> Value:
    return low.one("Transpose", x.value, attributes={"perm": HEADS}) if x.apart else x.value


def _extended(low: Lowering, past: Value | None, x: _Operand, is_read: bool) -> tuple[_Operand, Value | None]:
    """Append keys or values to those of the past; return them, and the output that holds all of them."""
    if past is None and not is_read:
        return x, None
    whole = _heads_first(low, x)
    if past is not None:
        old, new = past.static_shape, _shape(whole)
        if old is None or len(old) != 4 or (old[:2], old[3]) != (new[:2], new[3]) or past.dtype != whole.dtype:
            raise NotLowerable("the past has another shape than the keys")
        whole = low.one("Concat", past, whole, attributes={"axis": 2})
    return _Operand(whole, False), whole


def _causal(q: _Operand, k: _Operand, past: Value | None) -> int:
    """Return the mode of causal attention: positions of queries are counted from the first key after the past."""
    if past is None:
        return FROM_FIRST
    if k.length != q.length:
        raise NotLowerable("it is causal, with other numbers of new keys and of queries")
    return FROM_LAST


def _finish(
    low: Lowering, q: _Operand, k: _Operand, v: _Operand, scores: _Scores, flat: bool, others: dict[int, Value]
) -> None:
    """Replace the node by attention; with `flat` its result is [batch, length, heads · size]."""
    if not scores.scale > 0 or not math.isfinite(scores.scale):
        raise NotLowerable(f"its scale is {scores.scale}")
    groups, batches = q.heads // k.heads if k.heads else 0, [_shape(x.value)[0] for x in (q, k, v)]
    if not groups or q.heads != groups * k.heads or v.heads != k.heads or v.length != k.length:
        raise NotLowerable("heads or lengths of queries, keys and values don't fit together")
    if batches != batches[:1] * 3:
        raise NotLowerable("queries, keys and values are batches of different sizes")
    attributes: dict[str, Any] = {"scale": scores.scale}
    attributes |= {name: n for name, n in (("causal", scores.causal), ("lenient", scores.lenient)) if n}
    if groups > 1:
        _finish_groups(low, (q, k, v), groups, scores.bias, attributes, flat, others)
        return
    bias = [] if scores.bias is None else [scores.bias]
    attributes |= {f"{name}_perm": HEADS for name, x in zip("qkv", (q, k, v)) if x.apart}
    if not flat:
        low.finish("FusedAttention", [q.value, k.value, v.value, *bias], attributes, domain=FUSED, others=others)
        return
    attributes["out_perm"] = HEADS
    y = low.one("FusedAttention", q.value, k.value, v.value, *bias, domain=FUSED, attributes=attributes)
    _, _, heads, width = _shape(y)
    low.finish("Reshape", [y, low.sizes([0, 0, heads * width])], others=others)


def _finish_groups(
    low: Lowering, operands: tuple[_Operand, _Operand, _Operand], groups: int, bias: Value | None,
    attributes: dict[str, Any], flat: bool, others: dict[int, Value],
) -> None:  # fmt: skip
    """Replace the node by attention with `groups` query heads for each key head: [batch · key heads, group, …]."""
    q, k, v = (_heads_first(low, x) for x in operands)
    batch, heads, queries, _size = _shape(q)
    if bias is not None and len(_shape(bias)) == 4 and _shape(bias)[:2] != (1, 1):
        rows, columns = _shape(bias)[2:]
        if _shape(bias)[:2] != (batch, heads):
            raise NotLowerable("heads share keys, and the bias is neither for all of them nor for each")
        bias = low.reshaped(bias, [batch * heads // groups, groups, rows, columns])
    q = low.reshaped(q, [batch * heads // groups, groups, queries, _shape(q)[3]])
    k, v = (low.reshaped(x, [batch * heads // groups, 1, *_shape(x)[2:]]) for x in (k, v))
    y = low.one("FusedAttention", q, k, v, *([] if bias is None else [bias]), domain=FUSED, attributes=attributes)
    width = _shape(y)[3]
    if not flat:
        low.finish("Reshape", [y, low.sizes([batch, heads, queries, width])], others=others)
        return
    y = low.one("Transpose", low.reshaped(y, [batch, heads, queries, width]), attributes={"perm": HEADS})
    low.finish("Reshape", [y, low.sizes([0, 0, heads * width])], others=others)


# -- masks ------------------------------------------------------------------------------


def _chosen(low: Lowering, condition: Value, hidden: float) -> Value:
    """Return 0 where a condition holds, else `hidden`."""
    return low.one("Where", condition, low.constant(0), low.constant(hidden))


def _microsoft_mask(low: Lowering, mask: Value | None, batch: int, queries: int, keys: int) -> Value | None:
    """Return the bias for a mask of ONNX Runtime's operators, in any form but [batch, 1, most, most]."""
    if mask is None:
        return None
    shape, hidden = mask.static_shape, float(low.attribute("mask_filter_value", -10000.0))
    if shape is None or mask.dtype != np.int32:
        raise NotLowerable("the mask is not int32, or its shape is unknown")
    if shape in ((batch,), (2 * batch,)):
        if shape != (batch,) or are_sizes(vector([keys])):
            raise NotLowerable("the mask has starts, or lengths while the number of keys varies")
        lengths = low.reshaped(mask, [batch, 1, 1, 1])
        return _chosen(low, low.one("Less", low.constant(np.arange(keys), np.int32), lengths), hidden)
    if shape not in ((batch, keys), (batch, queries, keys)):
        raise NotLowerable("the shape of the mask is not supported")
    bias = _chosen(low, low.one("Greater", mask, low.constant(0, np.int32)), hidden)
    return low.reshaped(bias, [batch, 1, 1 if len(shape) == 2 else queries, keys])


def _summed(low: Lowering, a: Value | None, b: Value | None) -> Value | None:
    return low.one("Add", a, b) if a is not None and b is not None else a if b is None else b


def _check_bias(bias: Value | None, queries: int, keys: int) -> None:
    if bias is not None and (len(bias.static_shape or ()) != 4 or _shape(bias)[2:] != (queries, keys)):
        raise NotLowerable("the bias has another shape than the scores")


# -- com.microsoft ----------------------------------------------------------------------


def _microsoft(
    low: Lowering, q: _Operand, k: _Operand, v: _Operand, causal: int, mask: Value | None, bias: Value | None,
    others: dict[int, Value],
) -> None:  # fmt: skip
    """Finish an operator of com.microsoft, whose keys and values are complete."""
    batch, size = _shape(q.value)[0], _shape(q.value)[3]
    low.check_floats(q.value, k.value, v.value, bias)
    _check_bias(bias, q.length, k.length)
    total = _summed(low, _microsoft_mask(low, mask, batch, q.length, k.length), bias)
    scale = float(low.attribute("scale", 0.0)) or 1 / math.sqrt(size)
    _finish(low, q, k, v, _Scores(scale, total, causal), True, others)


def _multi_head(low: Lowering) -> None:
    query, key, value, bias = low.required(0), low.required(1), low.required(2), low.input(3)
    if len(_shape(query)) != 3 or len(_shape(key)) not in (3, 4) or len(_shape(value)) not in (3, 4):
        raise NotLowerable("queries, keys and values are packed")
    if low.reads(3) or low.input(8) is not None or low.input(9) is not None:
        raise NotLowerable("its scores are read, or its buffers are shared")
    past_key, past_value = low.input(6), low.input(7)
    if (past_key is None) != (past_value is None):
        raise NotLowerable("one of past_key and past_value is absent")
    heads = int(low.attribute("num_heads", 0))
    parts = [query, key, value]
    if bias is not None:
        if any(len(_shape(x)) != 3 for x in parts) or bias.static_shape != (sum(_shape(x)[2] for x in parts),):
            raise NotLowerable("the bias has another shape, or keys have heads of their own already")
        first = 0
        for i, x in enumerate(parts):
            end = first + _shape(x)[2]
            parts[i] = low.one("Add", x, low.sliced(bias, 0, first, end))
            first = end
    q, k, v = (_in_heads(low, x, heads) for x in parts)
    causal = _causal(q, k, past_key) if low.attribute("unidirectional", 0) else 0
    k, all_keys = _extended(low, past_key, k, low.reads(1))
    v, all_values = _extended(low, past_value, v, low.reads(2))
    others = {i: x for i, x in ((1, all_keys), (2, all_values)) if x is not None and low.reads(i)}
    _microsoft(low, q, k, v, causal, low.input(4), low.input(5), others)


def _self_attention(low: Lowering) -> None:
    """Replace Attention or QAttention, which project their input themselves."""
    quantised = low.node.op_type == "QAttention"
    x, w, b = low.required(0), low.required(1), low.input(2)
    past, bias, mask = (low.input(8), None, low.input(5)) if quantised else (low.input(4), low.input(5), low.input(3))
    if any(low.attribute(name, 0) for name in ("do_rotary", "past_present_share_buffer")) or low.input(
        6 + 4 * quantised
    ):
        raise NotLowerable("its buffers are shared, or it rotates")
    heads, given = int(low.attribute("num_heads", 0)), low.attribute("qkv_hidden_sizes", None)
    total = _shape(w)[-1]
    if len(_shape(x)) != 3 or len(_shape(w)) != 2 or (given is None and total % 3):
        raise NotLowerable("its input or weights have another rank")
    sizes = [total // 3] * 3 if given is None else [int(n) for n in given]
    if b is None or b.static_shape != (total,) or sum(sizes) != total:
        raise NotLowerable("its bias is absent or has another shape than the weights")
    parts, first = [], 0
    for size in sizes:
        parts.append(_in_heads(low, _projected(low, x, w, b, first, first + size, quantised), heads))
        first += size
    q, k, v = parts
    before: list[Value | None] = [None, None]
    if past is not None:
        if past.static_shape is None or len(_shape(past)) != 5:
            raise NotLowerable("the shape of the past is unknown")
        before = [low.reshaped(low.sliced(past, 0, i, i + 1), [*_shape(past)[1:]]) for i in range(2)]
    causal = _causal(q, k, past) if low.attribute("unidirectional", 0) else 0
    k, all_keys = _extended(low, before[0], k, low.reads(1))
    v, all_values = _extended(low, before[1], v, low.reads(1))
    others = {}
    if low.reads(1):
        both = [low.one("Unsqueeze", x, low.sizes([0])) for x in (all_keys, all_values)]
        others[1] = low.one("Concat", *both, attributes={"axis": 0})
    _microsoft(low, q, k, v, causal, mask, bias, others)


def _projected(low: Lowering, x: Value, w: Value, b: Value, first: int, end: int, quantised: bool) -> Value:
    """Return the product with some columns of the weights, and their bias."""
    columns = low.sliced(w, 1, first, end), low.sliced(b, 0, first, end)
    if not quantised:
        low.check_floats(x, w, b)
        return low.one("Add", low.one("MatMul", x, columns[0]), columns[1])
    scale, w_scale, zero, w_zero = low.required(3), low.required(4), low.input(6), low.input(7)
    by_column = [
        low.sliced(p, 0, first, end) if p is not None and p.static_shape == _shape(w)[1:] else p
        for p in (w_scale, w_zero)
    ]
    inputs = [x, columns[0], scale, by_column[0], zero, by_column[1], columns[1]]
    return low.one("MatMulIntegerToFloat", *inputs, domain="com.microsoft")


# -- Attention of ONNX ------------------------------------------------------------------


def _attention(low: Lowering) -> None:
    query, key, value, mask = low.required(0), low.required(1), low.required(2), low.input(3)
    low.check_floats(query, key, value)
    flat = len(_shape(query)) == 3
    if any(len(_shape(x)) != len(_shape(query)) for x in (key, value)):
        raise NotLowerable("queries, keys and values differ in rank")
    windows = any(int(low.attribute(f"{side}_window_size", -1)) >= 0 for side in ("left", "right"))
    if windows or low.attribute("softcap", 0.0) or low.input(6) is not None or low.reads(3):
        raise NotLowerable("it has windows, a soft cap or lengths, or its scores are read")
    if low.attribute("softmax_precision", 1) != 1:
        raise NotLowerable("its softmax has another precision")
    q_heads, k_heads = int(low.attribute("q_num_heads", 0)), int(low.attribute("kv_num_heads", 0))
    if flat != bool(q_heads) or flat != bool(k_heads):
        raise NotLowerable("the numbers of heads are missing, or given twice")
    q, k, v = _in_heads(low, query, q_heads), _in_heads(low, key, k_heads), _in_heads(low, value, k_heads)
    past_key, past_value = low.input(4), low.input(5)
    if (past_key is None) != (past_value is None):
        raise NotLowerable("one of past_key and past_value is absent")
    causal = _causal(q, k, past_key) if low.attribute("is_causal", 0) else 0
    k, all_keys = _extended(low, past_key, k, low.reads(1))
    v, all_values = _extended(low, past_value, v, low.reads(2))
    bias = None if mask is None else _bias(low, mask, k.length)
    size = _shape(q.value)[3]
    scale = low.attribute("scale", None)
    scores = _Scores(
        1 / math.sqrt(size) if scale is None and size else float(scale or 0), bias, causal, int(bias is not None)
    )
    others = {i: x for i, x in ((1, all_keys), (2, all_values)) if x is not None and low.reads(i)}
    _finish(low, q, k, v, scores, flat, others)


def _bias(low: Lowering, mask: Value, keys: int) -> Value:
    """Return the bias for a mask of booleans or numbers that broadcasts to the scores."""
    shape = mask.static_shape
    if shape is None or not 2 <= len(shape) <= 4 or shape[-1] != keys:
        raise NotLowerable("the mask has another shape than the scores")
    if mask.dtype == np.bool_:
        return _chosen(low, mask, -math.inf)
    if mask.dtype != np.float32:
        raise NotLowerable(f"the mask is of {mask.dtype}")
    return mask


# -- RotaryEmbedding --------------------------------------------------------------------


def _rotary(low: Lowering) -> None:
    """Replace RotaryEmbedding by products and sums: (a cos - b sin, a sin + b cos) for each pair of elements."""
    microsoft = bool(low.node.domain)
    x = low.required(0)
    cos, sin, ids = (low.required(2), low.required(3), low.input(1)) if microsoft else (
        low.required(1), low.required(2), low.input(3)
    )  # fmt: skip
    low.check_floats(x, cos, sin)
    if low.attribute("is_packed_batching", 0) or low.attribute("scale", 1.0) != 1 or _shape(cos) != _shape(sin):
        raise NotLowerable("it is packed, scaled, or its tables differ in shape")
    shape, half = _shape(x), _shape(cos)[-1]
    given = int(low.attribute("rotary_embedding_dim", 0))
    heads = int(low.attribute("num_heads", 0))
    if microsoft and len(shape) == 3 and not given and half:
        heads = shape[2] // (2 * half)
    operand = _in_heads(low, x, heads)
    size = _shape(operand.value)[3]
    turned = 2 * half
    if (given or (turned if microsoft else size)) != turned or turned > size or not half:
        raise NotLowerable("its tables have another width")
    places = _tables(low, ids, (cos, sin), _shape(operand.value)[0], operand.length, operand.apart)
    first, second, step = (0, 1, 2) if low.attribute("interleaved", 0) else (0, half, 1)
    ends = (turned, turned) if step == 2 else (half, turned)
    a, b = (low.sliced(operand.value, 3, start, end, step) for start, end in zip((first, second), ends))
    c, s = places
    real = low.one("Sub", low.one("Mul", a, c), low.one("Mul", b, s))
    imaginary = low.one("Add", low.one("Mul", a, s), low.one("Mul", b, c))
    if step == 2:
        pairs = [low.one("Unsqueeze", part, low.sizes([4])) for part in (real, imaginary)]
        parts = [low.reshaped(low.one("Concat", *pairs, attributes={"axis": 4}), [0, 0, 0, turned])]
    else:
        parts = [real, imaginary]
    if turned < size:
        parts.append(low.sliced(operand.value, 3, turned, size))
    if operand.apart:
        low.finish("Reshape", [low.one("Concat", *parts, attributes={"axis": 3}), low.sizes([0, 0, shape[2]])])
    else:
        low.finish("Concat", parts, {"axis": 3})


def _tables(
    low: Lowering, ids: Value | None, tables: tuple[Value, Value], batch: int, length: int, apart: bool
) -> list[Value]:
    """Return cosines and sines for each position, with an axis of size 1 for the heads."""
    if ids is not None:
        if ids.static_shape == (1,) and (batch, length) != (1, 1):
            if are_sizes(vector([length])):
                raise NotLowerable("only the first position is given, and the number of positions varies")
            steps = low.constant(np.arange(length), ids.dtype)
            ids = low.reshaped(low.one("Add", ids, steps), [1, length])
        elif ids.static_shape not in ((batch, length), (1,)):
            raise NotLowerable("positions have another shape")
        else:
            ids = low.reshaped(ids, [batch, length])
        if any(len(_shape(table)) != 2 for table in tables):
            raise NotLowerable("its tables have another rank")
        tables = (low.rows(tables[0], ids), low.rows(tables[1], ids))
    elif any(len(_shape(table)) != 3 or _shape(table)[:2] != (batch, length) for table in tables):
        raise NotLowerable("its tables have another shape")
    return [low.one("Unsqueeze", table, low.sizes([2 if apart else 1])) for table in tables]


_RULES: dict[tuple[str, str], Callable[[Lowering], None]] = {
    ("", "Attention"): _attention,
    ("", "RotaryEmbedding"): _rotary,
    ("com.microsoft", "Attention"): _self_attention,
    ("com.microsoft", "QAttention"): _self_attention,
    ("com.microsoft", "MultiHeadAttention"): _multi_head,
    ("com.microsoft", "RotaryEmbedding"): _rotary,
}
"""Rules by domain and operator."""
