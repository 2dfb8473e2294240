"""Pointwise and general convolutions, and the options that all convolutions share, against the numpy operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, choose, draw_windows, run
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array
from tinyonnx.registry import FUSED, Info, lookup

ACTIVATIONS: list[dict[str, Any]] = [
    {},
    {"activation": "Relu"},
    {"activation": "HardSwish"},
    {"activation": "Clip", "activation_alpha": -0.5, "activation_beta": 1.5},
    {"activation": "Sigmoid"},
    {"activation": "Tanh"},
    {"activation": "Swish", "activation_alpha": 1.5},
    {"activation": "LeakyRelu", "activation_alpha": 0.1},
    {"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4},
    {"activation": "Gelu"},
    {"activation": "FastGelu"},
]


def noise(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("filters", [1, 3, LANES - 1, LANES, LANES + 1, 2 * LANES + 3, 3 * LANES, 4 * LANES, 117])
@pytest.mark.parametrize("pixels", [1, 7, 8, 9, 12, 13, 17, 96, 97, 101])
def test_pointwise_tails(filters: int, pixels: int) -> None:
    x, w = noise(0, 1, 5, 1, pixels), noise(1, filters, 5, 1, 1)
    assert_close(*run("FusedConv", x, w, noise(2, filters), noise(3, 1, filters, 1, pixels), fused=True))


@pytest.mark.parametrize("attributes", ACTIVATIONS, ids=lambda a: a.get("activation", "linear"))
@pytest.mark.parametrize("kind", ["pointwise", "depthwise", "general", "grouped"])
def test_epilogue(kind: str, attributes: dict[str, Any]) -> None:
    shape, group = {"pointwise": (24, 1), "depthwise": (1, 24), "general": (24, 1), "grouped": (8, 3)}[kind]
    k = 1 if kind == "pointwise" else 3
    pads = [k // 2] * 4
    x, w, b, residual = noise(0, 2, 24, 5, 11), noise(1, 24, shape, k, k) / 8, noise(2, 24), noise(3, 2, 24, 5, 11)
    assert_close(*run("FusedConv", x, w, b, residual, fused=True, group=group, pads=pads, **attributes))
    assert_close(*run("FusedConv", x, w, b, fused=True, group=group, pads=pads, **attributes))


@given(data=st.data())
@settings(max_examples=150)
def test_geometry(data: st.DataObject) -> None:
    draw = data.draw
    kernel, dilations, strides, pads = draw_windows(draw, 5).values()
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    spatial = [draw(st.integers(max(1, e - p - q, 1 - min(p, 0) - min(q, 0)), e + 25), "size")
               for e, p, q in zip(extent, pads[:2], pads[2:])]  # fmt: skip
    channels = draw(st.sampled_from([1, 2, 3, LANES - 1, LANES, LANES + 5]), "channels")
    group, per_group = draw(st.sampled_from([(1, channels), (channels, 1), (1, channels)]), "group")
    filters = channels if group > 1 else draw(st.sampled_from([1, 4, LANES, 2 * LANES + 1]), "filters")
    if channels % 2 == 0 and draw(st.booleans(), "two groups"):
        group, per_group, filters = 2, channels // 2, 2 * filters
    if draw(st.booleans(), "one axis"):
        kernel, dilations, strides, pads, spatial = kernel[1:], dilations[1:], strides[1:], pads[1::2], spatial[1:]
    x = noise(0, draw(st.integers(1, 2), "batch"), channels, *spatial)
    w = noise(1, filters, per_group, *kernel)
    b = noise(2, filters) if draw(st.booleans(), "bias") else None
    assert_close(*run("Conv", x, w, b, group=group, strides=strides, dilations=dilations, pads=pads))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 7), (2, 13), (9, 4)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("activation", ["", "Relu", "Sigmoid"])
def test_narrow_images(size: tuple[int, int], stride: int, dilation: int, activation: str) -> None:
    x, w = noise(0, 3, 5, *size), noise(1, 4 * LANES + 3, 5, 3, 3)
    attributes: dict[str, Any] = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [2, 2, 2, 2]}
    plain, _ = run("Conv", x, w, **attributes)
    inputs = x, w, noise(2, len(w)), np.zeros_like(plain) + 1
    assert_close(*run("FusedConv", *inputs, fused=True, activation=activation, **attributes))


@pytest.mark.parametrize("size", [(3, 3), (9, 7), (7, 7)])
def test_narrow_images_in_several_blocks(size: tuple[int, int]) -> None:
    """Convolve where many taps leave room for few gathered pixels at a time."""
    x, w = noise(0, 2, 700, *size), noise(1, 2 * LANES + 1, 700, 3, 3) / 64
    assert_close(*run("Conv", x, w, noise(2, len(w)), pads=[1] * 4))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_auto_pad(auto_pad: str) -> None:
    for size in (6, 7):
        x, w = noise(0, 1, 3, size, size + 1), noise(1, 5, 3, 4, 3)
        assert_close(*run("Conv", x, w, auto_pad=auto_pad, strides=[2, 2]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("group", [1, 24])
def test_non_finite_values_spread_as_in_numpy(value: float, group: int) -> None:
    x, w = noise(0, 1, 24, 9, 9), np.abs(noise(1, 24, 24 // group, 3, 3)) / 8
    x[0, 3, 4, 4] = value
    for attributes in ACTIVATIONS:
        assert_close(*run("FusedConv", x, w, fused=True, group=group, pads=[1] * 4, **attributes))
    if group == 1:
        w = np.ascontiguousarray(w[:, :, :1, :1])
        for attributes in ACTIVATIONS:
            assert_close(*run("FusedConv", x, w, fused=True, **attributes))


def test_refusals_say_why() -> None:
    f4 = np.dtype(np.float32)
    x, out = Info(f4, (1, 4, 5, 5)), Info(f4, (1, 6, 5, 5))
    w = np.zeros((6, 4, 1, 1), np.float32)
    constant = Info(f4, w.shape, w)
    wide = Info(np.dtype(np.float64), w.shape, w.astype(np.float64))
    entry = lookup(FUSED, "FusedConv", 1)

    def why(*infos: Info | None, **attributes: Any) -> str:
        reason = choose(entry, out, infos, attributes)
        assert isinstance(reason, str)
        return reason

    assert "not constant" in why(x, constant, Info(f4, (6,)))
    assert "float64" in why(x._replace(dtype=wide.dtype), wide)
    assert "channels" in why(x._replace(shape=(1, 5, 5, 5)), constant)
    assert "residual" in why(x, constant, None, Info(f4, (1, 6, 1, 1)))
    assert "dilation" in why(x, constant, dilations=[1 << 63, 1])
    assert "'Selu'" in why(x, constant, activation="Selu")
    assert "axes" in why(Info(f4, (1, 4, 5, 5, 5)), Info(f4, (6, 4, 1, 1, 1), w[..., None]))
