"""Find results that the specification leaves open, and other values that they may have as well.

These are numbers that the type of a result can't hold, fractions in whole types, results of NaN where an order decides,
and reductions of nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from onnx_conformance.generate.mutate import dtype_of
from onnx_conformance.generate.validity import schema_of_node

_ORDERS = frozenset({"Max", "Min", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "TopK", "MaxPool", "GlobalMaxPool",
                     "MaxRoiPool", "Hardmax", "Clip", "Relu", "Sign", "Unique", "NonMaxSuppression", "ScatterElements",
                     "ScatterND", "Scatter", "ThresholdedRelu", "QuantizeLinear", "DynamicQuantizeLinear"})  # fmt: skip
"""Operators whose results for NaN depend on the way in which numbers are compared."""

_BY_ELEMENT = frozenset({"Max", "Min", "Clip", "Relu", "Sign", "ThresholdedRelu", "QuantizeLinear"})
"""Those of them whose results depend on one element of each input."""

_ROUNDED = frozenset({"Div", "Mod"})
"""Operators whose specification says how a fraction becomes a whole number."""

_NEAR = 1e-6
"""Rounding of results that are calculated from float positions or scales, relative to their size."""

Run = Callable[[ModelProto, Mapping[str, Any]], "list[Any] | None"]
"""Function from a model and its inputs to its outputs, None if it can't be run."""


class Open(NamedTuple):
    """The elements of a result that are open, and the least and the greatest value that each may have."""

    where: Any
    least: Any
    greatest: Any


