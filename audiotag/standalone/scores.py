"""Probabilities of logits and the best of them, in float64 as in `audiotag.tagger`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyonnx import jit

if TYPE_CHECKING:
    from tinyonnx.ir import Array

# ln 2 in two parts, the first times a number up to 1100 exact
_LN_2_HIGH, _LN_2_LOW, _LOG2_E = 0.6931471803691238, 1.9082149292705877e-10, 1.4426950408889634
_FAR = 746.0
_LARGEST = np.float32(3.4028235e38)


@jit
def exp_of_minus(x: Any) -> Any:
    """Return e^-x for x >= 0, within 1 ulp."""
    if x > _FAR:
        return 0.0
    k = int(x * _LOG2_E + 0.5)
    r = k * _LN_2_LOW - (x - k * _LN_2_HIGH)
    total = 1.0
    for n in range(14, 0, -1):
        total = 1.0 + total * r / n
    power = 0.5
    while k:
        if k & 1:
            total *= power
        power *= power
        k >>= 1
    return total


@jit
def probability(logit: Any) -> Any:
    """Return the sigmoid of a logit."""
    small = exp_of_minus(abs(logit))
    return (1.0 if logit >= 0 else small) / (1.0 + small)


@jit
def probabilities(logits: Array, ready: int, scores: Array) -> bool:
    """Compute the scores of logits; return False if one is NaN or infinite.

    If `ready`, the logits are probabilities.
    """
    for i in range(len(scores)):
        if not abs(logits[i]) <= _LARGEST:
            return False
        if ready:
            scores[i] = min(max(np.float64(logits[i]), 0.0), 1.0)
        else:
            scores[i] = probability(np.float64(logits[i]))
    return True


@jit
def rank(scores: Array, top: int, threshold: Any, order: Array) -> int:
    """Put the indices of the `top` best scores of at least `threshold` into `order`, best first; return their number.

    Equal scores come in the order of their index.
    """
    n, count = len(scores), 0
    while count < min(top, n):
        best = -1
        for i in range(n):
            # all scores ranked before the last chosen one have been chosen
            later = (
                count == 0
                or scores[i] < scores[order[count - 1]]
                or (scores[i] == scores[order[count - 1]] and i > order[count - 1])
            )
            if later and (best < 0 or scores[i] > scores[best]):
                best = i
        if best < 0 or scores[best] < threshold:
            break
        order[count] = best
        count += 1
    return count
