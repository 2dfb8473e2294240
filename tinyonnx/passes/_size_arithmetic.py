"""Fold arithmetic on shapes whose sizes are expressions: the Shape, Gather, Concat chains of exporters.

Operators that only rearrange elements work on arrays of objects; arithmetic is that of the expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyonnx.ir import Array, Node
from tinyonnx.registry import lookup
from tinyonnx.sizes.expressions import SizeError
from tinyonnx.sizes.integers import are_sizes, maximum, minimum

_MOST = 64
"""Maximum elements of an array that is taken for a shape."""

_DTYPES = tuple(map(np.dtype, (np.int64, np.int32, np.bool_)))

_REARRANGING = {"Concat", "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}


def fold_sizes(node: Node, dtype: np.dtype[Any] | None) -> list[Array] | None:
    """Return the result of a node whose inputs are constants and sizes; None if it can't be computed for all sizes.

    `dtype` is that of the result.
    """
    inputs = [None if v is None else v.const if v.sizes is None else v.sizes for v in node.inputs]
    known = [x for x in inputs if x is not None]
    if node.domain or len(known) < sum(v is not None for v in node.inputs) or len(node.outputs) != 1:
        return None
    if dtype not in _DTYPES or any(x.dtype.kind not in "Oib" or x.size > _MOST for x in known):
        return None
    try:
        result = _compute(node, inputs)
        if result is None or result.size > _MOST or (dtype == np.int32 and not _fits(result)):
            return None
    except (SizeError, TypeError, ZeroDivisionError, OverflowError):
        return None
    return [result if are_sizes(result) else result.astype(dtype)]


def _fits(numbers: Array) -> bool:
    """Return whether the numbers fit into 32 bits."""
    return all(-(1 << 31) <= n < 1 << 31 for n in numbers.flat)


def _compute(node: Node, inputs: list[Array | None]) -> Array | None:
    x = inputs[0]
    assert x is not None
    if node.op_type in _REARRANGING:
        return _rearranged(node, inputs)
    if any(x is None for x in inputs):
        return None
    if node.op_type in _ELEMENTWISE:
        return np.asarray(np.frompyfunc(_ELEMENTWISE[node.op_type], len(inputs), 1)(*inputs), object)
    if node.op_type in _COMPARISONS:
        return np.asarray(np.frompyfunc(_COMPARISONS[node.op_type], 2, 1)(*inputs), np.bool_)
    if node.op_type == "Cast" and node.attributes.get("to") in (6, 7):  # int32, int64
        return x
    if node.op_type == "ReduceProd" and x.ndim == 1 and not node.attributes.get("noop_with_empty_axes"):
        shape = (1,) if node.attributes.get("keepdims", 1) else ()
        result = np.empty(shape, object)
        result[...] = math.prod(x.tolist())
        return result
    return None


def _rearranged(node: Node, inputs: list[Array | None]) -> Array | None:
    """Return the result of an operator that moves the elements of its first input (Concat: of all)."""
    moved = len(inputs) if node.op_type == "Concat" else 1
    if any(x is not None and x.dtype == object for x in inputs[moved:]):
        return None
    op = lookup(node.domain, node.op_type, node.opset)
    arguments = [x.astype(object) if x is not None and i < moved else x for i, x in enumerate(inputs)]
    context = (None,) if op.takes_ctx else ()
    return np.asarray(op.function(*context, *arguments, **node.attributes), object)


def _divided(a: Any, b: Any) -> Any:
    """Divide integers as ONNX defines it, rounding towards zero."""
    if a < 0 or b < 0:
        raise SizeError("a negative size is divided")
    return a // b


def _remainder(a: Any, b: Any) -> Any:
    """Return the remainder of integers without a sign, for which both of ONNX's definitions agree."""
    if a < 0 or b <= 0:
        raise SizeError("a negative size is divided")
    return a % b


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _divided,
    "Mod": _remainder,
    "Neg": lambda a: -a,
    "Max": maximum,
    "Min": minimum,
    "Where": lambda condition, a, b: a if condition else b,
}

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equal": lambda a, b: bool(a == b),
    "Greater": lambda a, b: bool(a > b),
    "GreaterOrEqual": lambda a, b: bool(a >= b),
    "Less": lambda a, b: bool(a < b),
    "LessOrEqual": lambda a, b: bool(a <= b),
}
