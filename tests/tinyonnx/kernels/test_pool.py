"""Pools, means and squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.kernels.pool import bind_global_mean
from tinyonnx.registry import Fast, Info, lookup


@given(data=st.data())
@settings(max_examples=80)
def test_windows(data: st.DataObject) -> None:
    draw = data.draw
    rank = draw(st.integers(1, 2), "rank")

    def several(low: int, high: int, name: str, count: int = rank) -> list[int]:
        return [draw(st.integers(low, high), name) for _ in range(count)]

    kernel = several(2, 4, "kernel")
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": several(1, 3, "stride"),
        "dilations": several(1, 2, "dilation"),
        "pads": several(0, 1, "pad", 2 * rank),
        "ceil_mode": draw(st.integers(0, 1), "ceil"),
    }
    x = noise(0, 2, draw(st.sampled_from([1, 5, 16, 20]), "channels"), *several(7, 14, "size"))
    if draw(st.booleans(), "NaN"):
        x.flat[3] = np.nan
    assert_close(*run("MaxPool", x, **attributes))
    for include in (0, 1):
        assert_close(*run("AveragePool", x, count_include_pad=include, **attributes))


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 20, 7, 1), (2, 17, 300), (1, 1, 1, 1)])
def test_global_mean(shape: tuple[int, ...]) -> None:
    x = noise(0, *shape)
    axes = list(range(2, len(shape)))
    assert_close(*run("GlobalAveragePool", x))
    assert_close(*run("ReduceMean", x, opset=13, axes=axes))
    assert_close(*run("ReduceMean", x, opset=13, axes=[a - len(shape) for a in axes], keepdims=0))
    assert_close(*run("ReduceMean", x, np.array(axes), opset=18))


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 20, 7, 1), (2, 17, 300), (1, 1, 1, 1), (2, 3, 2, 3, 4)])
def test_global_max(shape: tuple[int, ...]) -> None:
    x = noise(0, *shape)
    x[0, 0] -= 100
    if x.size > 9:
        x[-1, -1, -1] = np.nan
    np.testing.assert_array_equal(*run("GlobalMaxPool", x))


def test_mean_of_many_pixels_is_exact_enough() -> None:
    x = noise(0, 1, 2, 400, 500) + 100
    actual, _ = run("GlobalAveragePool", x)
    np.testing.assert_allclose(actual, x.mean(axis=(2, 3), dtype=np.float64, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize(("axes", "shape", "pools"), [((2, 3), (1, 3, 4, 5), True), ((2,), (1, 3, 4), False),
                                                      ((1, 2), (1, 3, 4, 5), False)])  # fmt: skip
def test_which_means_are_pools(axes: tuple[int, ...], shape: tuple[int, ...], pools: bool) -> None:
    x = Info(np.dtype(np.float32), shape)
    out = Info(x.dtype, tuple(1 if i in axes else size for i, size in enumerate(shape)))
    given = Info(np.dtype(np.int64), (len(axes),), np.array(axes))
    for opset, more, attributes in ((13, [], {"axes": axes}), (18, [given], {})):
        chosen = choose(lookup("", "ReduceMean", opset), out, [x, *more], attributes)
        assert (isinstance(chosen, Fast) and chosen.bind is bind_global_mean) == pools


@pytest.mark.parametrize(
    ("shape", "attributes", "reason"),
    [
        ((1, 3, 4, 5, 6), {"kernel_shape": [1, 1, 1]}, "not one or two spatial axes"),
        ((1, 3, 4), {"kernel_shape": [2], "storage_order": 2}, "not one or two spatial axes"),
        ((1, 3, 4), {"kernel_shape": [2, 2]}, "kernel_shape"),
        ((1, 3, 9), {"kernel_shape": [2], "strides": [3], "pads": [0, -1], "ceil_mode": 1}, "negative pads cut off"),
        ((1, 3, 9), {"kernel_shape": [2], "strides": [1 << 40]}, "a stride, dilation or pad of"),
    ],
)
def test_windows_that_are_refused(shape: tuple[int, ...], attributes: dict[str, Any], reason: str) -> None:
    x = Info(np.dtype(np.float32), shape)
    assert reason in str(choose(lookup("", "MaxPool", 12), x, [x], attributes))


@pytest.mark.parametrize(("name", "attributes"), [("MaxPool", {"kernel_shape": [1]}), ("GlobalAveragePool", {})])
def test_a_constant_image_is_refused(name: str, attributes: dict[str, Any]) -> None:
    x = Info(np.dtype(np.float32), (1, 1, 4), np.zeros((1, 1, 4), np.float32))
    assert "the input is constant" in str(choose(lookup("", name, 12), x, [x], attributes))


def test_means_of_more_than_one_run_of_pixels() -> None:
    """Runs of 256 pixels, of which the last four by four and one by one."""
    for pixels in (255, 256, 257, 259, 260, 513):
        assert_close(*run("GlobalAveragePool", noise(0, 2, 19, 1, pixels)))
