from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops.running import check_against_onnxruntime, check_backend_cases, normal, run
from tinyonnx.errors import OpError


def test_backend_cases() -> None:
    check_backend_cases("Einsum")


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij, jk", [(2, 3), (3, 4)]),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
        ("...ij,...jk->...ik", [(5, 6, 2, 3), (5, 6, 3, 4)]),
        ("...i,...i", [(2, 3, 4), (2, 3, 4)]),
        ("i,j", [(3,), (4,)]),
        ("ii", [(4, 4)]),
        ("iij->ij", [(4, 4, 3)]),
        ("ijk->kj", [(2, 3, 4)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("i,i,i->", [(6,), (6,), (6,)]),
        ("bhwc,hkc->bhwk", [(2, 3, 4, 5), (3, 6, 5)]),
        ("b...,b...->...", [(2, 3, 4), (2, 3, 4)]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_against_onnxruntime(equation: str, shapes: list[tuple[int, ...]], dtype: type) -> None:
    inputs = [normal(*shape, seed=i) * 3 for i, shape in enumerate(shapes)]
    check_against_onnxruntime("Einsum", *[x.astype(dtype) for x in inputs], opset=12, equation=equation, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_are_rounded_once(dtype: type) -> None:
    a, b = (normal(8, 64, seed=seed).astype(dtype) for seed in (0, 1))
    y = run("Einsum", a, b, opset=28, equation="ij,kj->ik")
    expected = (a.astype(np.float64) @ b.astype(np.float64).T).astype(np.float32).astype(dtype)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(np.float32), expected.astype(np.float32), rtol=1e-2)


def test_upper_case_letters_come_first() -> None:
    a, b = normal(2, 3), normal(4, 2, seed=1)
    np.testing.assert_allclose(run("Einsum", a, b, equation="aA,Za"), np.einsum("aA,Za->AZ", a, b), rtol=1e-6)


def test_empty_sums() -> None:
    assert run("Einsum", np.ones((2, 0), np.float32), equation="ij->i").tolist() == [0, 0]


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk", [(2, 3)], "2 terms for 1"),
        ("ij", [(2, 3, 4)], "rank 3"),
        ("ijk", [(2, 3)], "rank 2"),
        ("ij,jk", [(2, 3), (4, 5)], "'j' has sizes 3 and 4"),
        ("ij->ii", [(2, 3)], "repeats an index"),
        ("ij->ik", [(2, 3)], "'k'"),
        ("i1", [(2, 3)], "letters"),
        ("i->j->k", [(2,)], "letters"),
        ("...i...", [(2, 3)], "letters"),
        ("...i,...i", [(2, 3), (2, 2, 3)], "ellips"),
        ("...i,...i", [(2, 3), (4, 3)], "axis of the ellipsis"),
    ],
)
def test_misuse(equation: str, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(OpError, match=message):
        run("Einsum", *[normal(*shape) for shape in shapes], equation=equation)


def test_mixed_types() -> None:
    with pytest.raises(OpError, match="float32, float64"):
        run("Einsum", normal(2), normal(2, dtype=np.float64), equation="i,i")
