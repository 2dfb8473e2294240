"""Depthwise convolutions against the numpy operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, run
from tests.tinyonnx.kernels.test_conv import ACTIVATIONS, noise
from tinyonnx.codegen.primitives import FEW_PIXELS, LANES, PIXELS
from tinyonnx.kernels.depthwise import STRIP
from tinyonnx.registry import Info, lookup


@pytest.mark.parametrize("kernel", [3, 5, 7, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 2, 8, 9, 31])
@pytest.mark.parametrize("channels", [3, 4, 8, LANES, LANES + 8])
def test_depthwise(kernel: int, stride: int, width: int, channels: int) -> None:
    x, w = noise(0, 1, channels, 6, width), noise(1, channels, 1, kernel, kernel)
    assert_close(*run("Conv", x, w, noise(2, channels), group=channels, strides=[stride] * 2, pads=[kernel // 2] * 4))


@given(data=st.data())
@settings(max_examples=80)
def test_geometry(data: st.DataObject) -> None:
    """Rows of several strips, whose last pixels join the strip before them, and of less than a tile."""
    draw = data.draw
    kernel = [draw(st.integers(1, 4), "kernel"), draw(st.sampled_from([1, 2, 3, 5, 7]), "kernel")]
    strides = [draw(st.integers(1, 2), "stride"), draw(st.integers(1, 3), "stride")]
    dilations = [draw(st.integers(1, 2), "dilation"), draw(st.sampled_from([1, 1, 2]), "dilation")]
    pads = [draw(st.integers(0, 3), "pad") for _ in range(4)]
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    low = [max(1, e - p - q) for e, p, q in zip(extent, pads[:2], pads[2:])]
    width = low[1] + strides[1] * draw(
        st.sampled_from([0, 1, FEW_PIXELS, PIXELS, STRIP, STRIP + PIXELS, 2 * STRIP + 5])
    )
    channels = draw(st.sampled_from([1, 2, 3, 4, LANES // 2, LANES - 1, LANES, LANES + 1, 2 * LANES + 3]), "channels")
    x = noise(0, draw(st.integers(1, 2), "batch"), channels, low[0] + draw(st.integers(0, 4), "height"), width)
    w, b = noise(1, channels, 1, *kernel), noise(2, channels) if draw(st.booleans(), "bias") else None
    attributes: dict[str, Any] = {"group": channels, "strides": strides, "dilations": dilations, "pads": pads}
    plain, _ = run("Conv", x, w, b, **attributes)
    residual = noise(3, *plain.shape) if draw(st.booleans(), "residual") else None
    attributes |= draw(st.sampled_from(ACTIVATIONS), "activation")
    assert_close(*run("FusedConv", x, w, b, residual, fused=True, **attributes))


def test_which_convolutions_are_depthwise() -> None:
    """Each channel has one filter; a filter of several channels, or several filters of one, are other kernels'."""
    (kernel,) = [fast for fast in lookup("", "Conv", 11).fast if fast.bind.__name__ == "bind_depthwise"]
    for filters, per_group, group, reason in ((6, 1, 6, None), *((*n, "not depthwise") for n in OTHERS)):
        x, w = Info(np.dtype(np.float32), (1, 6, 5, 5)), noise(0, filters, per_group, 3, 3)
        out = Info(x.dtype, (1, filters, 3, 3))
        assert kernel.when(out, x, Info(w.dtype, w.shape, w), group=group) == reason


OTHERS = [(12, 1, 6), (6, 2, 3), (6, 6, 1)]
"""Filters, channels of each, and groups of convolutions that are not depthwise."""
