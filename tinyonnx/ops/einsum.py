"""Sums of products by an equation of index letters."""

from __future__ import annotations

import string
from collections import Counter
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Context, Info, op

_LETTERS = frozenset(string.ascii_letters)
_DOTS = "..."


def parse_equation(equation: str, ranks: list[int]) -> tuple[list[list[str]], list[str]]:
    """Return the axes of every operand and of the result; an ellipsis becomes axes "0", "1", … Raises OpError."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise OpError(f"equation {equation!r} has {len(terms)} terms for {len(ranks)} inputs")
    hidden: int | None = None
    for number, (term, rank) in enumerate(zip(terms, ranks, strict=True)):
        named = len(_letters(term, equation))
        if named > rank or (named < rank and _DOTS not in term):
            raise OpError(f"input {number} has rank {rank}, its term {term!r} in {equation!r} has {named}")
        if _DOTS in term:
            if hidden not in (None, rank - named):
                raise OpError(f"ellipses of {equation!r} stand for {hidden} axes and for {rank - named}")
            hidden = rank - named
    axes = [_expand(term, hidden or 0) for term in terms]
    letters = Counter(axis for term in axes for axis in term)
    if not arrow:
        single = sorted(axis for axis, times in letters.items() if times == 1 and axis in _LETTERS)
        return axes, _expand(_DOTS, hidden or 0) + single
    named_out = _letters(right, equation)
    if len(set(named_out)) < len(named_out):
        raise OpError(f"{equation!r} repeats an index in its result")
    missing = [letter for letter in named_out if letter not in letters]
    if missing:
        raise OpError(f"{equation!r} has {missing[0]!r} in its result only")
    return axes, _expand(right, hidden or 0)


def _letters(term: str, equation: str) -> str:
    letters = term.replace(_DOTS, "", 1)
    if not _LETTERS.issuperset(letters):
        raise OpError(f"equation {equation!r}: {term!r} must be letters with at most one ellipsis")
    return letters


def _expand(term: str, hidden: int) -> list[str]:
    before, dots, after = term.partition(_DOTS)
    return [*before, *(map(str, range(hidden)) if dots else ()), *after]


def axis_sizes(axes: list[list[str]], shapes: list[tuple[int, ...]]) -> dict[str, int]:
    """Return the size of every axis; 1 broadcasts. Raises OpError."""
    sizes: dict[str, int] = {}
    for term, shape in zip(axes, shapes, strict=True):
        for axis, size in zip(term, shape, strict=True):
            known = sizes.get(axis, 1)
            if size != known and 1 not in (size, known):
                what = f"index {axis!r}" if axis in _LETTERS else "an axis of the ellipsis"
                raise OpError(f"{what} has sizes {known} and {size}")
            sizes[axis] = size if known == 1 else known
    return sizes


def einsum_shape(*inputs: Info | None, equation: str) -> Info | None:
    """Infer the output shape of Einsum."""
    present = [info for info in inputs if info is not None]
    if len(present) < len(inputs) or not present:
        return None
    shapes = [info.shape for info in present if info.shape is not None]
    if len(shapes) < len(present):
        return Info(present[0].dtype, None)
    axes, result = parse_equation(equation, [len(shape) for shape in shapes])
    sizes = axis_sizes(axes, shapes)
    return Info(present[0].dtype, tuple(sizes.get(axis, 1) for axis in result))


@op("Einsum", since=12, shape=einsum_shape)
def einsum(ctx: Context, *inputs: Array, equation: str) -> Array:
    """Return the sum of products that `equation` describes, in the order of numpy's greedy search."""
    if not inputs:
        raise OpError("needs at least one input")
    dtypes = {x.dtype for x in inputs}
    if len(dtypes) > 1:
        raise OpError(f"inputs are of {', '.join(sorted(map(str, dtypes)))}")
    axes, result = parse_equation(equation, [x.ndim for x in inputs])
    sizes = axis_sizes(axes, [x.shape for x in inputs])
    shape = tuple(sizes.get(axis, 1) for axis in result)
    dtype = inputs[0].dtype
    ctx.check_size(shape, dtype)
    # axes as numbers: numpy then has no limit on their count
    number = {axis: i for i, axis in enumerate(sizes)}
    wide = np.float32 if dtype.itemsize < 4 and dtype.kind in "fV" else dtype
    operands: list[Any] = []
    for x, term in zip(inputs, axes, strict=True):
        operands += [x.astype(wide, copy=False), [number[axis] for axis in term]]
    with np.errstate(all="ignore"):
        y = np.einsum(*operands, [number[axis] for axis in result], optimize=len(inputs) > 2)
    return np.asarray(y).astype(dtype).reshape(shape)
