"""Depthwise convolutions fused with the 1×1 one before or after, against their compositions in numpy."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, run
from tests.tinyonnx.kernels.test_conv import ACTIVATIONS, noise
from tinyonnx.codegen.primitives import HALF, LANES
from tinyonnx.ops.fused import depthwise_pointwise


@given(data=st.data())
@settings(max_examples=150)
def test_geometry(data: st.DataObject) -> None:
    draw = data.draw
    kernel = [draw(st.sampled_from([1, 2, 3, 5]), "kernel") for _ in range(2)]
    dilations = [draw(st.integers(1, 3), "dilation") for _ in kernel]
    strides = [draw(st.integers(1, 3), "stride") for _ in kernel]
    pads = [draw(st.integers(0, 4), "pad") for _ in range(4)]
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    spatial = [draw(st.integers(max(1, e - p - q), e + 20), "size") for e, p, q in zip(extent, pads[:2], pads[2:])]
    if draw(st.booleans(), "one axis"):
        kernel, dilations, strides, pads, spatial = kernel[1:], dilations[1:], strides[1:], pads[1::2], spatial[1:]
    wide = draw(st.sampled_from([1, 3, LANES, LANES + 1, 3 * LANES, 4 * LANES, 7 * LANES - 3]), "wide")
    x = noise(0, draw(st.integers(1, 3), "batch"), draw(st.sampled_from([1, 5, 8, 24]), "channels"), *spatial)
    w, taps = noise(1, wide, x.shape[1], *[1] * len(spatial)), noise(2, wide, 1, *kernel)
    biases = [noise(3, wide) if draw(st.booleans(), "bias") else None for _ in range(2)]
    attributes = draw(st.sampled_from(ACTIVATIONS), "activation")
    attributes = attributes | {f"expand_{k}": v for k, v in draw(st.sampled_from(ACTIVATIONS), "expand").items()}
    geometry: dict[str, Any] = {"strides": strides, "dilations": dilations, "pads": pads}
    inputs = x, w, biases[0], taps, biases[1]
    assert_close(
        *run("ExpandDepthwise", *inputs, constants=(1, 2, 3, 4), fused=True, group=wide, **geometry, **attributes)
    )

    geometry["group"] = x.shape[1]
    taps, w, biases[0] = noise(2, x.shape[1], 1, *kernel), noise(1, wide, x.shape[1], *[1] * len(spatial)), None
    shape = depthwise_pointwise(None, x, taps, None, w, **geometry).shape
    residual = noise(5, *shape) if draw(st.booleans(), "residual") else None
    attributes = {k.replace("expand", "depthwise"): v for k, v in attributes.items()}
    inputs = x, taps, None, w, biases[1], residual
    assert_close(*run("DepthwisePointwise", *inputs, constants=(1, 2, 3, 4), fused=True, **geometry, **attributes))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("second", [False, True], ids=["image", "means"])
def test_last_vector_of_which_half_is_enough(kernel: int, second: bool) -> None:
    """Any number of vectors before it, widths of no tile, of a small and of large ones, and taps that have no tile."""
    steps = (1, 1), (2, 1), (3, 1), (1, 2)
    for i, (n, (stride, dilation)) in enumerate(product((1, HALF, LANES + 3, 2 * LANES + 2, 3 * LANES + HALF), steps)):
        for width in (2, 5, 9, 28):
            x, n_all = noise(0, 2, 4, 6, width), LANES + n
            inputs = x, noise(1, n_all, 4, 1, 1), noise(2, n_all), noise(3, n_all, 1, kernel, kernel), noise(4, n_all)
            pads = [kernel // 2 * dilation] * 4
            attributes = {**ACTIVATIONS[i % len(ACTIVATIONS)], "expand_activation": "Relu"}
            actual, expected = run(
                "ExpandDepthwise", *inputs, constants=(1, 2, 3, 4), fused=True, second=second, pads=pads,
                strides=[1, stride], dilations=[dilation, dilation], group=n_all, **attributes,
            )  # fmt: skip
            assert_close(actual, expected)
