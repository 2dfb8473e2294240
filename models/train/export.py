"""Write the trained student as an ONNX file with float16 weights and compare it with torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto

import tinyonnx
from models.train.student import Net, Pruned, graph_of
from tinyonnx import Graph, Node, save_model

SMALL = 1024
"""Tensors with fewer elements stay float32."""


def halve(graph: Graph) -> None:
    """Store large float32 initializers as float16 followed by a Cast, which is folded when the model is loaded."""
    opset = graph.nodes[0].opset
    for value in list(graph.initializers):
        if value.const is None or value.const.dtype != np.float32 or value.const.size < SMALL:
            continue
        half = graph.add_initializer(f"{value.name}.half", value.const.astype(np.float16))
        value.const = None
        graph.initializers.remove(value)
        graph.add_node(Node("Cast", [half], [value], {"to": TensorProto.FLOAT}, opset=opset), at=0)


def export(net: Net, path: Path, metadata: Mapping[str, str]) -> float:
    """Write the student and return the maximum difference between its logits and torch's with the same weights.

    Raises ValueError if the difference exceeds 1e-4.
    """
    config = Pruned()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.numel() >= SMALL:
                parameter.copy_(parameter.half().float())
    graph = graph_of(config, net.eval())
    graph.metadata |= {"description": "AudioSet tagger distilled from EfficientAT's mn04_as; log-mel to 527 logits"}
    graph.metadata |= metadata
    halve(graph)
    graph.verify()
    save_model(graph, path)
    x = np.random.default_rng(0).uniform(-1.4, 1.5, (2, 1, 128, 700)).astype(np.float32)
    (ours,) = tinyonnx.InferenceSession(str(path)).run(["logits"], {"melspec": x})
    with torch.no_grad():
        theirs = net(torch.from_numpy(x))[0].numpy()
    difference = float(np.abs(ours - theirs).max())
    if difference > 1e-4:
        raise ValueError(f"{path}: differs from torch by {difference}")
    return difference
