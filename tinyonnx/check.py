"""Is every node of a graph a legal call of a registered operator?"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from tinyonnx.errors import ModelError
from tinyonnx.ir import Graph, Node
from tinyonnx.registry import Op, lookup


@dataclass
class _Unsupported:
    first: Node
    count: int = 0


def check_operators(graph: Graph, file: str) -> None:
    """Look up every node, also of subgraphs, and compare it with the operator's signature.

    Raises ModelError naming all unsupported operators at once, or else the first node with
    an unknown or missing attribute or a wrong number of inputs.
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
        raise ModelError(f"{file}: {len(unsupported)} operator{' is' if one else 's are'} not supported: {listed}")
    for node in graph.walk():
        op = found[node.domain, node.op_type, node.opset]
        assert isinstance(op, Op)
        _check_call(node, op, file)


def describe(op_type: str, domain: str, label: str, index: int) -> str:
    """How errors name a node: `Conv "features.3.0" (node 17)`."""
    return f'{domain + "." if domain else ""}{op_type} "{label}" (node {index})'


def _check_call(node: Node, op: Op, file: str) -> None:
    where = f"{file}: {describe(node.op_type, node.domain, node.label, node.index)}"
    unknown = node.attributes.keys() - op.attributes.keys()
    if unknown and not _takes_any_attribute(op):
        raise ModelError(f"{where}: unknown attribute {_quoted(unknown)} (opset {node.opset})")
    missing = op.required - node.attributes.keys()
    if missing:
        raise ModelError(f"{where}: required attribute {_quoted(missing)} is missing")
    present = sum(value is not None for value in node.inputs[: op.min_inputs])
    if present < op.min_inputs:
        raise ModelError(f"{where}: has {present} of {op.min_inputs} required inputs")
    if op.max_inputs is not None and len(node.inputs) > op.max_inputs:
        raise ModelError(f"{where}: has {len(node.inputs)} inputs, takes at most {op.max_inputs}")


def _takes_any_attribute(op: Op) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(op.function).parameters.values())


def _quoted(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f'"{n}"' for n in sorted(names))
