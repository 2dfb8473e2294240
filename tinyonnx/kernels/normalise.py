"""Normalisations by mean and variance: of rows, and of channels or groups of channels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinyonnx import ops  # noqa: F401  registers the operators
from tinyonnx.codegen.kernel import kernel, share
from tinyonnx.ir import Array
from tinyonnx.kernels._common import flat, float32_refused
from tinyonnx.kernels.rows import BLOCK, PARTIAL, total
from tinyonnx.ops.norm import (
    group_normalization,
    instance_normalization,
    layer_normalization,
    rms_normalization,
)
from tinyonnx.registry import Call, Info, fast
from tinyonnx.runtime.constants import ConstantPool

_ZERO, _ONE = np.float32(0), np.float32(1)


class NormalisedRows(NamedTuple):
    """The number of rows, their length, and whether their mean is subtracted."""

    rows: int
    n: int
    centred: int


@kernel
def normalise_rows(
    x: Array,
    scale: Array,
    shift: Array,
    out: Array,
    size: NormalisedRows,
    epsilon: Any,
    scratch: Array,
    part: int,
    parts: int,
) -> None:
    """Compute out[r] = (x[r] - mean) / √(variance + epsilon) · scale + shift; without centring the mean is 0.

    Scratch holds partial sums and a row of squares per share.
    """
    rows, n, centred = size
    first, end = share(rows, part, parts)
    room = scratch.shape[0] // parts * part
    partial, squares = scratch[room : room + PARTIAL], scratch[room + PARTIAL : room + PARTIAL + n]
    count = np.float32(n)
    for r in range(first, end):
        source, row = x[r * n : r * n + n], out[r * n : r * n + n]
        mean = total(source, partial) / count if centred else _ZERO
        for i in range(n):
            squares[i] = (source[i] - mean) * (source[i] - mean)
        inverse = _ONE / np.sqrt(total(squares, partial) / count + epsilon)
        for i in range(n):
            row[i] = (source[i] - mean) * inverse * scale[i] + shift[i]


class NormalisedGroups(NamedTuple):
    """The number of groups, of groups in an item, of channels in a group, and of pixels in a channel."""

    groups: int
    per_item: int
    channels: int
    pixels: int


@kernel
def normalise_groups(
    x: Array,
    scale: Array,
    shift: Array,
    out: Array,
    size: NormalisedGroups,
    epsilon: Any,
    scratch: Array,
    part: int,
    parts: int,
) -> None:
    """Compute out[g] = (x[g] - mean) / √(variance + epsilon) · scale + shift, with a scale and shift for each channel.

    Scratch is for partial sums and a block.
    """
    channels, pixels = size.channels, size.pixels
    n = channels * pixels
    first, end = share(size.groups, part, parts)
    room = scratch.shape[0] // parts * part
    partial, block = scratch[room : room + PARTIAL], scratch[room + PARTIAL : room + PARTIAL + BLOCK]
    for g in range(first, end):
        source, group = x[g * n : g * n + n], out[g * n : g * n + n]
        mean = total(source, partial) / np.float32(n)
        squares = 0.0
        for start in range(0, n, BLOCK):
            here = source[start : min(start + BLOCK, n)]
            for i in range(here.shape[0]):
                block[i] = (here[i] - mean) * (here[i] - mean)
            squares += total(block[: here.shape[0]], partial)
        inverse = _ONE / np.sqrt(np.float32(squares) / np.float32(n) + epsilon)
        for c in range(channels):
            here, row = source[c * pixels : c * pixels + pixels], group[c * pixels : c * pixels + pixels]
            channel = g % size.per_item * channels + c
            slope, offset = inverse * scale[channel], shift[channel]
            for i in range(pixels):
                row[i] = (here[i] - mean) * slope + offset


# -- operators --------------------------------------------------------------------------


def _refused(out: Info, x: Info | None, *others: Info | None) -> str | None:
    if x is None or x.value is not None:
        return "the input is constant"
    return float32_refused(out, x, *others)


def _normalisation_refused(
    out: Info, x: Info | None, scale: Info | None, b: Info | None = None, *, axis: int = -1, stash_type: int = 1,
    **_: Any,
) -> str | None:  # fmt: skip
    if scale is None or scale.value is None or (b is not None and b.value is None):
        return "scale or shift is not constant"
    if x is None or x.shape is None or not -x.ndim <= axis < x.ndim:
        return "the axis is out of range"
    if any(v is not None and v.ndim > x.ndim - axis % x.ndim for v in (scale, b)):
        return "scale or shift has axes that are not normalised"
    return _refused(out, x, scale, b)


def _normalisation(
    pool: ConstantPool, out: Array, x: Array, scale: Array, b: Array | None, axis: int, epsilon: float, centred: bool
) -> Call:  # fmt: skip
    """Bind a normalisation; scale and shift are broadcast to the normalised axes."""
    normal = x.shape[axis % x.ndim :]
    n = math.prod(normal)

    def spread(factors: Array) -> Array:
        return np.broadcast_to(factors, normal).reshape(-1).copy()

    key = ("layer normalization", normal)
    shift = np.zeros(n, np.float32) if b is None else pool.derive(key, spread, b)
    size = NormalisedRows(x.size // n, n, int(centred))
    arguments = (flat(x), pool.derive(key, spread, scale), shift, flat(out), size, np.float32(epsilon))
    return Call(normalise_rows, arguments, scratch=PARTIAL + n)


@fast(layer_normalization, when=_normalisation_refused, layout="row_major")
def bind_layer_normalization(
    pool: ConstantPool, out: Array, x: Array, scale: Array, b: Array | None = None, *, axis: int = -1,
    epsilon: float = 1e-5, **_: Any,
) -> Call:  # fmt: skip
    """Bind the normalisation by mean and variance."""
    return _normalisation(pool, out, x, scale, b, axis, epsilon, centred=True)


def _groups_refused(out: Info, x: Info | None, scale: Info | None, shift: Info | None, **_: Any) -> str | None:
    if any(i is None or i.value is None for i in (scale, shift)):
        return "scale or shift is not constant"
    if x is None or x.shape is None or 0 in x.shape:
        return "the input is empty"
    return _refused(out, x, scale, shift)


def _groups(out: Array, x: Array, scale: Array, shift: Array, groups: int, epsilon: float) -> Call:
    channels = x.shape[1] // groups
    size = NormalisedGroups(x.shape[0] * groups, groups, channels, x.size // (x.shape[0] * x.shape[1]))
    return Call(
        normalise_groups, (flat(x), flat(scale), flat(shift), flat(out), size, np.float32(epsilon)),
        scratch=PARTIAL + BLOCK,
    )  # fmt: skip


@fast(instance_normalization, when=_groups_refused, layout="row_major")
def bind_instance_normalization(
    pool: ConstantPool, out: Array, x: Array, scale: Array, b: Array, *, epsilon: float = 1e-5, **_: Any
) -> Call:
    """Bind the normalisation of each channel of each item."""
    return _groups(out, x, scale, b, x.shape[1], epsilon)


@fast(group_normalization, when=_groups_refused, layout="row_major")
def bind_group_normalization(
    pool: ConstantPool, out: Array, x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5,
    **_: Any,
) -> Call:  # fmt: skip
    """Bind the normalisation of groups of channels."""
    return _groups(out, x, scale, bias, num_groups, epsilon)


@fast(rms_normalization, when=_normalisation_refused, layout="row_major")
def bind_rms_normalization(
    pool: ConstantPool, out: Array, x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, **_: Any
) -> Call:
    """Bind the normalisation by the mean square."""
    return _normalisation(pool, out, x, scale, None, axis, epsilon, centred=False)
