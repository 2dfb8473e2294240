"""Derivatives by reverse accumulation (domain ai.onnx.preview.training)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array, Graph, Node
from tinyonnx.registry import Context, Info, lookup, op

Gradients = Sequence[Array | None]
Rule = Callable[[Array, Array, list[Any], dict[str, Any]], Gradients]
"""Maps (gradient of the result, result, inputs, attributes) to the gradient of each input; None if it has none."""


def _matmul(g: Array, _: Array, x: list[Any], __: dict[str, Any]) -> Gradients:
    a, b = x
    if a.ndim < 2 or b.ndim < 2:
        raise OpError("MatMul of a vector has no gradient here: use matrices")
    return g @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ g


def _gemm(g: Array, _: Array, x: list[Any], attributes: dict[str, Any]) -> Gradients:
    a, b = x[:2]
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    flip_a, flip_b = attributes.get("transA", 0), attributes.get("transB", 0)
    left, right = (a.T if flip_a else a), (b.T if flip_b else b)
    to_a, to_b = alpha * (g @ right.T), alpha * (left.T @ g)
    return [to_a.T if flip_a else to_a, to_b.T if flip_b else to_b, *([beta * g] if len(x) > 2 else [])]


def _sum(g: Array, y: Array, x: list[Any], attributes: dict[str, Any]) -> Gradients:
    axes = attributes.get("axes")
    if axes is None and len(x) > 1 and x[1] is not None:
        axes = x[1].tolist()
    if not attributes.get("keepdims", 1) and axes:
        g = np.expand_dims(g, tuple(axes))
    return [np.broadcast_to(g.reshape((1,) * x[0].ndim) if g.size == 1 else g, x[0].shape), None][: len(x)]


def _mean(g: Array, y: Array, x: list[Any], attributes: dict[str, Any]) -> Gradients:
    (first, *rest) = _sum(g, y, x, attributes)
    assert first is not None
    return [first * (y.size / x[0].size), *rest]


def _transpose(g: Array, _: Array, x: list[Any], attributes: dict[str, Any]) -> Gradients:
    perm = attributes.get("perm") or range(x[0].ndim)[::-1]
    return [g.transpose(np.argsort(list(perm)))]


def _pow(g: Array, y: Array, x: list[Any], _: dict[str, Any]) -> Gradients:
    base, exponent = x
    return g * exponent * base ** (exponent - 1), g * y * np.log(np.where(base > 0, base, 1))


def _reshaped(g: Array, _: Array, x: list[Any], __: dict[str, Any]) -> Gradients:
    return [g.reshape(x[0].shape)]


_RULES: dict[str, Rule] = {
    "Identity": lambda g, y, x, a: [g],
    "Add": lambda g, y, x, a: [g, g],
    "Sub": lambda g, y, x, a: [g, -g],
    "Mul": lambda g, y, x, a: [g * x[1], g * x[0]],
    "Div": lambda g, y, x, a: [g / x[1], -g * y / x[1]],
    "Pow": _pow,
    "Sum": lambda g, y, x, a: [g] * len(x),
    "Neg": lambda g, y, x, a: [-g],
    "Abs": lambda g, y, x, a: [g * np.sign(x[0])],
    "Exp": lambda g, y, x, a: [g * y],
    "Log": lambda g, y, x, a: [g / x[0]],
    "Sqrt": lambda g, y, x, a: [g / (2 * y)],
    "Reciprocal": lambda g, y, x, a: [-g * y * y],
    "Sin": lambda g, y, x, a: [g * np.cos(x[0])],
    "Cos": lambda g, y, x, a: [-g * np.sin(x[0])],
    "Relu": lambda g, y, x, a: [g * (x[0] > 0)],
    "Sigmoid": lambda g, y, x, a: [g * y * (1 - y)],
    "Tanh": lambda g, y, x, a: [g * (1 - y * y)],
    "Softplus": lambda g, y, x, a: [g / (1 + np.exp(-x[0]))],
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Transpose": _transpose,
    "Reshape": _reshaped,
    "Flatten": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "ReduceSum": _sum,
    "ReduceMean": _mean,
}


def _shape(*inputs: Info | None, xs: Sequence[str], **_: Any) -> list[Info] | None:
    return [Info(info.dtype, info.shape) for info in inputs[: len(xs)] if info is not None]


@op("Gradient", domain="ai.onnx.preview.training", shape=_shape)
def gradient(ctx: Context, *inputs: Array, xs: Sequence[str], y: Any, zs: Sequence[str] | None = None) -> Any:
    """Return the derivatives of the sum of y's elements with respect to each of `xs`.

    `y` is the function (a Graph) that the loader cut out between these tensors and y. Raises
    OpError for an operator in it whose derivative isn't implemented.
    """
    assert isinstance(y, Graph)
    values: dict[int, Any] = {id(v): x for v, x in zip(y.inputs, inputs, strict=True)}
    for node in y.nodes:
        _forward(ctx, node, values)
    (result,) = y.outputs
    gradients = {id(result): np.ones_like(_value(result, values))}
    for node in reversed(y.nodes):
        _backward(node, values, gradients)
    zeros = (np.zeros_like(x) for x in inputs)
    found = [gradients.get(id(v), zero) for v, zero in zip(y.inputs, zeros)][: len(xs)]
    return tuple(g.astype(x.dtype) for g, x in zip(found, inputs))


def _value(value: Any, values: dict[int, Any]) -> Any:
    return value.const if value.const is not None else values[id(value)]


def _forward(ctx: Context, node: Node, values: dict[int, Any]) -> None:
    entry = lookup(node.domain, node.op_type, node.opset)
    inputs = [None if v is None else _value(v, values) for v in node.inputs]
    results = entry.function(*[ctx] * entry.takes_ctx, *inputs, **node.attributes)
    for value, result in zip(node.outputs, results if isinstance(results, tuple) else [results]):
        if value is not None:
            values[id(value)] = result


def _backward(node: Node, values: dict[int, Any], gradients: dict[int, Array]) -> None:
    output = node.output
    if id(output) not in gradients:
        return
    if node.domain or node.op_type not in _RULES:
        raise OpError(f'{node.op_type} "{node.label}" has no derivative here')
    inputs = [None if v is None else _value(v, values) for v in node.inputs]
    with np.errstate(all="ignore"):
        found = _RULES[node.op_type](gradients[id(output)], values[id(output)], inputs, node.attributes)
    for value, g in zip(node.inputs, found):
        if value is not None and g is not None and value.const is None:
            part = _unbroadcast(g, values[id(value)].shape)
            gradients[id(value)] = gradients[id(value)] + part if id(value) in gradients else part


def _unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an operand was broadcast."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and g.shape[axis] != 1)
    return np.asarray(g.sum(axis=repeated, keepdims=True)).reshape(shape)
