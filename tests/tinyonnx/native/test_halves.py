"""Constants as float16 numbers times factors: found where they give the same bits, and widened to these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyonnx.codegen.arguments import kinds_of
from tinyonnx.native.binary import write
from tinyonnx.native.dialects import DIALECTS
from tinyonnx.native.halves import POWERS, factor_of, halved
from tinyonnx.native.kernels import unpack
from tinyonnx.native.unit import UNPACK_KINDS, Constant, Unit

RNG = np.random.default_rng(0)


def folded(channels: int, each: int, scale: Any = None) -> Any:
    """Return Float16 weights, (channels, each), times a factor per channel, rounded to float32."""
    halves = RNG.standard_normal((channels, each)).astype(np.float16).astype(np.float64) * 0.1
    halves = halves.astype(np.float16).astype(np.float64)
    return (halves * (RNG.uniform(0.01, 30, (channels, 1)) if scale is None else scale)).astype(np.float32)


def rows(channels: int, each: int) -> Any:
    return np.repeat(np.arange(1, channels + 1, dtype=np.int32), each).reshape(channels, each)


def widened(found: Any, size: int) -> Any:
    """Return the numbers that `unpack` writes for a constant."""
    runs = found.runs[:, [0, 0, 1, 2, 3]] + [0, 0, 0, 0, len(POWERS)]
    pairs = found.halves.view(np.uint8).reshape(-1, 2)
    target = np.full(size, np.nan, np.float32)
    none = np.empty(0, np.uint32)
    arrays = (
        runs.reshape(-1).astype(np.int32),
        pairs.T.reshape(-1).copy(),
        np.concatenate([POWERS, found.factors]),
        target,
    )
    arguments = np.empty(0, np.int32), none, target.view(np.uint32), *arrays
    assert kinds_of(arguments) == UNPACK_KINDS
    unpack(*arguments)
    return target


def check(constant: Constant) -> Any:
    found = halved(constant)
    assert found is not None
    result = widened(found, constant.content.size)
    np.testing.assert_array_equal(result.view(np.uint32), constant.content.view(np.uint32))
    return found


def test_every_finite_float16_is_widened() -> None:
    content = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    check(Constant(content[np.isfinite(content)]))


@pytest.mark.parametrize("scale", [1.0, 1 / 6, 3e-20, 1e20, None])
def test_weights_in_the_order_of_the_model(scale: Any) -> None:
    content = folded(40, 90, scale)
    found = check(Constant(content.reshape(-1), None, rows(40, 90).reshape(-1)))
    assert found.runs.size <= 8 * 40


@pytest.mark.parametrize(("lanes", "channels"), [(4, 40), (8, 40), (16, 40), (4, 42)])
def test_weights_packed_in_panels(lanes: int, channels: int) -> None:
    """Panels of `lanes` channels, those that are missing in the last one being zeros of channel 0."""
    padding = ((0, -channels % lanes), (0, 0))
    content, numbers = (np.pad(a, padding) for a in (folded(channels, 100), rows(channels, 100)))
    packed = [a.reshape(-1, lanes, 100).transpose(0, 2, 1).reshape(-1) for a in (content, numbers)]
    found = check(Constant(packed[0], None, packed[1]))
    assert len(found.runs) <= 2 * -(-channels // lanes), "one for each panel, and one between two of them"


def test_weights_by_taps_with_zeros_among_them() -> None:
    content = folded(64, 25)
    content[3], content[7, ::2], content[9, 1] = 0, 0, -0.0
    check(Constant(content.T.reshape(-1).copy(), None, rows(64, 25).T.reshape(-1).copy()))


def test_what_float16_does_not_give_stays_as_it_is() -> None:
    numbers = rows(40, 90).reshape(-1)
    good = folded(40, 90).reshape(-1)
    assert halved(Constant(RNG.standard_normal(3600).astype(np.float32), None, numbers)) is None
    assert halved(Constant(good)) is None, "without rows there are no factors"
    assert halved(Constant(good[:1000], None, numbers[:1000])) is None, "small ones aren't worth it"
    for value in (np.nextafter(good[1234], np.float32(np.inf)), np.float32(np.inf), np.float32(np.nan)):
        other = good.copy()
        other[1234] = value
        assert halved(Constant(other, None, numbers)) is None
    assert halved(Constant(np.arange(5000), None)) is None
    mixed = RNG.integers(1, 41, 3600).astype(np.int32)
    assert halved(Constant(np.full(3600, 1 / 3, np.float32), None, mixed)) is None, "rows of runs would take more room"


def test_factors() -> None:
    assert factor_of(np.empty(0, np.float32)) == 1
    for size in (1, 2, 3, 10, 500):
        for _ in range(20):
            assert factor_of(folded(1, size)[0] + np.float32(0)) is not None
    assert factor_of(RNG.standard_normal(20).astype(np.float32)) is None
    assert factor_of(np.array([3e-45, 1.0], np.float32)) is None


def test_they_are_written_for_a_single_unit(tmp_path: Path) -> None:
    content = folded(40, 90).reshape(-1)
    unit = Unit(constants=[Constant(content, None, rows(40, 90).reshape(-1)), Constant(content[:99].copy())])
    write([unit], tmp_path, DIALECTS["wasm"], halve=True)
    assert (tmp_path / "halves").stat().st_size == 7200
    assert (tmp_path / "constants").stat().st_size == 448
    assert (tmp_path / "factors").stat().st_size == 8 * (64 + 40)
    write([unit], tmp_path, DIALECTS["wasm"])
    assert (tmp_path / "halves").stat().st_size == 0
    assert (tmp_path / "constants").stat().st_size == 14400 + 448
