"""Compute float16 in float32: op(x) becomes Cast(op(Cast(x))), and Cast(Cast(y)) between two such nodes becomes y.

No kernel calculates in float16. Intermediate results keep float32's precision, as in onnxruntime on processors without
arithmetic in float16; only results of the graph and what other nodes read are rounded. Nodes that move elements are
computed in float32 if their first operand is, unless the model itself casts one of their operands to float16.
"""

from __future__ import annotations

import numpy as np

from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.passes._rewrite import Rewrite

_HALF, _SINGLE = np.dtype(np.float16), np.dtype(np.float32)

_COMPUTES = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "Attention",
    "AveragePool", "BatchNormalization", "Ceil", "Celu", "Clip", "Conv", "ConvTranspose", "Cos", "Cosh", "CumSum",
    "DequantizeLinear", "Div", "Einsum", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample",
    "GroupNormalization", "GRU", "HardSigmoid", "HardSwish", "Hardmax", "InstanceNormalization", "IsNaN", "LSTM",
    "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "LpPool",
    "LRN", "MatMul", "Max", "MaxPool", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mul", "Neg", "PRelu",
    "Pow", "QuantizeLinear", "RMSNormalization", "RNN", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
    "Relu", "Resize", "RotaryEmbedding", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax",
    "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "TopK", "Upsample",
})  # fmt: skip
"""Operators of ONNX that calculate with real numbers of any float type."""

_COMPUTES_MICROSOFT = frozenset({
    "Attention", "BiasGelu", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "Gelu", "GroupQueryAttention",
    "MatMulNBits", "MultiHeadAttention", "QuickGelu", "RotaryEmbedding", "SimplifiedLayerNormalization",
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
})  # fmt: skip

_MOVES = frozenset({
    "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity",
    "Pad", "Reshape", "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile",
    "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""Operators of ONNX whose results are elements of their operands."""

_TYPED = ("dtype", "output_dtype", "precision", "softmax_precision")
"""Attributes that name the type of results or of intermediate numbers."""


_PRODUCTS = frozenset({
    "Conv", "ConvTranspose", "Einsum", "FusedConv", "FusedGemm", "FusedMatMul", "GRU", "Gemm", "LSTM", "MatMul",
    "MatMulNBits", "RNN",
})  # fmt: skip


def widen_float16(rewrite: Rewrite) -> None:
    """Compute nodes with operands of float16 in float32, in the graph and its subgraphs.

    Only where weights of float16 are multiplied: other graphs gain little, and keep the rounding of every operator.
    """
    if any(map(_has_weights, rewrite.graph.walk())):
        _Widening(rewrite, rewrite.graph, {}, set()).run()


def _has_weights(node: Node) -> bool:
    return node.op_type in _PRODUCTS and any(
        v is not None and v.dtype == _HALF and v.const is not None for v in node.inputs
    )


class _Widening:
    """The rewriting of one graph.

    `wide` has the float32 numbers of values of float16, `cast` the values that Casts of the model round, by identity.
    """

    def __init__(self, rewrite: Rewrite, graph: Graph, wide: dict[int, Value], cast: set[int]) -> None:
        self._rewrite, self._graph, self._wide, self._cast = rewrite, graph, dict(wide), set(cast)
        self._rounded: set[int] = set()

    def run(self) -> None:
        for node in list(self._graph.nodes):
            for body in node.subgraphs:
                _Widening(self._rewrite, body, self._wide, self._cast).run()
            if node.op_type == "Cast" and not node.domain:
                self._visit_cast(node)
            elif self._is_widened(node):
                self._widen(node)

    def _visit_cast(self, node: Node) -> None:
        """Note the operand of a Cast from float32; drop a Cast to float32 of a value that was computed in float32."""
        source, result = node.inputs[0], node.outputs[0]
        if source is None or result is None:
            return
        if result.dtype == _HALF and source.dtype == _SINGLE:
            self._wide[id(result)] = source
            self._cast.add(id(result))
        elif source.dtype == _HALF and result.dtype == _SINGLE and id(source) in self._rounded:
            self._graph.replace_all_uses_with(result, self._wide[id(source)])

    def _is_widened(self, node: Node) -> bool:
        halves = [v for v in node.inputs if v is not None and v.dtype == _HALF]
        known = all(v.dtype is not None for v in (*node.inputs, *node.outputs) if v is not None)
        if not halves or not known or any(node.attributes.get(name) is not None for name in _TYPED):
            return False
        if node.domain == "com.microsoft":
            return node.op_type in _COMPUTES_MICROSOFT
        if node.domain:
            return False
        if node.op_type not in _MOVES:
            return node.op_type in _COMPUTES
        return id(halves[0]) in self._wide and not any(id(v) in self._cast for v in halves)

    def _widen(self, node: Node) -> None:
        inputs = [self._float32(node, v) if v is not None and v.dtype == _HALF else v for v in node.inputs]
        results = [
            None if v is None else Value(v.name, _SINGLE if v.dtype == _HALF else v.dtype, v.shape)
            for v in node.outputs
        ]
        halves = [
            new for old, new in zip(node.outputs, results, strict=True) if old is not None and old.dtype == _HALF
        ]  # fmt: skip
        new = Node(
            node.op_type, inputs, results, node.attributes, domain=node.domain, opset=node.opset, name=node.name,
            index=node.index, origin=node.origin,
        )  # fmt: skip
        self._graph.replace_node(node, new)
        for value in halves:
            assert value is not None
            rounded = Value(f"{value.name}:float16", _HALF, value.shape)
            self._graph.replace_all_uses_with(value, rounded)
            self._graph.add_node(_cast(new, value, rounded), self._graph.position(new) + 1)
            self._wide[id(rounded)] = value
            self._rounded.add(id(rounded))
        self._rewrite.applied(new, "computed in float32")

    def _float32(self, node: Node, value: Value) -> Value:
        """Return the float32 numbers of a value, widened in front of a node if nothing else has widened them."""
        if value.const is not None:
            return self._rewrite.constant(f"{value.name}:float32", "float32", _widened, value.const)
        if id(value) not in self._wide:
            wide = Value(f"{value.name}:float32", _SINGLE, value.shape)
            self._graph.add_node(_cast(node, value, wide), self._graph.position(node))
            self._wide[id(value)] = wide
        return self._wide[id(value)]


def _widened(array: Array) -> Array:
    return array.astype(np.float32)


def _cast(beside: Node, source: Value, result: Value) -> Node:
    to = 1 if result.dtype == _SINGLE else 10
    return Node("Cast", [source], [result], {"to": to}, opset=13, index=beside.index, origin=beside.origin)
