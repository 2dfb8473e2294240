"""Products of operands rounded to bfloat16: numpy with rounded operands and float64 sums is the oracle."""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import POISON, run
from tests.tinyonnx.kernels.rounding_kernel import round_floats
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.codegen.primitives import LANES
from tinyonnx.codegen.processor import has_bfloat16
from tinyonnx.dtypes import round_to_bfloat16
from tinyonnx.ir import Array
from tinyonnx.kernels import BoundKernel
from tinyonnx.ops.conv import conv

needs_instruction = pytest.mark.skipif(not DISABLED and not has_bfloat16(), reason="the processor lacks AVX512-BF16")

ACTIVATIONS: dict[str, Any] = {
    "": lambda y: y,
    "Relu": lambda y: np.maximum(y, 0),
    "HardSwish": lambda y: y * np.clip(y / 6 + 0.5, 0, 1),
    "Sigmoid": lambda y: 1 / (1 + np.exp(-y)),
}
"""One that tiles don't apply, two that they do, and one that is applied afterwards."""


def rounded(x: Array) -> Array:
    """Round to bfloat16 by another implementation than ours, and return float64."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


def integers(seed: int, *shape: int) -> Array:
    """Return small whole numbers: sums of products of them are exact in float32."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def check(actual: Array, x: Array, w: Array, rest: Array | float = 0.0, activation: str = "") -> None:
    """Compare with activation(x · w + rest) of rounded operands [m, k] and [k, n].

    A sum of k products and one more term, in any order, is off by at most (k + 1) · 2^-24 of the sum of their
    magnitudes (Higham, Accuracy and Stability, 4.2), to which activations of slope <= 1.5 add a little.
    """
    x, w = rounded(x), rounded(w)
    total = np.abs(x) @ np.abs(w) + np.abs(rest)
    bound = (x.shape[1] + 1) * 2.0**-24 * total * 1.5 + 2e-7
    expected = ACTIVATIONS[activation](x @ w + rest)
    assert actual.shape == expected.shape
    assert (np.abs(actual - expected) <= bound).all()


def rows(image: Array) -> Array:
    """Return the pixels [N · H · W, C] of an image."""
    return np.moveaxis(image, 1, -1).reshape(-1, image.shape[1])


SIZES = (1, 2, LANES - 1, LANES, LANES + 1, 2 * LANES + 3, 5 * LANES)


def test_rounding_agrees_with_ml_dtypes() -> None:
    high = np.arange(1 << 16, dtype=np.uint32) << 16
    for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        x = (high | np.uint32(low)).view(np.float32)
        is_subnormal = (np.abs(x) < np.finfo(np.float32).tiny) & ~np.isnan(x)
        with np.errstate(all="ignore"):
            expected = np.where(is_subnormal, np.copysign(np.float32(0), x), x.astype(ml_dtypes.bfloat16))
        actual = round_to_bfloat16(x)
        np.testing.assert_array_equal(actual, expected.astype(np.float32))
        np.testing.assert_array_equal(np.signbit(actual[~np.isnan(x)]), np.signbit(x[~np.isnan(x)]))


