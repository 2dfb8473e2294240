"""Decimal formatting of numbers exactly as in Python, digit by digit.

`limbs` represent the fraction of a float64 in [0, 1) in base 2^32; multiplying it by ten gives the
next decimal digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audiotag.standalone import registers as reg
from tinyonnx import jit

if TYPE_CHECKING:
    from tinyonnx.ir import Array

LIMBS = 35
"""Length of `limbs`: enough for the smallest float64, 2^-1074."""

_BASE, _MASK = 4294967296.0, 0xFFFFFFFF


@jit
def put(c: Array, out: Array, byte: int) -> None:
    """Append a byte to the output; it is dropped if the output is full."""
    if c[reg.COUNT] < len(out):
        out[c[reg.COUNT]] = byte
        c[reg.COUNT] += 1


@jit
def split(fraction: Any, limbs: Array) -> None:
    """Convert a number in [0, 1) to limbs, exactly."""
    for i in range(LIMBS):
        fraction *= _BASE
        limb = int(fraction)
        limbs[i] = limb
        fraction -= limb


@jit
def next_digit(limbs: Array) -> int:
    """Remove the next decimal digit from the limbs and return it."""
    carry = 0
    for i in range(LIMBS - 1, -1, -1):
        value = limbs[i] * 10 + carry
        limbs[i] = value & _MASK
        carry = value >> 32
    return int(carry)


@jit
def rounds_up(limbs: Array, last: int) -> bool:
    """Whether the remaining fraction rounds up: more than one half, or exactly one half after an odd digit."""
    half = 1 << 31
    if limbs[0] != half:
        return bool(limbs[0] > half)
    for i in range(1, LIMBS):
        if limbs[i]:
            return True
    return last & 1 == 1


@jit
def put_integer(c: Array, out: Array, value: int, places: int) -> None:
    """Format an integer with at least `places` digits."""
    power, width = 1, 1
    while value // power >= 10 or width < places:
        power *= 10
        width += 1
    while power > 0:
        put(c, out, 48 + value // power % 10)
        power //= 10


@jit
def put_fixed(c: Array, out: Array, value: Any, decimals: int, width: int, limbs: Array) -> None:
    """Format a number from 0 to 2^40 with `decimals` decimals, padded with blanks to `width`."""
    whole = int(value)
    split(value - whole, limbs)
    power, digits = 1, 0
    for _ in range(decimals):
        digits = digits * 10 + next_digit(limbs)
        power *= 10
    total = whole * power + digits
    if rounds_up(limbs, total):
        total += 1
    whole, digits = total // power, total % power
    length, rest = decimals + 2, whole
    while rest >= 10:
        rest //= 10
        length += 1
    for _ in range(width - length):
        put(c, out, 32)
    put_integer(c, out, whole, 1)
    put(c, out, 46)
    put_integer(c, out, digits, decimals)


@jit
def put_scaled(c: Array, out: Array, digits: int, exponent: int) -> None:
    """Format digits · 10^exponent as repr formats a float below 1e16; `digits` has at most 15 digits."""
    if digits == 0:
        exponent = -1
    while digits and digits % 10 == 0:
        digits //= 10
        exponent += 1
    while exponent > -1:
        digits *= 10
        exponent -= 1
    length, rest = 1, digits
    while rest >= 10:
        rest //= 10
        length += 1
    first = length - 1 + exponent
    if first < -4 and digits:
        lead = 1
        for _ in range(length - 1):
            lead *= 10
        put(c, out, 48 + digits // lead)
        if length > 1:
            put(c, out, 46)
            put_integer(c, out, digits % lead, length - 1)
        put(c, out, 101)
        put(c, out, 45)
        put_integer(c, out, -first, 2)
        return
    power = 1
    for _ in range(min(-exponent, 18)):
        power *= 10
    put_integer(c, out, digits // power, 1)
    put(c, out, 46)
    put_integer(c, out, digits % power, -exponent)


@jit
def put_seconds(c: Array, out: Array, samples: int) -> None:
    """Format samples / 32000 like repr; eight decimals represent it exactly."""
    put_scaled(c, out, samples * 3125, -8)


@jit
def put_score(c: Array, out: Array, value: Any, limbs: Array) -> None:
    """Format repr(float(f"{value:.6g}")) of a number in [0, 1] that is not subnormal."""
    if value >= 1.0 or value == 0.0:
        put_scaled(c, out, int(value), 0)
        return
    split(value, limbs)
    digits, exponent = next_digit(limbs), -1
    while digits == 0:
        digits = next_digit(limbs)
        exponent -= 1
    for _ in range(5):
        digits = digits * 10 + next_digit(limbs)
        exponent -= 1
    if rounds_up(limbs, digits):
        digits += 1
    put_scaled(c, out, digits, exponent)
