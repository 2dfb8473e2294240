"""Remove nodes whose results nothing reads, last first, then initializers that nothing reads."""

from __future__ import annotations

from tinyonnx.passes._rewrite import Rewrite


def drop_dead(rewrite: Rewrite) -> None:
    """Remove every node without a used output, and every unused initializer that is not overridable."""
    for node in reversed(list(rewrite.graph.nodes)):
        if not any(value is not None and value.uses for value in node.outputs):
            rewrite.graph.remove_node(node)
    rewrite.graph.drop_initializers()
