from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinyonnx.ops.activation
import tinyonnx.ops.math  # noqa: F401
from tests.tinyonnx.ops import oracles
from tinyonnx.errors import OpError
from tinyonnx.ops.conv import ConvAttributes
from tinyonnx.ops.fused import Activation, activate, fused_conv, fused_conv_shape, fused_gemm, linear
from tinyonnx.ops.gated import gated_conv, gated_conv_shape, squeeze_gate, squeeze_gate_shape
from tinyonnx.registry import FUSED, Info, lookup

# activation, its attributes in a fused operator, the public operator's
ACTIVATIONS: list[tuple[str, tuple[float, float], dict[str, float]]] = [
    ("Relu", (0, 0), {}),
    ("HardSwish", (0, 0), {}),
    ("Sigmoid", (0, 0), {}),
    ("Tanh", (0, 0), {}),
    ("HardSigmoid", (0.1, 0.4), {"alpha": 0.1, "beta": 0.4}),
    ("LeakyRelu", (0.3, 0), {"alpha": 0.3}),
]
F4 = np.dtype("f4")


@pytest.mark.parametrize(("name", "parameters", "attributes"), ACTIVATIONS, ids=[a[0] for a in ACTIVATIONS])
def test_activation_like_onnxruntime(name: str, parameters: tuple[float, float], attributes: dict[str, float]) -> None:
    x = np.linspace(-5, 5, 21, dtype=np.float32)
    (expected,) = oracles.ort(name, 14, [x], attributes)
    np.testing.assert_allclose(
        activate(x, Activation(name=name, alpha=parameters[0], beta=parameters[1])), expected, rtol=1e-5, atol=1e-6
    )


def test_clip_and_none() -> None:
    x = np.array([-1, 3, 9], "f4")
    clip = Activation(name="Clip", alpha=0.0, beta=6.0)
    assert activate(x, clip).tolist() == [0, 3, 6]
    assert activate(x, Activation()).tolist() == x.tolist()
    assert activate(x.astype("f2"), clip).dtype == np.float16


@pytest.mark.parametrize("with_residual", [False, True])
def test_conv(with_residual: bool) -> None:
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s, np.float32) for s in ((2, 4, 9, 7), (6, 2, 3, 3), (6,)))
    attributes: dict[str, Any] = {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1]}
    (expected,) = oracles.ort("Conv", 11, [x, w, b], attributes)
    residual = rng.standard_normal(expected.shape, np.float32) if with_residual else None
    if residual is not None:
        expected = expected + residual
    geometry = ConvAttributes(**attributes)
    y = fused_conv(None, x, w, b, residual, geometry=geometry, activation=Activation(name="LeakyRelu", alpha=0.1))
    np.testing.assert_allclose(y, np.where(expected < 0, 0.1 * expected, expected), rtol=1e-4, atol=1e-5)
    infos = [None if a is None else Info(a.dtype, a.shape) for a in (x, w, b, residual)]
    assert fused_conv_shape(*infos, geometry=geometry) == Info(F4, y.shape)  # type: ignore[arg-type]


def test_gemm() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(s, np.float32) for s in ((3, 5), (4, 5), (4,)))
    y = fused_gemm(a, b, c, transB=1, alpha=0.5, beta=2.0, activation="Relu")
    np.testing.assert_allclose(y, np.maximum(0.5 * a @ b.T + 2 * c, 0), rtol=1e-5, atol=1e-6)
    rule = lookup(FUSED, "FusedGemm", 1).shape
    assert rule is not None
    infos = [Info(F4, i.shape) for i in (a, b, c)]
    assert rule(*infos, transB=1, activation="Relu", activation_alpha=0.0).shape == (3, 4)


