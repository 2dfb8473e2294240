"""Changes to ONNX models that keep them parseable, so that fuzzing gets past the loader."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tinyonnx.registry import Op, registered

INTS = [0, 1, -1, 2, 3, -2, -3, 7, 64, 65, 255, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 3e38, -3e38, float("inf"), float("-inf"), float("nan")]
STRINGS = [b"", b"NOTSET", b"SAME_UPPER", b"VALID", b"constant", b"reflect", b"wrap", b"linear", b"nearest", b"add"]
DTYPES = [TensorProto.DataType.Value(name) for name in TensorProto.DataType.keys()]  # noqa: SIM118  protobuf's enums can't be iterated over
DIMS = [0, 1, 2, 3, 5, 17, -1, 2**31, 2**62]
OPS = [op for op in registered() if op.domain in ("", "ai.onnx.ml", "com.microsoft")]
NAMES = sorted({(op.domain, op.name) for op in OPS})

Random = random.Random


def mutated(data: bytes, seed: int, change_bytes: Callable[[bytes], bytes]) -> bytes:
    """Change the model in `data` in one to four places; if it is none, and now and then, change bytes."""
    r = Random(seed)
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:
        return change_bytes(data)
    if r.random() < 0.05 or not model.graph.node:
        return change_bytes(data)
    for _ in range(r.choice([1, 1, 1, 2, 3, 4])):
        with suppress(Exception):  # nothing there to change, or onnx can't say it
            r.choice(MUTATIONS)(r, model)
    return model.SerializeToString()


def change_some_bytes(r: Random, data: bytes) -> bytes:
    """Return a few bytes overwritten, cut out or repeated."""
    changed = bytearray(data or b"\0")
    for _ in range(r.randint(1, 4)):
        at = r.randrange(len(changed) or 1)
        match r.randrange(3):
            case 0:
                changed[at : at + 1] = bytes([r.randrange(256)])
            case 1:
                del changed[at : at + r.randint(1, 8)]
            case _:
                changed[at:at] = changed[at : at + r.randint(1, 8)]
    return bytes(changed)


def _graphs(graph: GraphProto) -> list[GraphProto]:
    inner = [a.g for node in graph.node for a in node.attribute if a.type == AttributeProto.GRAPH]
    return [graph, *(g for sub in inner for g in _graphs(sub))]


def _graph(r: Random, model: ModelProto) -> GraphProto:
    return r.choice(_graphs(model.graph))


def _node(r: Random, model: ModelProto) -> NodeProto:
    return r.choice([n for g in _graphs(model.graph) for n in g.node])


def _values(graph: GraphProto) -> list[str]:
    return [
        "",
        *(v.name for v in graph.input),
        *(t.name for t in graph.initializer),
        *(o for node in graph.node for o in node.output),
    ]


def _random_attribute(r: Random, name: str) -> AttributeProto:
    value: object = r.choice([
        lambda: r.choice(INTS),
        lambda: r.choice(FLOATS),
        lambda: r.choice(STRINGS),
        lambda: [r.choice(INTS) for _ in range(r.randint(1, 5))],
        lambda: [r.choice(FLOATS) for _ in range(r.randint(1, 3))],
        lambda: numpy_helper.from_array(np.array(r.choice(INTS[:9]), np.int64)),
        lambda: helper.make_graph([], "g", [], []),
    ])()  # fmt: skip
    return helper.make_attribute(name, value)


def _change_attribute(r: Random, model: ModelProto) -> None:
    a = r.choice([a for g in _graphs(model.graph) for n in g.node for a in n.attribute])
    match a.type:
        case AttributeProto.INT:
            a.i = r.choice([*INTS, a.i + 1, a.i - 1])
        case AttributeProto.FLOAT:
            a.f = r.choice(FLOATS)
        case AttributeProto.STRING:
            a.s = r.choice(STRINGS)
        case AttributeProto.INTS:
            _change_list(r, a.ints, INTS)
        case AttributeProto.FLOATS:
            _change_list(r, a.floats, FLOATS)
        case AttributeProto.TENSOR:
            _change_values(r, a.t)


def _change_list(r: Random, values: Any, choices: Sequence[object]) -> None:
    items = list(values)
    match r.randrange(6):
        case 0:
            items.append(r.choice(choices))
        case 1:
            items.pop(r.randrange(len(items)))
        case _:
            items[r.randrange(len(items))] = r.choice(choices)
    values[:] = items


def _other_attribute(r: Random, model: ModelProto) -> None:
    node = _node(r, model)
    known = _any_version(r, node)
    names = [*known.attributes] if known else []
    match r.randrange(4):
        case 0:
            node.attribute.pop(r.randrange(len(node.attribute)))
        case 1:
            a = r.choice(node.attribute)
            a.CopyFrom(_random_attribute(r, a.name))
        case 2:
            node.attribute.append(r.choice(node.attribute))
        case _:
            node.attribute.append(_random_attribute(r, r.choice(names)))


def _any_version(r: Random, node: NodeProto) -> Op | None:
    found = [op for op in OPS if (op.domain, op.name) == (node.domain, node.op_type)]
    return r.choice(found) if found else None


def _change_input_type(r: Random, model: ModelProto) -> None:
    tensor = r.choice(_graph(r, model).input).type.tensor_type
    match r.randrange(6):
        case 0:
            tensor.elem_type = r.choice(DTYPES)
        case 1:
            tensor.shape.dim.add().dim_value = r.choice(DIMS[:6])
        case 2:
            tensor.shape.dim.pop()
        case 3:
            r.choice(tensor.shape.dim).dim_param = "n"
        case _:
            r.choice(tensor.shape.dim).dim_value = r.choice(DIMS)


def _change_initializer(r: Random, model: ModelProto) -> None:
    _change_values(r, r.choice(_graph(r, model).initializer))


def _change_values(r: Random, tensor: TensorProto) -> None:
    match r.randrange(8):
        case 0:
            tensor.dims[r.randrange(len(tensor.dims))] = r.choice(DIMS)
            return
        case 1:
            tensor.data_type = r.choice(DTYPES)
            return
    array = np.array(numpy_helper.to_array(tensor))
    match r.randrange(6):
        case 0:
            array = array.astype(r.choice([np.float32, np.int64, np.int32, np.uint8, np.bool_, np.float16, np.float64]))
        case 1:
            array = array.reshape(r.choice([(-1,), (*array.shape, 1), (1, *array.shape)]))
        case 2:
            array = np.resize(array, [r.choice([0, 1, d, d + 1]) for d in array.shape])
        case _:
            flat = array.reshape(-1)
            with np.errstate(all="ignore"):
                value = np.asarray(r.choice(INTS if array.dtype.kind in "iu" else FLOATS)).astype(array.dtype)
            flat[r.randrange(len(flat))] = value
            array = flat.reshape(array.shape)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _rewire(r: Random, model: ModelProto) -> None:
    graph = _graph(r, model)
    node = r.choice(graph.node)
    match r.randrange(6):
        case 0:
            node.input.append(r.choice(_values(graph)))
        case 1:
            node.input.pop()
        case 2:
            node.output.append(f"o{r.randrange(1000)}")
        case 3:
            node.output[r.randrange(len(node.output))] = r.choice(_values(graph))
        case _:
            node.input[r.randrange(len(node.input))] = r.choice(_values(model.graph) + _values(graph))


def _other_operator(r: Random, model: ModelProto) -> None:
    node = _node(r, model)
    node.domain, node.op_type = r.choice(NAMES)


def _insert_node(r: Random, model: ModelProto) -> None:
    """Insert a new operator after some value, whose readers may read the result instead."""
    graph = _graph(r, model)
    op = r.choice(OPS)
    values = [v for v in _values(graph) if v]
    source, name = r.choice(values), f"n{r.randrange(10**6)}"
    inputs = [source, *(r.choice(values) for _ in range(op.min_inputs - 1))] if op.max_inputs != 0 else []
    attributes = [_random_attribute(r, a) for a in op.required]
    at = r.randint(0, len(graph.node))
    new = helper.make_node(op.name, inputs, [name], domain=op.domain)
    new.attribute.extend(attributes)
    for node in graph.node[at:]:
        for i, operand in enumerate(node.input):
            if operand == source and r.random() < 0.7:
                node.input[i] = name
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes[:at], new, *nodes[at:]])
    _import(model, op)
    if r.random() < 0.5:
        graph.output.add().name = name


def _import(model: ModelProto, op: Op) -> None:
    if op.domain not in {o.domain for o in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(op.domain, 1 if op.domain else 20))


def _drop_or_repeat_node(r: Random, model: ModelProto) -> None:
    graph = _graph(r, model)
    at = r.randrange(len(graph.node))
    if r.random() < 0.5:
        graph.node.pop(at)
        return
    again = graph.node.add()
    again.CopyFrom(graph.node[at])
    for i, name in enumerate(again.output):
        again.output[i] = name + "'"


def _change_opset(r: Random, model: ModelProto) -> None:
    r.choice(model.opset_import).version = r.randint(1, 24)


def _change_outputs(r: Random, model: ModelProto) -> None:
    graph = _graph(r, model)
    graph.output.add().name = r.choice(_values(graph))


def _into_branch(r: Random, model: ModelProto) -> None:
    """Replace a node by an If with the node in its branches."""
    graph = _graph(r, model)
    at = r.randrange(len(graph.node))
    node = graph.node[at]
    inner = [f"{name}_inner" for name in node.output]
    branch = NodeProto()
    branch.CopyFrom(node)
    branch.output[:] = inner
    body = GraphProto(name="branch", node=[branch])
    for name in inner:
        body.output.add().name = name
    condition = r.choice([*_values(graph), "always"])
    if condition == "always":
        graph.initializer.append(numpy_helper.from_array(np.array(r.choice([True, False, 1, 0.5])), "always"))
    node.CopyFrom(
        helper.make_node("If", [condition], list(node.output), then_branch=body, else_branch=body, name=node.name)
    )


MUTATIONS: list[Callable[[Random, ModelProto], None]] = [
    _change_attribute, _change_attribute, _change_attribute, _other_attribute, _change_input_type, _change_initializer,
    _change_initializer, _rewire, _other_operator, _insert_node, _insert_node, _drop_or_repeat_node, _change_opset,
    _change_outputs, _into_branch,
]  # fmt: skip
