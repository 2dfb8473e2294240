"""Expressions of sizes as a table of instructions, and the kernel that evaluates it.

The table is made once for a plan. For other sizes of the inputs one call computes every number that depends on them,
checks the conditions under which the plan is valid, and writes the numbers into the kernels' rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinyonnx.codegen.kernel import kernel
from tinyonnx.ir import Array
from tinyonnx.sizes.expressions import (
    ADDRESS,
    EQUAL,
    MAXIMUM,
    QUOTIENT,
    SYMBOL,
    UNEQUAL,
    Condition,
    Size,
    SizeError,
    Trace,
)
from tinyonnx.sizes.polynomials import Monomial

SET, ADD, MULTIPLY, DIVIDE, GREATER, LESSER, IS_ZERO, IS_NOT_ZERO, IS_NOT_NEGATIVE = range(9)
"""Instructions (code, target, a, b): values[target] = a, += values[a]·b, = values[a] ∘ values[b]; checks of a value."""


_CODE_BITS, _INDEX_BITS = 4, 32
_CODE, _INDEX = (1 << _CODE_BITS) - 1, (1 << _INDEX_BITS) - 1


def place(index: int, slot: int) -> int:
    """Return the word of `evaluate`'s places that means rows[index] = values[slot]."""
    return index | slot << _INDEX_BITS


@kernel
def evaluate(code: Array, values: Array, places: Array, rows: Array, part: int, parts: int) -> None:
    """Run the instructions, then copy values into the rows; values[0] is 1 if all checks passed.

    `code` has three words per instruction (`SizeTable.code`), `places` one word per number of the rows (`place`).
    """
    if part > 0:
        return
    values[0] = 0
    for i in range(0, code.shape[0], 3):
        what, target, a, b = code[i] & _CODE, code[i] >> _CODE_BITS, code[i + 1], code[i + 2]
        if what == SET:
            values[target] = a
        elif what == ADD:
            values[target] += values[a] * b
        elif what == MULTIPLY:
            values[target] = values[a] * values[b]
        elif what == DIVIDE:
            if values[b] == 0:
                return
            values[target] = values[a] // values[b]
        elif what == GREATER:
            values[target] = max(values[a], values[b])
        elif what == LESSER:
            values[target] = min(values[a], values[b])
        elif what == IS_ZERO:
            if values[a] != 0:
                return
        elif what == IS_NOT_ZERO:
            if values[a] == 0:
                return
        elif values[a] < 0:
            return
    for word in places:
        rows[word & _INDEX] = values[word >> _INDEX_BITS]
    values[0] = 1


_ARITHMETIC = {MULTIPLY: np.multiply, GREATER: np.maximum, LESSER: np.minimum}

_CHECKS = {IS_ZERO: lambda x: x == 0, IS_NOT_ZERO: lambda x: x != 0, IS_NOT_NEGATIVE: lambda x: x >= 0}


class SizeTable:
    """Compiles expressions to instructions; `slots` maps each size to its index in the values.

    values[0] is the outcome, followed by the `inputs`: symbols and addresses of memory. `defined` gives further
    addresses as expressions.
    """

    def __init__(self, trace: Trace, inputs: Sequence[Size], defined: Iterable[tuple[Size, Any]] = ()) -> None:
        self.trace = trace
        self.count = 1
        self._code: list[int] = []
        self._atoms: dict[int, int] = {}
        self._monomials: dict[Monomial, int] = {}
        self._slots: dict[int, int] = {}
        self._seen: list[Size] = []
        self._constants: dict[int, int] = {}
        self._defined: dict[int, Any] = {}
        for size in inputs:
            self._atoms[_number(size)] = self._new()
        for size, expression in defined:
            self._defined[_number(size)] = expression

    def check(self, conditions: Iterable[Condition]) -> None:
        """Let the evaluation fail unless these conditions hold."""
        for condition in conditions:
            code = {EQUAL: IS_ZERO, UNEQUAL: IS_NOT_ZERO}.get(condition.kind, IS_NOT_NEGATIVE)
            self._code += code, 0, self.slot(condition.size), 0

    def slot(self, size: Any) -> int:
        """Return the index of a size in the values, adding the instructions that compute it."""
        if not isinstance(size, Size):
            if size not in self._constants:
                self._constants[size] = self._emit(SET, size, 0)
            return self._constants[size]
        slot = self._slots.get(id(size))
        if slot is None:
            self._seen.append(size)
            slot = self._slots[id(size)] = self._sum(size)
        return slot

    def holds(self, inputs: Sequence[Any]) -> Any:
        """Return for which of many sizes the conditions hold, and the values; `inputs` are numbers or arrays of them.

        The results are booleans, and a list by slot.
        """
        values: list[Any] = [None, *inputs, *[None] * (self.count - 1 - len(inputs))]
        good: Any = np.ones(np.broadcast_shapes(*map(np.shape, inputs)), np.bool_)
        for code, target, a, b in zip(*[iter(self._code)] * 4):
            if code == SET:
                values[target] = np.int64(a)
            elif code == ADD:
                values[target] = values[target] + values[a] * b
            elif code == DIVIDE:
                good = good & (values[b] != 0)
                values[target] = values[a] // np.where(values[b] == 0, 1, values[b])
            elif code in _ARITHMETIC:
                values[target] = _ARITHMETIC[code](values[a], values[b])
            else:
                good = good & _CHECKS[code](values[a])
        return good, values

    def largest_symbol(self) -> int:
        """Return a power of two that limits symbols, so that no number reaches 2**62."""
        return self.trace.largest_symbol(self._seen)

    def code(self) -> Array:
        """Return the instructions so far, three words each: code and target in one, a, b."""
        code, target, a, b = np.array(self._code, np.int64).reshape(-1, 4).T
        return np.stack([code | target << _CODE_BITS, a, b], axis=1).reshape(-1)

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _emit(self, code: int, a: int, b: int) -> int:
        target = self._new()
        self._code += code, target, a, b
        return target

    def _sum(self, size: Size) -> int:
        terms = [(monomial, factor) for monomial, factor in size.terms if monomial]
        if terms == [*size.terms] and len(terms) == 1 and terms[0][1] == 1:
            return self._product(terms[0][0])
        products = [(self._product(monomial), factor) for monomial, factor in terms]
        target = self._emit(SET, next((factor for monomial, factor in size.terms if not monomial), 0), 0)
        for slot, factor in products:
            self._code += ADD, target, slot, factor
        return target

    def _product(self, monomial: Monomial) -> int:
        if monomial not in self._monomials:
            *rest, last = monomial
            slot = self._atom(last)
            self._monomials[monomial] = self._emit(MULTIPLY, self._product(tuple(rest)), slot) if rest else slot
        return self._monomials[monomial]

    def _atom(self, number: int) -> int:
        if number not in self._atoms:
            atom = self.trace.atoms[number]
            if number in self._defined:
                self._atoms[number] = self.slot(self._defined[number])
            elif atom.kind in (SYMBOL, ADDRESS):
                raise SizeError(f"{atom.name} has no value")
            else:
                a, b = map(self.slot, atom.operands)
                code = {QUOTIENT: DIVIDE, MAXIMUM: GREATER}.get(atom.kind, LESSER)
                self._atoms[number] = self._emit(code, a, b)
        return self._atoms[number]


def _number(size: Size) -> int:
    """Return the index of the only atom of a size that is a single symbol or address."""
    ((monomial, _),) = size.terms
    return monomial[0]
