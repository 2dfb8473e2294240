"""Put further nodes around a sample: chains as exporters write them, QuantizeLinear pairs, If and Loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper, numpy_helper

from onnx_conformance.generate.draws import Random, broadcastable, coin, one
from onnx_conformance.generate.inference import inferred, sized
from onnx_conformance.generate.mutate import attribute_values, float_values, nudged, set_attribute, versions
from onnx_conformance.generate.sample import Sample
from onnx_conformance.generate.validity import schema_of_node

_LONGEST = 64
"""Maximum size of an axis of constants."""

ACTIVATIONS = (
    "Relu", "Sigmoid", "Tanh", "HardSigmoid", "LeakyRelu", "Elu", "Selu", "Celu", "Softplus", "Softsign", "HardSwish",
    "ThresholdedRelu", "Mish", "Swish", "Gelu", "Erf", "Exp", "Neg", "Abs", "Identity",
)  # fmt: skip
"""Functions of one number that networks have between their layers."""


def since(name: str) -> int:
    """Return the first version of an operator of ONNX's own domain."""
    return versions("", name)[0]


def drawn_attributes(r: Random, op: str) -> dict[str, Any]:
    """Return attributes of an activation: each left out, at or beside its default, at an edge, or as exporters do."""
    attributes: dict[str, Any] = {}
    for name, attribute in defs.get_schema(op).attributes.items():
        if attribute.type == defs.OpSchema.AttrType.FLOAT and r.random() < 0.6:
            attributes[name] = float(one(r, *float_values(name, attribute.default_value.f)))
    if op == "Gelu" and coin(r):
        attributes["approximate"] = "tanh"
    return attributes


class Surrounding:
    """Adds nodes to the first float output of a model."""

    def __init__(self, r: Random, sample: Sample) -> None:
        self.r = r
        self.model = ModelProto()
        self.model.CopyFrom(sample.model)
        self.opset = next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.count = 0
        self.output, self.rank, self.shape = _float_output(self.model)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        self.count += 1
        name = f"s{self.count}"
        self.model.graph.node.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        """Add an initializer and return its name."""
        self.count += 1
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), f"c{self.count}"))
        return f"c{self.count}"

    def step(self, value: str) -> str:
        """Add a random operation after a value and return its result; shapes broadcast to the value's."""
        r, rank = self.r, self.rank
        match r.integers(8 if rank else 3):
            case 0 | 1:
                return self.function(value)
            case 2 | 3:
                return self.arithmetic(value)
            case 4:
                return self.gated(value)
            case 5 | 6:
                assert rank
                return self.turned(value, rank)
            case _:
                shape = self.add("Shape", value)
                flat = self.add("Reshape", value, self.constant(np.array([-1])))
                return self.add("Reshape", self.add("Relu", flat) if coin(r) else flat, shape)

    def function(self, value: str) -> str:
        """Add a function of one number."""
        op = one(self.r, *(name for name in ACTIVATIONS if since(name) <= self.opset))
        return self.add(op, value, **drawn_attributes(self.r, op))

    def arithmetic(self, value: str) -> str:
        """Add arithmetic with a constant of any shape that broadcasts to the value's, in any order."""
        r = self.r
        shape = one(r, (), (1,), (1,) * (self.rank or 1))
        if self.shape and max(self.shape) <= _LONGEST and r.random() < 0.6:
            shape = broadcastable(r, self.shape)
        other = self.constant(np.asarray(r.standard_normal(shape), np.float32))
        broadcasting = ("Max", "Min") if self.opset >= 8 else ()
        pair = (value, other) if coin(r) else (other, value)
        return self.add(one(r, "Add", "Mul", "Sub", "Div", *broadcasting), *pair)

    def turned(self, value: str, rank: int) -> str:
        """Add a Transpose, functions and arithmetic after it, and often one back, the same again or another."""
        r = self.r
        axes = list(range(rank))
        there: list[int] = one(
            r, [int(i) for i in r.permutation(rank)], axes[1:] + axes[:1], axes[-1:] + axes[:-1],
            axes[:1] + axes[2:] + axes[1:2], axes[:1] + axes[-1:] + axes[1:-1],
        )  # fmt: skip
        there = there if len(there) == rank else axes
        value = self.transposed(value, there)
        for _ in range(int(r.integers(0, 4))):
            value = self.function(value) if coin(r) else self.arithmetic(value)
        back = [int(i) for i in np.argsort(there)]
        match r.integers(5):
            case 0:
                return value
            case 1:
                return self.transposed(value, one(r, there, [*map(int, r.permutation(rank))]))
            case _:
                return self.transposed(value, back)

    def transposed(self, value: str, order: Sequence[int]) -> str:
        """Add a Transpose."""
        if self.shape:
            self.shape = [self.shape[i] for i in order]
        return self.add("Transpose", value, perm=list(order))

    def gated(self, value: str) -> str:
        """Add a function that reads the value twice, as exporters spell out Swish, HardSwish and Gelu."""
        r = self.r
        match r.integers(4):
            case 0:
                scaled = self.add("Mul", value, self.constant(np.float32(one(r, 0.5, 1.0, 1.702))))
                gate = self.add("Sigmoid", scaled)
            case 1:
                shifted = self.add("Add", value, self.constant(np.float32(3)))
                if self.opset < 11:
                    return self.add("Mul", value, self.add("Relu", shifted))
                cut = self.add("Clip", shifted, self.constant(np.float32(0)), self.constant(np.float32(6)))
                return self.add("Div", self.add("Mul", value, cut), self.constant(np.float32(6)))
            case 2 if self.opset >= 9:
                inner = self.add("Erf", self.add("Div", value, self.constant(np.float32(np.sqrt(2)))))
                gate = self.add("Add", inner, self.constant(np.float32(1)))
                return self.add("Mul", self.add("Mul", value, gate), self.constant(np.float32(0.5)))
            case _:
                gate = self.add(one(r, "Sigmoid", "Tanh", "Relu", "HardSigmoid"), value)
        return self.add(one(r, "Mul", "Mul", "Add"), *((value, gate) if coin(r) else (gate, value)))

    def quantised(self, value: str) -> str:
        """Add a pair of QuantizeLinear and DequantizeLinear and return its result."""
        r = self.r
        dtype = one(r, np.uint8, np.int8)
        zero = self.constant(
            np.array(int(r.integers(100, 150)) if dtype == np.uint8 else int(r.integers(-9, 9)), dtype)
        )
        scale = self.constant(np.float32(r.uniform(0.005, 0.1)))
        bytes_ = self.add("QuantizeLinear", value, scale, zero)
        return self.add("DequantizeLinear", bytes_, scale, zero)


