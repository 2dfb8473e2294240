"""Make empty optional inputs absent: Resize(x, roi=[], scales) is Resize(x, -, scales)."""

from __future__ import annotations

from tinyonnx.passes._rewrite import Rewrite


def drop_empty_options(rewrite: Rewrite) -> None:
    """Make the empty inputs of every Resize absent; before opset 13 it has no other way to omit roi or scales."""
    for node in [n for n in rewrite.graph.nodes if n.op_type == "Resize" and not n.domain and n.opset >= 11]:
        for i, value in enumerate(node.inputs):
            if i and value is not None and value.static_shape == (0,):
                rewrite.graph.set_input(node, i, None)
                rewrite.applied(node, f"input {i} is empty and made absent")
