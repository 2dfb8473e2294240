"""What every pass works with: the graph, derived constants, and a report of what it did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.registry import FUSED
from tinyonnx.runtime.constants import ConstantPool

_LOG = logging.getLogger("tinyonnx.passes")


class Remark(NamedTuple):
    """One thing that a pass did, or refused to do, and why."""

    pass_name: str
    applied: bool
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.pass_name}: {'' if self.applied else 'skipping '}{self.node}: {self.text}"


@dataclass
class Rewrite:
    """The state of one run of the pipeline over one graph; `folded` has the values that became constants."""

    graph: Graph
    pool: ConstantPool
    limits: Limits
    model: str
    remarks: list[Remark]
    pass_name: str = ""
    folded: dict[str, Value] = field(default_factory=dict)
    folded_bytes: int = 0

    def applied(self, node: Node, text: str) -> None:
        """Record what was done to a node."""
        self._remark(True, node, text)

    def refused(self, node: Node, text: str) -> None:
        """Record why a node that looked right was left alone."""
        self._remark(False, node, text)

    def _remark(self, applied: bool, node: Node, text: str) -> None:
        remark = Remark(self.pass_name, applied, node.label, text)
        self.remarks.append(remark)
        _LOG.debug("%s: %s", self.model, remark)

    def constant(self, name: str, tag: object, compute: Callable[..., Array], *sources: Array) -> Value:
        """A constant value computed from constant arrays, once for all plans."""
        array = self.pool.derive(tag, compute, *sources)
        return Value(name, array.dtype, array.shape, array)

    def fuse(
        self,
        last: Node,
        others: list[Node],
        op_type: str,
        inputs: list[Value | None],
        attributes: Mapping[str, Any],
        *,
        domain: str = FUSED,
        opset: int = 1,
    ) -> Node:
        """Replace `last` by a new node that also does what `others` did (dead from now on).

        The new node keeps the name of `last`, because its output is the one that stays,
        and the origins of all.
        """
        result = Value(last.output.name, last.output.dtype, last.output.shape)
        new = Node(
            op_type,
            inputs,
            [result],
            attributes,
            domain=domain,
            opset=opset,
            name=last.label,
            index=last.index,
            origin=[name for node in (*others, last) for name in node.origin],
        )
        if len(last.outputs) > 1:
            new.outputs += [None] * (len(last.outputs) - 1)
        self.graph.replace_node(last, new)
        for node in reversed(others):
            if not any(v.uses for v in node.outputs if v is not None):
                self.graph.remove_node(node)
        return new


def reader(value: Value) -> Node | None:
    """The node that reads a value if it is the only use, else None."""
    if len(value.uses) == 1 and isinstance(value.uses[0][0], Node):
        return value.uses[0][0]
    return None


def why_not_private(value: Value) -> str:
    """Why `reader` found no single reader, in words."""
    readers = [f"by {user.label}" if isinstance(user, Node) else "as an output" for user, _ in value.uses]
    return f"its output is read {' and '.join(readers)}" if readers else "nothing reads its output"


def constant(value: Value | None) -> Array | None:
    """The array of a constant value, else None."""
    return None if value is None else value.const


def scalar(value: Value | None) -> float | None:
    """The number in a one-element constant, else None."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 and array.dtype.kind in "fiu" else None


def axes_of(node: Node) -> list[int] | None:
    """The axes of a Reduce*, Squeeze or Unsqueeze node, given as attribute or constant input; None if unknown."""
    if node.attributes.get("axes") is not None:
        return [int(a) for a in node.attributes["axes"]]
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return []
    array = node.inputs[1].const
    return None if array is None else [int(a) for a in array.reshape(-1)]