def open_results(model: ModelProto, values: Mapping[str, Any], run: Run) -> dict[str, Open]:
    """Return what is open of the results of all nodes. `values` are tensors by name; `run` runs a model of one node."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found: dict[str, Open] = {}
    for node in model.graph.node:
        found |= _of_node(node, model, {**constants, **values}, run)
    return {name: part for name, part in found.items() if part.where.any()}


def _of_node(node: NodeProto, model: ModelProto, values: Mapping[str, Any], run: Run) -> dict[str, Open]:
    schema = schema_of_node(node, model)
    inputs = [values.get(name) for name in node.input]
    outputs = {name: values[name] for name in node.output if isinstance(values.get(name), np.ndarray)}
    arrays = [array for array in inputs if isinstance(array, np.ndarray)]
    if schema is None or not outputs or not arrays:
        return {}
    if node.op_type in _ORDERS and any(_has_nan(array) for array in arrays):
        return {name: _open_for_nan(node, arrays, array) for name, array in outputs.items()}
    if node.op_type.startswith("Reduce") and not arrays[0].size:
        defined = "empty set" in schema.doc and "undefined" not in schema.doc
        return {} if defined else {name: _all_open(array) for name, array in outputs.items()}
    if node.op_type in ("Cast", "CastLike"):
        ((name, array),) = outputs.items()
        return {name: _open_number(arrays[0], array.dtype, False)} if _is_whole(array) and _is_float(arrays[0]) else {}
    return _beyond_type(node, model, schema, values, run)


def _beyond_type(
    node: NodeProto, model: ModelProto, schema: Any, values: Mapping[str, Any], run: Run
) -> dict[str, Open]:
    """Return what is open of whole results, which are compared with those that the operator has for double."""
    wide = {c.type_param_str for c in schema.type_constraints if "tensor(double)" in c.allowed_type_strs}
    types = [schema.inputs[min(i, len(schema.inputs) - 1)].type_str for i in range(len(node.input))]
    kinds = {name: schema.outputs[min(i, len(schema.outputs) - 1)].type_str for i, name in enumerate(node.output)}
    found = {name: kinds[name] for name in node.output if _is_whole(values.get(name)) and kinds[name] in wide}
    shared = {kind for kind in found.values() if kind in types}
    if not shared or any(name and not isinstance(values.get(name), np.ndarray) for name in node.input):
        return {}
    feeds = {name: values[name] for name in node.input if name}
    feeds |= {name: values[name].astype(np.float64) for name, kind in zip(node.input, types) if name and kind in shared}
    alone = NodeProto()
    alone.CopyFrom(node)
    if node.op_type == "Mod":
        del alone.attribute[:]
        alone.attribute.append(helper.make_attribute("fmod", 1))
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in feeds.items()
    ]
    graph = helper.make_graph([alone], "double", given, [ValueInfoProto(name=name) for name in found])
    results = run(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version), feeds)
    if results is None:
        return {}
    pairs = zip(found, results, strict=True)
    near = _NEAR if any(_is_float(values[name]) for name in feeds) and not _picks(node) else 0.0
    return {
        name: _open_number(result, values[name].dtype, node.op_type not in _ROUNDED, near)
        for name, result in pairs
        if np.shape(result) == values[name].shape
    }


def _picks(node: NodeProto) -> bool:
    """Return whether the results of a node are elements of its inputs, which no rounding changes."""
    usual = b"nearest" if node.op_type in ("Resize", "Upsample") else b""
    return node.op_type == "OneHot" or next((a.s for a in node.attribute if a.name == "mode"), usual) == b"nearest"


def _open_number(number: Any, dtype: np.dtype[Any], fractions: bool, near: float = 0.0) -> Open:
    """Return what is open of floats in a whole type: those that it can't hold, with `fractions` their rounding.

    Numbers as `near` to a whole one, relative to their size, may also be below or above it.
    """
    info = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        wide = np.trunc(number.astype(np.float64)) if not fractions else number.astype(np.float64)
        inside = (wide >= float(info.min)) & (wide < float(info.max) + 1)
        ends = (np.floor, wide - near * np.abs(wide)), (np.ceil, wide + near * np.abs(wide))
        low, high = (np.where(inside, np.clip(f(x), info.min, info.max), 0.0) for f, x in ends)
        least, greatest = (np.where(inside, x.astype(dtype), y) for x, y in ((low, info.min), (high, info.max)))
    return Open(~inside | (low != high), least.astype(dtype), greatest.astype(dtype))


def _open_for_nan(node: NodeProto, inputs: Sequence[Any], array: Any) -> Open:
    """Return what is open of a result if inputs have NaN: the elements at the same place, or all of them."""
    everything = _all_open(array)
    if node.op_type not in _BY_ELEMENT:
        return everything
    marks = [np.isnan(each.astype(np.float32)) for each in inputs if _has_nan(each)]
    try:
        return everything._replace(where=np.logical_or.reduce([np.broadcast_to(mark, array.shape) for mark in marks]))
    except ValueError:  # such as a scale for each channel
        return everything


def settled(result: Any, found: Open) -> Any:
    """Return a result whose open elements are the least that they may be; those beyond their bounds stay.

    The elements of `found` are repeated, as a Loop stacks them, if they fit.
    """
    if not isinstance(result, np.ndarray) or result.dtype != found.least.dtype:
        return result
    try:
        where, least, greatest = (np.broadcast_to(part, result.shape) for part in found)
    except ValueError:
        return result
    inside = where & (least <= result) & (result <= greatest) if _is_whole(result) else where
    return np.where(inside, least, result)


def _all_open(array: Any) -> Open:
    """Return a result of which nothing is defined."""
    ends: tuple[float, float] = (0, 1) if array.dtype.kind == "b" else (np.nan, 0)
    if _is_whole(array):
        ends = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max
    least, greatest = (np.full(array.shape, end).astype(array.dtype) for end in ends)
    return Open(np.ones(array.shape, bool), least, greatest)


def _is_whole(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iu"


def _is_float(array: Any) -> bool:
    return bool(array.dtype.kind == "f" or array.dtype == dtype_of("tensor(bfloat16)"))


def _has_nan(array: Any) -> bool:
    return _is_float(array) and bool(np.isnan(array.astype(np.float32)).any())
