"""Sizes that are expressions: one shape inference, one plan for every length of an input.

A `Size` stands for an integer that depends on the symbols of a `Trace`, the sizes of the axes of a model's
inputs. It is a polynomial with integer coefficients, kept in normal form, so that equal expressions are the
same object; its atoms are symbols, floor divisions, minima and maxima. Arithmetic gives further sizes. A
comparison is decided for all values of the symbols where that is possible; else it is decided for the
values at hand and recorded as a `Condition`: what was computed holds for all values that meet the
conditions. A conversion to int, and hashing, records that the size equals the value that it has, so that
no code can lose the dependence by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.sizes.polynomials import Monomial, Terms, added, divided, multiplied, subtracted

Array = np.ndarray[Any, Any]

SMALLEST, LARGEST = 2, 1 << 40
"""The values that a symbol may have: 0 and 1 mean something else to many operators."""

SYMBOL, QUOTIENT, MAXIMUM, MINIMUM, ADDRESS = range(5)

EQUAL, UNEQUAL, POSITIVE = range(3)

_LIMIT = 1 << 62
"""Sizes of a plan stay below it for all values of the symbols, so that 64 bits hold them."""


class SizeError(Exception):
    """Something can't be computed for all sizes at once."""


class Atom(NamedTuple):
    """An indivisible part of sizes: its kind and operands, its name, and bounds, where they are known."""

    kind: int
    operands: tuple[Any, ...]
    name: str
    least: int | None
    most: int | None


class Condition(NamedTuple):
    """`size` is 0 (EQUAL), is not 0 (UNEQUAL), or is at least 0 (POSITIVE)."""

    kind: int
    size: Size

    def holds(self) -> bool:
        """Return whether it does for the values that the symbols have now."""
        value = self.size.value
        return value == 0 if self.kind == EQUAL else value != 0 if self.kind == UNEQUAL else value >= 0


