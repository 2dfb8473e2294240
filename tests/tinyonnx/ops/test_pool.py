from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.ops import oracles
from tinyonnx.errors import OpError
from tinyonnx.ops.pool import average_pool, global_average_pool, global_lp_pool, lp_pool, lp_pool_1, max_pool
from tinyonnx.registry import Info, lookup

POOLS = ("MaxPool", "AveragePool", "LpPool")
GLOBAL = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")


# onnx has no case of GlobalLpPool
@pytest.mark.parametrize("op_type", [*POOLS, "GlobalAveragePool", "GlobalMaxPool"])
def test_onnx_cases(op_type: str) -> None:
    oracles.check_cases(op_type)


def _random(rng: np.random.Generator, op: str) -> tuple[np.ndarray, dict[str, Any]]:
    rank = int(rng.integers(1, 4))
    kernel = rng.integers(1, 5, rank).tolist()
    auto_pad = str(rng.choice(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    # onnxruntime's SAME knows neither dilations nor windows with gaps between them
    same = auto_pad.startswith("SAME")
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [int(rng.integers(1, (min(3, k) if same else 3) + 1)) for k in kernel],
        "dilations": [1] * rank if same else rng.integers(1, 3, rank).tolist(),
        "ceil_mode": int(rng.integers(0, 2)),
        "auto_pad": auto_pad,
    }
    if auto_pad == "NOTSET":
        attributes["pads"] = [int(rng.integers(0, min(k, 3))) for k in kernel * 2]
    if op == "AveragePool":
        attributes["count_include_pad"] = int(rng.integers(0, 2))
    if op == "LpPool":
        attributes["p"] = int(rng.integers(1, 4))
    if op == "MaxPool":
        attributes["storage_order"] = int(rng.integers(0, 2))
    shape = (int(rng.integers(1, 3)), 2, *(int(rng.integers(7, 11)) for _ in kernel))
    return rng.integers(-9, 9, shape).astype(np.float32), attributes


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("op", POOLS)
def test_like_onnxruntime(op: str, seed: int) -> None:
    x, attributes = _random(np.random.default_rng(seed), op)
    outputs = (np.float32, np.int64) if op == "MaxPool" else (np.float32,)
    expected = oracles.ort(op, 19, [x], attributes, outputs)
    results = oracles.call(op, 19, [x], attributes, len(outputs))
    for got, wanted in zip(results, expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("opset", [2, 13])
@pytest.mark.parametrize("spatial", [(7,), (4, 5), (2, 3, 4)])
def test_global_lp_pool_like_onnxruntime(p: int, opset: int, spatial: tuple[int, ...]) -> None:
    x = np.random.default_rng(p).standard_normal((2, 3, *spatial), np.float32)
    (expected,) = oracles.ort("GlobalLpPool", opset, [x], {"p": p})
    (result,) = oracles.call("GlobalLpPool", opset, [x], {"p": p})
    np.testing.assert_allclose(result, expected, rtol=1e-5, strict=True)
    norms = (np.abs(x.reshape(2, 3, -1)) ** p).sum(axis=2) ** (1 / p)
    np.testing.assert_allclose(result.reshape(2, 3), norms, rtol=1e-5)


def test_last_window_must_start_inside() -> None:
    x = np.arange(1, 6, dtype="f4").reshape(1, 1, 5)
    assert average_pool(None, x, kernel_shape=[1], strides=[3], ceil_mode=1).tolist() == [[[1, 4]]]
    assert average_pool(None, x, kernel_shape=[2], strides=[2], ceil_mode=1).tolist() == [[[1.5, 3.5, 5]]]


def test_window_over_the_end_counts_padding_but_nothing_behind() -> None:
    x = np.ones((1, 1, 4), "f4")
    y = average_pool(None, x, kernel_shape=[4], strides=[3], pads=[0, 1], ceil_mode=1, count_include_pad=1)
    assert y.tolist() == [[[1, 0.5]]]


def test_window_in_the_padding_averages_nothing() -> None:
    assert average_pool(None, np.ones((1, 1, 1), "f4"), kernel_shape=[1], pads=[1, 1]).tolist() == [[[0, 1, 0]]]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16, np.float64])
