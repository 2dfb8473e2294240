"""Normalisations against the numpy operators."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tests.tinyonnx.kernels.test_rows import WIDTHS
from tinyonnx.kernels.rows import BLOCK
from tinyonnx.registry import Info, lookup


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(n: int, bias: bool) -> None:
    x = noise(0, 2, 3, 5, n) * 4 + 9
    for axis in (-1, 2):
        shape = x.shape[axis:]
        b = noise(2, *shape) if bias else None
        assert_close(*run("LayerNormalization", x, noise(1, *shape), b, axis=axis), tolerance=3e-5)
        assert_close(*run("LayerNormalization", x, noise(1, 1), b, axis=axis, epsilon=0.5), tolerance=3e-5)


@pytest.mark.parametrize("spatial", [(1,), (17,), (5, 7), (2, 3, 5), (BLOCK + 3,)])
@pytest.mark.parametrize("batch", [1, 2])
def test_instances(spatial: tuple[int, ...], batch: int) -> None:
    x = noise(0, batch, 4, *spatial) * 3 + 5
    for epsilon in (1e-5, 0.5):
        assert_close(*run("InstanceNormalization", x, noise(1, 4), noise(2, 4), epsilon=epsilon), tolerance=3e-5)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("spatial", [(), (17,), (5, 7), (BLOCK // 2,)])
def test_groups(groups: int, spatial: tuple[int, ...]) -> None:
    x = noise(0, 2, 6, *spatial) * 3 + 5
    scale, shift = noise(1, 6), noise(2, 6)
    assert_close(*run("GroupNormalization", x, scale, shift, num_groups=groups, epsilon=0.1), tolerance=3e-5)


@pytest.mark.filterwarnings("ignore:.*encountered in")
def test_groups_with_numbers_that_are_not_finite() -> None:
    x = noise(0, 2, 4, 20)
    x[0, 1, 3], x[1, 2, 19] = np.nan, np.inf
    ones = np.ones(4, np.float32)
    assert_close(*run("InstanceNormalization", x, ones, ones))
    assert_close(*run("GroupNormalization", x, ones, ones, num_groups=2))


def test_refusals() -> None:
    f4, ones = np.dtype(np.float32), np.ones(3, np.float32)
    x, vector, constant = Info(f4, (2, 3, 4)), Info(f4, (3,)), Info(f4, (3,), ones)
    for name in ("LayerNormalization", "InstanceNormalization"):
        assert "not constant" in str(choose(lookup("", name, 22), x, [x, vector, vector], {}))
    groups = lookup("", "GroupNormalization", 22)
    empty = Info(f4, (2, 3, 0))
    assert "empty" in str(choose(groups, empty, [empty, constant, constant], {"num_groups": 3}))
    wide = Info(np.dtype(np.float64), (2, 3, 4))
    assert "float64" in str(choose(groups, wide, [wide, constant, constant], {"num_groups": 3}))


@pytest.mark.parametrize(("axis", "fits"), [(-4, False), (-3, True), (2, True), (3, False)])
def test_axes_out_of_range_are_refused(axis: int, fits: bool) -> None:
    x, ones = Info(np.dtype(np.float32), (2, 3, 4)), np.ones(1, np.float32)
    scale = Info(ones.dtype, ones.shape, ones)
    chosen = choose(lookup("", "LayerNormalization", 22), x, [x, scale], {"axis": axis})
    assert ("out of range" in str(chosen)) != fits