class Trace:
    """Symbols with their values, and the conditions under which the results of a computation are valid."""

    def __init__(self) -> None:
        self.atoms: list[Atom] = []
        self.values: dict[int, int] = {}
        self.conditions: dict[tuple[int, int], Condition] = {}
        self._atoms: dict[Any, int] = {}
        self._sizes: dict[Terms, Size] = {}
        self.computed: dict[Any, Any] = {}
        self._known: dict[Any, bool] = {}
        self._closed = False
        self.version = 0
        self.temporaries: list[tuple[Size, Any]] = []

    # -- symbols ------------------------------------------------------------------------

    def symbol(self, name: str, value: int) -> Size:
        """Make a symbol of at least SMALLEST; `value` is its current value."""
        if value < SMALLEST:
            raise SizeError(f"{name} is {value}")
        number = self._atom(SYMBOL, (), name, SMALLEST, LARGEST)
        self.values[number] = value
        symbol: Size = self.size({(number,): 1})
        return symbol

    def address(self, name: str) -> Size:
        """Return the address of memory that is allocated later: only differences of addresses in it have values."""
        address: Size = self.size({(self._atom(ADDRESS, (), name, None, None),): 1})
        return address

    def temporary(self, nbytes: Any) -> Size:
        """Return the address of memory for one step; `temporaries` has the bytes of each."""
        address = self.address(f"temporary {len(self.temporaries)}")
        self.temporaries.append((address, nbytes))
        return address

    def set_values(self, symbols: Sequence[Size], values: Sequence[int]) -> None:
        """Give symbols other values."""
        self.values = {symbol.terms[0][0][0]: value for symbol, value in zip(symbols, values, strict=True)}
        self.version += 1

    @contextmanager
    def recording(self) -> Iterator[dict[tuple[int, int], Condition]]:
        """Collect the conditions recorded within the block separately."""
        outer = self.conditions, self._known, self._closed
        inner: dict[tuple[int, int], Condition] = {}
        self.conditions, self._known, self._closed = inner, dict(self._known), False
        try:
            yield inner
        finally:
            self.conditions, self._known, self._closed = outer

    def close(self) -> None:
        """Refuse further conditions outside of `recording`, because a run would not check them."""
        self._closed = True

    # -- expressions --------------------------------------------------------------------

    def size(self, terms: Mapping[Monomial, int]) -> Any:
        """Return the polynomial, as an int where it is one."""
        found = tuple(sorted([term for term in terms.items() if term[1]]))
        if not found:
            return 0
        if len(found) == 1 and not found[0][0]:
            return found[0][1]
        size = self._sizes.get(found)
        if size is None:
            size = self._sizes[found] = Size(self, found)
        return size

    def _atom(self, kind: int, operands: tuple[Any, ...], name: str, least: int | None, most: int | None) -> int:
        key = (kind, name, *(o if isinstance(o, int) else o.terms for o in operands))
        if key not in self._atoms:
            self._atoms[key] = len(self.atoms)
            self.atoms.append(Atom(kind, operands, name, least, most))
        return self._atoms[key]

    def quotient(self, a: Any, b: Any) -> Any:
        """Return ⌊a / b⌋, simplified where b divides terms of a."""
        if isinstance(b, int):
            if b == 0:
                raise ZeroDivisionError
            if isinstance(a, int):
                return a // b
            key = "//", id(a), b, True
            if key not in self.computed:
                self.computed[key] = self._divided_by(a, b)
            return self.computed[key]
        if b == 0:  # records that it isn't
            raise ZeroDivisionError
        exact = divided(_terms(a), b.terms)
        return self._quotient(a, b) if exact is None else self.size(exact)

    def _divided_by(self, a: Size, b: int) -> Any:
        whole = {m: c // b for m, c in a.terms}
        rest = {m: c - whole[m] * b for m, c in a.terms}
        remainder = self.size(rest)
        if isinstance(remainder, int):
            whole[()] = whole.get((), 0) + remainder // b
            return self.size(whole)
        sign = 1 if b > 0 else -1
        return self.size(whole) + self._quotient(remainder * sign, b * sign)

    def _quotient(self, a: Any, b: Any) -> Any:
        least = most = None
        (low, high), (divisor, _) = bounds(a), bounds(b)
        if low is not None and low >= 0 and divisor is not None and divisor > 0:
            least = low // b if isinstance(b, int) else 0
            most = None if high is None else high // divisor
        return self.size({(self._atom(QUOTIENT, (a, b), "", least, most),): 1})

    def extreme(self, a: Any, b: Any, kind: int) -> Any:
        """Return the maximum or minimum of two sizes."""
        a, b = (n if isinstance(n, Size) else int(n) for n in (a, b))
        key = kind, *((id(n), False) if isinstance(n, Size) else (n, True) for n in (a, b))
        if key not in self.computed:
            self.computed[key] = self._extreme(a, b, kind)
        return self.computed[key]

    def _extreme(self, a: Any, b: Any, kind: int) -> Any:
        difference = a - b
        low, high = bounds(difference)
        if low is not None and low >= 0:
            return a if kind == MAXIMUM else b
        if high is not None and high <= 0:
            return b if kind == MAXIMUM else a
        (low_a, high_a), (low_b, high_b) = bounds(a), bounds(b)
        if kind == MAXIMUM:
            low = _known(max, low_a, low_b) if None not in (low_a, low_b) else low_b if low_a is None else low_a
            high = _known(max, high_a, high_b)
        else:
            low = _known(min, low_a, low_b)
            high = _known(min, high_a, high_b) if None not in (high_a, high_b) else high_b if high_a is None else high_a
        return self.size({(self._atom(kind, (a, b), "", low, high),): 1})

    # -- comparisons --------------------------------------------------------------------

    def decide(self, kind: int, size: Any) -> bool:
        """Return whether the condition EQUAL or POSITIVE holds; recorded if that depends on the symbols."""
        if isinstance(size, int):
            return size == 0 if kind == EQUAL else size >= 0
        key = kind, id(size)  # sizes are never freed
        known = self._known.get(key)
        if known is not None:
            return known
        low, high = bounds(size)
        if kind == EQUAL:
            never = (low is not None and low > 0) or (high is not None and high < 0)
            result = False
        else:
            never = high is not None and high < 0
            result = low is not None and low >= 0
        if not never and not result:
            if self._closed:
                raise SizeError(f"a decision by {size!r} comes too late")
            result = Condition(kind, size).holds()
            if result:
                self._record(Condition(kind, size))
            else:
                self._record(Condition(UNEQUAL, size) if kind == EQUAL else Condition(POSITIVE, -size - 1))
        self._known[key] = result
        return result

    def _record(self, condition: Condition) -> None:
        self.conditions[condition.kind, id(condition.size)] = condition

    # -- evaluation ---------------------------------------------------------------------

    def evaluate(self, size: Any) -> int:
        """Return the value of a size now."""
        return size if isinstance(size, int) else size.value

    def largest_symbol(self, sizes: Iterable[Any]) -> int:
        """Return a power of two up to which symbols may go so that no size reaches 2**62."""
        wanted = [size for size in sizes if not isinstance(size, int)]
        for power in (LARGEST.bit_length() - 1, 32, 28, 24, 20, 16, 12, 8):
            bounds: dict[int, int] = {}
            if all(self._bound(size, 1 << power, bounds) < _LIMIT for size in wanted) and all(
                bound < _LIMIT for bound in bounds.values()
            ):
                return 1 << power
        return 0

    def _bound(self, size: Any, largest: int, bounds: dict[int, int]) -> int:
        """Return a bound of the absolute value of a size, and of all products and sums in it."""
        if isinstance(size, int):
            return abs(size)
        total = 0
        for monomial, coefficient in size.terms:
            product = abs(coefficient)
            for atom in monomial:
                product *= self._bound_of_atom(atom, largest, bounds)
            total += product
        return total

    def _bound_of_atom(self, number: int, largest: int, bounds: dict[int, int]) -> int:
        if number not in bounds:
            atom = self.atoms[number]
            if atom.kind == SYMBOL:
                bounds[number] = largest
            elif atom.kind == ADDRESS:
                bounds[number] = 1 << 56
            else:
                found = [self._bound(operand, largest, bounds) for operand in atom.operands]
                bounds[~number] = bounds[number] = max(1, *found)  # the operands must have a bound, too
                if atom.kind == QUOTIENT and isinstance(atom.operands[1], int):
                    bounds[number] = found[0] // abs(atom.operands[1]) + 1
        return bounds[number]


class Size:
    """An integer that depends on symbols; behaves like an int in arithmetic and comparisons."""

    __slots__ = ("_value", "_version", "bounds", "terms", "trace")
    __array_ufunc__ = None

    def __init__(self, trace: Trace, terms: Terms) -> None:
        self.trace, self.terms = trace, terms
        self._version = -1
        self._value = 0
        self.bounds: tuple[int | None, int | None] | None = None

    @property
    def value(self) -> int:
        """Its value for the current values of the symbols: for decisions that don't affect results."""
        if self._version != self.trace.version:
            total = 0
            for monomial, coefficient in self.terms:
                for atom in monomial:
                    coefficient *= self._value_of(atom)
                total += coefficient
            self._value, self._version = total, self.trace.version
        return self._value

    def _value_of(self, number: int) -> int:
        atom = self.trace.atoms[number]
        if atom.kind == SYMBOL:
            return self.trace.values[number]
        if atom.kind == ADDRESS:
            raise SizeError(f"the address of {atom.name} has no value yet")
        a, b = map(self.trace.evaluate, atom.operands)
        return a // b if atom.kind == QUOTIENT else max(a, b) if atom.kind == MAXIMUM else min(a, b)

    # -- arithmetic ---------------------------------------------------------------------

    def _other(self, other: Any) -> Any:
        """Return the other operand as an int or a size of the same trace; None if it is neither."""
        if type(other) is int:
            return other
        if isinstance(other, Size):
            if other.trace is not self.trace:
                raise SizeError("the operands are sizes of two plans")
            return other
        return int(other) if isinstance(other, int | np.integer) else None

    def __add__(self, other: Any) -> Any:
        other = self._other(other)
        if other is None:
            return NotImplemented
        return self._computed("+", other, added)

    __radd__ = __add__

    def _computed(self, name: str, other: Any, compute: Callable[[Terms, Terms], dict[Monomial, int]]) -> Any:
        """Return the result of an operation, cached: equal operations give the same object."""
        is_int = type(other) is int
        key = name, id(self), other if is_int else id(other), is_int
        result = self.trace.computed.get(key)
        if result is None:
            result = self.trace.computed[key] = self.trace.size(compute(self.terms, _terms(other)))
        return result

    def __neg__(self) -> Any:
        return self._computed("r-", 0, _subtracted_from)

    def __pos__(self) -> Any:
        return self

    def __sub__(self, other: Any) -> Any:
        other = self._other(other)
        if other is None:
            return NotImplemented
        return self._computed("-", other, subtracted)

    def __rsub__(self, other: Any) -> Any:
        other = self._other(other)
        return NotImplemented if other is None else self._computed("r-", other, _subtracted_from)

    def __mul__(self, other: Any) -> Any:
        other = self._other(other)
        if other is None:
            return NotImplemented
        return self._computed("*", other, multiplied)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        other = self._other(other)
        return NotImplemented if other is None else self.trace.quotient(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        other = self._other(other)
        return NotImplemented if other is None else self.trace.quotient(other, self)

    def __mod__(self, other: Any) -> Any:
        other = self._other(other)
        return NotImplemented if other is None else self - other * self.trace.quotient(self, other)

    def __rmod__(self, other: Any) -> Any:
        other = self._other(other)
        return NotImplemented if other is None else other - self * self.trace.quotient(other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    # -- comparisons --------------------------------------------------------------------

    def __eq__(self, other: object) -> Any:
        if other is self:
            return True
        number = self._other(other)
        return NotImplemented if number is None else self.trace.decide(EQUAL, self - number)

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return NotImplemented if equal is NotImplemented else not equal

    def __ge__(self, other: Any) -> Any:
        number = self._other(other)
        return NotImplemented if number is None else self.trace.decide(POSITIVE, self - number)

    def __gt__(self, other: Any) -> Any:
        number = self._other(other)
        return NotImplemented if number is None else self.trace.decide(POSITIVE, self - number - 1)

    def __le__(self, other: Any) -> Any:
        number = self._other(other)
        return NotImplemented if number is None else self.trace.decide(POSITIVE, number - self)

    def __lt__(self, other: Any) -> Any:
        number = self._other(other)
        return NotImplemented if number is None else self.trace.decide(POSITIVE, number - self - 1)

    def __bool__(self) -> bool:
        return not self.trace.decide(EQUAL, self)

    # -- conversions: the plan holds for this value alone -------------------------------

    def __index__(self) -> int:
        value = self.value
        if not self.trace.decide(EQUAL, self - value):
            raise SizeError(f"{self!r} has lost its value")
        return value

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.__index__())

    def __hash__(self) -> int:
        return hash(self.__index__())

    def __truediv__(self, other: Any) -> Any:
        return self.__index__() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.__index__()

    def __copy__(self) -> Size:
        return self

    def __deepcopy__(self, _: Any) -> Size:
        return self

    def __reduce__(self) -> Any:
        raise SizeError("a size can't be pickled")

    def __repr__(self) -> str:
        return " + ".join(
            "*".join([*([str(c)] if c != 1 or not m else []), *(self._name(atom) for atom in m)]) for m, c in self.terms
        )

    def _name(self, number: int) -> str:
        atom = self.trace.atoms[number]
        if atom.kind in (SYMBOL, ADDRESS):
            return atom.name
        a, b = atom.operands
        name = {MAXIMUM: "max", MINIMUM: "min"}.get(atom.kind)
        return f"{name}({a}, {b})" if name else f"⌊({a})/({b})⌋"


def _terms(a: Any) -> Terms:
    return a.terms if isinstance(a, Size) else (((), a),) if a else ()


def _known(choose: Any, a: int | None, b: int | None) -> Any:
    return None if a is None or b is None else choose(a, b)


def _subtracted_from(a: Terms, b: Terms) -> dict[Monomial, int]:
    return subtracted(b, a)


def bounds(a: Any) -> tuple[int | None, int | None]:
    """Return the least and the greatest value of a size, None where it isn't known."""
    if isinstance(a, int):
        return a, a
    if a.bounds is None:
        a.bounds = _bounds_of(a)
    found: tuple[int | None, int | None] = a.bounds
    return found


def _bounds_of(a: Size) -> tuple[int | None, int | None]:
    low: int | None = 0
    high: int | None = 0
    atoms = a.trace.atoms
    for monomial, coefficient in a.terms:
        least: int | None = 1
        most: int | None = 1
        for number in monomial:
            atom = atoms[number]
            if atom.least is None or atom.least < 0:
                return None, None
            least = least * atom.least if least is not None else None
            most = None if most is None or atom.most is None else most * atom.most
        if coefficient < 0:
            least, most = most, least
        low = None if low is None or least is None else low + coefficient * least
        high = None if high is None or most is None else high + coefficient * most
    return low, high
