"""Products with a constant matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import ACTIVATIONS, noise
from tinyonnx.kernels.gemm import bind_matmul
from tinyonnx.registry import Fast, Info, lookup


@pytest.mark.parametrize("m", [1, 2, 9, 100])
@pytest.mark.parametrize("n", [1, 8, 15, 16, 24, 33, 40, 48, 70, 527])
def test_gemm(m: int, n: int) -> None:
    a, b, c = noise(0, m, 19), noise(1, 19, n), noise(2, n)
    assert_close(*run("Gemm", a, b, c))
    assert_close(*run("Gemm", a, np.ascontiguousarray(b.T), c, transB=1, alpha=0.5, beta=-2.0))
    assert_close(*run("Gemm", a, b, c[None, :1], beta=0.5))
    assert_close(*run("Gemm", a, b))
    assert_close(*run("FusedGemm", a, b, c, fused=True, activation="HardSwish"))
    assert_close(*run("FusedGemm", a, b, c, fused=True, activation="Sigmoid", beta=0.0))


@pytest.mark.parametrize("attributes", ACTIVATIONS, ids=lambda a: a.get("activation", "linear"))
def test_activations(attributes: dict[str, Any]) -> None:
    """In registers or, for groups of panels, after the products; also where the weights don't stay in the cache."""
    x, w, b = noise(0, 9, 19), noise(1, 19, 600) / 4, noise(2, 600)
    assert_close(*run("FusedGemm", x, w, b, fused=True, **attributes))
    assert_close(*run("Linear", x, w[:, :21], b[:21], noise(3, 9, 21), fused=True, **attributes))


def test_gemm_of_a_transposed_vector() -> None:
    assert_close(*run("Gemm", noise(0, 19, 1), noise(1, 19, 7), transA=1))


@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (2, 5, 8), (2, 3, 4, 8)])
def test_matmul(shape: tuple[int, ...]) -> None:
    assert_close(*run("MatMul", noise(0, *shape), noise(1, 8, 21)))


@pytest.mark.parametrize("n", [5, 24, 33, 600, 1040])
@pytest.mark.parametrize("activation", ["", "Gelu"])
def test_linear(n: int, activation: str) -> None:
    """The products have enough columns for activations to be applied to groups of them."""
    x, w, b, residual = noise(0, 2, 5, 19), noise(1, 19, n), noise(2, n), noise(3, 2, 5, n)
    for inputs in ((x, w, b, residual), (x, w, None, residual), (x, w, b)):
        assert_close(*run("Linear", *inputs, fused=True, activation=activation))


def test_many_weights() -> None:
    """Blocks of many rows, also at their seam."""
    x, w, b = noise(0, 400, 512), noise(1, 512, 530) / 16, noise(2, 530)
    assert_close(*run("Linear", x, w, b, fused=True, activation="Sigmoid"))
    assert_close(*run("Linear", x, w, b, noise(3, 400, 530), fused=True, activation="Relu"))


def test_non_finite_values() -> None:
    a = noise(0, 20, 8)
    a[3, 2], a[5, 1], a[6, 0] = np.nan, np.inf, -np.inf
    for activation in ("", "Relu", "HardSwish", "Sigmoid"):
        assert_close(*run("FusedGemm", a, noise(1, 8, 21), fused=True, activation=activation))


def test_refusals() -> None:
    def info(*shape: int, constant: bool = False) -> Info:
        return Info(np.dtype(np.float32), shape, np.zeros(shape, np.float32) if constant else None)

    gemm, matmul = lookup("", "Gemm", 13), lookup("", "MatMul", 13)
    b = info(4, 5, constant=True)
    assert choose(gemm, info(3, 5), [info(3, 4), info(4, 5)], {}) == "the right matrix is not constant"
    assert choose(gemm, info(3, 5), [info(4, 3), b], {"transA": 1}) == "a is transposed"
    assert choose(gemm, info(3, 5), [info(3, 4), b, info(3, 5, constant=True)], {}) == "c differs from row to row"
    assert "the left operand is a vector" in str(choose(matmul, info(5), [info(4), b], {}))
    other = choose(matmul, info(2, 3, 5), [info(3, 4), info(2, 4, 5, constant=True)], {})
    assert isinstance(other, Fast)
    assert other.bind is not bind_matmul
