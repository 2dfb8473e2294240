"""Make empty optional inputs absent: Resize(x, roi=[], scales) is Resize(x, -, scales)."""

from __future__ import annotations

from tinyonnx.passes._rewrite import Rewrite

_OPTIONAL_SINCE = 13
"""Opset of the first Resize with optional roi and scales; that of opset 11 is otherwise the same."""


def drop_empty_options(rewrite: Rewrite) -> None:
    """Make empty roi, scales and sizes of every Resize absent."""
    for node in [n for n in rewrite.graph.nodes if n.op_type == "Resize" and not n.domain and n.opset >= 11]:
        for i, value in enumerate(node.inputs):
            if i and value is not None and value.static_shape == (0,):
                rewrite.graph.set_input(node, i, None)
                node.opset = max(node.opset, _OPTIONAL_SINCE)
                rewrite.applied(node, f"input {i} is empty and made absent")
