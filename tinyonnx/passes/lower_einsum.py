"""Replace Einsum by Transpose, Reshape, MatMul, Mul and ReduceSum.

Σ over the indices that the result doesn't have. Operands are combined two by two, in numpy's greedy order, each pair as
[batch…, M, K] · [batch…, K, N]: batch indices are those of both operands that are needed later, K those of both that
are not, M and N those of one operand alone. An index of one operand that isn't needed later is summed before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Value
from tinyonnx.limits import MAX_RANK
from tinyonnx.passes._lowering import Lowering, NotLowerable
from tinyonnx.passes._rewrite import Rewrite
from tinyonnx.sizes.integers import is_size


def lower_einsum(rewrite: Rewrite) -> None:
    """Replace every Einsum of float32 without empty tensors."""
    for node in list(rewrite.graph.nodes):
        if node.op_type != "Einsum" or node.domain:
            continue
        try:
            _Equation(Lowering(rewrite, node)).lower()
        except NotLowerable as reason:
            rewrite.refused(node, str(reason))


class _Operand(NamedTuple):
    """A tensor and the index of each of its axes, all different."""

    value: Value
    axes: tuple[str, ...]


class _Equation:
    """The operands of an Einsum node, which are combined until one is left."""

    def __init__(self, low: Lowering) -> None:
        from tinyonnx.ops.einsum import axis_sizes, parse_equation

        self.low = low
        values = [low.required(i) for i in range(len(low.node.inputs))]
        low.check_floats(*values)
        shapes = [_shape(value) for value in values]
        try:
            terms, result = parse_equation(low.node.attributes["equation"], [len(shape) for shape in shapes])
            self.sizes = axis_sizes(terms, shapes)
        except (OpError, KeyError) as error:
            raise NotLowerable(str(error)) from None
        if not values or any(not is_size(size) and size == 0 for size in self.sizes.values()):
            raise NotLowerable("an operand is empty")
        self.result = tuple(result)
        self.operands = [self._distinct(value, term) for value, term in zip(values, terms, strict=True)]

    def lower(self) -> None:
        for positions in self._path():
            chosen = [self.operands.pop(i) for i in sorted(positions, reverse=True)][::-1]
            kept = {*self.result, *(axis for operand in self.operands for axis in operand.axes)}
            first = chosen[0]
            for i, second in enumerate(chosen[1:], 2):
                later = {axis for operand in chosen[i:] for axis in operand.axes}
                first = self._product(first, second, kept | later)
            self.operands.append(first)
        (last,) = self.operands
        last = self._summed(self._without_ones(last, set(self.result)), set(self.result))
        ordered = self._transposed(last, [axis for axis in self.result if axis in last.axes])
        shape = [self.sizes.get(axis, 1) for axis in self.result]
        self.low.finish("Reshape", [ordered, self.low.sizes(shape)], {"allowzero": 0})

    def _path(self) -> list[Sequence[int]]:
        """Return the positions of the operands of each product, those done removed, results appended."""
        if len(self.operands) == 1:
            return []
        if len(self.operands) == 2:
            return [(0, 1)]
        number = {axis: i for i, axis in enumerate(self.sizes)}
        arguments: list[Any] = []
        for operand in self.operands:
            shape = _shape(operand.value)
            if any(map(is_size, shape)):
                raise NotLowerable("it has more than two operands, of sizes that vary")
            arguments += [np.broadcast_to(np.float32(0), shape), [number[axis] for axis in operand.axes]]
        path = np.einsum_path(*arguments, [number[axis] for axis in self.result], optimize="greedy")[0]
        return [positions if isinstance(positions, tuple) else tuple(positions) for positions in path[1:]]

    # -- one operand --------------------------------------------------------------------

    def _distinct(self, value: Value, term: Sequence[str]) -> _Operand:
        """Take the diagonal of axes with the same index."""
        axes = list(term)
        while len(set(axes)) < len(axes):
            axis = next(a for a in axes if axes.count(a) > 1)
            first = axes.index(axis)
            second = axes.index(axis, first + 1)
            sizes = [_shape(value)[i] for i in (first, second)]
            if any(map(is_size, sizes)) or sizes[0] != sizes[1]:
                raise NotLowerable(f"the axes of its diagonal {axis!r} have sizes that vary or differ")
            order = [i for i in range(len(axes)) if i not in (first, second)]
            axes = [axes[i] for i in order]
            rest = [_shape(value)[i] for i in order]
            n = sizes[0]
            value = self.low.one("Transpose", value, attributes={"perm": [*order, first, second]})
            value = self.low.reshaped(value, [*rest, n * n])
            value = self.low.sliced(value, len(rest), 0, n * n, n + 1)
            axes.append(axis)
        return _Operand(value, tuple(axes))

    def _without_ones(self, operand: _Operand, kept: set[str]) -> _Operand:
        """Remove axes of size 1 that another operand's axis is broadcast to, or that nothing needs."""
        shape = _shape(operand.value)
        gone = [a for a, n in zip(operand.axes, shape) if not is_size(n) and n == 1 and not self._is_one(a, kept)]
        if not gone:
            return operand
        axes = tuple(a for a in operand.axes if a not in gone)
        left = [n for a, n in zip(operand.axes, shape) if a not in gone]
        return _Operand(self.low.reshaped(operand.value, left), axes)

    def _is_one(self, axis: str, kept: set[str]) -> bool:
        size = self.sizes[axis]
        return axis in kept and not is_size(size) and size == 1

    def _summed(self, operand: _Operand, kept: set[str]) -> _Operand:
        """Sum over the axes that nothing needs."""
        gone = [i for i, axis in enumerate(operand.axes) if axis not in kept]
        if not gone:
            return operand
        total = self.low.add("ReduceSum", [operand.value, self.low.sizes(gone)], {"keepdims": 0})[0]
        return _Operand(total, tuple(axis for axis in operand.axes if axis in kept))

    def _transposed(self, operand: _Operand, axes: Sequence[str]) -> Value:
        order = [operand.axes.index(axis) for axis in axes]
        if order == sorted(order):
            return operand.value
        return self.low.one("Transpose", operand.value, attributes={"perm": order})

    # -- two operands -------------------------------------------------------------------

    def _product(self, a: _Operand, b: _Operand, kept: set[str]) -> _Operand:
        a, b = self._without_ones(a, kept), self._without_ones(b, kept)
        a, b = self._summed(a, kept | set(b.axes)), self._summed(b, kept | set(a.axes))
        both = [axis for axis in a.axes if axis in b.axes]
        batch = [axis for axis in both if axis in kept]
        summed = [axis for axis in both if axis not in kept]
        rows = [axis for axis in a.axes if axis not in both]
        columns = [axis for axis in b.axes if axis not in both]
        if not summed:
            return self._elementwise(a, b)
        if self._comes_first(columns, rows):
            a, b, rows, columns = b, a, columns, rows
        if len(batch) + 2 > MAX_RANK:
            raise NotLowerable("it has more axes than supported")
        left = self._grouped(a, batch, rows, summed)
        right = self._grouped(b, batch, summed, columns)
        y = self.low.one("MatMul", left, right)
        axes = (*batch, *rows, *columns)
        if len(rows) != 1 or len(columns) != 1:
            y = self.low.reshaped(y, [self._size(axis, a, b) for axis in axes])
        return _Operand(y, axes)

    def _comes_first(self, columns: Sequence[str], rows: Sequence[str]) -> bool:
        """Return whether the result has the columns before the rows; then operands are swapped to save a Transpose."""
        place = {axis: i for i, axis in enumerate(self.result)}
        known = [[place[axis] for axis in axes if axis in place] for axes in (columns, rows)]
        return bool(known[0] and known[1]) and max(known[0]) < min(known[1])

    def _grouped(self, x: _Operand, batch: Sequence[str], *groups: Sequence[str]) -> Value:
        """Return the operand as [batch…, first group, second group]."""
        value = self._transposed(x, [*batch, *groups[0], *groups[1]])
        if all(len(group) == 1 for group in groups):
            return value
        size = dict(zip(x.axes, _shape(x.value)))
        return self.low.reshaped(
            value, [*(size[a] for a in batch), *(math.prod(size[a] for a in group) for group in groups)]
        )

    def _elementwise(self, a: _Operand, b: _Operand) -> _Operand:
        """Return the product of operands, broadcast over the indices that one of them doesn't have."""
        axes = (*a.axes, *(axis for axis in b.axes if axis not in a.axes))
        if len(axes) > MAX_RANK:
            raise NotLowerable("it has more axes than supported")
        values = []
        for x in (a, b):
            value = self._transposed(x, [axis for axis in axes if axis in x.axes])
            size = dict(zip(x.axes, _shape(x.value)))
            shape = [size.get(axis, 1) for axis in axes]
            values.append(value if len(x.axes) == len(axes) else self.low.reshaped(value, shape))
        return _Operand(self.low.one("Mul", *values), axes)

    @staticmethod
    def _size(axis: str, a: _Operand, b: _Operand) -> Any:
        owner = a if axis in a.axes else b
        return _shape(owner.value)[owner.axes.index(axis)]


def _shape(value: Value) -> tuple[Any, ...]:
    shape = value.static_shape
    assert shape is not None
    return shape
