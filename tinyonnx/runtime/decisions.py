"""Inputs whose values decide which branch of an If runs: each of the first few values gets a plan of its own.

With the value as a constant, the If is replaced by the branch taken, which is then optimised and planned like any other
part of the graph. Examples are the sample rate of a voice activity detector and the flag that tells a decoder to use
its cache.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.dtypes import from_onnx_type
from tinyonnx.ir import Graph, Value
from tinyonnx.registry import lookup

VALUES_KEPT = 4
"""Number of sets of values that get plans of their own; with further values the If is decided in each run."""

Decided = tuple[tuple[int, Any], ...]
"""Positions of deciding inputs, with their values."""


class Decisions:
    """The deciding inputs of a graph, and the values that a session has received."""

    def __init__(self, graph: Graph) -> None:
        self._inputs = deciding_inputs(graph)
        self._met: set[Decided] = set()
        self._lock = threading.Lock()

    def of(self, feeds: Sequence[Any]) -> Decided:
        """Return the values by which to specialise a plan for these feeds; empty if there are none or too many."""
        if not self._inputs:
            return ()
        values = [(i, feeds[i]) for i in self._inputs]
        if any(not isinstance(value, np.ndarray) or value.size != 1 for _, value in values):
            return ()
        decided = tuple((i, value.item()) for i, value in values)
        if decided not in self._met:
            with self._lock:
                if len(self._met) >= VALUES_KEPT:
                    return ()
                self._met.add(decided)
        return decided

    def unlock(self) -> None:
        """Replace locks in a forked child, where the thread that held one does not exist."""
        self._lock = threading.Lock()


def deciding_inputs(graph: Graph) -> list[int]:
    """Return the positions of inputs, single integers or booleans, that determine the condition of an If."""
    found: set[int] = set()
    inputs = {id(value): i for i, value in enumerate(graph.inputs)}
    for node in graph.walk():
        if node.op_type == "If" and not node.domain and node.inputs[0] is not None:
            found |= _sources(node.inputs[0], inputs) or set()
    return sorted(found)


def _sources(condition: Value, inputs: dict[int, int]) -> set[int] | None:
    """Return the positions of the inputs that determine a value; None if it depends on anything but single integers."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting = [condition]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or value.const is not None:
            continue
        seen.add(id(value))
        node = value.producer
        if id(value) in inputs and _is_single_integer(value):
            found.add(inputs[id(value)])
        elif node is None or not lookup(node.domain, node.op_type, node.opset).pure:
            return None
        elif node.op_type not in ("Shape", "Size") or node.domain:  # sizes are known when a plan is made
            waiting += (v for v in node.inputs if v is not None)
            waiting += (v for subgraph in node.subgraphs for v in subgraph.outputs)
    return found


def _is_single_integer(value: Value) -> bool:
    if value.shape is None or any(size != 1 for size in value.shape):
        return False
    try:
        return from_onnx_type(value.type or "").kind in "iub"
    except KeyError:
        return False


def fix_inputs(graph: Graph, decided: Decided) -> None:
    """Replace deciding inputs by constants in all nodes that read them; the graph keeps the inputs."""
    for position, value in decided:
        fed = graph.inputs[position]
        array = np.full([1] * len(fed.shape or ()), value, from_onnx_type(fed.type or ""))
        graph.replace_all_uses_with(fed, Value(fed.name, array.dtype, array.shape, array))
