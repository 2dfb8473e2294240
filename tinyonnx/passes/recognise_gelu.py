"""Replace spelled-out Gelu by the operator.

Gelu(x) = x/2 · (1 + erf(x/√2)), approximately x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³))). Factors may come in any
order, as products or divisions; powers as Pow or products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, producer, scalar, sole_reader

Polynomial = dict[int, float]
"""Coefficients of the powers of x, none of them zero."""

_DEEPEST = 8
"""Maximum number of nodes on a path within a pattern."""

_HIGHEST = 3
"""Highest power of x."""

_ROOT = math.sqrt(2 / math.pi)
_INSIDE = {"Erf": ({1: math.sqrt(0.5)}, "none"), "Tanh": ({1: _ROOT, 3: _ROOT * 0.044715}, "tanh")}
"""Argument, and the attribute of Gelu, by function."""

_PRECISION = {8: 1e-6, 4: 1e-5, 2: 2e-3}
"""Largest relative error of a coefficient, by the bytes of an element."""


def recognise_gelu(rewrite: Rewrite) -> None:
    """Replace every pattern around an Erf or Tanh."""
    for function in [n for n in rewrite.graph.nodes if n.op_type in _INSIDE and not n.domain]:
        x_and_nodes = _match(function)
        if x_and_nodes is None:
            continue
        x, (*inner, last) = x_and_nodes
        if x.dtype is None or x.dtype.kind != "f":
            rewrite.refused(last, "its input has no floats")
            continue
        if x.static_shape is None or x.static_shape != last.output.static_shape:
            rewrite.refused(last, "its input's shape is not known, or a constant broadcasts it")
            continue
        before = _between(function.inputs[0], x) + [n for v in last.inputs for n in _between(v, x)]
        order = {id(node): i for i, node in enumerate(rewrite.graph.nodes)}
        nodes = sorted({id(n): n for n in (*before, *inner)}.values(), key=lambda n: order[id(n)])
        attributes = {"approximate": _INSIDE[function.op_type][1]}
        fused = rewrite.fuse(last, [n for n in nodes if n is not last], "Gelu", [x], attributes, domain="", opset=20)
        rewrite.applied(fused, f"{len(nodes) + (last not in nodes)} operators around {function.op_type} are Gelu")


def _match(function: Node) -> tuple[Value, list[Node]] | None:
    """Return x and the nodes from `function` on to the one that computes Gelu(x)."""
    inside = _INSIDE[function.op_type][0]
    x = next((v for v in _sources(function.inputs[0]) if _equal(_polynomial(function.inputs[0], v), inside, v)), None)
    add = sole_reader(function.output)
    if x is None or add is None or add.domain or add.op_type != "Add":
        return None
    if not any(scalar(one) == 1 and other is function.output for one, other in (add.inputs[:2], add.inputs[1::-1])):
        return None
    factor: Polynomial | None = {0: 1.0}
    nodes = [function, add]
    while factor is not None and len(nodes) < _DEEPEST:
        before = nodes[-1].output
        node = sole_reader(before)
        if node is None or node.domain or node.op_type not in ("Mul", "Div") or len(set(map(id, node.inputs))) < 2:
            return None
        other = node.inputs[1] if node.inputs[0] is before else node.inputs[0]
        if node.op_type == "Div":
            number = scalar(other) if node.inputs[0] is before else None
            factor = _scaled(factor, 1 / number) if number else None
        else:
            factor = _times(factor, _polynomial(other, x))
        nodes.append(node)
        if _equal(factor, {1: 0.5}, x):
            return x, nodes
    return None


def _sources(value: Value | None) -> Iterator[Value]:
    """Yield the values that a polynomial may be one of, the nearest first."""
    level = [] if value is None else [value]
    for _ in range(_DEEPEST):
        yield from level
        nodes = [n for v in level if (n := v.producer) is not None and not n.domain and n.op_type in _RULES]
        level = [v for n in nodes for v in n.inputs if v is not None and v.const is None]
        level = list({id(v): v for v in level}.values())


def _between(value: Value | None, x: Value, depth: int = _DEEPEST) -> list[Node]:
    """Return the nodes that compute a polynomial of x."""
    node = producer(value)
    if value is x or node is None or not depth or node.domain or node.op_type not in _RULES:
        return []
    if _polynomial(value, x) is None:
        return []
    return [node, *(n for v in node.inputs for n in _between(v, x, depth - 1))]


def _polynomial(value: Value | None, x: Value, depth: int = _DEEPEST) -> Polynomial | None:
    """Return a value as a polynomial of x; None if it isn't one."""
    if value is x:
        return {1: 1.0}
    number = scalar(value)
    if number is not None:
        return {0: number}
    node = producer(value)
    if node is None or node.domain or node.op_type not in _RULES or not depth or len(node.inputs) != 2:
        return None
    a = _polynomial(node.inputs[0], x, depth - 1)
    b = None if a is None else _polynomial(node.inputs[1], x, depth - 1)
    return None if a is None or b is None else _RULES[node.op_type](a, b)


def _plus(a: Polynomial, b: Polynomial) -> Polynomial | None:
    return {power: a.get(power, 0) + b.get(power, 0) for power in a.keys() | b.keys()}


def _times(a: Polynomial, b: Polynomial | None) -> Polynomial | None:
    if b is None or max(a, default=0) + max(b, default=0) > _HIGHEST:
        return None
    product: Polynomial = {}
    for i, u in a.items():
        for j, v in b.items():
            product[i + j] = product.get(i + j, 0) + u * v
    return product


def _scaled(a: Polynomial, number: float) -> Polynomial:
    return {power: number * u for power, u in a.items()}


def _over(a: Polynomial, b: Polynomial) -> Polynomial | None:
    return _scaled(a, 1 / b[0]) if b.keys() == {0} and b[0] else None


def _power(a: Polynomial, b: Polynomial) -> Polynomial | None:
    if b not in ({0: 2.0}, {0: 3.0}):
        return None
    square = _times(a, a)
    return square if b[0] == 2 or square is None else _times(square, a)


_RULES = {"Add": _plus, "Mul": _times, "Div": _over, "Pow": _power}


def _equal(found: Polynomial | None, wanted: Polynomial, x: Value) -> bool:
    if found is None or found.keys() != wanted.keys():
        return False
    precision = _PRECISION.get(x.dtype.itemsize if x.dtype is not None else 0, 0.0)
    return all(math.isclose(found[power], number, rel_tol=precision) for power, number in wanted.items())
