"""Functions, sums, products and maxima of bytes: equal to the numpy operator, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import choose, run
from tests.tinyonnx.kernels.test_quantized_gemm import BYTES, equal, every
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array
from tinyonnx.registry import Info, lookup

MICROSOFT: dict[str, Any] = {"domain": "com.microsoft", "opset": 1}


def parameters(seed: int, dtype: Any) -> tuple[Array, Array]:
    """Return a scale and a zero point."""
    scale = np.random.default_rng(seed).uniform(0.01, 0.2)
    return np.array(scale, np.float32), every(seed, dtype)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("layout", ["row_major", "channels_last"])
def test_tables(dtype: Any, layout: str) -> None:
    x, table = every(0, dtype, 2, 3, 5, 7), every(1, np.uint8, 256)
    equal(run("ByteTable", x, table, constants=(1,), layout=layout, fused=True))
    numbers = *parameters(2, dtype), *parameters(3, dtype)
    equal(run("QLinearSigmoid", x, *numbers, constants=range(1, 5), layout=layout, **MICROSOFT))
    equal(run("QLinearLeakyRelu", x, *numbers, constants=range(1, 5), layout=layout, alpha=0.3, **MICROSOFT))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("name", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("size", [1, LANES - 1, LANES, 3 * LANES + 2, 5000])
def test_pairs(dtype: Any, name: str, size: int) -> None:
    for seed in range(4):
        a, b = every(seed, dtype, 3, size), every(seed + 1, dtype, 3, size)
        one, two, three = (parameters(seed + i, dtype) for i in range(3))
        equal(run(name, a, *one, b, *two, *three, constants=(1, 2, 4, 5, 6, 7), **MICROSOFT))
        equal(run(name, a, *one, b[:1], *two, *three, constants=(1, 2, 3, 4, 5, 6, 7), **MICROSOFT))
        equal(run(name, a, one[0], None, b[:, :1], two[0], None, three[0], constants=(1, 4, 6), **MICROSOFT))


@pytest.mark.parametrize("name", ["QuantizedAdd", "QuantizedMul"])
def test_pairs_rounded_before_the_zero_point(name: str) -> None:
    every_byte = np.arange(256, dtype=np.uint8)
    half, one = np.array(0.5, np.float32), np.array(1, np.float32)
    for zero in (0, 1, 128, 255):
        numbers = half, np.array(zero, np.uint8)
        known = (1, 2, 4, 5, 6, 7)
        operands = every_byte, *numbers, every_byte[::-1].copy(), *numbers, one, numbers[1]
        equal(run(name, *operands, constants=known, fused=True))


@pytest.mark.parametrize("layout", ["row_major", "channels_last"])
@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (2, 5, 3, 7), (2, 1, 3, 7), (1, 1, 1, 7), (1, 5, 3, 1)])
@pytest.mark.parametrize("constant", [False, True])
def test_broadcasting(layout: str, shape: tuple[int, ...], constant: bool) -> None:
    a, b = every(0, np.uint8, 2, 5, 3, 7), every(1, np.uint8, *shape)
    one, two, three = (parameters(i, np.uint8) for i in range(3))
    known = (1, 2, 4, 5, 6, 7) + ((3,) if constant else ())
    equal(run("QLinearMul", a, *one, b, *two, *three, constants=known, layout=layout, **MICROSOFT))
    known = (1, 2, 4, 5, 6, 7) + ((0,) if constant else ())
    equal(run("QLinearAdd", b, *two, a, *one, *three, constants=known, layout=layout, **MICROSOFT))


@pytest.mark.parametrize("dtype", BYTES)
def test_maxima(dtype: Any) -> None:
    x = every(0, dtype, 2, 3, 7, 9)
    equal(run("MaxPool", x, constants=(), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    equal(run("MaxPool", x, constants=(), kernel_shape=[2, 3], dilations=[2, 1], pads=[0, 1, 1, 0]))
    equal(run("MaxPool", x[0], constants=(), kernel_shape=[4]))


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3, 7), (3, 70, 9), (1, 130, 40, 50)])
def test_means(dtype: Any, shape: tuple[int, ...]) -> None:
    x = every(0, dtype, *shape)
    for seed in range(3):
        numbers = *parameters(seed, dtype), *parameters(seed + 1, dtype)
        equal(run("QLinearGlobalAveragePool", x, *numbers, constants=range(1, 5), **MICROSOFT))


def test_refusals() -> None:
    def info(dtype: Any, *shape: int) -> Info:
        return Info(np.dtype(dtype), shape)

    entry, one = lookup("com.microsoft", "QLinearAdd", 1), info(np.float32)
    x, row, zero = info(np.uint8, 2, 3, 4), info(np.uint8, 3, 4), info(np.uint8)
    assert choose(entry, x, [x, one, zero, row, one, zero, one, zero], {}) == "operands differ in rank"
    assert choose(entry, x, [x, one, zero, x, info(np.float32, 3), zero, one, zero], {}) == "b is not one number"
    sigmoid = lookup("com.microsoft", "QLinearSigmoid", 1)
    assert choose(sigmoid, x, [x, one, zero, one, zero], {}) == "scales are not constant"
