"""Nodes of the families of operators, by operator: their shapes, attributes and values are drawn together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache

import numpy as np
from onnx import helper

from onnx_conformance.generate.corpus import Operator
from onnx_conformance.generate.draws import Random, RandomNode, one
from onnx_conformance.generate.nodes import FAMILIES
from onnx_conformance.generate.sample import Draft

_DRAWS = 120
"""Draws of a family by which all of its operators are known."""


@cache
def families() -> dict[Operator, tuple[Callable[[Random], RandomNode], ...]]:
    """Return the families that draw nodes of each operator."""
    found: dict[Operator, dict[Callable[[Random], RandomNode], None]] = defaultdict(dict)
    for family in FAMILIES:
        r = np.random.default_rng(0)
        for _ in range(_DRAWS):
            case = family(r)
            found[case.domain, case.op][family] = None
    return {operator: tuple(found[operator]) for operator in sorted(found)}


def family_draft(r: Random, operator: Operator) -> Draft:
    """Return a node of this operator. Raises ValueError if no family draws it."""
    known = families().get(operator)
    if known is None:
        raise ValueError(f"no family has {operator[1]}")
    family = one(r, *known)
    for _ in range(10 * _DRAWS):
        case: RandomNode = family(r)
        if (case.domain, case.op) == operator:
            return draft_of(case)
    raise ValueError(f"{operator[1]} was not drawn")


def draft_of(case: RandomNode) -> Draft:
    """Return a random node as a draft."""
    outputs = [f"y{i}" for i in range(case.outputs)]
    names = [f"x{i}" for i in range(len(case.inputs))]
    node = helper.make_node(case.op, names, outputs, domain=case.domain, **case.attributes)
    values = [None if x is None else np.asarray(x) for x in case.inputs]
    return Draft(node, values, case.opset, {}, set(case.constants))
