"""Repeat a model in float32, which every runtime has: to tell faults from the rounding of narrow types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper, numpy_helper

from onnx_conformance.generate.inference import inferred
from onnx_conformance.generate.validity import all_nodes

_OTHERS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)

_NUMPY_NAMES = tuple(np.dtype(helper.tensor_dtype_to_np_dtype(number)).name for number in _OTHERS)

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "stash_type")

_SUMS = re.compile(
    "Reduce|MatMul|Gemm|Conv|RNN|GRU|LSTM|Softmax|Norm|Attention|Cum|Pool|Sum|Mean|Einsum|Loss|LRN|DFT|STFT|Resize|"
    "GridSample|RoiAlign|Det|Mel"
)
"""Operators that add up many numbers, in whatever type a runtime chooses."""

_TERMS = 8
"""Additions whose rounding the usual tolerance of a type covers."""


def in_float32(model: ModelProto, feeds: Mapping[str, Any]) -> tuple[ModelProto, dict[str, Any]] | None:
    """Return a model and its inputs with float32 for every other float type;

    None if there is none, or that is impossible.
    """
    wide = ModelProto()
    wide.CopyFrom(model)
    if not _widen(wide.graph):
        return None
    try:
        return inferred(wide), {name: _as_float32(value) for name, value in feeds.items()}
    except ValueError:
        return None


def _widen(graph: GraphProto) -> int:
    """Replace the types of a graph and of its subgraphs, and return how many were others."""
    count = 0
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _OTHERS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            count += 1
    for tensor in graph.initializer:
        count += _widen_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                count += _widen(attribute.g)
            elif attribute.type == AttributeProto.TENSOR:
                count += _widen_tensor(attribute.t)
            elif attribute.name in _TYPE_ATTRIBUTES and attribute.i in _OTHERS:
                attribute.i = TensorProto.FLOAT
                count += 1
    return count


def _widen_tensor(tensor: TensorProto) -> int:
    if tensor.data_type not in _OTHERS:
        return 0
    tensor.CopyFrom(numpy_helper.from_array(_as_float32(numpy_helper.to_array(tensor)), tensor.name))
    return 1


def _as_float32(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_float32(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.name in _NUMPY_NAMES:
        with np.errstate(all="ignore"):
            return value.astype(np.float32)
    return value


def slack(model: ModelProto, feeds: Mapping[str, Any]) -> tuple[float, float, str]:
    """Return how much the rounding of sums in a narrow type may exceed its tolerance, and the narrowest float type.

    The first number multiplies the tolerance, for sums of many terms; the second is the scale of the terms, below
    which numbers that cancel leave nothing but rounding. Without sums they are 1 and 0. The type is that of any input,
    because runtimes may calculate in it.
    """
    arrays = [value for value in feeds.values() if isinstance(value, np.ndarray)]
    arrays += [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    floats = [np.abs(np.asarray(a, np.float64)) for a in arrays if a.dtype.kind in "fV" and a.size]
    narrow = next((name for name in ("bfloat16", "float16") if any(a.dtype.name == name for a in arrays)), "")
    sums = sum(bool(_SUMS.search(node.op_type)) for node in all_nodes(model.graph))
    if not sums or not floats:
        return 1.0, 0.0, narrow
    terms = sums * max(a.size for a in floats)
    greatest = max(1.0, *(float(a.max(where=np.isfinite(a), initial=0)) for a in floats))
    return max(1.0, terms / _TERMS), greatest, narrow
