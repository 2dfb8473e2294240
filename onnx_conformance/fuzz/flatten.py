"""Put the nodes of a subgraph in the place of its If or Loop, where they can be looked at one by one."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto

from tinyonnx.onnxfile.messages import reads_of
from tinyonnx.tools.surgery import copy_of


def without_subgraphs(model: ModelProto) -> Iterator[ModelProto]:
    """Yield models in which an If, or a Loop without state, is replaced by the nodes of a subgraph."""
    for position, node in enumerate(model.graph.node):
        if node.op_type not in ("If", "Loop") or node.domain or len(node.input) > 2:
            continue
        for attribute in node.attribute:
            inner = attribute.g
            flat = copy_of(model)
            del flat.graph.node[:], flat.graph.input[:]
            results = dict(zip((v.name for v in inner.output[node.op_type == "Loop" :]), node.output))
            flat.graph.node.extend(model.graph.node[:position])
            for each in inner.node:
                flat.graph.node.append(each)
                flat.graph.node[-1].output[:] = [results.get(name, name) for name in each.output]
            flat.graph.node.extend(model.graph.node[position + 1 :])
            flat.graph.initializer.extend(inner.initializer)
            read = {name for each in flat.graph.node for name in reads_of(each)}
            flat.graph.input.extend(value for value in model.graph.input if value.name in read)
            produced = {name for each in flat.graph.node for name in each.output}
            given = {v.name for v in flat.graph.input} | {t.name for t in flat.graph.initializer}
            unused = [n for n in flat.graph.node if not set(reads_of(n)) <= produced | given]
            for each in unused:  # the condition of the next iteration
                flat.graph.node.remove(each)
            for output in flat.graph.output:  # a Loop stacks the results of the nodes
                output.type.tensor_type.ClearField("shape")
            yield flat
