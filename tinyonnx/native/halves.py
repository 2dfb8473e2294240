"""Constants as float16 numbers, where these give the float32 numbers of a binary exactly.

Weights that a model stores as float16 are float32 numbers with other bits once a batch normalisation is folded into
them: W' = W · s, rounded, with a factor s per output channel. `halved` finds such factors: if the largest number of a
channel is one of the 1024 float16 mantissas times s, so must be all others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyonnx.ir import Array
from tinyonnx.native.unit import Constant

_FEW = 1024
"""Constants with fewer elements stay as they are."""

_SHOWN = 8
"""Numbers of a channel, the largest ones, that are compared with all mantissas."""

POWERS = np.ldexp([1.0, -1.0], np.maximum(np.arange(32), 1)[:, None] - 25).T.reshape(-1)
"""The value of the last bit of a float16 by its sign and exponent, its six highest bits."""


class Halved(NamedTuple):
    """Numbers as float16 times factors: float32(halves[i] · factors[k]), for i of a row of `runs` as below.

    A row (target, length, count, factor) stands for `count` runs of `length` elements each, from `target` on, of which
    element j has the factor `factor` + j.
    """

    halves: Array
    factors: Array
    runs: Array


def halved(constant: Constant) -> Halved | None:
    """Return a constant as float16 numbers and factors that give its bits; None if there are none or it is small."""
    content = constant.content
    if content.dtype != np.float32 or content.size < _FEW or not np.isfinite(content).all():
        return None
    with np.errstate(over="ignore"):
        found = Halved(content.astype(np.float16), np.ones(1), np.array([[0, 1, content.size, 0]], np.int64))
    if _is_exact(found, np.zeros(content.size, np.intp), content):
        return found
    if constant.channels is None:
        return None
    channels, index = np.unique(constant.channels, return_inverse=True)
    factors = np.ones(len(channels))
    for i in range(len(channels)):
        values = content[index == i]
        factor = factor_of(values[values != 0])
        if factor is None:
            return None
        factors[i] = factor
    index = _ascending(index, constant.channels > 0)
    factors = np.concatenate([factors, np.ones(max(0, index.max() + 1 - len(factors)))])
    found = Halved((content / factors[index]).astype(np.float16), factors, _runs(index))
    is_small = found.runs.nbytes + found.factors.nbytes < content.nbytes // 4
    return found if is_small and _is_exact(found, index, content) else None


def factor_of(values: Array) -> float | None:
    """Return a factor by which float16 numbers give these float32 numbers, none of them zero; None if there is none."""
    if not values.size:
        return 1.0
    numbers = np.sort(np.abs(values))[::-1]
    exact = numbers.astype(np.float64)
    # the products that are rounded to these numbers lie in half the distance to their neighbours
    lowest, highest = ((exact + np.nextafter(numbers, np.float32(end))) / 2 for end in (0, np.inf))
    candidates = exact[0] / (np.arange(1024, 2048) * 16)
    mantissas = np.frexp(exact[:_SHOWN] / candidates[:, None])[0] * 2048
    for candidate in candidates[(np.abs(mantissas - np.rint(mantissas)) < 1e-3).all(axis=1)]:
        halves = (exact / candidate).astype(np.float16).astype(np.float64)
        if not halves.all():
            continue
        factor = float((lowest / halves).max() + (highest / halves).min()) / 2
        if np.array_equal((halves * factor).astype(np.float32), numbers):
            return factor
    return None


def _is_exact(found: Halved, index: Array, content: Array) -> bool:
    there = (found.halves.astype(np.float64) * found.factors[index]).astype(np.float32)
    return np.array_equal(there.view(np.uint32), content.view(np.uint32))


def _ascending(index: Array, known: Array) -> Array:
    """Replace the index of each padding element by one more than that of the element before it."""
    places = np.arange(len(index))
    last = np.maximum.accumulate(np.where(known, places, 0))
    result: Array = index[last] + places - last
    return result


def _runs(index: Array) -> Array:
    """Return rows (target, length, count, factor) for the factor of each element."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(index) != 1) + 1])
    lengths, firsts = np.diff(starts, append=len(index)), index[starts]
    changes = (np.diff(lengths) != 0) | (np.diff(firsts) != 0)
    begins = np.concatenate([[0], np.flatnonzero(changes) + 1])
    counts = np.diff(begins, append=len(starts))
    return np.stack([starts[begins], lengths[begins], counts, firsts[begins]], axis=1).astype(np.int64)
