"""The choices that an operator leaves: values of attributes, optional inputs, ties. Each is drawn in turn.

Mutations reach a rare choice only by chance. A feature is one choice of one operator, which a draft is given.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from onnx import defs

from onnx_conformance.generate.corpus import Corpus, Operator
from onnx_conformance.generate.draws import Random, one
from onnx_conformance.generate.mutate import attribute_values, marks_numbers, schema_of, set_attribute, versions
from onnx_conformance.generate.sample import Draft

_KNOWN = 8
"""Maximum number of values of an attribute without a list of names that are drawn in turn."""

_TYPES = (defs.OpSchema.AttrType.INT, defs.OpSchema.AttrType.FLOAT, defs.OpSchema.AttrType.STRING)
"""Types of attributes whose values do not depend on the shapes of inputs."""


class Feature(NamedTuple):
    """A choice: an attribute with its value or None (left out), an input that is left out, or numbers with ties."""

    attribute: str = ""
    value: Any = None
    left_out: int = -1
    ties: bool = False

    @property
    def text(self) -> str:
        """Return the choice in words."""
        if self.attribute:
            return f"{self.attribute} {'left out' if self.value is None else self.value}"
        return "ties" if self.ties else f"input {self.left_out} left out"


@cache
def _newest(operator: Operator) -> int:
    return versions(*operator)[-1]


def features_of(operator: Operator, corpus: Corpus) -> list[Feature]:
    """Return the choices that the newest version of an operator leaves."""
    schema = defs.get_schema(operator[1], _newest(operator), operator[0])
    found = [Feature(ties=True)] if schema.inputs else []
    for name, attribute in schema.attributes.items():
        if attribute.type in _TYPES:
            values = attribute_values(schema, name, corpus.attributes.get((operator, name), []))
            found += [Feature(name, value) for value in dict.fromkeys(values[:_KNOWN])]
        if not attribute.required and attribute.type != defs.OpSchema.AttrType.GRAPH:
            found.append(Feature(name))
    optional = defs.OpSchema.FormalParameterOption.Optional
    found += [Feature(left_out=i) for i, parameter in enumerate(schema.inputs) if parameter.option == optional]
    return found


def all_features(corpus: Corpus, operators: list[Operator]) -> list[tuple[Operator, int, Feature]]:
    """Return the choices of every operator, with its newest version."""
    return [(op, _newest(op), feature) for op in operators for feature in features_of(op, corpus)]


def fitting(r: Random, drafts: list[Draft], feature: Feature) -> Draft:
    """Return an example, mostly one that has the attribute or the input of a feature."""
    having = [d for d in drafts if _has(d, feature)] if r.random() < 0.7 else []
    return one(r, *(having or drafts))  # type: ignore[no-any-return]  # `one` chooses among drafts


def _has(draft: Draft, feature: Feature) -> bool:
    if feature.attribute:
        return any(attribute.name == feature.attribute for attribute in draft.node.attribute)
    return len(draft.values) > feature.left_out >= 0 and draft.values[feature.left_out] is not None


def with_feature(r: Random, draft: Draft, feature: Feature) -> None:
    """Give a draft this choice. Raises ValueError if its version has no such attribute."""
    if feature.attribute:
        if feature.attribute not in schema_of(draft).attributes:
            raise ValueError(f"{draft.node.op_type}-{draft.version} has no {feature.attribute}")
        if marks_numbers(draft, feature.attribute):
            raise ValueError(f"{feature.attribute} is among the numbers of an input")
        set_attribute(draft.node, feature.attribute, feature.value)
    elif feature.ties:
        with_ties(r, draft)
    elif feature.left_out < len(draft.values):
        draft.values[feature.left_out] = None


def with_ties(r: Random, draft: Draft) -> None:
    """Draw the float inputs as few different numbers: equal ones, whole ones and halves."""
    for i, value in enumerate(draft.values):
        if isinstance(value, np.ndarray) and value.dtype.kind in "fV" and value.size > 1:
            positive = bool((np.asarray(value, np.float32) > 0).all())
            drawn = r.integers(1 if positive else -3, 4, value.shape) / one(r, 1, 2)
            draft.values[i] = drawn.astype(np.float32).astype(value.dtype)
