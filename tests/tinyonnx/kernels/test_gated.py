"""Squeeze-and-excitation: the gate, the convolution behind it, and means of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, run
from tests.tinyonnx.kernels.test_conv import ACTIVATIONS, noise
from tinyonnx.codegen.primitives import LANES


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
def test_gate(biases: bool, gate: str) -> None:
    for c, s, shape in ((24, 8, (3, 24, 5, 7)), (3, 1, (1, 3, 9)), (37, 5, (2, 37, 1, 1))):
        b1, b2 = (noise(3, s), noise(4, c)) if biases else (None, None)
        inputs = noise(0, *shape), noise(1, c, s), b1, noise(2, s, c), b2
        attributes = {"activation": "Relu", "gate": gate, "gate_alpha": 0.2, "gate_beta": 0.5}
        assert_close(*run("SqueezeGate", *inputs, constants=(1, 2, 3, 4), fused=True, **attributes))


def test_gate_keeps_nan_in_its_item() -> None:
    x = noise(0, 2, 4, 3, 3)
    x[1, 2, 0, 0] = np.nan
    inputs = x, noise(1, 4, 2), None, noise(2, 2, 4)
    actual, expected = run("SqueezeGate", *inputs, constants=(1, 3), fused=True)
    assert_close(actual, expected)
    assert np.isfinite(actual[0]).all()


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_gated_conv(batch: int, residual: bool) -> None:
    """More pixels than filters, and fewer; channels and filters around the width of a vector."""
    for channels in (1, 3, LANES, LANES + 1, 5 * LANES - 3):
        for filters, space in ((2, (5, 7)), (70, (5, 7)), (LANES, (30,)), (3 * LANES + 2, (1, 90)), (41, (1, 1))):
            w = noise(1, filters, channels, *[1] * len(space))
            other = noise(3, batch, filters, *space) if residual else None
            gate = noise(2, batch, channels, *[1] * len(space))
            inputs = noise(0, batch, channels, *space), gate, w, noise(4, filters), other
            for attributes in ACTIVATIONS:
                assert_close(*run("GatedConv", *inputs, constants=(2, 3), fused=True, **attributes))


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_gated_conv_keeps_what_is_not_finite_in_its_pixel(special: float) -> None:
    x, gate, w = noise(0, 1, 20, 3, 3), noise(1, 1, 20, 1, 1), noise(2, 30, 20, 1, 1)
    x[0, 7, 1, 1] = special
    actual, expected = run("GatedConv", x, gate, w, constants=(2,), fused=True)
    assert_close(actual, expected)
    assert np.isfinite(actual).sum() == 8 * 30


@pytest.mark.parametrize("kernel", [1, 3, 4, 5])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.get("activation", "linear"))
def test_means_of_rows(kernel: int, activation: dict[str, Any]) -> None:
    for channels, width, stride in ((3, 11, 1), (LANES, 29, 2), (LANES + 5, 4, 1), (3 * LANES, 33, 1), (4, 1, 1)):
        x, w = noise(0, 2, 5, 6, width), noise(1, channels, 5, 1, 1)
        taps, biases = noise(2, channels, 1, kernel, kernel), (noise(3, channels), noise(4, channels))
        inputs = x, w, biases[0], taps, biases[1]
        pads = [kernel // 2] * 4
        means, expected = run(
            "ExpandDepthwise", *inputs, constants=(1, 2, 3, 4), fused=True, second=True, pads=pads,
            strides=[1, stride], group=channels, **activation,
        )  # fmt: skip
        assert expected.shape[-1] == 1
        assert_close(means, expected)
