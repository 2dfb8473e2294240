"""Polynomials with integer coefficients, as sorted terms."""

from __future__ import annotations

Monomial = tuple[int, ...]
"""Numbers of atoms, ascending; the empty one is 1."""

Terms = tuple[tuple[Monomial, int], ...]
"""Monomials, ascending, with their coefficients, none of which is 0."""

_MOST = 64
"""Maximum steps of a division; shapes need fewer."""


def added(a: Terms, b: Terms) -> dict[Monomial, int]:
    """Return a + b; coefficients may be 0."""
    terms = dict(a)
    for monomial, coefficient in b:
        terms[monomial] = terms.get(monomial, 0) + coefficient
    return terms


def subtracted(a: Terms, b: Terms) -> dict[Monomial, int]:
    """Return a - b; coefficients may be 0."""
    terms = dict(a)
    for monomial, coefficient in b:
        terms[monomial] = terms.get(monomial, 0) - coefficient
    return terms


def multiplied(a: Terms, b: Terms) -> dict[Monomial, int]:
    """Return a · b; coefficients may be 0."""
    terms: dict[Monomial, int] = {}
    for m, c in a:
        for n, d in b:
            product = tuple(sorted(m + n))
            terms[product] = terms.get(product, 0) + c * d
    return terms


def divided(a: Terms, b: Terms) -> dict[Monomial, int] | None:
    """Return a / b if that is a polynomial, else None."""
    rest, result = dict(a), dict[Monomial, int]()
    leading, factor = max(b)
    for _ in range(_MOST):
        if not rest:
            return result
        monomial = max(rest)
        coefficient = rest[monomial]
        left = _without(monomial, leading)
        if left is None or coefficient % factor:
            return None
        quotient = coefficient // factor
        result[left] = result.get(left, 0) + quotient  # a = b · result + rest, whatever comes next
        for m, c in b:
            product = tuple(sorted(m + left))
            rest[product] = rest.get(product, 0) - c * quotient
            if not rest[product]:
                del rest[product]
    return None


def _without(monomial: Monomial, factor: Monomial) -> Monomial | None:
    """Return the monomial divided by another one, if that divides it."""
    left = list(monomial)
    for atom in factor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)
