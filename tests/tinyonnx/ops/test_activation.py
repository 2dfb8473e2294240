from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops import running
from tests.tinyonnx.ops.running import check_against_onnxruntime, check_refused, normal, run
from tinyonnx.errors import OpError
from tinyonnx.ops import activation

ELEMENTWISE = [
    *("Relu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Softplus"),
    *("Softsign", "Elu", "Selu", "Celu", "Gelu", "Mish", "Swish"),
]
FAMILY = ["Softmax", "LogSoftmax", "Hardmax"]
SPECIAL = np.array([-np.inf, -1e4, -100, -3, -1e-4, -0.0, 0, 1e-4, 0.4, 3, 100, 1e4, np.inf, np.nan], np.float32)


@pytest.mark.parametrize("name", running.names_of(activation))
def test_backend_cases(name: str) -> None:
    running.check_backend_cases(name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_keeps_the_type_and_is_quiet(name: str, dtype: type) -> None:
    x = SPECIAL.astype(dtype)
    y = run(name, x, opset=24)
    tolerance = {2: 1e-2, 4: 1e-6, 8: 0}[x.dtype.itemsize]
    expected = run(name, x.astype(np.float64), opset=24)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(np.float64), expected, rtol=tolerance, atol=tolerance)
    assert run(name, x[3], opset=24).shape == ()


@pytest.mark.parametrize(
    ("name", "opset", "attributes"),
    [
        ("Relu", 6, {}),
        ("LeakyRelu", 6, {"alpha": 0.3}),
        ("ThresholdedRelu", 10, {"alpha": 0.7}),
        ("HardSigmoid", 6, {"alpha": 0.3, "beta": 0.4}),
        ("HardSigmoid", 6, {}),
        ("HardSwish", 14, {}),
        ("Sigmoid", 6, {}),
        ("Tanh", 6, {}),
        ("Softplus", 1, {}),
        ("Softsign", 1, {}),
        ("Elu", 6, {"alpha": 0.7}),
        ("Selu", 6, {}),
        ("Celu", 12, {"alpha": 0.7}),
        ("Gelu", 20, {}),
        ("Gelu", 20, {"approximate": "tanh"}),
        ("Mish", 18, {}),
        ("Shrink", 9, {"bias": 0.3, "lambd": 0.2}),
    ],
)
def test_like_onnxruntime(name: str, opset: int, attributes: dict[str, float]) -> None:
    check_against_onnxruntime(name, normal(4, 50) * 4, opset=opset, rtol=1e-5, atol=1e-6, **attributes)


def test_selu_had_other_defaults() -> None:
    x = np.array([-1.0, 1.0])
    np.testing.assert_allclose(run("Selu", x, opset=1), [1.0507 * 1.6732 * np.expm1(-1), 1.0507], rtol=1e-7)
    np.testing.assert_allclose(run("Selu", x, opset=6), [-1.1113307, 1.050701], rtol=1e-6)


def test_shrink_of_integers() -> None:
    x = np.array([-3, -1, 0, 1, 3], np.int8)
    assert run("Shrink", x, lambd=2.0, bias=1.0).tolist() == [-2, 0, 0, 0, 2]


def test_prelu_slope_per_channel_and_broadcast() -> None:
    x, slope = normal(2, 3, 4, 5), normal(3, seed=1)
    expected = np.where(x < 0, x * slope[:, None, None], x)
    for opset in (1, 6):
        np.testing.assert_equal(run("PRelu", x, slope, opset=opset), expected)
        np.testing.assert_equal(run("PRelu", x, slope[:1], opset=opset), np.where(x < 0, x * slope[0], x))
    check_against_onnxruntime("PRelu", x, slope[:, None, None], opset=7)
    assert run("PRelu", np.array([-4, 4]), np.array([3])).tolist() == [-12, 4]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("name", FAMILY)
def test_softmax_family_like_onnxruntime(name: str, opset: int, axis: int) -> None:
    check_against_onnxruntime(name, normal(2, 3, 4) * 9, opset=opset, axis=axis, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_softmax_family_defaults_and_edges(name: str) -> None:
    x = normal(2, 3, 4)
    check_against_onnxruntime(name, x, opset=1, rtol=1e-5)
    check_against_onnxruntime(name, x, opset=13, rtol=1e-5)
    assert run(name, x[:, :0], opset=13, axis=1).shape == (2, 0, 4)
    assert run(name, x[:0], opset=11, axis=0).shape == (0, 3, 4)
    assert run(name, x.astype(ml_dtypes.bfloat16)).dtype == ml_dtypes.bfloat16
    huge = run(name, np.array([[2.0**100, -(2.0**100), 0]], np.float32))
    np.testing.assert_equal(huge, [[0, -(2.0**101), -(2.0**100)]] if name == "LogSoftmax" else [[1, 0, 0]])


@pytest.mark.parametrize(
    ("name", "opset", "shapes", "attributes", "message"),
    [
        ("Softmax", 13, [(2, 3)], {"axis": 2}, "axis 2 is out of range for an input of rank 2"),
        ("Softmax", 13, [()], {}, "out of range"),
        ("Hardmax", 11, [(2, 3)], {"axis": -3}, "out of range"),
        ("PRelu", 7, [(2, 3), (4, 2, 3)], {}, r"slope of shape \(4, 2, 3\) doesn't broadcast to \(2, 3\)"),
        ("PRelu", 6, [(2, 3, 4), (4,)], {}, "one element per channel"),
        ("SwiGLU", 28, [(2, 3), (3,)], {}, "should be the same"),
    ],
)
def test_refusals(
    name: str, opset: int, shapes: list[tuple[int, ...]], attributes: dict[str, int], message: str
) -> None:
    check_refused(name, opset, shapes, attributes, message)


def test_gelu_refuses_unknown_approximation() -> None:
    with pytest.raises(OpError, match="approximate is 'sigmoid'"):
        run("Gelu", normal(2), approximate="sigmoid")


def test_softmax_over_more_equal_halves_than_a_half_can_count() -> None:
    y = run("Softmax", np.ones((1, 70_000), np.float16), opset=13)
    np.testing.assert_allclose(y.astype(np.float64), 1 / 70_000, rtol=1e-2)
