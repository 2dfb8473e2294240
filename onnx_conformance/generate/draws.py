"""Random numbers, shapes and attributes for nodes, and the record of a node."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

Random = np.random.Generator


class RandomNode(NamedTuple):
    """One node. Inputs are arrays or None; `constants` are the initializers among them, known when the run is planned.

    A `tolerance` of 1 is for quantised results, where a sum rounded in float32 may be on either side.
    """

    op: str
    inputs: list[Any]
    attributes: Mapping[str, Any] = MappingProxyType({})
    outputs: int = 1
    opset: int = 21
    tolerance: float = 1e-4
    constants: tuple[int, ...] = ()
    domain: str = ""


def floats(r: Random, *shape: int, dtype: Any = np.float32) -> Any:
    return r.standard_normal(shape).astype(dtype)


def whole(r: Random, low: int, high: int, size: Any = None) -> Any:
    return r.integers(low, high + 1, size)


def one(r: Random, *options: Any) -> Any:
    return options[r.integers(len(options))]


def coin(r: Random) -> bool:
    return bool(r.integers(2))


def dims(r: Random, rank: int, low: int = 1, high: int = 6) -> list[int]:
    return [int(n) for n in whole(r, low, high, rank)]


def optional(r: Random, **values: Any) -> dict[str, Any]:
    """Return some of the attributes."""
    return {name: value for name, value in values.items() if coin(r)}


def broadcastable(r: Random, shape: list[int]) -> list[int]:
    return [n if r.random() < 0.7 else 1 for n in shape[r.integers(len(shape) + 1) :]]