def _float_output(model: ModelProto) -> tuple[str, int | None, list[int] | None]:
    """Return the name of the first float32 output, its rank and its shape, as far as known; "" if there is none."""
    for output, again in zip(model.graph.output, sized(model).graph.output):
        kind = output.type.tensor_type
        if output.type.HasField("tensor_type") and kind.elem_type == TensorProto.FLOAT:
            if not kind.HasField("shape"):
                return output.name, None, None
            dims = again.type.tensor_type.shape.dim
            known = bool(dims) and all(dim.dim_value for dim in dims)
            return output.name, len(kind.shape.dim), [int(dim.dim_value) for dim in dims] if known else None
    return "", None, None


def chained(r: Random, sample: Sample) -> Sample:
    """Return a sample with one to four operations after its first float output. Raises ValueError if it has none."""
    around = Surrounding(r, sample)
    if not around.output or around.opset < 7:
        raise ValueError("no float output")
    value = around.output
    for _ in range(int(r.integers(1, 5))):
        value = around.step(value)
    _set_output(around.model, around.output, value, keep=r.random() < 0.2)
    return Sample(inferred(around.model), sample.feeds, f"{sample.origin}, chained")


def almost(r: Random, sample: Sample) -> Sample:
    """Return a pattern with one thing changed, so that a pass may have to leave it alone.

    This is an attribute of a node, a number of a constant, or a result that becomes an output as well. Raises
    ValueError if the model is no longer valid.
    """
    model = ModelProto()
    model.CopyFrom(sample.model)
    node = model.graph.node[int(r.integers(len(model.graph.node)))]
    match r.integers(4):
        case 0 | 1:
            _change_attribute(r, node, model)
        case 2:
            _change_constant(r, model)
        case _:
            known = {value.name for value in model.graph.output}
            name = str(one(r, *node.output))
            if name and name not in known:
                model.graph.output.append(ValueInfoProto(name=name))
    return Sample(inferred(model), sample.feeds, f"{sample.origin}, changed")


def _change_attribute(r: Random, node: NodeProto, model: ModelProto) -> None:
    """Give a node another value of an attribute, or leave it out."""
    schema = schema_of_node(node, model)
    names = [name for name, a in schema.attributes.items() if a.type != defs.OpSchema.AttrType.GRAPH] if schema else []
    if not names:
        raise ValueError(f"{node.op_type} has no attribute")
    name = str(one(r, *names))
    given = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
    options: list[Any] = [] if schema.attributes[name].required else [None]
    if given and schema.attributes[name].type == defs.OpSchema.AttrType.INTS:
        options.append(nudged(r, given[0]))
    elif schema.attributes[name].type != defs.OpSchema.AttrType.TENSOR:
        options += attribute_values(schema, name, given)
    if options:
        set_attribute(node, name, options[r.integers(len(options))])


