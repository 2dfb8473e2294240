"""Embeddings as bytes, to find the few rows of an index that can be among the nearest.

A unit vector v is approximated by scale · codes with codes in -127..127; the difference is a vector of the length
`error`. The scalar product with another unit vector differs from that of the codes by at most the sum of both errors.
So all vectors whose product could be among the greatest are known, and only they are read in full precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tinyonnx import kernel
from tinyonnx.codegen.kernel import DISABLED, BoundKernel, share

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_MOST, _MOST_WANTED = 127, 8191
"""Maximum code of an embedding, and of the wanted one, such that sums of 2,048 products fit into 32 bits."""

MAX_SIZE = 2048
"""Maximum number of codes of an embedding."""

_ROUNDING = 1e-5
"""Bound of the error of float32 sums and products."""


class Codes(NamedTuple):
    """Codes (rows, n) int8, and scale and error of each row, (rows, 2) float32."""

    codes: Array
    scales: Array


def encode(vectors: Array) -> Codes:
    """Encode unit vectors (rows, n) float32; vectors that are not finite get the error infinity."""
    with np.errstate(invalid="ignore", over="ignore"):
        scales = np.maximum(np.abs(vectors).max(axis=1), 1e-30) / _MOST
        codes = np.rint(vectors / scales[:, None])
        error = np.linalg.norm(vectors - codes * scales[:, None], axis=1)
    bad = ~np.isfinite(error)
    codes[bad], scales[bad], error[bad] = 0, 0, np.inf
    return Codes(codes.astype(np.int8), np.stack([scales, error], axis=1).astype(np.float32))


def candidates(codes: Codes, wanted: Array, count: int) -> Array:
    """Return the rows that can be among the `count` with the greatest scalar product with the unit vector `wanted`."""
    scale = max(float(np.abs(wanted).max()), 1e-30) / _MOST_WANTED
    numbers = np.rint(wanted / scale).astype(np.int16)
    off = float(np.linalg.norm(wanted - numbers * scale)) * 2 + _ROUNDING
    products = np.empty(len(codes.scales), np.float32)
    arguments = np.asarray(codes.codes).reshape(-1), numbers, products
    if DISABLED:
        np.matmul(codes.codes, numbers.astype(np.float32), out=products)
    else:
        BoundKernel(multiply, arguments).run(0, 1)
    products *= codes.scales[:, 0]
    products *= np.float32(scale)
    errors = codes.scales[:, 1] + np.float32(off)
    lowest = products - errors
    least = np.partition(lowest, -count)[-count] if count < len(lowest) else -np.inf
    found: Array = np.flatnonzero(~(products + errors < least))
    return found


@kernel
def multiply(codes: Array, wanted: Array, products: Array, part: int, parts: int) -> None:
    """Compute products[row] = Σ over i of codes[row, i] · wanted[i]."""
    first, stop = share(len(products), part, parts)
    n = np.uint64(len(wanted))
    for row in range(first, stop):
        at, total = np.uint64(row) * n, np.int32(0)
        for i in range(n):
            total = np.int32(total + np.int32(codes[at + i]) * np.int32(wanted[i]))
        products[row] = total
