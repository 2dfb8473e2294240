"""Infer shapes and fold constants.

Walks the graph once with the input shapes of a plan. Each value gets the dtype and shape that shape rules infer. Values
that depend on constants and shapes only (transposes of weights, the Shape, Gather, Concat chains of exporters) are
computed and become constants. An If with a constant condition is replaced by the branch taken.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tinyonnx.errors import Error
from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.passes._control_flow import infer_bodies
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.passes._size_arithmetic import fold_sizes
from tinyonnx.registry import Info, find
from tinyonnx.runtime.operator_call import OpContext, evaluate, infer
from tinyonnx.sizes.integers import are_sizes

FOLD_LIMIT, FOLD_TOTAL = 16 << 20, 512 << 20
"""Maximum bytes of one folded constant, and of all together; one of no more elements than its sources is exempt.

Folding must not expand a small model into gigabytes that the session keeps. The limits leave room for weights that a
ConstantOfShape makes: convolution kernels need constant weights."""


def specialise(rewrite: Rewrite) -> None:
    """Infer shapes and fold constants in the graph and its subgraphs."""
    with np.errstate(all="ignore"):
        _propagate(rewrite, rewrite.graph)


def info_of(value: Value | None) -> Info | None:
    """Return dtype, shape and content of a value as far as they are known; None for an absent value."""
    if value is None:
        return None
    if value.const is not None:
        return Info(value.const.dtype, value.const.shape, value.const)
    return Info(value.dtype, value.static_shape, value.sizes)


def _propagate(rewrite: Rewrite, graph: Graph, depth: int = 0) -> None:
    position = 0
    while position < len(graph.nodes):
        node = graph.nodes[position]
        branch = _branch_taken(node)
        if branch is not None:
            _inline_branch(rewrite, graph, node, branch)
            continue
        inputs = [info_of(v) for v in node.inputs]
        if node.subgraphs:
            level = depth if node.op_type == "If" else depth + 1
            infos = infer_bodies(rewrite, node, inputs, partial(_propagate, rewrite, depth=level), depth)
        else:
            infos = infer(node, inputs, rewrite.limits)
        folded = _fold(rewrite, node, infos)
        if folded is not None:
            for value, array, info in zip(node.outputs, folded, infos, strict=True):
                if value is not None:
                    constant = rewrite.folded[value.name] = _constant(value.name, array, info)
                    graph.replace_all_uses_with(value, constant)
            graph.remove_node(node)
            continue
        for value, info in zip(node.outputs, infos, strict=True):
            if value is not None and (info is not None or not rewrite.trusts_declared):
                value.dtype = info.dtype if info is not None else None
                value.shape = info.shape if info is not None else None
        position += 1


def _constant(name: str, array: Array, info: Info | None) -> Value:
    if not are_sizes(array):
        return Value(name, array.dtype, array.shape, array)
    assert info is not None
    value = Value(name, info.dtype, array.shape)
    value.sizes = array
    return value


def _fold(rewrite: Rewrite, node: Node, infos: list[Info | None]) -> list[Array] | None:
    """Return the outputs of a node as constants; None if it can't or should not be folded."""
    if all(info is not None and info.value is not None for info in infos):
        return [info.value for info in infos if info is not None and info.value is not None]
    op = find(node.domain, node.op_type, node.opset)
    if node.subgraphs or op is None or not op.pure:
        return None
    if any(v is not None and v.sizes is not None for v in node.inputs):
        return fold_sizes(node, infos[0].dtype if infos[0] is not None else None)
    sources = [v.const for v in node.inputs if v is not None and v.const is not None]
    if len(sources) < sum(v is not None for v in node.inputs):
        return None
    size = 0
    if any(info is None or info.shape is None or info.dtype is None for info in infos):
        if node.inputs:
            return None
    elif node.inputs:
        size = sum(_nbytes(info) for info in infos if info is not None)
        count = sum(_nbytes(info) // info.dtype.itemsize for info in infos if info is not None and info.dtype)
        grown = size > sum(a.nbytes for a in sources) and count > sum(a.size for a in sources)
        if grown and size > min(FOLD_LIMIT, FOLD_TOTAL - rewrite.folded_bytes):
            return None

    def compute(*_: Array) -> list[Array]:
        arrays = [None if v is None else v.const for v in node.inputs]
        return evaluate(rewrite.model, node, arrays, OpContext(node, rewrite.limits))

    try:
        results = rewrite.pool.derive(_fold_tag(node), compute, *sources)
    except Error:
        return None  # the error is reported when the node runs
    if not all(isinstance(result, np.ndarray) for result in results):
        return None
    rewrite.folded_bytes += size
    folded: list[Array] = results
    return folded


def _fold_tag(node: Node) -> tuple[Any, ...]:
    """Return a key of everything but constant inputs that determines a node's results; names do not."""
    attributes = tuple(
        (name, id(value) if isinstance(value, np.ndarray) else repr(value))
        for name, value in sorted(node.attributes.items())
    )
    present = tuple(value is not None for value in node.inputs)
    return "fold", node.domain, node.op_type, node.opset, attributes, present, len(node.outputs)


def _nbytes(info: Info) -> int:
    assert info.dtype is not None
    assert info.shape is not None
    size = info.dtype.itemsize
    for dim in info.shape:
        size *= dim
    return size


def _branch_taken(node: Node) -> Graph | None:
    """Return the branch taken by an If with a constant condition; None for any other node and for an invalid If."""
    condition = node.inputs[0] if node.op_type == "If" and not node.domain else None
    if condition is None or condition.const is None or condition.const.size != 1 or condition.const.dtype != np.bool_:
        return None
    branch: Graph = node.attributes["then_branch" if condition.const.reshape(()) else "else_branch"]
    return branch if len(branch.outputs) == len(node.outputs) else None


def _inline_branch(rewrite: Rewrite, graph: Graph, node: Node, branch: Graph) -> None:
    """Replace an If by the nodes of a branch."""
    at = graph.position(node)
    nodes, results = branch.nodes, branch.outputs
    branch.clear_outputs()
    branch.nodes = []
    graph.nodes[at:at] = nodes
    for old, new in zip(node.outputs, results, strict=True):
        if old is not None:
            graph.replace_all_uses_with(old, new)
    taken = "then" if branch is node.attributes["then_branch"] else "else"
    rewrite.applied(node, f"its condition is constant: replaced by the {taken} branch")
    graph.remove_node(node)
