"""Convolutions of bytes: equal to the numpy operator, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import choose, draw_windows, run
from tests.tinyonnx.kernels.test_quantized_gemm import BYTES, equal, every, scale
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ops.conv import ConvAttributes
from tinyonnx.registry import FUSED, Info, lookup


def convolve(
    seed: int, x_shape: tuple[int, ...], w_shape: tuple[int, ...], types: Any = None, **attributes: Any
) -> None:
    """Compare QLinearConv and ConvIntegerToFloat, with and without a bias, and ConvInteger with the numpy operator."""
    r = np.random.default_rng(seed)
    x_type, w_type, y_type = types or r.choice(2, 3).tolist()
    x_type, w_type, y_type = BYTES[x_type], BYTES[w_type], BYTES[y_type]
    x, w, filters = every(seed, x_type, *x_shape), every(seed + 1, w_type, *w_shape), w_shape[0]
    per_filter = (filters,) if r.random() < 0.5 else ()
    x_zero, w_zero = every(seed + 2, x_type), every(seed + 3, w_type, *per_filter)
    y = np.float32(r.choice([0.01, 0.3])), every(seed + 4, y_type)
    inputs = x, scale(0), x_zero, w, scale(1, *per_filter), w_zero, *map(np.asarray, y)
    b = r.integers(-(2**16), 2**16, filters).astype(np.int32)
    equal(run("QLinearConv", *inputs, b, constants=range(1, 9), **attributes))
    equal(run("QLinearConv", *inputs, constants=range(1, 8), **attributes))
    offset = r.integers(-(2**31), 2**31, (1, filters, *(1,) * (x.ndim - 2))).astype(np.int32)
    bias = r.normal(0, 9, (filters, *(1,) * (x.ndim - 2))).astype(np.float32)
    zeros = x_zero, None if per_filter else w_zero
    for added in ((None, None), (offset, None), (None, bias), (offset, bias)):
        scaled = x, w, scale(0), *zeros, *added
        equal(run("ConvIntegerToFloat", *scaled, constants=(1, 4, 6), fused=True, **attributes))
    if not per_filter:
        equal(run("ConvInteger", x, w, x_zero, w_zero, constants=(1, 3), **attributes))
        equal(run("ConvInteger", x, w, constants=(1,), **attributes))


@pytest.mark.parametrize("types", [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0)])
@pytest.mark.parametrize("channels", [1, 3, 8, LANES + 1, 2 * LANES])
def test_kinds(types: tuple[int, int, int], channels: int) -> None:
    x = 2, channels, 6, 11
    convolve(1, x, (5, channels, 1, 1), types)
    convolve(2, x, (2 * LANES + 3, channels, 3, 3), types, pads=[1, 1, 1, 1])
    convolve(3, x, (channels, 1, 3, 3), types, group=channels, pads=[1, 1, 1, 1])
    convolve(4, x, (channels, 1, 5, 5), types, group=channels, pads=[2, 2, 2, 2], strides=[2, 2])
    convolve(5, x, (3 * channels, 1, 1, 3), types, group=channels, pads=[0, 1, 0, 1])
    convolve(6, (1, 2 * channels, 9), (4, channels, 4), types, group=2)


@pytest.mark.parametrize("width", [1, 3, 4, 7, 8, 9, 16, 17, 33])
@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_depthwise_rows(width: int, kernel: int, stride: int) -> None:
    """Rows of every number of tiles, for unrolled and other kernels."""
    size = (width - 1) * stride + kernel
    convolve(width, (1, 5, kernel + 2, size), (5, 1, kernel, kernel), group=5, strides=[1, stride])


@pytest.mark.parametrize(("x", "w", "attributes"), [
    ((1, 300, 3, 40), (3, 300, 3, 3), {"pads": [1, 1, 1, 1]}),  # parts narrower than the image
    ((1, 4, 3001), (2 * LANES + 1, 4, 7), {"pads": [3, 3]}),
    ((2, 16, 70, 24), (5, 16, 3, 3), {}),  # several parts below each other
    ((1, 6, 1, 5), (5, 6, 3, 3), {"pads": [1, 1, 1, 1]}),  # fewer rows than threads
    ((2, 5, 14, 13), (LANES, 5, 3, 2), {"dilations": [2, 1], "pads": [-1, 1, 0, 2]}),
    ((2, 5, 14, 13), (LANES, 5, 3, 2), {"dilations": [1, 2]}),
    ((2, 3, 9, 7), (5, 3, 1, 1), {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
    ((1, 3, 16, 16), (9, 3, 4, 4), {"strides": [4, 4]}),
    ((1, 2, 5, 5), (3, 2, 1, 9), {"pads": [0, 8, 0, 8], "strides": [1, 3]}),
])  # fmt: skip
@pytest.mark.parametrize("types", [(0, 0, 0), (1, 1, 1)])
def test_windows(x: tuple[int, ...], w: tuple[int, ...], attributes: Any, types: tuple[int, int, int]) -> None:
    """Images that are read in several parts, and windows that reach beyond them."""
    convolve(7, x, w, types, **attributes)


def test_refusals_of_scaled_sums() -> None:
    def reason(*operands: Any, constants: tuple[int, ...] = (1, 4)) -> str:
        infos = [
            Info(np.dtype(t), shape, np.zeros(shape, t) if i in constants else None)
            for i, (t, shape) in enumerate(operands)
        ]
        entry, out = lookup(FUSED, "ConvIntegerToFloat", 1), Info(np.dtype(np.float32), (1, 4, 5, 5))
        return str(choose(entry, out, infos, {"geometry": ConvAttributes()}))

    x, w, zero, w_zero = (np.uint8, (1, 3, 5, 5)), (np.int8, (4, 3, 1, 1)), (np.uint8, ()), (np.int8, (1,))
    one = np.float32, ()
    several = "not one number for each filter"
    assert "a scale is not float32" in reason(x, w, (np.float64, ()))
    assert "scale is not one number" in reason(x, w, (np.float32, (4,)))
    assert several in reason(x, w, one, zero, (np.int8, ()), (np.int64, (4,)))
    assert several in reason(x, w, one, zero, (np.int8, ()), (np.int32, (1,)))
    assert "weights are not constant" in reason(x, w, one, zero, w_zero, constants=(1,))


@given(data=st.data())
@settings(max_examples=100)
def test_geometry(data: st.DataObject) -> None:
    draw = data.draw
    kernel, dilations, strides, pads = draw_windows(draw, 4).values()
    space = [draw(st.integers(1, 12), "size") for _ in kernel]
    for axis in range(2):
        if space[axis] + pads[axis] + pads[axis + 2] < (kernel[axis] - 1) * dilations[axis] + 1:
            return
    group, per_group, filters = draw(st.sampled_from([(1, 3, 5), (2, 2, 3), (6, 1, 1), (3, 1, 2)]), "channels")
    convolve(
        draw(st.integers(0, 99), "seed"), (draw(st.integers(1, 2), "batch"), group * per_group, *space),
        (group * filters, per_group, *kernel), group=group, strides=strides, dilations=dilations, pads=pads,
    )  # fmt: skip
