from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops import running
from tests.tinyonnx.ops.running import check_against_onnxruntime, infos, normal, run
from tinyonnx.errors import OpError
from tinyonnx.ops import reduce
from tinyonnx.registry import Info, lookup

REDUCTIONS = [name for name in running.names_of(reduce) if name.startswith("Reduce")]
FIRST_WITH_INPUT = dict.fromkeys(REDUCTIONS, 18) | {"ReduceSum": 13}


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("name", running.names_of(reduce))
def test_backend_cases(name: str) -> None:
    running.check_backend_cases(name)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in REDUCTIONS
        for dtype in (np.float32, np.float64, np.int32, np.int64)
        # onnxruntime truncates every exp: see test_integers_wrap_and_truncate
        if name != "ReduceLogSumExp" or dtype not in (np.int32, np.int64)
    ],
)
def test_like_onnxruntime(name: str, dtype: type) -> None:
    x = np.random.default_rng(0).integers(1, 4, (2, 2, 3)).astype(dtype)
    for axes in ([1], [-1, 0], None):
        attributes: dict[str, Any] = {} if axes is None else {"axes": axes}
        check_against_onnxruntime(name, x, opset=FIRST_WITH_INPUT[name] - 1, keepdims=0, rtol=1e-5, **attributes)
        given = [] if axes is None else [integers(*axes)]
        check_against_onnxruntime(name, x, *given, opset=18, rtol=1e-5)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_empty_axes(name: str) -> None:
    x = np.abs(normal(2, 3, dtype=np.float64)) + 1
    elementwise = {
        "ReduceLogSum": np.log(x),
        "ReduceSumSquare": x * x,
    }.get(name, x)
    for axes in (None, integers()):
        assert run(name, x, axes, opset=18).shape == (1, 1)
        assert run(name, x, axes, opset=18, keepdims=0).shape == ()
        np.testing.assert_allclose(run(name, x, axes, opset=18, noop_with_empty_axes=1), elementwise)
    assert run(name, x, opset=11, axes=[]).shape == (1, 1)
    assert run(name, np.float64(2) * np.ones(()), opset=11).shape == ()


@pytest.mark.parametrize("name", REDUCTIONS)
def test_empty_input(name: str) -> None:
    identity = {"ReduceMean": np.nan, "ReduceMax": -np.inf, "ReduceMin": np.inf, "ReduceProd": 1.0}
    identity |= dict.fromkeys(["ReduceLogSum", "ReduceLogSumExp"], -np.inf)
    y = run(name, np.zeros((2, 0, 3), np.float32), integers(1), opset=18, keepdims=0)
    np.testing.assert_equal(y, np.full((2, 3), identity.get(name, 0.0), np.float32))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_half_floats_accumulate_in_float32(name: str, dtype: type) -> None:
    x = np.full((4, 3000), 0.999, dtype)
    expected = run(name, x.astype(np.float64), integers(1)).astype(dtype)
    running.assert_same(run(name, x, integers(1)), expected, rtol=1e-2)


def test_integers_wrap_and_truncate() -> None:
    assert run("ReduceLogSumExp", np.array([3, 3, 2], np.int32)).tolist() == [int(np.log(2 * np.exp(3) + np.exp(2)))]
    assert run("ReduceSum", np.array([100, 100], np.int8)).tolist() == [-56]
    assert run("ReduceMean", np.array([-3, -4], np.int32)).tolist() == [-3]
    assert run("ReduceMean", np.array([2**62, 2**62, 2**62 + 3], np.uint64)).tolist() == [2**62 + 1]
    assert run("ReduceMax", np.array([[True, False]]), integers(1), opset=20).tolist() == [[True]]
    assert run("ReduceMin", np.zeros((0, 2), np.int8), integers(0), opset=20).tolist() == [[127, 127]]


def test_log_sum_exp_neither_overflows_nor_warns() -> None:
    x = np.array([[1e4, 1e4], [-np.inf, -np.inf], [np.inf, 0], [np.nan, 0]], np.float32)
    y = run("ReduceLogSumExp", x, integers(1), keepdims=0)
    np.testing.assert_allclose(y, [1e4 + np.log(2), -np.inf, np.inf, np.nan], rtol=1e-6)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
def test_positions_like_onnxruntime(name: str, last: int) -> None:
    x = np.random.default_rng(0).integers(0, 3, (3, 5, 4)).astype(np.float32)
    for axis in (0, 1, -1):
        check_against_onnxruntime(name, x, opset=13, axis=axis, keepdims=last, select_last_index=last)
    check_against_onnxruntime(name, x, opset=11)


@pytest.mark.parametrize(
    ("name", "opset", "shape", "attributes", "message"),
    [
        ("ReduceMax", 11, (2, 3), {"axes": [2]}, "axis 2 is out of range for an input of rank 2"),
        ("ReduceSum", 11, (2, 3), {"axes": [1, -1]}, r"axes contain duplicates: \[1, -1\]"),
        ("ArgMax", 13, (2, 3), {"axis": -3}, "out of range"),
        ("ArgMin", 13, (2, 0), {"axis": 1}, r"axis 1 of shape \(2, 0\) is empty"),
    ],
)
def test_refusals(name: str, opset: int, shape: tuple[int, ...], attributes: dict[str, Any], message: str) -> None:
    entry = lookup("", name, opset)
    assert entry.shape is not None
    with pytest.raises(OpError, match=message):
        entry.function(normal(*shape), **attributes)
    with pytest.raises(OpError, match=message):
        entry.shape(*infos(shape), **attributes)


def test_axes_have_to_be_a_list() -> None:
    with pytest.raises(OpError, match="axes should be a list"):
        run("ReduceSum", normal(2, 3), integers(0, 1)[None])


def test_shape_depends_on_axes_that_are_not_constant() -> None:
    rule = lookup("", "ReduceSum", 13).shape
    assert rule is not None
    (x,) = infos((2, 3))
    assert rule(x, Info(np.dtype(np.int64), (1,)), keepdims=1) == Info(x.dtype, None)
    assert rule(x, Info(np.dtype(np.int64), (1,), integers(1)), keepdims=0) == Info(x.dtype, (2,))
