from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.ops import oracles
from tinyonnx.errors import OpError
from tinyonnx.ops.matmul import gemm, gemm_1, matmul, matmul_shape
from tinyonnx.registry import Info


@pytest.mark.parametrize("op_type", ["MatMul", "Gemm"])
def test_onnx_cases(op_type: str) -> None:
    oracles.check_cases(op_type)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 1, 2, 3), (4, 3, 6)), ((5, 2, 3), (3,)), ((2, 0), (0, 3))],
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint64])
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], dtype: type) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, a).astype(dtype), rng.integers(0, 5, b).astype(dtype)
    (result,) = oracles.call("MatMul", 13, [x, y], {})
    assert isinstance(result, np.ndarray)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, np.matmul(x.astype(int), y.astype(int)))


@pytest.mark.parametrize("c", [None, (), (1,), (4,), (3, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_gemm_like_onnxruntime(c: tuple[int, ...] | None, trans: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 5), np.float32), rng.standard_normal((5, 4), np.float32)
    inputs = [
        np.ascontiguousarray(a.T) if trans[0] else a,
        np.ascontiguousarray(b.T) if trans[1] else b,
        None if c is None else np.asarray(rng.standard_normal(c), np.float32),
    ]
    attributes = {"alpha": 0.5, "beta": 0.25, "transA": trans[0], "transB": trans[1]}
    (expected,) = oracles.ort("Gemm", 13, inputs[: 2 if c is None else 3], attributes)
    (result,) = oracles.call("Gemm", 13, inputs, attributes)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_gemm_of_integers() -> None:
    a, b, c = np.array([[1, 2]], "i4"), np.array([[3], [2**20]], "i4"), np.array([1], "i4")
    assert gemm(a, b, c).tolist() == [[2**21 + 4]]
    assert gemm(a, b, c, alpha=2.0).dtype == np.int32


def test_half_precision_is_summed_wider() -> None:
    ones = np.ones((1, 5000), np.float16)
    assert matmul(ones, ones.T).tolist() == [[5000]]
    assert gemm(ones, ones, np.array([-4000], np.float16), transB=1).tolist() == [[1000]]


def test_infinities_and_beta_zero() -> None:
    a, b = np.array([[np.inf, 1]], "f4"), np.array([[0], [1]], "f4")
    assert np.isnan(matmul(a, b)).all()
    assert gemm(b.T, b, np.array([np.nan], "f4"), beta=0.0).tolist() == [[1]]


def test_opset_1_broadcasts_only_if_told() -> None:
    a, b, c = np.ones((2, 3), "f4"), np.ones((3, 4), "f4"), np.ones(4, "f4")
    assert (gemm_1(a, b, c, broadcast=1) == 4).all()
    with pytest.raises(OpError, match="broadcast is 0"):
        gemm_1(a, b, c)
    assert (oracles.call("Gemm", 6, [a, b, np.ones((2, 4), "f4")], {})[0] == 4).all()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((2, 3), (4, 5), "3 columns meet 4 rows"),
        ((), (3,), "scalars aren't allowed"),
        ((2, 1, 3), (3, 3, 1), "batches don't broadcast"),
    ],
)
def test_bad_matmul(a: tuple[int, ...], b: tuple[int, ...], message: str) -> None:
    with pytest.raises(OpError, match=message):
        matmul(np.zeros(a, "f4"), np.zeros(b, "f4"))
    with pytest.raises(OpError, match=message):
        matmul_shape(Info(np.dtype("f4"), a), Info(np.dtype("f4"), b))


def test_bad_gemm() -> None:
    a, b = np.zeros((2, 3), "f4"), np.zeros((3, 4), "f4")
    with pytest.raises(OpError, match="2 columns meet 3 rows"):
        gemm(a, b, transA=1)
    with pytest.raises(OpError, match=r"c of shape \[2\] doesn't broadcast to \[2, 4\]"):
        gemm(a, b, np.zeros(2, "f4"))
    with pytest.raises(OpError, match="a has 3 dimensions"):
        gemm(a[None], b)
    with pytest.raises(OpError, match="a is float32, b is float64"):
        gemm(a, b.astype("f8"))
