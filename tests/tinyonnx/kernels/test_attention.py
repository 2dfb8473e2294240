"""Attention against the operator: sizes around vectors and blocks, every order of axes, masks, non-finite scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ops.fused_attention import FROM_FIRST, FROM_LAST
from tinyonnx.registry import FUSED, Info, lookup

HEADS = [0, 2, 1, 3]
MOVED: dict[str, Any] = {"q_perm": HEADS, "k_perm": HEADS, "v_perm": HEADS, "out_perm": HEADS}


def check(*operands: Any, **attributes: Any) -> None:
    assert_close(*run("FusedAttention", *operands, constants=(), fused=True, **attributes), tolerance=3e-6)


@pytest.mark.parametrize("queries", [1, 3, 5, 8, 50, 100])
@pytest.mark.parametrize("keys", [1, LANES + 1, 600])
def test_sizes(queries: int, keys: int) -> None:
    """The sizes include a last block of rows and a width for which tiles overlap, with several blocks of keys."""
    for depth, width in ((1, 3), (20, LANES + 4), (2 * LANES, 2 * LANES)):
        q, k, v = noise(0, 2, queries, 3, depth), noise(1, 2, keys, 3, depth), noise(2, 2, keys, 3, width)
        check(q, k, v, scale=0.7, **MOVED)
        check(q, k, v, noise(3, 2, 1, 1, keys) * 3, scale=1.5, **MOVED)
        check(q, k, v, noise(4, 3, queries, keys) * 3, **MOVED)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_ranks_and_transposed_keys(rank: int) -> None:
    batch = (2, 3)[4 - rank :]
    q, k, v = noise(0, *batch, 9, 20), noise(1, *batch, 20, 30), noise(2, *batch, 30, 16)
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    check(q, k, v, k_perm=swapped)
    check(q, k, v, noise(3, 9, 30), k_perm=swapped, out_perm=[*reversed(range(rank - 1)), rank - 1])


def test_shared_heads() -> None:
    """Keys and values of one head for all heads of queries."""
    check(noise(0, 2, 4, 9, 20), noise(1, 2, 1, 30, 20), noise(2, 2, 1, 30, 16))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("queries", [2, 600])
def test_masks_and_non_finite_scores(queries: int) -> None:
    """A causal mask of -∞, a row that is masked altogether (NaN), a NaN, an infinite query."""
    q, k, v = noise(0, 1, 2, queries, 8), noise(1, 1, 2, 600, 8), noise(2, 1, 2, 600, 2 * LANES)
    order = np.arange(600)
    mask = np.where(order > order[600 - queries :, None], np.float32(-np.inf), np.float32(0))[None, None]
    check(q, k, v, mask)
    mask = mask.copy()
    mask[0, 0, 1] = -np.inf
    q[0, 1, 0, 3], q[0, 0, 0, 2] = np.nan, np.inf
    check(q, k, v, mask)
    late = np.where(order < 590, np.float32(-np.inf), np.float32(0))  # no key of the first block counts
    check(noise(0, 1, 2, queries, 8), k, v, late)


@pytest.mark.parametrize("causal", [FROM_FIRST, FROM_LAST])
@pytest.mark.parametrize("queries", [1, 2, 4, 5, 50, 600])
def test_causal(queries: int, causal: int) -> None:
    """The cases have a bias, few queries of one block, and several blocks of which the last ones are skipped."""
    for keys in (600, 1100):
        q, k, v = noise(0, 1, 2, queries, 2 * LANES), noise(1, 1, 2, keys, 2 * LANES), noise(2, 1, 2, keys, 2 * LANES)
        check(q, k, v, causal=causal)
        check(q, k, v, noise(3, 1, 2, queries, keys), causal=causal, scale=0.3)


def test_queries_without_keys() -> None:
    """Zeros if lenient, with few and many queries; others are as before."""
    for queries in (2, 60):
        q, k, v = noise(0, 1, 2, queries, 8), noise(1, 1, 2, 20, 8), noise(2, 1, 2, 20, 2 * LANES)
        mask = np.zeros((queries, 20), np.float32)
        mask[1] = -np.inf
        actual, expected = run("FusedAttention", q, k, v, mask, constants=(), fused=True, lenient=1)
        assert_close(actual, expected, tolerance=3e-6)
        assert not actual[:, :, 1].any()
        assert actual[:, :, 0].all()


def test_refusals() -> None:
    def info(*shape: int, dtype: Any = np.float32, constant: bool = False) -> Info:
        return Info(np.dtype(dtype), shape, np.zeros(shape, dtype) if constant else None)

    attention, x = lookup(FUSED, "FusedAttention", 1), info(2, 5, 8)
    assert "constant" in str(choose(attention, x, [x, info(2, 5, 8, constant=True), x], {}))
    assert "scale is 0" in str(choose(attention, x, [x, x, x], {"scale": 0.0}))
    assert "same for all keys" in str(choose(attention, x, [x, x, x, info(5, 1)], {}))
    assert "attends to no key" in str(choose(attention, x, [x, info(2, 4, 8), info(2, 4, 8)], {"causal": FROM_LAST}))
    assert "not contiguous" in str(choose(attention, x, [x, x, x], {"q_perm": [0, 2, 1]}))
    assert "not contiguous" in str(choose(attention, x, [x, x, x], {"out_perm": [2, 0, 1]}))
    assert "float64" in str(choose(attention, x, [x, x, x, info(5, 5, dtype=np.float64)], {}))
