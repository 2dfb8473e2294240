"""Check lengths of sequences before a recurrent layer, whose kernel can't: LSTM(x, …, n) = LSTM(x, …, Checked(n))."""

from __future__ import annotations

import numpy as np

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, constant_sizes
from tinyonnx.registry import FUSED

_LENGTHS = 4
"""The position of `sequence_lens` among the inputs."""

_SINCE = {"LSTM": 1, "GRU": 3, "RNN": 1}
"""Layers, and the opsets from which on they mean the same."""


def check_lengths(rewrite: Rewrite) -> None:
    """Put a check before every layer whose lengths of sequences are not constant."""
    for node in list(rewrite.graph.nodes):
        since = _SINCE.get(node.op_type)
        lengths = node.inputs[_LENGTHS] if len(node.inputs) > _LENGTHS else None
        if node.domain or since is None or node.opset < since or lengths is None or lengths.const is not None:
            continue
        x = node.inputs[0]
        shape = x.static_shape if x is not None else None
        if lengths.dtype != np.int32 or lengths.static_shape is None or shape is None or len(shape) != 3:
            rewrite.refused(node, "its lengths of sequences are not int32, or a shape is unknown")
            continue
        time, batch = shape[1::-1] if node.attributes.get("layout", 0) else shape[:2]
        sizes = constant_sizes(f"{node.label}:sizes", [time, batch])
        checked = Value(f"{node.label}:lengths", lengths.dtype, lengths.shape)
        check = Node(
            "SequenceLengths", [lengths, sizes], [checked], domain=FUSED, name=checked.name, index=node.index,
            origin=node.origin,
        )  # fmt: skip
        rewrite.graph.add_node(check, rewrite.graph.position(node))
        rewrite.graph.set_input(node, _LENGTHS, checked)
        node.domain, node.opset = FUSED, 1
        rewrite.applied(node, "its lengths of sequences are checked before it runs")