def test_linear() -> None:
    rng = np.random.default_rng(0)
    x, w, b, r = (rng.standard_normal(s, np.float32) for s in ((2, 3, 5), (5, 4), (4,), (2, 3, 4)))
    (expected,) = oracles.ort("Gelu", 20, [x @ w + b + r], {"approximate": "tanh"})
    np.testing.assert_allclose(linear(x, w, b, r, activation="FastGelu"), expected, rtol=1e-5, atol=1e-6)
    rule = lookup(FUSED, "Linear", 1).shape
    assert rule is not None
    assert rule(*(Info(F4, i.shape) for i in (x, w, b, r))).shape == (2, 3, 4)
    with pytest.raises(OpError, match="the bias has shape"):
        rule(*(Info(F4, i.shape) for i in (x, w, x)))
    with pytest.raises(OpError, match="residual has shape"):
        linear(x, w, b, x)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("spatial", [(5,), (3, 4)])
def test_squeeze_gate(biased: bool, spatial: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, w1, w2 = (rng.standard_normal(s, np.float32) for s in ((2, 6, *spatial), (6, 3), (3, 6)))
    b1, b2 = (rng.standard_normal(s, np.float32) if biased else None for s in (3, 6))
    y = squeeze_gate(x, w1, b1, w2, b2, gate="HardSigmoid", gate_alpha=0.2, gate_beta=0.5)
    hidden = np.maximum(x.reshape(2, 6, -1).mean(axis=2) @ w1 + (0 if b1 is None else b1), 0)
    gate = np.clip(0.2 * (hidden @ w2 + (0 if b2 is None else b2)) + 0.5, 0, 1)
    np.testing.assert_allclose(y, gate.reshape(2, 6, *(1 for _ in spatial)), rtol=1e-4, atol=1e-5)
    assert y.dtype == np.float32
    infos = [None if a is None else Info(a.dtype, a.shape) for a in (x, w1, b1, w2, b2)]
    assert squeeze_gate_shape(*infos, gate="Sigmoid") == Info(F4, y.shape)  # type: ignore[arg-type]


def test_gated_conv() -> None:
    rng = np.random.default_rng(0)
    shapes = (2, 6, 3, 4), (2, 6, 1, 1), (5, 6, 1, 1), (5,), (2, 5, 3, 4)
    x, gate, w, b, residual = (rng.standard_normal(s, np.float32) for s in shapes)
    y = gated_conv(None, x, gate, w, b, residual, activation="Relu")
    product = np.einsum("nchw,oc->nohw", x * gate, w[:, :, 0, 0]) + b.reshape(5, 1, 1) + residual
    np.testing.assert_allclose(y, np.maximum(product, 0), rtol=1e-4, atol=1e-5)
    infos = [Info(a.dtype, a.shape) for a in (x, gate, w, b, residual)]
    assert gated_conv_shape(*infos, activation="Relu") == Info(F4, y.shape)
    with pytest.raises(OpError, match="the gate has shape"):
        gated_conv(None, x, gate[:1], w)


def test_bad_operands() -> None:
    x, w = np.zeros((1, 2, 4), "f4"), np.zeros((3, 2, 1), "f4")
    with pytest.raises(OpError, match="'Softmax' can't be fused"):
        fused_conv(None, x, w, activation="Softmax")
    with pytest.raises(OpError, match="residual has shape"):
        fused_conv(None, x, w, None, np.zeros((1, 3, 1), "f4"))
    with pytest.raises(OpError, match="x has 2 channels, w1 has shape"):
        squeeze_gate(x, np.zeros((3, 1), "f4"), None, np.zeros((1, 3), "f4"))
    with pytest.raises(OpError, match="w2"):
        squeeze_gate(x, np.zeros((2, 1), "f4"), None, np.zeros((1, 3), "f4"))
    with pytest.raises(OpError, match="b1 has shape"):
        squeeze_gate(x, np.zeros((2, 1), "f4"), np.zeros(2, "f4"), np.zeros((1, 2), "f4"))
    with pytest.raises(OpError, match="needs at least 3"):
        squeeze_gate(x[0], np.zeros((2, 1), "f4"), None, np.zeros((1, 2), "f4"))
