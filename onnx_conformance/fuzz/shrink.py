"""Reduce a model that shows a fault: nodes, outputs and sizes as in `tinyonnx reduce`, then attributes and numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, numpy_helper

from onnx_conformance.fuzz.flatten import without_subgraphs
from onnx_conformance.generate.inference import inferred
from tinyonnx.tools.reduce import Shrinker
from tinyonnx.tools.surgery import copy_of, forget_shapes, set_array

Shows = Callable[[ModelProto, dict[str, Any]], bool]
"""Whether a model with its inputs shows the fault."""


def shrunk(
    model: ModelProto, feeds: dict[str, Any], values: dict[str, Any] | None, shows: Shows, seconds: float,
    first: Sequence[int] = (),
) -> tuple[ModelProto, dict[str, Any]]:  # fmt: skip
    """Return a smaller model with inputs that shows the fault, after about this many seconds at most.

    `values` are all tensors of a run; without them no node is removed. `first` are positions of nodes to try first.
    """
    deadline = time.monotonic() + seconds
    for flat in without_subgraphs(model):
        kept = {value.name: feeds[value.name] for value in flat.graph.input}
        if shows(flat, kept):
            model, feeds, values, first = flat, kept, None, ()
            break
    if all(isinstance(value, np.ndarray) for value in feeds.values()):
        shrinker = Shrinker(model, values or feeds, shows, deadline)
        count = len(model.graph.node)
        if values is not None and count > 1 and shrinker.shows(range(count)):
            model, feeds = shrinker.shrink(_guilty(shrinker, [*dict.fromkeys([*first, *range(count)])], deadline))
        else:
            model, feeds = shrinker.smaller(model, feeds)
    model = _without_attributes(model, feeds, shows, deadline)
    return _with_types(*_with_plain_numbers(model, feeds, shows, deadline), shows)


def _guilty(shrinker: Shrinker, order: Sequence[int], deadline: float) -> list[int]:
    """Return the first node, in this order, that shows the fault alone, else all nodes."""
    for i in order:
        if time.monotonic() > deadline:
            break
        if shrinker.shows([i]):
            return [i]
    return sorted(order)


def _without_attributes(model: ModelProto, feeds: dict[str, Any], shows: Shows, deadline: float) -> ModelProto:
    for position, node in enumerate(model.graph.node):
        for attribute in [a.name for a in node.attribute if a.type != AttributeProto.GRAPH]:
            if time.monotonic() > deadline:
                return model
            fewer = copy_of(model)
            target = fewer.graph.node[position]
            target.attribute.remove(next(a for a in target.attribute if a.name == attribute))
            forget_shapes(fewer.graph)
            if shows(fewer, feeds):
                model = fewer
    return model


def _with_plain_numbers(
    model: ModelProto, feeds: dict[str, Any], shows: Shows, deadline: float
) -> tuple[ModelProto, dict[str, Any]]:
    """Replace the numbers of inputs and float weights by ones, small whole numbers or rounded ones."""
    for name, array in list(feeds.items()):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            continue
        for plain in _plainer(array):
            if time.monotonic() > deadline:
                return model, feeds
            if shows(model, feeds | {name: plain}):
                feeds = feeds | {name: plain}
                break
    for position, tensor in enumerate(model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind != "f":
            continue
        for plain in _plainer(array):
            if time.monotonic() > deadline:
                return model, feeds
            changed = copy_of(model)
            set_array(changed.graph.initializer[position], plain)
            if shows(changed, feeds):
                model = changed
                break
    return model, feeds


def _with_types(model: ModelProto, feeds: dict[str, Any], shows: Shows) -> tuple[ModelProto, dict[str, Any]]:
    """Return a model that declares the types and ranks of its outputs, if it still shows the fault."""
    try:
        typed = inferred(model)
    except ValueError:
        return model, feeds
    return (typed if typed != model and shows(typed, feeds) else model), feeds


def _plainer(array: Any) -> Iterator[Any]:
    """Yield arrays of the same type and shape that are easier to read."""
    candidates = [np.ones_like(array)]
    if not array.all():  # zeros are avoided in scales and divisors
        candidates.insert(0, np.zeros_like(array))
    with np.errstate(all="ignore"):
        candidates.append((np.arange(array.size) % 7 + 1).reshape(array.shape).astype(array.dtype))
        if array.dtype.kind == "f":
            candidates += [np.round(array).astype(array.dtype), np.round(array, 2).astype(array.dtype)]
    for candidate in map(np.asarray, candidates):  # numpy rounds an array without axes to a number
        if candidate.tobytes() != array.tobytes():
            yield candidate
