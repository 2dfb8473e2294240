"""Optional inputs that are given but empty become absent: Resize(x, roi=[], scales) is Resize(x, -, scales)."""

from __future__ import annotations

from tinyonnx.passes._rewrite import Rewrite


def drop_empty_options(rewrite: Rewrite) -> None:
    """Apply the rewrite to every Resize, whose older versions had no other way of leaving inputs out."""
    for node in [n for n in rewrite.graph.nodes if n.op_type == "Resize" and not n.domain and n.opset >= 11]:
        for i, value in enumerate(node.inputs):
            if i and value is not None and value.static_shape == (0,):
                rewrite.graph.set_input(node, i, None)
                rewrite.applied(node, f"input {i} is empty, as good as absent")
