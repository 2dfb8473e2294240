"""Measure how far rounding errors alone can move the results of a model.

Noise of one unit in the last place is added to the inputs of every node that calculates (Monte Carlo arithmetic);
results that move far are ill-conditioned, and integers that move are decided by a tie. Nodes whose results are exact
get no noise, because their results for ties are defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from onnx_conformance.fuzz.undefined import Open

_EXACT = """
    Abs And ArgMax ArgMin BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Compress
    Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Equal Expand EyeLike Flatten Floor Gather
    GatherElements GatherND GlobalMaxPool Greater GreaterOrEqual Hardmax Identity IsInf IsNaN Less LessOrEqual
    Max MaxPool MaxUnpool MaxRoiPool Min Neg NonZero Not OneHot Or Pad Range Relu Reshape ReverseSequence Round
    ScatterElements ScatterND SequenceAt SequenceConstruct SequenceErase SequenceInsert Shape Sign Size Slice
    SpaceToDepth Split SplitToSequence Squeeze StringConcat ThresholdedRelu Tile TopK Transpose Trilu Unique
    Unsqueeze Where Xor Scatter Upsample Optional OptionalGetElement OptionalHasElement Binarizer
    ArrayFeatureExtractor LabelEncoder ReduceMax ReduceMin TreeEnsemble TreeEnsembleClassifier
    TreeEnsembleRegressor
"""

EXACT = frozenset(_EXACT.split())
"""Operators that round nothing before they decide."""

_SUFFIX = "__noise"


def with_noise(
    model: ModelProto, values: Mapping[str, Any], r: np.random.Generator, scales: bool = False,
    open_results: Mapping[str, Open] = MappingProxyType({}), greatest: bool = False,
) -> ModelProto:  # fmt: skip
    """Return a model with noise of one unit in the last place on the inputs of its calculating nodes.

    Nodes without float inputs get it on their outputs. `values` has the tensors of a run, for their types and shapes;
    other tensors get no noise. The scales of Resize, which decide shapes, get noise only with `scales`, and then the
    nodes of other operators get none. Results that are open become the least or the `greatest` of the values that they
    may have.
    """
    noisy = ModelProto()
    noisy.CopyFrom(model)
    graph = noisy.graph
    nodes = list(graph.node)
    del graph.node[:]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    count = 0
    resized = scales and any(node.op_type == "Resize" for node in nodes)
    for node in nodes:
        before = count
        quiet = is_exact(node, constants) or (resized and node.op_type != "Resize")  # noise has the sizes of `values`
        for i, name in enumerate(() if quiet else node.input):
            array = values.get(name, constants.get(name))
            if not isinstance(array, np.ndarray) or not _takes_noise(node, i, array, scales):
                continue
            factor = f"{name}{_SUFFIX}{count}"
            count += 1
            graph.initializer.append(
                numpy_helper.from_array(_factors(array, r, node.op_type == "Resize" and i > 0), f"{factor}f")
            )
            graph.node.append(helper.make_node("Mul", [name, f"{factor}f"], [factor]))
            node.input[i] = factor
        after = [
            _replaced(graph, node, name, open_results[name], greatest) for name in node.output if name in open_results
        ]
        if count == before and not after and not quiet:
            after = _noisy_outputs(node, values, graph, r)
        graph.node.extend([node, *after])
    for output in graph.output:
        if output.name in open_results:
            output.name += _SUFFIX
    return noisy


def _replaced(graph: GraphProto, node: NodeProto, name: str, found: Open, greatest: bool) -> NodeProto:
    """Return a node that replaces the open elements of a result."""
    value = found.greatest if greatest else found.least
    for suffix, array in (("w", found.where), ("v", value)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), f"{name}{_SUFFIX}{suffix}"))
    node.output[list(node.output).index(name)] = f"{name}{_SUFFIX}"
    return helper.make_node("Where", [f"{name}{_SUFFIX}w", f"{name}{_SUFFIX}v", f"{name}{_SUFFIX}"], [name])


def _noisy_outputs(node: NodeProto, values: Mapping[str, Any], graph: GraphProto, r: np.random.Generator) -> list[Any]:
    """Return nodes that add noise to the float outputs of a node without float inputs, such as a window.

    Its constants are of the order of one, so what they leave where they cancel is uncertain by a unit in the last place
    of one.
    """
    added = []
    for i, name in enumerate(node.output):
        array = values.get(name)
        if not isinstance(array, np.ndarray) or not _takes_noise(node, i, array, True):
            continue
        greatest = float(np.max(np.abs(array), initial=1, where=np.isfinite(array)))
        step = np.finfo(array.dtype).eps * greatest * r.integers(-1, 2, array.shape)
        graph.initializer.append(numpy_helper.from_array(np.asarray(step, array.dtype), f"{name}{_SUFFIX}s"))
        node.output[i] = f"{name}{_SUFFIX}"
        added.append(helper.make_node("Add", [f"{name}{_SUFFIX}", f"{name}{_SUFFIX}s"], [name]))
    return added


def is_exact(node: NodeProto, constants: Mapping[str, Any]) -> bool:
    """Return whether a node rounds nothing before it decides."""
    if node.op_type == "QuantizeLinear" and len(node.input) > 1 and node.input[1] in constants:
        # division by a power of two is exact
        mantissas = np.frexp(np.asarray(constants[node.input[1]], np.float64))[0]
        return bool((np.abs(mantissas) == 0.5).all())
    return node.op_type in EXACT


def _takes_noise(node: NodeProto, i: int, array: Any, scales: bool) -> bool:
    if array.dtype.kind != "f" or not array.size or array.dtype.itemsize > 8:
        return False
    if node.op_type == "Pow" and i and (array == np.round(array)).all():  # negative numbers have no other powers
        return False
    return (scales or node.op_type != "Resize" or not i) and node.op_type not in ("Range", "Loop", "Scan", "If")


def _factors(array: Any, r: np.random.Generator, together: bool) -> Any:
    """Return factors that differ from one by a unit in the last place.

    Zeros, whose sign is open, get any sign; numbers so small that a runtime may take them for zero become zero or stay.
    With `together` all grow, or all shrink, but for powers of two, with which products are exact.
    """
    info = np.finfo(array.dtype)
    if together:
        return np.where(np.frexp(array)[0] == 0.5, 1, 1 + info.eps * r.choice((-1, 1))).astype(array.dtype)
    factors = np.where(array == 0, r.choice((-1.0, 1.0), array.shape), 1 + info.eps * r.integers(-1, 2, array.shape))
    small = (array != 0) & (np.abs(array) < info.tiny)
    factors = np.where(small, r.integers(0, 2, array.shape), factors)
    return factors.astype(array.dtype)
