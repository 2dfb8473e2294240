"""Products of bytes with a constant matrix: equal to the numpy operator, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import choose, run
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array
from tinyonnx.registry import Info, lookup

BYTES = (np.int8, np.uint8)


def every(seed: int, dtype: Any, *shape: int) -> Array:
    """Return random bytes, a third of which are the least or the greatest number."""
    r = np.random.default_rng(seed)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = r.integers(low, high, shape, endpoint=True)
    edge = r.random(shape) < 0.3
    return np.where(edge, r.choice([low, high], shape), values).astype(dtype)


def scale(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).uniform(0.001, 0.03, shape).astype(np.float32)


def equal(result: tuple[Array, Array]) -> None:
    actual, expected = result
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize("a_type", BYTES)
@pytest.mark.parametrize("b_type", BYTES)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (2, 7, LANES + 1), (9, 4, 2 * LANES), (33, 19, 3 * LANES + 5)])
def test_sums(a_type: Any, b_type: Any, m: int, k: int, n: int) -> None:
    a, b = every(0, a_type, m, k), every(1, b_type, k, n)
    equal(run("MatMulInteger", a, b, constants=(1,)))
    for a_zero in (np.iinfo(a_type).min, np.iinfo(a_type).max):
        for b_zero in (every(2, b_type), every(3, b_type, n), np.full(n, np.iinfo(b_type).max, b_type)):
            equal(run("MatMulInteger", a, b, np.array(a_zero, a_type), b_zero, constants=(1, 3)))


def test_sums_wrap() -> None:
    k = 2**31 // 255**2 + 2
    a, b = np.full((2, k), 255, np.uint8), np.full((k, 3), 255, np.uint8)
    equal(run("MatMulInteger", a, b))


@given(data=st.data())
@settings(max_examples=60)
def test_requantised(data: st.DataObject) -> None:
    draw, seed = data.draw, data.draw(st.integers(0, 999), "seed")
    m, k, n = draw(st.integers(1, 40), "m"), draw(st.integers(1, 70), "k"), draw(st.integers(1, 80), "n")
    a_type, b_type, y_type = (draw(st.sampled_from(BYTES), "type") for _ in range(3))
    per_column = (n,) if draw(st.booleans(), "per column") else draw(st.sampled_from([(), (1,)]), "one number")
    a, b = every(seed, a_type, 2, m, k), every(seed + 1, b_type, k, n)
    a_parameters = scale(0), every(seed + 2, a_type)
    b_parameters = scale(1, *per_column), every(seed + 3, b_type, *per_column)
    y = np.float32(draw(st.sampled_from([0.001, 0.1, 1.0]), "scale of y")), every(seed + 4, y_type)
    inputs = (a, *a_parameters, b, *b_parameters, *map(np.asarray, y))
    equal(run("QLinearMatMul", *inputs, constants=range(1, 8)))
    bias = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    floats = (a, b, a_parameters[0], b_parameters[0], a_parameters[1], b_parameters[1])
    for rest in ((), (bias,)):
        equal(run("MatMulIntegerToFloat", *floats, *rest, constants=(1, 3, 5, 6), domain="com.microsoft", opset=1))
    c = np.random.default_rng(seed).integers(-(2**20), 2**20, n).astype(np.int32)
    gemm = (a[0], *a_parameters, np.ascontiguousarray(b.T), *b_parameters, c)
    options: dict[str, Any] = {"domain": "com.microsoft", "opset": 1, "transB": 1, "alpha": 0.7}
    equal(run("QGemm", *gemm, constants=range(1, 7), **options))
    equal(run("QGemm", *gemm, *map(np.asarray, y), constants=range(1, 9), **options))


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan, 1e-38])
def test_strange_scales(value: float) -> None:
    a, b = every(0, np.uint8, 3, 5), every(1, np.int8, 5, 7)
    zero = np.array(3, np.uint8), np.array(0, np.int8), np.array(7, np.uint8)
    one, other = np.array(0.5, np.float32), np.array(value, np.float32)
    for scales in ((other, one, one), (one, other, one), (one, one, other)):
        pairs = [each for pair in zip(scales, zero) for each in pair]
        equal(run("QLinearMatMul", a, *pairs[:2], b, *pairs[2:], constants=range(1, 8)))


def test_halves_are_rounded_to_even() -> None:
    a, b = np.arange(16, dtype=np.uint8).reshape(16, 1), np.ones((1, 1), np.int8)
    one = np.array(1, np.float32), np.array(0, np.uint8)
    half = np.array(0.5, np.float32), np.array(0, np.int8)
    equal(run("QLinearMatMul", a, *one, b, *half, *one, constants=range(1, 8)))


def test_refusals() -> None:
    def info(dtype: Any, *shape: int, constant: bool = False) -> Info:
        return Info(np.dtype(dtype), shape, np.ones(shape, dtype) if constant else None)

    entry, out = lookup("", "MatMulInteger", 10), info(np.int32, 3, 5)
    a, b = info(np.uint8, 3, 4), info(np.int8, 4, 5, constant=True)
    cases = [
        ([a, info(np.int8, 4, 5)], "weights are not constant"),
        ([a, b, info(np.uint8, 3)], "x_zero is not one number"),
        ([a, b, info(np.int8)], "the zero point has another type"),
        ([a, b, None, info(np.int8, 5)], "weights are not constant"),
        ([info(np.uint8, 4), b], "not a product of rows with one matrix"),
        ([info(np.uint8, 3, 4, constant=True), b], "the input is constant"),
    ]
    for inputs, reason in cases:
        assert choose(entry, out, inputs, {}) == reason
    long = info(np.uint8, 3, 40000), info(np.int8, 40000, 5, constant=True)
    one, zero = info(np.float32, constant=True), info(np.int8, constant=True)
    qlinear = [long[0], one, info(np.uint8), long[1], one, zero, one, info(np.uint8)]
    reason = choose(lookup("", "QLinearMatMul", 10), info(np.uint8, 3, 5), qlinear, {})
    assert reason == "sums of 40000 products may exceed an int32"
