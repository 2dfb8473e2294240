"""One ONNX model of a backbone and a head."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.models.description import KEY, ClassLabel, OutputNames
from tinyonnx import Graph, Node, Value

if TYPE_CHECKING:
    from audiotag.learning.head import Head
    from audiotag.models.network import Network

TRAINING = "training"
"""Key of the metadata about the training."""

_FLOAT = 1
"""ONNX's number of float32."""


def assemble(network: Network, head: Head, facts: dict[str, Any]) -> Graph:
    """Make the graph that computes `logits` and `embedding` from the backbone's input.

    Nodes behind the backbone's embedding are removed. The metadata are the backbone's description with the head's
    classes, its name and SHA-256 as source, and `facts` with the figures of the head. `facts["backbone"]` has
    `name` and `sha256`.

    Raises ModelError: the backbone has no embedding.
    """
    name = network.embedding
    graph = network.session.graph.clone()
    source = graph.values()[name]
    graph.clear_outputs()
    for node in reversed(list(graph.nodes)):
        if source not in node.outputs and not any(value is not None and value.uses for value in node.outputs):
            graph.remove_node(node)
    graph.drop_initializers()
    taken = set(graph.values())
    opset = graph.opsets.get("", 17)

    def add(kind: str, name: str, inputs: list[Value], attributes: dict[str, Any]) -> Value:
        result = Value(_free(name, taken))
        graph.add_node(Node(kind, inputs, [result], attributes, opset=opset, name=result.name, index=len(graph.nodes)))
        return result

    vector = source
    rank = len(source.shape) if source.shape is not None else None
    if network.description.frames is not None and rank == 3:
        # (batch, frames, n): the embedding is the mean over time
        turned = add("Transpose", "head.turned", [vector], {"perm": [0, 2, 1]})
        vector = add("GlobalAveragePool", "head.mean", [turned], {})
    if network.session.get_inputs()[0].type != "tensor(float)":
        vector = add("Cast", "head.cast", [vector], {"to": _FLOAT})
    if vector is not source or name != "embedding" or rank != 2:
        vector = add("Flatten", "embedding", [vector], {"axis": 1})
    weights = graph.add_initializer(_free("head.weights", taken), np.ascontiguousarray(head.weights))
    bias = graph.add_initializer(_free("head.bias", taken), head.bias)
    logits = add("Gemm", "logits", [vector, weights, bias], {})
    for value, size in ((logits, len(head.bias)), (vector, len(head.weights))):
        value.dtype, value.shape = np.dtype(np.float32), ((graph.inputs[0].shape or ("batch",))[0], size)
        graph.add_output(value)
    labels = tuple(ClassLabel(label) for label in head.figures.classes)
    description = replace(
        network.description,
        output="logits",
        labels=labels,
        frames=None,
        outputs=OutputNames(logits.name, None, vector.name),
    )
    graph.metadata |= {
        "custom:trained": "yes",
        "custom:source": f"trained by audiotag train on embeddings of {facts['backbone']['name']}",
        "custom:source_sha256": facts["backbone"]["sha256"],
        f"custom:{KEY}": description.to_text(),
        f"custom:{TRAINING}": json.dumps(facts | {"left_out": head.figures.to_dict()}),
    }
    return graph


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no value of the graph has yet."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
