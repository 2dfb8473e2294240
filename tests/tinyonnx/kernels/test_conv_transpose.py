"""Transposed convolutions against the numpy operator."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.registry import Info, lookup


@given(data=st.data())
@settings(max_examples=120)
def test_geometry(data: st.DataObject) -> None:
    draw = data.draw
    rank = draw(st.sampled_from([1, 2]), "rank")

    def each(least: int, most: int, label: str) -> list[int]:
        return [draw(st.integers(least, most), label) for _ in range(rank)]

    kernel, strides, dilations, spatial = (
        each(1, 4, "kernel"),
        each(1, 3, "stride"),
        each(1, 2, "dilation"),
        each(1, 9, "size"),
    )
    extra = [draw(st.integers(0, s - 1), "extra") for s in strides]
    full = [(n - 1) * s + (k - 1) * d + 1 + e for n, s, k, d, e in zip(spatial, strides, kernel, dilations, extra)]
    begin = [draw(st.integers(0, min(3, f - 1)), "begin") for f in full]
    end = [draw(st.integers(0, min(3, f - 1 - b)), "end") for f, b in zip(full, begin)]
    group = draw(st.sampled_from([1, 2, 3]), "group")
    depth, filters = draw(st.sampled_from([1, 5, 16]), "depth"), draw(st.sampled_from([1, 4, 17]), "filters")
    if draw(st.booleans(), "one filter for each channel"):
        group, depth, filters = draw(st.sampled_from([2, 17]), "channels"), 1, 1
    channels = group * depth
    x, w = noise(0, draw(st.integers(1, 2), "batch"), channels, *spatial), noise(1, channels, filters, *kernel)
    b = noise(2, filters * group) if draw(st.booleans(), "bias") else None
    attributes: dict[str, Any] = {"pads": begin + end, "output_padding": extra}
    assert_close(*run("ConvTranspose", x, w, b, group=group, strides=strides, dilations=dilations, **attributes))


def test_kernels_as_wide_as_the_stride() -> None:
    x = noise(0, 2, 24, 5, 37)
    for k in (1, 2, 3):
        for filters in (1, 24):
            for b in (None, noise(2, filters)):
                w = noise(1, 24, filters, k, k)
                assert_close(*run("ConvTranspose", x, w, b, strides=[k, k]))
                assert_close(*run("ConvTranspose", x, w, b, strides=[k + 1, k]))


def test_output_shapes() -> None:
    x, w = noise(0, 1, 4, 5, 6), noise(1, 4, 7, 3, 3)
    for auto_pad in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        assert_close(*run("ConvTranspose", x, w, auto_pad=auto_pad, strides=[2, 2]))
    assert_close(*run("ConvTranspose", x, w, output_shape=[14, 16], strides=[2, 2]))


def test_refusals() -> None:
    f4, entry = np.dtype(np.float32), lookup("", "ConvTranspose", 22)
    x, out, w = Info(f4, (1, 4, 5, 5)), Info(f4, (1, 6, 6, 6)), np.zeros((4, 6, 2, 2), np.float32)
    constant = Info(f4, w.shape, w)
    assert "not constant" in str(choose(entry, out, [x, Info(f4, w.shape)], {}))
    assert "channels" in str(choose(entry, out, [Info(f4, (1, 3, 5, 5)), constant], {}))
    assert "dilation" in str(choose(entry, out, [x, constant], {"dilations": [1 << 40, 1]}))