def test_max_pool_dtypes(dtype: type) -> None:
    x = np.array([[[3, 1, 2]]], dtype)
    y = max_pool(None, x, kernel_shape=[2], pads=[1, 0])
    assert isinstance(y, np.ndarray)
    assert y.dtype == dtype
    assert y.tolist() == [[[3, 3, 2]]]


@pytest.mark.parametrize(("dtype", "lowest"), [(np.float32, -np.inf), (np.uint8, 0)])
def test_index_of_the_lowest_value_is_not_in_the_padding(dtype: type, lowest: float) -> None:
    x = np.full((1, 2, 3), lowest, dtype)
    y, index = max_pool(oracles.Sizes(2), x, kernel_shape=[3], pads=[1, 1])
    assert (y == lowest).all()
    assert index.tolist() == [[[0, 0, 1], [3, 3, 4]]]


def test_nan_wins() -> None:
    x = np.array([[[1, np.nan, 5, 2]]], "f4")
    y, index = max_pool(oracles.Sizes(2), x, kernel_shape=[2])
    assert np.isnan(y[0, 0, :2]).all()
    assert index.tolist() == [[[1, 1, 2]]]


def test_half_precision_is_summed_wider() -> None:
    x = np.full((1, 1, 64, 64), 100, np.float16)
    assert global_average_pool(x).tolist() == [[[[100]]]]
    assert average_pool(None, x, kernel_shape=[64, 64]).tolist() == [[[[100]]]]
    assert lp_pool(None, x, kernel_shape=[64, 64]).tolist() == [[[[6400]]]]
    assert global_lp_pool(x).dtype == np.float16


def test_opset_1_lp_pool() -> None:
    x = np.array([[[3, 4]]], "f4")
    assert lookup("", "GlobalLpPool", 1).attribute_types["p"] is float
    assert lookup("", "GlobalLpPool", 13).attribute_types["p"] is int
    assert lookup("", "LpPool", 1).function(None, x, kernel_shape=[2]).tolist() == [[[5]]]
    with pytest.raises(OpError, match="kernel_shape is missing"):
        lp_pool_1(None, x)


@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize(
    ("shape", "attributes", "message"),
    [
        ((1, 1), {"kernel_shape": []}, "needs at least 3"),
        ((1, 1, 4), {"kernel_shape": [5]}, "kernel is larger than the padded input"),
        ((1, 1, 4), {"kernel_shape": [0]}, "kernel_shape .* must be positive"),
        ((1, 1, 4), {"kernel_shape": [2, 2]}, "2 values for 1 spatial"),
        ((1, 1, 4), {"kernel_shape": [2], "strides": [0]}, "strides .* must be positive"),
        ((1, 1, 4), {"kernel_shape": [2], "pads": [1]}, "pads"),
        ((1, 1, 4), {"kernel_shape": [2], "auto_pad": ""}, "auto_pad"),
    ],
)
def test_bad_pool(op: str, shape: tuple[int, ...], attributes: dict[str, Any], message: str) -> None:
    entry = lookup("", op, 22)
    with pytest.raises(OpError, match=message):
        entry.function(*[None] * entry.takes_ctx, np.zeros(shape, "f4"), **attributes)
    assert entry.shape is not None
    with pytest.raises(OpError, match=message):
        entry.shape(*[None] * entry.shape_takes_ctx, Info(np.dtype("f4"), shape), **attributes)


@pytest.mark.parametrize("op", GLOBAL)
def test_bad_global_pool(op: str) -> None:
    with pytest.raises(OpError, match="nothing to pool"):
        lookup("", op, 22).function(np.zeros((1, 2, 0), "f4"))


def test_bad_parameters() -> None:
    with pytest.raises(OpError, match="p is 0"):
        global_lp_pool(np.ones((1, 1, 2), "f4"), p=0)
    with pytest.raises(OpError, match="storage_order is 2"):
        max_pool(None, np.ones((1, 1, 2), "f4"), kernel_shape=[1], storage_order=2)
