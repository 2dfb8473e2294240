"""Replace functions of one byte by a table of their 256 results.

Quantised models compute activations as QuantizeLinear(f(DequantizeLinear(x))), or by operators on bytes such as
QLinearMul. Where every operand but one tensor of bytes is a constant number, the numpy operators run on all 256 bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array, Node, Value
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.registry import lookup

_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))

_ENDS = (
    {("", "QuantizeLinear"), ("com.microsoft", "QuantizeLinear")}
    | {("com.microsoft", name) for name in ("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu")}
    | {("tinyonnx", "QuantizedAdd"), ("tinyonnx", "QuantizedMul")}
)
"""Operators whose results are bytes."""

_BETWEEN = _ENDS | {("tinyonnx", "ByteTable"), ("com.microsoft", "DequantizeLinear")} | {
    ("", name)
    for name in (
        *("DequantizeLinear", "Relu", "Clip", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "LeakyRelu", "Elu"),
        *("Softplus", "Softsign", "Swish", "Gelu", "Erf", "Exp", "Sqrt", "Abs", "Neg", "Add", "Sub", "Mul", "Div"),
    )
}  # fmt: skip
"""Operators that work element by element."""

_LONGEST = 12
"""Maximum number of nodes of a function."""


def tabulate_bytes(rewrite: Rewrite) -> None:
    """Replace every node that ends such a function, the first of a graph first."""
    for node in [n for n in rewrite.graph.nodes if (n.domain, n.op_type) in _ENDS]:
        if node.output.dtype not in _BYTES:
            continue
        found = _source(node)
        if found is None:
            continue
        source, nodes = found
        try:
            table = _run(node, source, nodes)
        except OpError as error:
            rewrite.refused(node, f"no table: {error}")
            continue
        value = Value(f"{node.output.name}:table", table.dtype, table.shape, table)
        fused = rewrite.fuse(node, nodes[:-1], "ByteTable", [source, value], {})
        rewrite.applied(fused, f"{len(nodes)} operators are a table of the bytes of {source.name}")


def _operands(node: Node) -> list[Value] | None:
    """Return the inputs of an elementwise node that aren't single constant numbers; None if it isn't elementwise."""
    if (node.domain, node.op_type) not in _BETWEEN or node.output.static_shape is None:
        return None
    given = list(node.inputs[:1] if node.op_type == "ByteTable" else node.inputs)
    found = []
    for value in given:
        if value is None or (value.const is not None and value.const.size == 1):
            continue
        if value.is_constant or value.static_shape != node.output.static_shape:
            return None
        found.append(value)
    return found


def _source(node: Node) -> tuple[Value, list[Node]] | None:
    """Return the farthest tensor of bytes that determines a node's output, and the nodes between, in order."""
    frontier, nodes, found = _operands(node), [node], None
    if frontier is None:
        return None
    while len(nodes) < _LONGEST:
        frontier = list({id(value): value for value in frontier}.values())
        if len(frontier) == 1 and frontier[0].dtype in _BYTES:
            found = frontier[0], nodes[::-1]
        # the value computed last, because its other readers are already among the nodes
        value = max(frontier, key=lambda v: -1 if v.producer is None else v.producer.index, default=None)
        producer = None if value is None else value.producer
        before = None if producer is None or len(producer.outputs) != 1 else _operands(producer)
        if value is None or producer is None or before is None:
            break
        nodes = [*nodes, producer]
        frontier = [v for v in frontier if v is not value] + before
    return found


def _run(node: Node, source: Value, nodes: list[Node]) -> Array:
    """Return the results of the nodes on all bytes."""
    known: dict[int, Any] = {id(source): np.arange(256, dtype=np.uint8).view(source.dtype)}
    for step in nodes:
        operator = lookup(step.domain, step.op_type, step.opset)
        inputs = [None if v is None else known.get(id(v), v.const) for v in step.inputs]
        known[id(step.output)] = np.asarray(operator.function(*inputs, **step.attributes))
    result: Array = known[id(node.output)]
    return result.reshape(256)
