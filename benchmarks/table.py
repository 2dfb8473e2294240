"""Markdown tables with aligned columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

ABSENT = "–"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with the first column aligned to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, widths))]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}{':' if i else '-'}" for i, width in enumerate(widths)]
    return "\n".join(map(line, [header, rule, *rows]))


def number(value: float | None, digits: int = 3) -> str:
    """Format a positive number with the given significant digits, without exponent; – for None and NaN."""
    if value is None or not math.isfinite(value):
        return ABSENT
    magnitude = math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, digits - 1 - magnitude)}f}"


def ratio(value: float | None, other: float | None) -> str:
    """Format `value / other` with two decimals; – if one of them is missing."""
    if not value or not other or not math.isfinite(value + other):
        return ABSENT
    return f"{value / other:.2f}"
