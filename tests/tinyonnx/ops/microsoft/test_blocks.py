"""com.microsoft: GatherBlockQuantized against ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops.microsoft.running import call, check_contrib
from tests.tinyonnx.ops.running import normal
from tinyonnx.errors import OpError

ROWS, COLUMNS, BLOCK = 7, 40, 16
BLOCKS = -(-COLUMNS // BLOCK)
INDICES = np.array([[0, 6, -1], [3, 3, 2]])


def whole(dtype, *shape, seed=0):
    low = -8 if dtype == ml_dtypes.int4 else 0
    high = 256 if dtype == np.uint8 else low + 16
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int16).astype(dtype)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("float_type", [np.float32, np.float16])
def test_bytes(bits, zero_points, float_type):
    packed = 8 // bits
    zero = whole(np.uint8, ROWS, -(-BLOCKS // packed), seed=1) if zero_points else None
    scales = normal(ROWS, BLOCKS, seed=2, dtype=float_type)
    inputs = [whole(np.uint8, ROWS, COLUMNS // packed), INDICES, scales, zero]
    check_contrib("GatherBlockQuantized", *inputs, bits=bits, block_size=BLOCK)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4])
@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (-2, 2), (1, -1)])
@pytest.mark.parametrize("zero_points", [False, True])
def test_small_integers(dtype, axes, zero_points):
    shape = [4, 5, 6]
    shape[axes[1]] = COLUMNS
    blocks = list(shape)
    blocks[axes[1]] = BLOCKS
    zero = whole(dtype, *blocks, seed=1) if zero_points else None
    inputs = [whole(dtype, *shape), np.array([[2, 0], [1, -1]], np.int32), normal(*blocks, seed=2), zero]
    check_contrib("GatherBlockQuantized", *inputs, block_size=BLOCK, gather_axis=axes[0], quantize_axis=axes[1])


@pytest.mark.parametrize(
    ("changes", "attributes", "message"),
    [
        ({}, {"bits": 3}, "bits is 3"),
        ({}, {"block_size": 24}, "block_size is 24"),
        ({}, {"quantize_axis": 0}, "both 0"),
        ({}, {"gather_axis": 1, "quantize_axis": 0}, "last axis"),
        ({}, {"quantize_axis": 2}, "axis 2 is out of range"),
        ({1: np.array([7])}, {}, "7 is out of range"),
        ({2: normal(ROWS, 2)}, {}, rf"scales has shape \[{ROWS}, 2\], should be \[{ROWS}, {BLOCKS}\]"),
        (
            {3: whole(np.uint8, ROWS, BLOCKS)},
            {},
            rf"zero_points has shape \[{ROWS}, {BLOCKS}\], should be \[{ROWS}, 2\]",
        ),
        ({3: np.zeros((ROWS, 2), np.int8)}, {}, "data is uint8, its zero point int8"),
    ],
)
def test_refusals(changes, attributes, message):
    inputs = [whole(np.uint8, ROWS, COLUMNS // 2), INDICES, normal(ROWS, BLOCKS), None]
    for i, value in changes.items():
        inputs[i] = value
    with pytest.raises(OpError, match=message):
        call("GatherBlockQuantized", *inputs, **{"block_size": BLOCK, **attributes})
