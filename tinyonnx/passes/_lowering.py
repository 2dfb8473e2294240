"""Replace one node by several, which are collected first: if one of their shapes is unknown, nothing changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyonnx.ir import Node, Value
from tinyonnx.passes._rewrite import Rewrite, constant_sizes
from tinyonnx.passes.specialise import info_of
from tinyonnx.registry import FUSED
from tinyonnx.runtime.operator_call import OpContext, evaluate, infer
from tinyonnx.sizes.integers import are_sizes, vector

_OPSET = 24
"""The opset of new nodes in ONNX's domain."""

HEADS = [0, 2, 1, 3]
"""Exchanges the axes of positions and of heads."""


class NotLowerable(Exception):
    """Why a node is left as it is."""


class Lowering:
    """Collects nodes that compute what `node` does; `finish` replaces it by them.

    Raises NotLowerable if the node's first output is absent.
    """

    def __init__(self, rewrite: Rewrite, node: Node) -> None:
        if not node.outputs or node.outputs[0] is None:
            raise NotLowerable("its first output is absent")
        self.rewrite, self.node = rewrite, node
        self._nodes: list[Node] = []
        self._count = 0

    def input(self, position: int) -> Value | None:
        """Return an input of the node; None if it is absent."""
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def required(self, position: int) -> Value:
        """Return an input whose type and shape are known. Raises NotLowerable."""
        value = self.input(position)
        if value is None or value.static_shape is None or value.dtype is None:
            raise NotLowerable("the shape of an input is unknown")
        return value

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute of the node."""
        value = self.node.attributes.get(name)
        return default if value is None else value

    def reads(self, position: int) -> bool:
        """Return whether an output of the node is read."""
        outputs = self.node.outputs
        value = outputs[position] if position < len(outputs) else None
        return value is not None and bool(value.uses)

    def check_floats(self, *values: Value | None) -> None:
        """Raise NotLowerable unless all values that are present are float32."""
        other = next((v.dtype for v in values if v is not None and v.dtype != np.float32), None)
        if other is not None or self.node.output.dtype != np.float32:
            raise NotLowerable(f"it is of {other or self.node.output.dtype}")

    def add(
        self, op_type: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any] | None = None, *,
        domain: str = "", outputs: int = 1,
    ) -> list[Value]:  # fmt: skip
        """Add a node; return its outputs. Raises NotLowerable if their shapes can't be inferred."""
        self._count += 1
        names = [f"{self.node.label}:{op_type}{self._count}{'' if i == 0 else f'_{i}'}" for i in range(outputs)]
        results = [Value(name) for name in names]
        opset = 1 if domain else _OPSET
        new = Node(
            op_type, inputs, results, attributes, domain=domain, opset=opset, name=names[0], index=self.node.index,
            origin=self.node.origin,
        )  # fmt: skip
        infos = infer(new, [info_of(value) for value in inputs], self.rewrite.limits)
        if any(info is None or info.shape is None or info.dtype is None for info in infos):
            raise NotLowerable(f"the shape of its {op_type} is unknown")
        for value, info in zip(results, infos, strict=True):
            assert info is not None
            value.dtype, value.shape = info.dtype, info.shape
        if all(value is None or value.const is not None for value in inputs):
            arrays = [None if value is None else value.const for value in inputs]
            context = OpContext(new, self.rewrite.limits)
            return [
                Value(value.name, array.dtype, array.shape, array)
                for value, array in zip(results, evaluate(self.rewrite.model, new, arrays, context), strict=True)
            ]
        self._nodes.append(new)
        return results

    def one(
        self, op_type: str, *inputs: Value | None, domain: str = "", attributes: Mapping[str, Any] | None = None
    ) -> Value:
        """Add a node with one output; return that."""
        return self.add(op_type, inputs, attributes, domain=domain)[0]

    def constant(self, array: Any, dtype: Any = np.float32) -> Value:
        """Return a small constant."""
        self._count += 1
        content = np.asarray(array, dtype)
        return Value(f"{self.node.label}:constant{self._count}", content.dtype, content.shape, content)

    def sizes(self, numbers: Sequence[int]) -> Value:
        """Return a vector of int64, of which some may be expressions."""
        self._count += 1
        return constant_sizes(f"{self.node.label}:sizes{self._count}", numbers)

    def reshaped(self, x: Value, shape: Sequence[int]) -> Value:
        """Return `x` in another shape, in which 0 stands for the same size as before."""
        return self.one("Reshape", x, self.sizes(shape))

    def sliced(self, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
        """Return the elements of `x` along an axis; of a weight, once for all plans."""
        if x.const is not None and not are_sizes(vector([start, end])):
            cut = (*[slice(None)] * axis, slice(start, end, step))
            name = f"{self.node.label}:{x.name}[{start}:{end}]"
            tag = ("sliced", axis, start, end, step)
            return self.rewrite.constant(name, tag, lambda w: np.ascontiguousarray(w[cut]), x.const)
        return self.one("Slice", x, *(self.sizes([number]) for number in (start, end, axis, step)))

    def rows(self, table: Value, ids: Value) -> Value:
        """Return rows of a table by their numbers."""
        if ids.dtype is None or ids.dtype.kind not in "iu" or len(table.static_shape or ()) != 2:
            raise NotLowerable("numbers of rows are not integers, or a table has another rank")
        return self.one("TableRows", table, ids, domain=FUSED)

    def replace_output(self, position: int, value: Value) -> None:
        """Give a further output of the node to its readers; the first is that of `finish`."""
        old = self.node.outputs[position]
        assert old is not None
        value.name = old.name
        self.rewrite.graph.replace_all_uses_with(old, value)

    def finish(
        self, op_type: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any] | None = None, *,
        domain: str = "", others: Mapping[int, Value] | None = None,
    ) -> None:  # fmt: skip
        """Replace the node by those collected and a last one; `others` are its further outputs by position."""
        graph = self.rewrite.graph
        at = graph.position(self.node)
        for i, new in enumerate(self._nodes):
            graph.add_node(new, at + i)
        for position, value in (others or {}).items():
            self.replace_output(position, value)
        label, count = f"{self.node.domain}.{self.node.op_type}".lstrip("."), len(self._nodes) + 1
        opset = 1 if domain else _OPSET
        fused = self.rewrite.fuse(
            self.node, [], op_type, list(inputs), attributes or {}, domain=domain, opset=opset
        )  # fmt: skip
        self.rewrite.applied(fused, f"{label} is {count} operator{'s' if count > 1 else ''}")
