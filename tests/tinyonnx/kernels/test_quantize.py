"""Bytes from floats and back: equal to the numpy operator, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import tinyonnx
from tests.tinyonnx.kernels.fast import choose, run
from tests.tinyonnx.kernels.test_quantized_gemm import BYTES, equal, every
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array
from tinyonnx.ops.quantize import dynamic_quantize_linear
from tinyonnx.registry import Info, lookup


def floats(seed: int, *shape: int) -> Array:
    """Return random floats, among them integers and halves, and numbers that saturate."""
    r = np.random.default_rng(seed)
    options = [r.normal(0, 30, shape), r.integers(-600, 600, shape) / 2, r.normal(0, 1e9, shape)]
    return np.choose(r.integers(0, 3, shape), options).astype(np.float32)


SIZES = (1, LANES - 1, LANES, 3 * LANES + 1, 1000)


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("size", SIZES)
def test_quantise(dtype: Any, size: int) -> None:
    x = floats(size, 2, size)
    x[0, :3] = [np.nan, np.inf, -np.inf][:size]
    for scale in (1.0, 0.5, 0.037, 1e-30, 0.0, np.inf, -2.0):
        for zero in (np.iinfo(dtype).min, 3, np.iinfo(dtype).max):
            equal(run("QuantizeLinear", x, np.array(scale, np.float32), np.array(zero, dtype)))
    if dtype == np.uint8:
        equal(run("QuantizeLinear", x, np.array(0.1, np.float32), constants=(1,)))


@pytest.mark.parametrize("layout", ["row_major", "channels_last"])
@pytest.mark.parametrize("dtype", BYTES)
def test_dequantise(dtype: Any, layout: str) -> None:
    x = every(0, dtype, 2, 3, 5, 7)
    for zero in (np.iinfo(dtype).min, np.iinfo(dtype).max):
        equal(run("DequantizeLinear", x, np.array(0.3, np.float32), np.array(zero, dtype), layout=layout))
    equal(run("DequantizeLinear", x, np.array([1e-3], np.float32), constants=(1,), layout=layout))


@pytest.mark.parametrize("size", [*SIZES, (1 << 14) - 1, (1 << 14) + 5, 100_000])
def test_dynamic(size: int) -> None:
    x = np.random.default_rng(size).normal(1, 2, size).astype(np.float32)
    for values in (x, np.abs(x), -np.abs(x), np.zeros_like(x), x * np.float32(1e-42)):
        equal(run("DynamicQuantizeLinear", values, constants=(), second=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 3e38])
def test_dynamic_of_strange_numbers(value: float) -> None:
    x = np.random.default_rng(0).normal(0, 2, 3 * LANES + 2).astype(np.float32)
    for at in (0, LANES + 1, -1):
        y = x.copy()
        y[at] = value
        equal(run("DynamicQuantizeLinear", y, constants=(), second=True))


@pytest.mark.parametrize("results", ["y", "y s", "y s z"])
def test_dynamic_whose_results_are_not_all_read(results: str) -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], results.split())
    x = floats(0, 100)
    for read in results.split():
        outputs = [helper.make_empty_tensor_value_info(read)]
        inputs = [helper.make_tensor_value_info("x", 1, [100])]
        graph = helper.make_graph([node], "g", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = tinyonnx.InferenceSession(model.SerializeToString())
        expected = dynamic_quantize_linear(x)["ysz".index(read)]
        np.testing.assert_array_equal(session.run([read], {"x": x})[0], expected)


def test_refusals() -> None:
    entry, out = lookup("", "QuantizeLinear", 21), Info(np.dtype(np.uint8), (4,))
    x, one = Info(np.dtype(np.float32), (4,)), Info(np.dtype(np.float32), ())
    assert choose(entry, out, [x, Info(np.dtype(np.float32), (4,))], {}) == "scale is not one number"
    assert choose(entry, out, [x, one], {"precision": 1}) == "scales of blocks, or another precision"
    assert choose(entry, Info(np.dtype(np.int16), (4,)), [x, one], {}) == "int16, not bytes"
    assert choose(entry, out, [Info(np.dtype(np.int32), (4,)), one], {}) == "int32, not float32"