def _change_constant(r: Random, model: ModelProto) -> None:
    """Change one number of a constant: a whole one by one, another by some per cent, or its sign."""
    tensors = [t for t in model.graph.initializer if t.data_type in (TensorProto.FLOAT, TensorProto.INT64)]
    if not tensors:
        raise ValueError("no constant")
    tensor = tensors[int(r.integers(len(tensors)))]
    array = numpy_helper.to_array(tensor).copy()
    if not array.size:
        raise ValueError("an empty constant")
    at = int(r.integers(array.size))
    value = array.reshape(-1)[at]
    array.reshape(-1)[at] = value + one(r, -1, 1) if tensor.data_type == TensorProto.INT64 else value * one(r, -1, 1.02)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def in_quantised_pairs(r: Random, sample: Sample) -> Sample:
    """Return a sample with float inputs and outputs quantised. Raises ValueError if there are none."""
    around = Surrounding(r, sample)
    if not around.output or around.opset < 10:
        raise ValueError("no float output")
    graph = around.model.graph
    nodes = list(graph.node)
    del graph.node[:]
    floats = [v.name for v in graph.input if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    floats += [t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1]
    renamed = {name: around.quantised(name) for name in floats}
    for node in nodes:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    graph.node.extend(nodes)
    around.rank = around.shape = None
    value = around.step(around.output) if coin(r) else around.output
    _set_output(around.model, around.output, around.quantised(value), keep=False)
    return Sample(inferred(around.model), sample.feeds, f"{sample.origin}, quantised")


def _set_output(model: ModelProto, old: str, new: str, keep: bool) -> None:
    """Make one value an output, in the place of another or beside it."""
    if not keep:
        outputs = [value for value in model.graph.output if value.name != old]
        del model.graph.output[:]
        model.graph.output.extend(outputs)
    model.graph.output.append(helper.make_tensor_value_info(new, TensorProto.FLOAT, None))


def in_branch(r: Random, sample: Sample) -> Sample:
    """Return the nodes of a sample within both branches of an If, whose condition is an input."""
    outer = _shell(sample)
    nodes, outputs = list(sample.model.graph.node), sample.model.graph.output
    branches = {}
    for branch in ("then_branch", "else_branch"):
        copies = _renamed(nodes, branch[0])
        results = [_result(f"{branch[0]}_{value.name}", value) for value in outputs]
        branches[branch] = helper.make_graph(copies, branch, [], results)
    outer.graph.input.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
    outer.graph.node.append(helper.make_node("If", ["condition"], [v.name for v in outputs], **branches))
    outer.graph.output.extend(outputs)
    feeds = sample.feeds | {"condition": np.array(coin(r))}
    return Sample(inferred(outer), feeds, f"{sample.origin}, in If")


def in_loop(r: Random, sample: Sample) -> Sample:
    """Return the nodes of a sample within a Loop that stacks their results."""
    outer = _shell(sample)
    nodes, outputs = list(sample.model.graph.node), sample.model.graph.output
    body = helper.make_graph(
        [*_renamed(nodes, "b"), helper.make_node("Identity", ["go"], ["going"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("going", TensorProto.BOOL, []),
         *(_result(f"b_{value.name}", value) for value in outputs)],
    )  # fmt: skip
    outer.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    outer.graph.input.append(helper.make_tensor_value_info("count", TensorProto.INT64, []))
    outer.graph.node.append(helper.make_node("Loop", ["count", "yes"], [v.name for v in outputs], body=body))
    for value in outputs:
        outer.graph.output.append(
            helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, None)
        )  # fmt: skip
    feeds = sample.feeds | {"count": np.array(int(r.integers(1, 4)))}
    return Sample(inferred(outer), feeds, f"{sample.origin}, in Loop")


def _shell(sample: Sample) -> ModelProto:
    """Return a model without nodes and outputs. Raises ValueError if its outputs are not all tensors."""
    if not all(value.type.HasField("tensor_type") for value in sample.model.graph.output):
        raise ValueError("outputs are not tensors")
    outer = ModelProto()
    outer.CopyFrom(sample.model)
    del outer.graph.node[:], outer.graph.output[:]
    if all(opset.version < 13 for opset in outer.opset_import if opset.domain in ("", "ai.onnx")):
        raise ValueError("control flow is for newer opsets here")
    return outer


def _result(name: str, value: ValueInfoProto) -> ValueInfoProto:
    """Return a result of a subgraph, of the type of a value and any shape."""
    return helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, None)


def _renamed(nodes: Sequence[NodeProto], prefix: str) -> list[NodeProto]:
    """Return copies of nodes whose results have a prefix."""
    produced = {name for node in nodes for name in node.output if name}
    copies = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        for names in (copy.input, copy.output):
            names[:] = [f"{prefix}_{name}" if name in produced else name for name in names]
        copies.append(copy)
    return copies
