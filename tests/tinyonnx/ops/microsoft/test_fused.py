"""com.microsoft: fused convolutions and products, Gelus and small ones, against ONNX Runtime or their formula."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.ops.microsoft.running import call, check_contrib, contrib_outputs
from tests.tinyonnx.ops.running import normal
from tinyonnx.errors import OpError

F32 = np.float32
PARAMS = [
    ("Relu", None),
    ("Tanh", None),
    ("Sigmoid", None),
    ("LeakyRelu", [0.3]),
    ("HardSigmoid", [0.3, 0.4]),
    ("Clip", [-0.2, 0.5]),
]


@pytest.mark.parametrize(("activation", "params"), PARAMS)
@pytest.mark.parametrize("z", [False, True])
@pytest.mark.parametrize("group", [1, 2])
def test_fused_conv(activation, params, z, group):
    x, w, b = normal(2, 4, 7, 6), normal(6, 4 // group, 3, 3, seed=1), normal(6, seed=2)
    attributes = {} if params is None else {"activation_params": params}
    residual = [normal(2, 6, 7, 3, seed=3)] if z else []
    check_contrib(
        "FusedConv",
        *(x, w, b, *residual),
        activation=activation,
        group=group,
        strides=[1, 2],
        pads=[1, 1, 1, 1],
        rtol=1e-4,
        atol=1e-5,
        **attributes,
    )


def test_fused_conv_refusals():
    x, w = normal(1, 2, 5), normal(3, 2, 3)
    with pytest.raises(OpError, match=r"Z has shape \[1, 3, 4\], should be \[1, 3, 3\]"):
        call("FusedConv", x, w, None, normal(1, 3, 4), activation="Relu")
    with pytest.raises(OpError, match="activation 'Sin' can't be fused"):
        call("FusedConv", x, w, activation="Sin")


@pytest.mark.parametrize(
    ("activation", "numbers"),
    [
        ("Relu", {}),
        ("Tanh", {}),
        ("Sigmoid", {}),
        ("Softplus", {}),
        ("Softsign", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 0.7}),
        ("ThresholdedRelu", {"alpha": 0.4}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.6}),
        ("Selu", {"alpha": 1.2, "gamma": 1.1}),
    ],
)
def test_fused_gemm(activation, numbers):
    attributes = {f"activation_{k}": v for k, v in numbers.items()}
    a, b, c = normal(5, 3), normal(4, 5, seed=1), normal(4, seed=2)
    check_contrib(
        "FusedGemm", a, b, c, activation=activation, transA=1, transB=1, alpha=0.5, beta=2.0, atol=1e-5, **attributes
    )


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("batch_a", [0, 1])
@pytest.mark.parametrize("batch_b", [0, 1])
@pytest.mark.parametrize("dtype", [F32, np.float64])
def test_fused_matmul(trans_a, trans_b, batch_a, batch_b, dtype):
    def operand(matrix, batch, trans, seed):
        matrix = matrix[::-1] if trans else matrix
        shape = (matrix[0], 2, 6, matrix[1]) if batch else (2, 6, *matrix)
        return normal(*shape, dtype=dtype, seed=seed)

    check_contrib(
        "FusedMatMul",
        operand((3, 4), batch_a, trans_a, 0),
        operand((4, 5), batch_b, trans_b, 1),
        transA=trans_a,
        transB=trans_b,
        transBatchA=batch_a,
        transBatchB=batch_b,
        alpha=0.3,
        atol=1e-5,
    )


@pytest.mark.parametrize(("a", "b"), [((4,), (4, 3)), ((3, 4), (4,)), ((4,), (2, 4, 3)), ((2, 3, 4), (4, 5))])
def test_fused_matmul_of_other_ranks(a, b):
    check_contrib("FusedMatMul", normal(*a), normal(*b, seed=1), alpha=1.5)


def test_transpose_matmul():
    check_contrib("TransposeMatMul", normal(4, 3), normal(5, 4, seed=1), transA=1, transB=1, alpha=2.0)


def test_fused_matmul_refuses_what_does_not_fit():
    with pytest.raises(OpError, match="columns meet"):
        call("FusedMatMul", normal(3, 4), normal(4, 5), transA=1)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 8), (7,)])
def test_gelus(shape):
    x, bias = normal(*shape) * F32(3), normal(shape[-1], seed=1)
    check_contrib("Gelu", x)
    check_contrib("BiasGelu", x, bias)
    check_contrib("FastGelu", x, atol=1e-5)
    check_contrib("FastGelu", x, bias, atol=1e-5)
    check_contrib("QuickGelu", x)
    check_contrib("QuickGelu", x, alpha=0.7)


def test_gelu_refusals():
    with pytest.raises(OpError, match=r"the bias has shape \[4\], should be \[3\]"):
        call("BiasGelu", normal(2, 3), normal(4))
    with pytest.raises(OpError, match="a scalar has no last axis"):
        call("FastGelu", normal(), normal(1))


def softmax(x, axes):
    e = np.exp(x.astype(np.float64))
    return e / e.sum(axis=axes, keepdims=True)


@pytest.mark.parametrize(("bias", "axis", "inner"), [((3, 4, 5), 1, 0), ((2, 1, 4, 5), 2, 1), ((4, 5), 2, 0)])
def test_bias_softmax(bias, axis, inner):
    x, b = normal(2, 3, 4, 5), normal(*bias, seed=1)
    (y,) = contrib_outputs("BiasSoftmax", x, b, axis=axis, is_inner_broadcast=inner)
    np.testing.assert_allclose(y, softmax(x + b, tuple(range(axis, 4))), rtol=1e-5)
    with pytest.raises(OpError, match=r"bias of shape \[6\] doesn't broadcast to \[2, 3, 4, 5\]"):
        call("BiasSoftmax", x, normal(6), is_inner_broadcast=0)


def test_inverse():
    check_contrib("Inverse", normal(3, 4, 4), rtol=1e-4, atol=1e-4)
    with pytest.raises(OpError, match="singular"):
        call("Inverse", np.zeros((2, 2), F32))
    with pytest.raises(OpError, match="square"):
        call("Inverse", np.zeros((2, 3), F32))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(mode):
    check_contrib("Pad", normal(3, 4), np.array([1, 0, 2, 2]), np.array([0.5], F32), mode=mode)
    check_contrib("Pad", normal(3, 4), np.array([1, 0, 2, 2]), mode=mode)


def test_range():
    check_contrib("Range", np.array(2, np.int64), np.array(7, np.int64))
    check_contrib("Range", np.array(2, F32), np.array(7, F32), np.array(0.7, F32))


@pytest.mark.parametrize("signal_ndim", [1, 2])
@pytest.mark.parametrize("size", [6, 8])
def test_fourier_transforms(signal_ndim, size):
    x = normal(3, 4, size)
    (y,) = contrib_outputs("Rfft", x, signal_ndim=signal_ndim)
    expected = np.fft.rfftn(x, axes=(1, 2)[-signal_ndim:])
    np.testing.assert_allclose(y, np.stack([expected.real, expected.imag], -1), rtol=1e-5, atol=1e-5)
    (back,) = contrib_outputs("Irfft", y, signal_ndim=signal_ndim)
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-5)


def test_fourier_refusals():
    with pytest.raises(OpError, match="normalized 1 is not supported"):
        call("Rfft", normal(3, 4), normalized=1)
    with pytest.raises(OpError, match="signal_ndim is 3, should be between 1 and 2"):
        call("Rfft", normal(3, 4), signal_ndim=3)
    with pytest.raises(OpError, match="its last axis should be 2"):
        call("Irfft", normal(3, 4), signal_ndim=1)
    with pytest.raises(OpError, match="the signal is empty"):
        call("Rfft", normal(3, 0))
