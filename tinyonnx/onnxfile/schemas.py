"""Schemas of the ONNX standard: how many inputs an operator takes, and of which types.

`load`, which may import onnx, calls `learn` for the operators of its models. For others, such as custom and fused
operators, there is no schema and everything is allowed. Types are the union of those of the model's opset and of the
newest one: an old model may use bfloat16 although only a newer version allows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.dtypes import TypedMap, onnx_type
from tinyonnx.ir import Node
from tinyonnx.registry import Info


class InputSchema(NamedTuple):
    """One input: allowed types in onnxruntime's spelling, and the type parameter that it shares with others, or ""."""

    name: str
    types: frozenset[str]
    shared: str = ""
    required: bool = False

    @property
    def may_be_empty(self) -> bool:
        """Whether an optional without an element may be given."""
        return not self.required or any(t.startswith("optional(") for t in self.types)


@dataclass(frozen=True)
class Schema:
    """One operator version; if `variadic`, the last input stands for all further ones."""

    inputs: tuple[InputSchema, ...]
    variadic: bool
    min_inputs: int
    max_outputs: int
    good: set[tuple[Any, ...]] = field(default_factory=set, compare=False)
    """Combinations of types that fit, as a cache."""


Key = tuple[str, str, int]

_SCHEMAS: dict[Key, Schema | None] = {}


def is_known(key: Key) -> bool:
    """Return whether `learn` was called for this domain, operator and opset."""
    return key in _SCHEMAS


def learn(key: Key, schema: Schema | None) -> None:
    """Store the schema of an operator version; None if the standard has none."""
    _SCHEMAS[key] = schema


def schema_of(node: Node) -> Schema | None:
    """Return the schema of a node's operator, or None."""
    return _SCHEMAS.get((node.domain, node.op_type, node.opset))


def misfit(node: Node, inputs: Sequence[Any]) -> str | None:
    """Return the reason why values (or `Info`s) of these types are not valid inputs of a node, or None."""
    schema = schema_of(node)
    if schema is None:
        return None
    kinds = tuple([x.dtype if type(x) is np.ndarray else _kind(x) for x in inputs])
    if kinds in schema.good:
        return None
    shared: dict[str, tuple[str, str]] = {}
    for position, kind in enumerate(kinds):
        if kind is _UNKNOWN or (position >= len(schema.inputs) and not schema.variadic):
            continue
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        if kind is None:
            if formal.may_be_empty:
                continue
            return f"{formal.name} is missing, or an optional without an element"
        text = _text(kind)
        if not _allowed(text, formal.types):
            return f"{formal.name} can't be {text}"
        if formal.shared:
            name, other = shared.setdefault(formal.shared, (formal.name, text))
            if other != text and "seq()" not in (other, text):
                return f"{name} and {formal.name} must have the same type, are {other} and {text}"
    schema.good.add(kinds)
    return None


_UNKNOWN = object()


def _kind(value: Any) -> Any:
    """Return a hashable that is equal for values of equal type; None for an absent value."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype
    if isinstance(value, Info):
        return _UNKNOWN if value.dtype is None else value.dtype
    if isinstance(value, list):
        return ("seq", _kind(value[0]) if value else None)
    if isinstance(value, TypedMap):
        return value.type
    return None if value is None else type(value)


def _text(kind: Any) -> str:
    if isinstance(kind, np.dtype):
        return onnx_type(kind) or f"an array of {kind}"
    if isinstance(kind, tuple):
        return f"seq({_text(kind[1])})" if kind[1] is not None else "seq()"
    if isinstance(kind, str):
        return kind
    return "map" if kind is dict else f"a {kind.__name__}"


def _allowed(text: str, types: frozenset[str]) -> bool:
    if text in types or f"optional({text})" in types:
        return True
    if text == "seq()":
        return any(t.removeprefix("optional(").startswith("seq(") for t in types)
    return text in ("map", "seq(map)") and any(t.startswith(text[:-1]) for t in types)
