"""The state of a pipeline run, and queries on values and nodes that many passes need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.registry import FUSED
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.sizes.integers import are_sizes, vector

T = TypeVar("T")

_LOG = logging.getLogger("tinyonnx.passes")


class Remark(NamedTuple):
    """One rewrite that a pass applied, or refused with a reason."""

    pass_name: str
    applied: bool
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.pass_name}: {'' if self.applied else 'skipping '}{self.node}: {self.text}"


@dataclass(eq=False)
class Rewrite:
    """The state of one run of the pipeline over one graph.

    Attributes:
        graph: edited in place.
        pool: shares derived constants between plans.
        limits: sizes of folded constants are checked against them.
        model: name of the file, for messages.
        remarks: rewrites applied and refused, in order.
        pass_name: the pass that is running.
        folded: values of the graph that became constants, by name.
        folded_bytes: their total size.
        trusts_declared: whether types and shapes that the file declares are taken for results of which nothing is
            inferred. Tools that only show a model do so.
        input_means: if weights of products may be rounded to bfloat16, the means of the other operands over everything
            but the channels, by name, as far as they are known; else None.
        rounds_operands: whether kernels round these, too.
        rounded: labels of the products whose weights were rounded.
    """

    graph: Graph
    pool: ConstantPool
    limits: Limits
    model: str
    remarks: list[Remark]
    pass_name: str = ""
    folded: dict[str, Value] = field(default_factory=dict)
    folded_bytes: int = 0
    trusts_declared: bool = False
    input_means: Mapping[str, Array] | None = None
    rounds_operands: bool = False
    rounded: set[str] = field(default_factory=set)

    def applied(self, node: Node, text: str) -> None:
        """Record a rewrite that led to this node."""
        self._remark(True, node, text)

    def refused(self, node: Node, text: str) -> None:
        """Record why a node that matches the pattern is left as it is."""
        self._remark(False, node, text)

    def _remark(self, applied: bool, node: Node, text: str) -> None:
        remark = Remark(self.pass_name, applied, node.label, text)
        self.remarks.append(remark)
        _LOG.debug("%s: %s", self.model, remark)

    def constant(self, name: str, tag: object, compute: Callable[..., Array], *sources: Array) -> Value:
        """Return a constant computed from constant arrays, once for all plans; see `ConstantPool.derive`."""
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
        """Replace `last` by a node that also does the work of `others`, and return it.

        The new node has the label of `last`, whose output it replaces, and the origins of all of them. Those of
        `others` that nothing else reads are removed.
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
        del new.outputs[1:]
        for node in reversed(others):
            if not any(v.uses for v in node.outputs if v is not None):
                self.graph.remove_node(node)
        return new


def constant_sizes(name: str, numbers: Sequence[int]) -> Value:
    """Return a vector of int64 as a value: a constant, unless some of the numbers are expressions."""
    content = vector(numbers)
    value = Value(name, np.dtype(np.int64), (len(numbers),))
    if are_sizes(content):
        value.sizes = content
    else:
        value.const = content
    return value


def producer(value: Value | None) -> Node | None:
    """Return the node with this output; None for inputs, constants and absent values."""
    return None if value is None else value.producer


def computed_terms(
    rewrite: Rewrite, add: Node, product_of: Callable[[Value | None], Node | None]
) -> list[tuple[Node, Value | None]]:
    """Return the nodes of a kind that compute operands of a sum, each with the other operand, the last one first.

    If both operands are computed by such nodes, the later one should add the other's result: it exists by then, and its
    own result is still in the cache.
    """
    a, b = add.inputs
    terms = [(product_of(value), other) for value, other in ((a, b), (b, a))]
    found = [(node, other) for node, other in terms if node is not None]
    if len(found) == 2:
        order = {id(node): i for i, node in enumerate(rewrite.graph.nodes)}
        found.sort(key=lambda term: -order[id(term[0])])
    return found


def sole_reader(value: Value) -> Node | None:
    """Return the node that reads a value if that is the value's only use, else None."""
    if len(value.uses) == 1 and isinstance(value.uses[0][0], Node):
        return value.uses[0][0]
    return None


def why_no_sole_reader(value: Value) -> str:
    """Return the reason, for a remark, why `sole_reader` is None or not the expected node."""
    readers = [f"by {user.label}" if isinstance(user, Node) else "as an output" for user, _ in value.uses]
    return f"its output is read {' and '.join(readers)}" if readers else "nothing reads its output"


def constant(value: Value | None) -> Array | None:
    """Return the array of a constant value; None for an absent or variable one."""
    return None if value is None else value.const


def scalar(value: Value | None) -> float | None:
    """Return the number in a constant with one element, else None."""
    array = constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 and array.dtype.kind in "fiu" else None


def aligns_by_axis(node: Node) -> bool:
    """Return whether a binary operator of opsets 1 to 6 aligns its second operand with an axis other than the last."""
    return node.opset < 7 and node.attributes.get("axis") is not None


def first_reason(checks: Iterable[Callable[[T], str | None]], match: T) -> str | None:
    """Run checks in order and return the first reason against a match; None if there is none."""
    return next(filter(None, (check(match) for check in checks)), None)


def axes_of(node: Node) -> list[int] | None:
    """Return the axes of a Reduce*, Squeeze or Unsqueeze node; [] if not given, None if not constant."""
    if node.attributes.get("axes") is not None:
        return [int(a) for a in node.attributes["axes"]]
    if len(node.inputs) < 2 or node.inputs[1] is None:
        return []
    array = node.inputs[1].const
    return None if array is None else [int(a) for a in array.reshape(-1)]
