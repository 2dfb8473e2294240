"""Let an ExpandDepthwise average each row that it writes, for the gate that reads it: mean(y) = mean(row means)."""

from __future__ import annotations

from tinyonnx.ir import Value
from tinyonnx.passes._rewrite import Rewrite, producer
from tinyonnx.registry import FUSED


def fuse_row_means(rewrite: Rewrite) -> None:
    """Let every SqueezeGate that reads an ExpandDepthwise read its second output, the row means [N, E, H, 1]."""
    for gate in [n for n in rewrite.graph.nodes if (n.op_type, n.domain) == ("SqueezeGate", FUSED)]:
        x = gate.inputs[0]
        source = producer(x)
        if x is None or x.shape is None or source is None or source.op_type != "ExpandDepthwise":
            continue
        if len(source.outputs) == 1:
            means = Value(f"{x.name}:means", x.dtype, (*x.shape[:-1], 1))
            means.producer = source
            source.outputs.append(means)
        rewrite.graph.set_input(gate, 0, source.outputs[1])
        rewrite.applied(gate, f"takes its means from {source.label}")
