"""The costs of a node: multiplications, parameters, size of its results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyonnx.ir import Graph, Node

Shape = tuple[int, ...]
Rule = Callable[[Sequence[Shape], Shape, dict[str, Any]], int]


def _conv(inputs: Sequence[Shape], out: Shape, _: dict[str, Any]) -> int:
    return math.prod(out) * math.prod(inputs[1][1:])


def _conv_transpose(inputs: Sequence[Shape], _: Shape, __: dict[str, Any]) -> int:
    return math.prod(inputs[0]) * math.prod(inputs[1][1:])


def _matmul(inputs: Sequence[Shape], out: Shape, attributes: dict[str, Any]) -> int:
    return math.prod(out) * inputs[0][-2 if attributes.get("transA") else -1]


def _recurrent(inputs: Sequence[Shape], _: Shape, __: dict[str, Any]) -> int:
    x, w, r = inputs[:3]
    return math.prod(x[:2]) * (math.prod(w) + math.prod(r))


def _qlinear(position: int, rule: Rule) -> Rule:
    """Return shapes of a quantised operator: scale and zero point of its input come before the weights."""
    return lambda inputs, out, attributes: rule([inputs[0], inputs[position]], out, attributes)


_RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "FusedConv": _conv,
    "QLinearConv": _qlinear(3, _conv),
    "ConvTranspose": _conv_transpose,
    "Gemm": _matmul,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "FusedMatMul": _matmul,
    "Linear": _matmul,
    "QLinearMatMul": _qlinear(3, _matmul),
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}


def macs(node: Node) -> int | None:
    """Return the multiply-accumulate operations of convolutions, matrix products and recurrences.

    0 for any other operator; None if a shape is unknown.
    """
    rule = _RULES.get(node.op_type)
    if rule is None:
        return 0
    shapes = [() if value is None else value.static_shape for value in node.inputs]
    out = next((v.static_shape for v in node.outputs if v is not None), None)
    if out is None or any(shape is None for shape in shapes):
        return None
    try:
        return rule([s for s in shapes if s is not None], out, node.attributes)
    except IndexError:  # fewer inputs or axes than the operator needs: the run reports that
        return None


def parameters(node: Node) -> int:
    """Return the number of parameters among the constant inputs of a node; see `count_parameters`."""
    return sum(_parameters(node).values())


def count_parameters(graph: Graph) -> int:
    """Return the number of parameters of a graph and its subgraphs, those of a tensor with several readers once.

    Parameters are the elements of constant tensors that nodes read, except scalars, int64 (shapes and indices),
    booleans, strings, and the running statistics of normalisations.
    """
    return sum({key: n for node in graph.walk() for key, n in _parameters(node).items()}.values())


def _parameters(node: Node) -> dict[int, int]:
    """Return the number of elements of each constant input with parameters, by the id of the array."""
    statistics = (3, 4) if node.op_type == "BatchNormalization" else ()
    constants = (v.const for i, v in enumerate(node.inputs) if v is not None and i not in statistics)
    arrays = [a for a in constants if a is not None and a.ndim]
    return {id(a): a.size for a in arrays if a.dtype.kind in "fViu" and a.dtype != np.int64}


def result_bytes(node: Node) -> int | None:
    """Return the size of the results of a node in bytes; None if a shape is unknown."""
    total = 0
    for value in node.outputs:
        if value is None:
            continue
        if value.static_shape is None or value.dtype is None:
            return None
        total += math.prod(value.static_shape) * value.dtype.itemsize
    return total
