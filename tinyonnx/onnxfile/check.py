"""Check that every node of a graph is a valid call of a registered operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np

from tinyonnx.errors import ModelError, UnsupportedModelError
from tinyonnx.ir import Graph, Node
from tinyonnx.onnxfile.schemas import schema_of
from tinyonnx.registry import Op, lookup


@dataclass
class _Unsupported:
    first: Node
    count: int = 0


def check_operators(graph: Graph, file: str) -> None:
    """Look up every node, including those of subgraphs, and compare it with the operator's signature.

    Raises ModelError naming all unsupported operators at once; otherwise the first node with an unknown, missing or
    wrongly typed attribute or a wrong number of inputs or outputs.
    """
    unsupported: dict[str, _Unsupported] = {}
    found: dict[tuple[str, str, int], Op | str] = {}
    for node in graph.walk():
        key = (node.domain, node.op_type, node.opset)
        if key not in found:
            try:
                found[key] = lookup(*key)
            except ModelError as error:
                found[key] = str(error).removesuffix(" is not supported")
        op = found[key]
        if isinstance(op, str):
            unsupported.setdefault(op, _Unsupported(node)).count += 1
    if unsupported:
        one = len(unsupported) == 1
        listed = ", ".join(
            f'{what} ({entry.count} node{"s" * (entry.count > 1)}, first "{entry.first.label}")'
            for what, entry in unsupported.items()
        )
        raise UnsupportedModelError(
            f"{file}: {len(unsupported)} operator{' is' if one else 's are'} not supported: {listed}"
        )
    for node in graph.walk():
        op = found[node.domain, node.op_type, node.opset]
        assert isinstance(op, Op)
        wrong = _wrong_call(node, op)
        if wrong is not None:
            raise ModelError(f"{file}: {describe(node.op_type, node.domain, node.label, node.index)}: {wrong}")


def problem_of(node: Node) -> str | None:
    """Return why a node is not a valid call of a registered operator, or None."""
    try:
        return _wrong_call(node, lookup(node.domain, node.op_type, node.opset))
    except ModelError as error:
        return str(error)


def describe(op_type: str, domain: str, label: str, index: int) -> str:
    """Return how errors name a node: `Conv "features.3.0" (node 17)`."""
    return f'{domain + "." if domain else ""}{op_type} "{label}" (node {index})'


def _wrong_call(node: Node, op: Op) -> str | None:
    """Return the fault in attributes or numbers of inputs and outputs of a node, or None."""
    unknown = node.attributes.keys() - op.attributes.keys()
    if unknown and not op.takes_any_attribute:
        return f"unknown attribute {_quoted(unknown)} (opset {node.opset})"
    missing = op.required - node.attributes.keys()
    if missing:
        return f"required attribute {_quoted(missing)} is missing"
    hints = op.attribute_types
    for name, value in node.attributes.items():
        if name in hints and not fits(value, hints[name]):
            return f'attribute "{name}" is {_kind_of(value)}, must be {_in_words(hints[name])}'
    schema = schema_of(node)
    required = op.min_inputs if schema is None else max(op.min_inputs, schema.min_inputs)
    present = sum(value is not None for value in node.inputs[: op.min_inputs])
    if present < op.min_inputs or len(node.inputs) < required:
        return f"has {present} of {required} required inputs"
    if op.max_inputs is not None and len(node.inputs) > op.max_inputs:
        return f"has {len(node.inputs)} inputs, takes at most {op.max_inputs}"
    if schema is not None and len(node.outputs) > schema.max_outputs:
        return f"has {len(node.outputs)} outputs, gives at most {schema.max_outputs}"
    return None


# -- attributes' types ------------------------------------------------------------------


def fits(value: Any, hint: Any) -> bool:
    """Return whether an attribute's value has the annotated type; True for annotations that are not attribute types."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in get_args(hint) if option is not NoneType)
    if origin in (Sequence, list):
        # one item of each type is checked, because a forest has hundreds of thousands
        return isinstance(value, list) and all(fits(item, get_args(hint)[0]) for item in _one_of_each_type(value))
    if origin is np.ndarray:
        return isinstance(value, np.ndarray)
    return type(value) is hint if hint in _WORDS else True


def _one_of_each_type(items: list[Any]) -> Iterable[Any]:
    return dict(zip(map(type, items), items)).values()


_WORDS: dict[Any, str] = {int: "int", float: "float", str: "string", Graph: "graph", np.ndarray: "tensor"}


def _kind_of(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {_WORDS.get(type(value[0]), 'other thing')}s" if value else "an empty list"
    return f"a {_WORDS.get(type(value), 'type')}".replace("a int", "an int")


def _in_words(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(option) for option in get_args(hint) if option is not NoneType)
    if origin in (Sequence, list):
        return f"a list of {_WORDS.get(get_args(hint)[0], 'value')}s"
    return f"a {_WORDS.get(origin or hint, 'value')}".replace("a int", "an int")


def _quoted(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f'"{n}"' for n in sorted(names))
