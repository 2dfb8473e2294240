"""The parts of Loop and Scan, and the reasons why they can't become steps of the plan around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.ir import Graph, Node, Value
from tinyonnx.sizes.integers import is_size

_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


class Sliced(NamedTuple):
    """A tensor of all iterations, the body's value for one of them, the axis, and whether the last one comes first."""

    whole: Value
    item: Value
    axis: int
    backwards: bool


class Carried(NamedTuple):
    """A value that a body carries: before the loop, in the body, after an iteration, and as a result if it is read."""

    first: Value
    inside: Value
    next: Value
    result: Value | None


class LoopParts(NamedTuple):
    """The parts of a Loop or Scan; None for what is absent. `flag` is the condition as the body gets it."""

    body: Graph
    trips: Value | int | None
    condition: Value | None
    counter: Value | None
    flag: Value | None
    next_condition: Value | None
    carried: list[Carried]
    taken: list[Sliced]
    stacked: list[Sliced]


def is_loop(node: Node) -> bool:
    """Return whether a node is a Loop or Scan of a version whose meaning is known here."""
    return not node.domain and (node.op_type == "Loop" or (node.op_type == "Scan" and node.opset >= 9))


def loop_obstacle(node: Node, obstacle_of: Callable[[Node], str | None]) -> str | None:
    """Return why a Loop or Scan can't become steps of a plan; None if it can.

    `obstacle_of` gives the reason why no kernel executes a node of its body, None if one does.
    """
    parts = loop_parts(node)
    if isinstance(parts, str):
        return parts
    if parts.counter is not None and parts.counter.static_shape is None:
        return "its body has too many levels"
    found = [
        f'{inner.op_type} "{inner.label}" in its body: {why}'
        for inner in parts.body.nodes
        if (why := obstacle_of(inner)) is not None
    ]
    if causes := [why for why in found if not why.endswith("on data")]:
        return causes[0]
    for state in parts.carried:
        if len({_type(v) for v in (state.first, state.inside, state.next)}) > 1 or _type(state.inside) is None:
            return f'the shape of "{state.inside.name}" changes from one iteration to the next, or depends on data'
    if found:
        return found[0]
    for given, dtype in ((parts.trips, _INT64), (parts.condition, _BOOL), (parts.next_condition, _BOOL)):
        if isinstance(given, Value) and not _is_one(given, dtype):
            return f'"{given.name}" is not one {dtype}'
    flag, again = parts.flag, parts.next_condition
    if flag is not None and again is not None and is_needed(parts.body, flag) and _type(flag) != _type(again):
        return f'the shape of its condition "{flag.name}" changes'
    for state in parts.carried:
        if state.result is not None and _type(state.result) != _type(state.inside):
            return f'the shape of "{state.result.name}" depends on data'
    for sliced in (*parts.taken, *parts.stacked):
        if _type(sliced.item) is None:
            return f'the shape of "{sliced.item.name}" depends on data'
        if sliced in parts.stacked and (_length(parts) or 1) < 1:
            return f'"{sliced.whole.name}" is empty'
        if _type(sliced.whole) is None or _type(sliced.whole) != _whole_type(sliced, _length(parts)):
            return f'the number of iterations, and with it the shape of "{sliced.whole.name}", depends on data'
    return None


def values_read(node: Node) -> Iterator[Value]:
    """Yield the values that the steps of a loop read from memory."""
    yield from (value for value in node.inputs if value is not None)
    body = node.attributes["body"]
    own = {id(value) for inner in body.nodes for value in inner.outputs}
    yield from (value for value in body.outputs if value.const is None and id(value) not in own)


def loop_parts(node: Node) -> LoopParts | str:
    """Return the parts of a loop, or why its inputs, outputs and body don't match."""
    body: Graph = node.attributes["body"]
    is_scan = node.op_type == "Scan"
    sequences = int(node.attributes["num_scan_inputs"]) if is_scan else 0
    first, extra = (0, 0) if is_scan else (2, 1)
    given, outputs = list(node.inputs), list(node.outputs)
    given += [None] * (first - len(given))
    states = given[first : len(given) - sequences]
    fed = body.inputs[first:]
    if len(body.inputs) != len(given) or sequences > len(given) or any(v is None for v in given[first:]):
        return "its inputs don't match its body"
    results = body.outputs[extra:]
    if len(results) < len(states) or len(body.outputs) < extra or (is_scan and sequences < 1):
        return "its outputs don't match its body"
    outputs += [None] * (len(results) - len(outputs))
    read = [value if value is not None and value.uses else None for value in outputs]
    n = len(states)
    carried = [Carried(*quad) for quad in zip(states, fed, results, read)]  # type: ignore[arg-type]  # none is None
    taken = _sliced(node, "input", given[first + n :], fed[n:])
    stacked = _sliced(node, "output", read[n:], results[n:])
    if taken is None or stacked is None:
        return "its axes or directions don't match its inputs and outputs"
    if is_scan:
        if any(sliced.item.static_shape is None or sliced.whole.static_shape is None for sliced in taken):
            return f'the shape of "{next(sliced.whole.name for sliced in taken)}" depends on data'
        lengths = {(sliced.whole.static_shape or ())[sliced.axis] for sliced in taken}
        if len(lengths) != 1:
            return "its inputs have different lengths"
        return LoopParts(body, lengths.pop(), None, None, None, None, carried, taken, stacked)
    counter, flag = body.inputs[:2]
    return LoopParts(body, given[0], given[1], counter, flag, body.outputs[0], carried, taken, stacked)


def _sliced(node: Node, kind: str, wholes: Sequence[Value | None], items: Sequence[Value]) -> list[Sliced] | None:
    """Return the slices of a Scan's inputs or outputs, or of a Loop's outputs, that are read; None if invalid."""
    axes, directions = (node.attributes.get(f"scan_{kind}_{name}") for name in ("axes", "directions"))
    axes, directions = (given if given is not None else [0] * len(items) for given in (axes, directions))
    if len(axes) != len(items) or len(directions) != len(items):
        return None
    found = []
    for whole, item, axis, backwards in zip(wholes, items, axes, directions):
        rank = None if item.static_shape is None else len(item.static_shape) + 1
        if rank is not None and not -rank <= axis < rank:
            return None
        if whole is not None:
            found.append(Sliced(whole, item, axis if rank is None else axis % rank, bool(backwards)))
    return found


def _length(parts: LoopParts) -> int | None:
    """Return the number of iterations if it is a constant."""
    if isinstance(parts.trips, Value):
        count = parts.trips.const
        return None if count is None or count.size != 1 else int(count.reshape(()))
    return parts.trips


def _type(value: Value) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    """Return dtype and shape of a value that copies can move; None for any other."""
    shape, dtype = (value.static_shape, value.dtype) if value.const is None else (value.const.shape, value.const.dtype)
    if shape is None or dtype is None or dtype.kind not in "fiub" or value.sizes is not None:
        return None
    return None if 0 in shape or any(map(is_size, shape)) else (dtype, shape)


def _whole_type(sliced: Sliced, length: int | None) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    """Return dtype and shape of a stack of that many slices."""
    found = _type(sliced.item)
    if found is None or length is None:
        return None
    dtype, shape = found
    return dtype, (*shape[: sliced.axis], length, *shape[sliced.axis :])


def _is_one(value: Value, dtype: np.dtype[Any]) -> bool:
    found = _type(value)
    return found is not None and found[0] == dtype and math.prod(found[1]) == 1


def is_needed(body: Graph, value: Value) -> bool:
    """Return whether the body reads one of its inputs or gives it as an output."""
    return bool(value.uses) or any(value is output for output in body.outputs)
