"""Shape-independent rewriting, done once per session, so that further plans for single shapes are cheaper.

Models that can't be planned for every size (`sized_plans`) need a plan per size. Half of the time to make one is spent
on folding and fusing parts that don't depend on sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from tinyonnx.ir import Graph, Node, Value
from tinyonnx.passes import Rewrite


class ShapeIndependentRewrites:
    """Graphs rewritten without regard to input sizes, by key.

    The first rewrite of a key starts from the original graph. At the second, the shape-independent rewrite is also
    made, and kept if it leads to the same result; all further rewrites start from it.
    """

    def __init__(self) -> None:
        self._met: set[Hashable] = set()
        self._done: dict[Hashable, Rewrite | None] = {}

    def rewrite(
        self,
        key: Hashable,
        begin: Callable[[], Graph],
        ahead: Callable[[Graph], Rewrite],
        finish: Callable[[Graph], Rewrite],
    ) -> Rewrite:
        """Return the result of `finish(begin())`.

        Args:
            key: identifies the graph that `begin` makes.
            begin: makes a graph.
            ahead: rewrites it in place, for any sizes of inputs.
            finish: rewrites it in place, for certain sizes.
        """
        done = self._done.get(key)
        if done is not None:
            result = finish(done.graph.clone())
            result.remarks[:0] = [remark for remark in done.remarks if remark.applied]
            return result
        result = finish(begin())
        if key in self._met and key not in self._done:
            done = ahead(begin())
            self._done[key] = done if alike(result.graph, finish(done.graph.clone()).graph) else None
        self._met.add(key)
        return result


def alike(a: Graph, b: Graph) -> bool:
    """Compare two graphs node by node."""
    return _Comparison().of_graphs(a, b)


class _Comparison:
    def __init__(self) -> None:
        self._partners: dict[int, Value] = {}

    def of_graphs(self, a: Graph, b: Graph) -> bool:
        return (
            a.output_names == b.output_names
            and self._pair(a.inputs, b.inputs)
            and len(a.nodes) == len(b.nodes)
            and all(map(self._of_nodes, a.nodes, b.nodes))
            and self._of_values(a.outputs, b.outputs)
        )

    def _of_nodes(self, a: Node, b: Node) -> bool:
        return (
            (a.domain, a.op_type, a.opset, a.label, a.origin) == (b.domain, b.op_type, b.opset, b.label, b.origin)
            and self._of_values(a.inputs, b.inputs)
            and a.attributes.keys() == b.attributes.keys()
            and all(self._of_attributes(value, b.attributes[name]) for name, value in a.attributes.items())
            and self._pair(a.outputs, b.outputs)
        )

    def _pair(self, a: list[Any], b: list[Any]) -> bool:
        """Record that two values correspond to each other; return whether they can."""
        for one, other in zip(a, b, strict=False):
            if one is not None and other is not None:
                self._partners[id(one)] = other
        return len(a) == len(b) and all(map(_same_kind, a, b))

    def _of_values(self, a: list[Any], b: list[Any]) -> bool:
        return len(a) == len(b) and all(map(self._of_value, a, b))

    def _of_value(self, a: Value | None, b: Value | None) -> bool:
        if a is None or b is None:
            return a is b
        if a.const is None or b.const is None:
            return self._partners.get(id(a)) is b
        return a.const is b.const or _same_array(a.const, b.const)

    def _of_attributes(self, a: Any, b: Any) -> bool:
        if isinstance(a, Graph) and isinstance(b, Graph):
            return self.of_graphs(a, b)
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return _same_array(a, b)
        return bool(type(a) is type(b) and a == b)


def _same_kind(a: Value | None, b: Value | None) -> bool:
    if a is None or b is None:
        return a is b
    return (a.name, a.dtype, a.shape) == (b.name, b.dtype, b.shape)


def _same_array(a: Any, b: Any) -> bool:
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
