"""Nodes whose results nobody reads are dropped, last first."""

from __future__ import annotations

from tinyonnx.passes._rewrite import Rewrite


def drop_dead(rewrite: Rewrite) -> None:
    """Remove every node without a used output."""
    for node in reversed(list(rewrite.graph.nodes)):
        if not any(value is not None and value.uses for value in node.outputs):
            rewrite.graph.remove_node(node)
