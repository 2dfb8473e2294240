"""Positions of the windows of convolutions and pools, for shape rules and operators alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Attributes, Context
from tinyonnx.sizes.integers import maximum, minimum

Ints = Sequence[int]


class WindowAttributes(Attributes):
    """Attributes that place windows on the spatial axes of an input."""

    dilations: Ints | None = None
    pads: Ints | None = None
    strides: Ints | None = None


_LONGEST = 1 << 60
"""Maximum number of elements of a padded axis; positions on it are computed in 64 bits."""

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


class Windows(NamedTuple):
    """Kernel size, strides, dilations, padding before and after, and number of windows, per spatial axis.

    Negative padding crops.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """Number of input elements that a window spans, including those that dilation skips."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations))


def positive(name: str, values: Ints | None, rank: int) -> tuple[int, ...]:
    """Return one value > 0 per spatial axis; ones if absent. Raises OpError."""
    if values is None:
        return (1,) * rank
    if len(values) != rank:
        raise OpError(f"{name} {list(values)} has {len(values)} values for {rank} spatial axes")
    if any(v < 1 for v in values):
        raise OpError(f"{name} {list(values)} must be positive")
    return tuple(int(v) for v in values)


def split_pads(pads: Ints | None, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return `pads` as (begin, end); zeros if absent. Raises OpError."""
    if pads is None:
        return (0,) * rank, (0,) * rank
    if len(pads) != 2 * rank:
        raise OpError(f"pads {list(pads)} has {len(pads)} values, {rank} spatial axes need {2 * rank}")
    return tuple(int(p) for p in pads[:rank]), tuple(int(p) for p in pads[rank:])


def check_auto_pad(auto_pad: str) -> None:
    """Raise OpError unless `auto_pad` is one of ONNX's."""
    if auto_pad not in AUTO_PADS:
        raise OpError(f"auto_pad is {auto_pad!r}, not one of {', '.join(AUTO_PADS)}")


def windows(
    spatial: Ints, kernel: Ints, attributes: WindowAttributes, *, auto_pad: str = "NOTSET", ceil_mode: int = 0
) -> Windows:
    """Return the windows over an input of shape `spatial` (without batch and channels).

    Raises OpError where the attributes are wrong or no window fits.
    """
    rank = len(spatial)
    kernel = positive("kernel_shape", kernel, rank)
    strides = positive("strides", attributes.strides, rank)
    dilations = positive("dilations", attributes.dilations, rank)
    check_auto_pad(auto_pad)
    befores, afters = split_pads(attributes.pads if auto_pad == "NOTSET" else None, rank)
    begin, end, out = list(befores), list(afters), [0] * rank
    for i, size in enumerate(spatial):
        extent = (kernel[i] - 1) * dilations[i] + 1
        if auto_pad.startswith("SAME"):
            out[i] = -(-size // strides[i])
            total = maximum(0, (out[i] - 1) * strides[i] + extent - size)
            begin[i] = (total if auto_pad == "SAME_UPPER" else total + 1) // 2
            end[i] = total - begin[i]
        if minimum(begin[i], 0) + minimum(end[i], 0) + size < 0:
            raise OpError(f"pads {[*befores, *afters]} crop more than all of spatial axis {i}, which has size {size}")
        padded = size + begin[i] + end[i]
        if padded > _LONGEST or extent > _LONGEST:
            raise OpError(f"spatial axis {i} has size {size} and pads {begin[i]} + {end[i]}, more than memory can hold")
        if not auto_pad.startswith("SAME"):
            steps = padded - extent
            out[i] = (-(-steps // strides[i]) if ceil_mode else steps // strides[i]) + 1
            if ceil_mode and (out[i] - 1) * strides[i] >= size + begin[i]:
                out[i] -= 1  # the last window may reach beyond the end, but must start inside
        if out[i] < 1 or size == 0:
            raise OpError(
                f"kernel is larger than the padded input: spatial axis {i} has size {size} "
                f"and pads {begin[i]} + {end[i]}, the kernel spans {extent}"
            )
    return Windows(kernel, strides, dilations, tuple(begin), tuple(end), tuple(out))


def pad(ctx: Context | None, x: Array, w: Windows, fill: Any) -> Array:
    """Pad (or crop) `x` [N, C, *spatial] so that every window is inside."""
    spatial = x.shape[2:]
    # ceil_mode's last window may need more than `end`
    needed = [(o - 1) * s + e for o, s, e in zip(w.out, w.strides, w.extent)]
    sizes = [max(n, s + b + e) for n, s, b, e in zip(needed, spatial, w.begin, w.end)]
    if not any(w.begin) and not any(w.end) and tuple(sizes) == spatial:
        return x
    if ctx is not None:
        ctx.check_size((*x.shape[:2], *sizes), x.dtype)
    padded = np.full((*x.shape[:2], *sizes), fill, x.dtype)
    every = (slice(None), slice(None))
    target = tuple(slice(max(b, 0), max(b, 0) + s + min(b, 0) + min(e, 0)) for b, e, s in zip(w.begin, w.end, spatial))
    source = tuple(slice(max(-b, 0), s + min(e, 0)) for b, e, s in zip(w.begin, w.end, spatial))
    padded[every + target] = x[every + source]
    return padded


def view(padded: Array, w: Windows) -> Array:
    """Return a view of all windows, [N, C, *out, *kernel]."""
    rank = len(w.kernel)
    views = sliding_window_view(padded, w.extent, axis=tuple(range(2, 2 + rank)))
    steps = [slice(0, (o - 1) * s + 1, s) for o, s in zip(w.out, w.strides)]
    holes = [slice(None, None, d) for d in w.dilations]
    return views[(slice(None), slice(None), *steps, *holes)]
