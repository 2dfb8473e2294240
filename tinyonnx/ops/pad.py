"""Pad: add elements at the ends of axes, or remove them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.shape import Shape, integers, normalise_axes
from tinyonnx.registry import Context, Info, op


def _padding(shape: Shape, pads: Sequence[int], axes: Sequence[int] | None) -> list[tuple[int, int]]:
    """Return (before, after) for every axis."""
    which = list(range(len(shape))) if axes is None else normalise_axes(axes, len(shape))
    if len(pads) != 2 * len(which):
        raise OpError(f"{len(pads)} pads for {len(which)} axes, expected {2 * len(which)}")
    result = [(0, 0)] * len(shape)
    for i, axis in enumerate(which):
        result[axis] = (pads[i], pads[i + len(which)])
    for axis, (before, after) in enumerate(result):
        if max(-before, 0) + max(-after, 0) > shape[axis]:
            raise OpError(f"pads {list(pads)} cut more than the {shape[axis]} elements of axis {axis}")
    return result


def _padded_shape(shape: Shape, padding: list[tuple[int, int]]) -> Shape:
    return tuple(d + before + after for d, (before, after) in zip(shape, padding, strict=True))


def _pad(ctx: Context | None, data: Array, padding: list[tuple[int, int]], mode: str, value: Any) -> Array:
    if ctx is not None:
        ctx.check_size(_padded_shape(data.shape, padding), data.dtype)
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise OpError(f"unknown mode {mode!r}")
    crop = tuple(slice(max(-b, 0), d - max(-a, 0)) for d, (b, a) in zip(data.shape, padding, strict=True))
    data = data[crop]
    grow = [(max(b, 0), max(a, 0)) for b, a in padding]
    if mode == "constant":
        result = np.full(_padded_shape(data.shape, grow), value, data.dtype)
        result[tuple(slice(b, b + d) for d, (b, _) in zip(data.shape, grow, strict=True))] = data
        return result
    if any(d == 0 and (b or a) for d, (b, a) in zip(data.shape, grow, strict=True)):
        raise OpError(f"mode {mode} can't pad an empty axis of {list(data.shape)}")
    return np.asarray(np.pad(data, grow, mode=mode))  # type: ignore[call-overload]


def _pad_attribute_rule(name: str) -> Any:
    def rule(data: Info, **attributes: Any) -> Info:
        if data.shape is None:
            return data
        return Info(data.dtype, _padded_shape(data.shape, _padding(data.shape, attributes[name], None)))

    return rule


@op("Pad", since=1, shape=_pad_attribute_rule("paddings"))
def pad_1(
    ctx: Context | None, data: Array, *, paddings: list[int], mode: str = "constant", value: float = 0.0
) -> Array:
    return _pad(ctx, data, _padding(data.shape, paddings, None), mode, value)


@op("Pad", since=2, shape=_pad_attribute_rule("pads"))
def pad_2(ctx: Context | None, data: Array, *, pads: list[int], mode: str = "constant", value: float = 0.0) -> Array:
    return _pad(ctx, data, _padding(data.shape, pads, None), mode, value)


def _pad_rule(
    data: Info, pads: Info, constant_value: Info | None = None, axes: Info | None = None, *, mode: str = "constant"
) -> Info:
    if data.shape is None or pads.value is None or (axes is not None and axes.value is None):
        return Info(data.dtype, None)
    which = None if axes is None or axes.value is None else integers(axes.value, "axes")
    return Info(data.dtype, _padded_shape(data.shape, _padding(data.shape, integers(pads.value, "pads"), which)))


@op("Pad", since=11, shape=_pad_rule)
def pad(
    ctx: Context | None, data: Array, pads: Array, constant_value: Array | None = None, axes: Array | None = None, *,
    mode: str = "constant",
) -> Array:  # fmt: skip
    padding = _padding(data.shape, integers(pads, "pads"), None if axes is None else integers(axes, "axes"))
    value: Any = "" if data.dtype.kind == "O" else 0
    if constant_value is not None and constant_value.size:
        if constant_value.size > 1 or constant_value.dtype != data.dtype:
            given = f"{constant_value.dtype}{list(constant_value.shape)}"
            raise OpError(f"constant_value must be one {data.dtype}, is {given}")
        value = constant_value.reshape(-1)[0]
    return _pad(ctx, data, padding, mode, value)
