"""Fusions of two nodes, the second of which is the only reader of the first, declared as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, first_reason, producer, sole_reader, why_no_sole_reader
from tinyonnx.registry import FUSED


class Pair(NamedTuple):
    """Two nodes; the first input of `second` is the first output of `first`."""

    first: Node
    second: Node


class FusedCall(NamedTuple):
    """Operator, inputs and attributes of a fused node; one of ONNX's has the domain "" and the opset of the pair."""

    op_type: str
    inputs: list[Value | None]
    attributes: dict[str, Any]
    domain: str = FUSED
    opset: int = 1


class PairFusion(NamedTuple):
    """A fusion of two nodes into one.

    Attributes:
        matches: whether a pair has the pattern.
        call: the fused node.
        remark: text before the label of the first node, such as "takes in the gate of".
        checks: reasons against fusing a pair that matches; that something else reads the first node is added.
    """

    matches: Callable[[Pair], bool]
    call: Callable[[Pair], FusedCall]
    remark: str
    checks: tuple[Callable[[Pair], str | None], ...] = ()

    def apply(self, rewrite: Rewrite) -> None:
        """Fuse every pair of the graph that matches and passes the checks."""
        for second in list(rewrite.graph.nodes):
            first = producer(second.inputs[0]) if second.inputs else None
            if first is None or not self.matches(pair := Pair(first, second)):
                continue
            if reason := first_reason((*self.checks, _shared), pair):
                rewrite.refused(second, f"not fused with {first.label}: {reason}")
                continue
            call = self.call(pair)
            fused = rewrite.fuse(
                second, [first], call.op_type, call.inputs, call.attributes, domain=call.domain, opset=call.opset
            )
            rewrite.applied(fused, f"{self.remark} {first.label}")


def _shared(pair: Pair) -> str | None:
    value = pair.second.inputs[0]
    return None if value is None or sole_reader(value) is pair.second else why_no_sole_reader(value)