@needs_instruction
@pytest.mark.parametrize("in_place", [False, True])
def test_pairs(in_place: bool) -> None:
    """Every count around whole vectors; nothing is written behind the last pair."""
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3.4e38, 1.00390625, 1.01171875]
    for count in (1, 2, 3, LANES, 2 * LANES - 1, 2 * LANES, 2 * LANES + 1, 7 * LANES + 5):
        x = np.resize(np.array([*special, *noise(count, 40)], np.float32), count + 3)
        out = x.copy() if in_place else np.full(count + 3, POISON)
        before = out.copy()
        BoundKernel(round_floats, (out if in_place else x, 3, count, out, 2)).run(0, 1)
        words = (count + 1) // 2
        numbers = np.zeros(2 * words, np.float32)
        numbers[:count] = round_to_bfloat16(x[3:])
        stored = np.ascontiguousarray(out[2 : 2 + words]).view(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(stored, numbers)
        np.testing.assert_array_equal(out[2 + words :], before[2 + words :])


@needs_instruction
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("has_residual", [False, True])
def test_pointwise(activation: str, has_residual: bool) -> None:
    for (c, n), space in product(zip(SIZES, SIZES[::-1]), ((1, 1), (3, 7), (9, 11))):
        x, w, b = noise(0, 2, c, *space), noise(1, n, c, 1, 1), noise(2, n)
        residual = noise(3, 2, n, *space) if has_residual else None
        actual, _ = run("FusedConv", x, w, b, residual, fused=True, rounded=True, activation=activation)
        check(rows(actual), rows(x), w[:, :, 0, 0].T, b + (0 if residual is None else rows(residual)), activation)


@needs_instruction
@pytest.mark.parametrize("m", [1, 5, 70])
def test_gemm(m: int) -> None:
    for k, n in zip(SIZES, SIZES[::-1]):
        a, b, c = noise(0, m, k), noise(1, n, k), noise(2, n)
        actual, _ = run("Gemm", a, b, c, rounded=True, transB=1, alpha=2.0, beta=0.5)
        check(actual, a, 2 * b.T, c / 2)
        actual, _ = run("MatMul", a.reshape(1, m, k), b.T.copy(), constants=(1,), rounded=True)
        check(actual[0], a, b.T)


@needs_instruction
def test_gated() -> None:
    """The product with the gate is rounded, not its factors."""
    for (c, n), space in product(zip(SIZES, SIZES[::-1]), ((1, 1), (9, 11))):
        x, gate, w, b = noise(0, 2, c, *space), noise(1, 2, c, 1, 1), noise(2, n, c, 1, 1), noise(3, n)
        actual, _ = run("GatedConv", x, gate, w, b, constants=(2, 3), fused=True, rounded=True)
        check(rows(actual), rows(x * gate), w[:, :, 0, 0].T, b)


@needs_instruction
def test_squeeze_gate() -> None:
    for c, s in ((3, 1), (LANES + 5, LANES + 1)):
        x, w1, b1, w2, b2 = integers(0, 2, c, 2, 4), integers(1, c, s), integers(2, s), integers(3, s, c), noise(4, c)
        attributes = {"activation": "Relu", "gate": "Sigmoid"}
        actual, _ = run(
            "SqueezeGate", x, w1, b1, w2, b2, constants=(1, 2, 3, 4), fused=True, rounded=True, **attributes
        )
        hidden = np.maximum(rounded(x.mean((2, 3))) @ w1 + b1, 0).astype(np.float32)
        check(actual[:, :, 0, 0], hidden, w2, b2, "Sigmoid")


@needs_instruction
@pytest.mark.parametrize("space", [(5, 40), (7, 9), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_expand_depthwise(space: tuple[int, int], stride: int) -> None:
    """Wide images, whose rows are expanded one by one, and small ones, which are expanded at once."""
    for c, n in zip(SIZES, SIZES[::-1]):
        x, w, b, taps, taps_b = (
            noise(0, 2, c, *space), noise(1, n, c, 1, 1), noise(2, n), noise(3, n, 1, 3, 3), noise(4, n),
        )  # fmt: skip
        geometry: dict[str, Any] = {"pads": [1, 1, 1, 1], "strides": [stride, stride], "group": n}
        actual, _ = run(
            "ExpandDepthwise", x, w, b, taps, taps_b, constants=(1, 2, 3, 4), fused=True, rounded=True,
            expand_activation="Relu", activation="HardSwish", **geometry,
        )  # fmt: skip
        wide = np.maximum(rounded(rows(x)) @ rounded(w[:, :, 0, 0]).T + b, 0)
        image = np.moveaxis(wide.reshape(2, *space, n), -1, 1)
        total = conv(None, image, taps.astype(np.float64), taps_b.astype(np.float64), **geometry)
        magnitude = conv(None, np.abs(image) + np.abs(b).max() + 1, np.abs(taps).astype(np.float64), **geometry)
        bound = (c + 12) * 2.0**-24 * np.abs(magnitude).max() * c * 1.5
        assert np.abs(actual - ACTIVATIONS["HardSwish"](total)).max() <= bound


@needs_instruction
def test_depthwise_pointwise() -> None:
    """Between the convolutions are whole numbers, so that rounding doesn't depend on the order of their sums."""
    for c, n in zip(SIZES, SIZES[::-1]):
        x, taps, taps_b, w, b = (
            integers(0, 2, c, 6, 19), integers(1, c, 1, 3, 3), integers(2, c), noise(3, n, c, 1, 1), noise(4, n),
        )  # fmt: skip
        residual = noise(5, 2, n, 6, 19)
        actual, _ = run(
            "DepthwisePointwise", x, taps, taps_b, w, b, residual, constants=(1, 2, 3, 4), fused=True, rounded=True,
            pads=[1, 1, 1, 1], group=c, depthwise_activation="Relu", activation="HardSwish",
        )  # fmt: skip
        middle = np.maximum(conv(None, x, taps, taps_b, pads=[1, 1, 1, 1], group=c), 0)
        check(rows(actual), rows(middle), w[:, :, 0, 0].T, b + rows(residual), "HardSwish")


@needs_instruction
def test_stem() -> None:
    for c, n in ((LANES, LANES), (5, 7)):
        x, first, first_b = integers(0, 1, 1, 9, 34), integers(1, c, 1, 3, 3), integers(2, c)
        taps, taps_b, w, b = integers(3, c, 1, 3, 3), integers(4, c), noise(5, n, c, 1, 1), noise(6, n)
        actual, _ = run(
            "Stem", x, first, first_b, taps, taps_b, w, b, constants=(1, 2, 3, 4, 5, 6), fused=True, rounded=True,
            stem_pads=[1, 1, 1, 1], stem_strides=[2, 2], stem_activation="Relu",
            pads=[1, 1, 1, 1], group=c, depthwise_activation="Relu",
        )  # fmt: skip
        image = np.maximum(conv(None, x, first, first_b, pads=[1, 1, 1, 1], strides=[2, 2]), 0)
        middle = np.maximum(conv(None, image, taps, taps_b, pads=[1, 1, 1, 1], group=c), 0)
        assert np.abs(middle).max() < 1 << 24
        check(rows(actual), rows(middle), w[:, :, 0, 0].T, b)
