"""Shapes of the values that If, Loop and Scan carry, take and return.

A body's inputs have the shapes that the node passes in the first iteration, as far as every iteration gives values of
these shapes back; where one doesn't, its shape is unknown. Bodies are rewritten for these shapes like the main graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyonnx.ir import Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.registry import Info
from tinyonnx.runtime.operator_call import inference_error

Propagate = Callable[[Graph], None]
"""Infers shapes and folds constants in a subgraph."""

DEPTH = 3
"""Bodies of loops within so many loops are not rewritten for the shapes that they get: each takes twice the time."""

_UNKNOWN = Info(None, None)
_COUNTER, _FLAG = Info(np.dtype(np.int64), ()), Info(np.dtype(np.bool_), ())


def infer_bodies(
    rewrite: Rewrite, node: Node, inputs: Sequence[Info | None], propagate: Propagate, depth: int
) -> list[Info | None]:
    """Rewrite the subgraphs of a node for these inputs, and return the known types and shapes of its outputs.

    `depth` is the number of loops that enclose the node.
    """
    nothing: list[Info | None] = [None] * len(node.outputs)
    kind = node.op_type if not node.domain and depth < DEPTH else ""
    infos: list[Info | None] | None = None
    if kind == "If":
        infos = _infer_if(node, propagate, rewrite.limits)
    elif kind == "Loop":
        infos = _infer_loop(rewrite, node, inputs, propagate)
    elif kind == "Scan" and node.opset >= 9:
        infos = _infer_scan(rewrite, node, inputs, propagate)
    if infos is not None:
        return (infos + nothing)[: len(node.outputs)]
    for body in node.subgraphs:
        _feed(body, [])
        propagate(body)
    return nothing


def _infer_if(node: Node, propagate: Propagate, limits: Limits) -> list[Info | None]:
    results = []
    for branch in node.subgraphs:
        propagate(branch)
        results.append([_known(value) for value in branch.outputs])
    if results[1:] and results[0] != results[1]:
        # if one branch raises an error, results are those of the other
        results = [found for found, branch in zip(results, node.subgraphs) if not always_fails(branch, limits)]
        if len(results) == 1:
            return list(results[0])
    return [a if a is not None and a == b else None for a, b in zip(*results)]


def always_fails(graph: Graph, limits: Limits) -> bool:
    """Return whether an operator of a graph refuses the types and shapes of its inputs."""
    for node in graph.nodes:
        infos = [None if v is None else Info(v.dtype, v.static_shape, v.const) for v in node.inputs]
        known = all(info is None or (info.dtype is not None and info.shape is not None) for info in infos)
        if known and not node.subgraphs and inference_error(node, infos, limits) is not None:
            return True
    return False


def _infer_loop(
    rewrite: Rewrite, node: Node, inputs: Sequence[Info | None], propagate: Propagate
) -> list[Info | None] | None:
    body = node.attributes["body"]
    carried = [_fixed(info) for info in inputs[2:]]
    if len(body.inputs) != 2 + len(carried) or len(body.outputs) < 1 + len(carried):
        return None
    carried = _stable(rewrite, body, [_COUNTER, _FLAG], carried, [], propagate)
    count = inputs[0].value if inputs and inputs[0] is not None else None
    always = (len(node.inputs) < 2 or _is_true(node.inputs[1])) and _stays_true(body)
    length = count.item() if count is not None and count.size == 1 and always else 0
    scanned = [_known(value) for value in body.outputs[1 + len(carried) :]]
    stacked = [_stacked(info, length, 0) if length > 0 else None for info in scanned]
    return [*(None if info is _UNKNOWN else info for info in carried), *stacked]


def _infer_scan(
    rewrite: Rewrite, node: Node, inputs: Sequence[Info | None], propagate: Propagate
) -> list[Info | None] | None:
    body, count = node.attributes["body"], int(node.attributes["num_scan_inputs"])
    if not 1 <= count <= len(inputs):
        return None
    states, sequences = [_fixed(info) for info in inputs[: len(inputs) - count]], inputs[len(inputs) - count :]
    if len(body.inputs) != len(inputs) or len(body.outputs) < len(states):
        return None
    lengths: list[Any] = []
    slices = []
    for info, axis in zip(sequences, _numbers(node, "scan_input_axes", count)[:count]):
        if info is None or info.shape is None or not -info.ndim <= axis < info.ndim:
            lengths.append(0)
            slices.append(_UNKNOWN)
            continue
        lengths.append(info.shape[axis])
        shape = list(info.shape)
        del shape[axis]
        slices.append(Info(info.dtype, tuple(shape)))
    states = _stable(rewrite, body, [], states, slices, propagate)
    scanned = [_known(value) for value in body.outputs[len(states) :]]
    length = lengths[0] if all(other == lengths[0] for other in lengths) else 0
    axes = _numbers(node, "scan_output_axes", len(scanned))
    stacked = [_stacked(info, length, axis) if length > 0 else None for info, axis in zip(scanned, axes)]
    return [*(None if info is _UNKNOWN else info for info in states), *stacked]


def _stable(
    rewrite: Rewrite, body: Graph, before: Sequence[Info], carried: list[Info], after: Sequence[Info],
    propagate: Propagate,
) -> list[Info]:  # fmt: skip
    """Rewrite a body; return the types of the values it carries, as far as all iterations give the same.

    `before` and `after` are the types of its other inputs. Tried on copies, as a rewrite can't be undone.
    """
    first, remarks = min(len(before), 1), len(rewrite.remarks)  # a Loop's first output is its condition
    while True:
        trial = _copy(body)
        _feed(trial, [*before, *carried, *after])
        propagate(trial)
        given = [_known(value) for value in trial.outputs[first : first + len(carried)]]
        trial._drop()
        del rewrite.remarks[remarks:]
        kept = [info if info == other else _UNKNOWN for info, other in zip(carried, given)]
        if kept == carried:
            break
        carried = kept
    _feed(body, [*before, *carried, *after])
    propagate(body)
    return carried


def _copy(body: Graph) -> Graph:
    """Return a copy of a body that reads the values that it captures."""
    known = {id(value): value for value in body.captures()}
    return body._clone(known)


def _feed(body: Graph, infos: Sequence[Info]) -> None:
    for value, info in zip(body.inputs, infos):
        value.shape = info.shape
        if info.dtype is not None:
            value.dtype = info.dtype
    for value in body.inputs[len(infos) :]:
        value.shape = None


def _fixed(info: Info | None) -> Info:
    """Return the type and shape of a value that a body carries."""
    if info is None or info.dtype is None or info.shape is None:
        return _UNKNOWN
    return Info(info.dtype, tuple(info.shape))


def _known(value: Value) -> Info | None:
    if value.const is not None:
        return Info(value.const.dtype, value.const.shape)
    found = _fixed(Info(value.dtype, value.static_shape))
    return None if found is _UNKNOWN else found


def _stacked(info: Info | None, length: int, axis: int) -> Info | None:
    if info is None or info.shape is None or not -info.ndim - 1 <= axis <= info.ndim:
        return None
    at = axis % (info.ndim + 1)
    return Info(info.dtype, (*info.shape[:at], length, *info.shape[at:]))


def _is_true(condition: Value | None) -> bool:
    """Return whether a condition is absent, or constant and true."""
    if condition is None:
        return True
    return condition.const is not None and condition.const.size == 1 and bool(condition.const.reshape(()))


def _stays_true(body: Graph) -> bool:
    """Return whether a Loop's body gives the condition that it gets, or true."""
    condition = body.outputs[0]
    while (node := condition.producer) is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        condition = node.inputs[0]
    return condition is body.inputs[1] or (condition.const is not None and _is_true(condition))


def _numbers(node: Node, name: str, count: int) -> list[int]:
    given: Any = node.attributes.get(name)
    return [0] * count if given is None else list(given)
