from __future__ import annotations

import math as python_math

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops import running
from tests.tinyonnx.ops.running import check_against_onnxruntime, infos, normal, run
from tinyonnx.errors import OpError
from tinyonnx.ops import math
from tinyonnx.registry import lookup

UNARY = [
    *("Abs", "Neg", "Reciprocal", "Sqrt", "Exp", "Log", "Floor", "Ceil"),
    *("Round", "Sign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan"),
    *("Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Erf"),
]
ARITHMETIC = ["Add", "Sub", "Mul", "Div"]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.5, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("name", running.names_of(math))
def test_backend_cases(name: str) -> None:
    running.check_backend_cases(name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", [*UNARY, "IsNaN", "IsInf"])
def test_unary_keeps_the_type_and_is_quiet(name: str, dtype: type) -> None:
    x = np.array(SPECIAL, dtype)
    y = run(name, x, opset=22)
    expected = run(name, x.astype(np.float64), opset=22)
    assert y.dtype == (bool if name.startswith("Is") else dtype)
    tolerance = {2: 1e-2, 4: 1e-6, 8: 1e-15}[x.dtype.itemsize]
    np.testing.assert_allclose(y.astype(np.float64), expected, rtol=tolerance, atol=tolerance)
    assert run(name, x[4]).shape == ()


@pytest.mark.parametrize("name", sorted(set(UNARY) - {"Sign"}))  # onnxruntime gives sign(nan) = 0
def test_unary_specials_like_onnxruntime(name: str) -> None:
    check_against_onnxruntime(name, np.array(SPECIAL, np.float32), opset=13)


def test_erf_is_exact() -> None:
    tiny = np.logspace(-300, 0, 500)
    x = np.concatenate([np.linspace(-7, 7, 20_001), tiny, -tiny])
    expected = np.array([python_math.erf(v) for v in x])
    np.testing.assert_allclose(run("Erf", x), expected, rtol=1e-15)
    np.testing.assert_equal(run("Erf", np.array([np.nan, np.inf, -np.inf, -0.0])), [np.nan, 1, -1, -0.0])
    assert run("Erf", np.array([-3, 0, 1], np.int32), opset=9).tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_integer_division_truncates(dtype: type) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = [low, low + 1, -7, -2, -1, 0, 1, 2, 7, high - 1, high]
    a, b = (np.array(v, dtype).ravel() for v in np.meshgrid(values, [v for v in values if v not in (0, -1)]))
    expected = [abs(int(p)) // abs(int(q)) * (1 if (p < 0) == (q < 0) else -1) for p, q in zip(a, b)]
    y = run("Div", a, b)
    assert (y.dtype, y.tolist()) == (dtype, expected)


def test_division_by_zero_is_quiet() -> None:
    run("Div", np.array([1, -1], np.int32), np.array(0, np.int32))
    run("Div", np.array([-128], np.int8), np.array([-1], np.int8))
    np.testing.assert_equal(run("Div", np.array([1.0, -1, 0]), np.array(0.0)), [np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("name", [*ARITHMETIC, "Pow", "Mod", "Equal", "Greater", "Less", "Max", "Min"])
def test_binary_like_onnxruntime(name: str, dtype: type) -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(1 if name == "Pow" else -9, 9, (3, 1, 5)).astype(dtype)
    b = rng.integers(1, 5, (4, 1)).astype(dtype)
    attributes = {"fmod": 1} if name == "Mod" and np.dtype(dtype).kind == "f" else {}
    check_against_onnxruntime(name, a, b, opset=13, **attributes)


@pytest.mark.parametrize("name", [*ARITHMETIC, "Pow", "Max", "Min", "Sum", "Mean"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_floats(name: str, dtype: type) -> None:
    a, b = np.array([1.5, 2, 3], dtype), np.array([[2], [0.5]], dtype)
    expected = run(name, a.astype(np.float64), b.astype(np.float64)).astype(dtype)
    running.assert_same(run(name, a, b), expected, rtol=1e-2)


@pytest.mark.parametrize("exponent", [np.int8, np.int32, np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("base", [np.int32, np.int64, np.float16, np.float32, np.float64])
def test_pow_takes_the_type_of_the_base(base: type, exponent: type) -> None:
    y = run("Pow", np.array([-2, -1, 0, 1, 3], base), np.array(3, exponent), opset=15)
    assert (y.dtype, y.tolist()) == (base, [-8, -1, 0, 1, 27])


def test_integer_pow() -> None:
    x, y = np.array([1, -1, -1, 2, 3, -5]), np.array([-3, -3, -2, -1, -9, -1])
    assert run("Pow", x, y).tolist() == [1, -1, 1, 0, 0, 0]
    assert run("Pow", np.array([2, 3], np.int32), np.array([31, 40])).tolist() == [
        -(2**31),
        (3**40 + 2**31) % 2**32 - 2**31,
    ]
    assert run("Pow", np.array([3], np.uint64), np.array([40], np.uint64), opset=13).tolist() == [3**40]


def test_floating_mod_with_the_sign_of_the_divisor() -> None:
    a, b = np.array([5.5, -5.5, 5.5, -5.5], np.float32), np.array([2, 2, -2, -2], np.float32)
    assert run("Mod", a, b, opset=28).tolist() == [1.5, 0.5, -0.5, -1.5]
    assert run("Mod", a, b, opset=28, fmod=1).tolist() == [1.5, -1.5, 1.5, -1.5]


@pytest.mark.parametrize("opset", [1, 6])
@pytest.mark.parametrize(
    ("shape", "axis", "aligned"),
    [
        ((), None, ()),
        ((1, 1), None, (1, 1)),
        ((5,), None, (5,)),
        ((4, 5), None, (4, 5)),
        ((3, 4), 1, (1, 3, 4, 1)),
        ((2,), 0, (2, 1, 1, 1)),
        ((3, 1, 1), -3, (3, 1, 1)),
        ((5,), -1, (5,)),
    ],
)
def test_limited_broadcast(opset: int, shape: tuple[int, ...], axis: int | None, aligned: tuple[int, ...]) -> None:
    a, b = normal(2, 3, 4, 5), normal(*shape, seed=1)
    attributes = {"broadcast": 1} | ({} if axis is None else {"axis": axis})
    for name, expected in (("Sub", np.subtract), ("Pow", np.power), ("Greater", np.greater)):
        x = np.abs(a)
        running.assert_same(run(name, x, b, opset=opset, **attributes), expected(x, b.reshape(aligned)))
    p, q = a > 0, b > 0
    running.assert_same(run("Xor", p, q, opset=opset, **attributes), p ^ q.reshape(aligned))


@pytest.mark.parametrize(
    ("shape", "attributes", "message"),
    [
        ((1, 5), {}, "the attribute broadcast isn't set"),
        ((3, 4), {"broadcast": 1}, r"\(3, 4\) doesn't broadcast to \(2, 3, 4, 5\)"),
        ((3,), {"broadcast": 1, "axis": 2}, "at axis 2"),
        ((5,), {"broadcast": 1, "axis": 4}, "at axis 4"),
    ],
)
def test_limited_broadcast_refuses(shape: tuple[int, ...], attributes: dict[str, int], message: str) -> None:
    entry = lookup("", "Add", 6)
    assert entry.shape is not None
    with pytest.raises(OpError, match=message):
        entry.function(normal(2, 3, 4, 5), normal(*shape), **attributes)
    with pytest.raises(OpError, match=message):
        entry.shape(*infos((2, 3, 4, 5), shape), **attributes)


def test_clip_at_every_opset() -> None:
    x = np.array([-3, np.nan, 0, 3], np.float32)
    for opset in (1, 6):
        np.testing.assert_equal(run("Clip", x, opset=opset), x)
        np.testing.assert_equal(run("Clip", x, opset=opset, min=-1.0, max=2.0), [-1, np.nan, 0, 2])
        np.testing.assert_equal(run("Clip", x, opset=opset, max=0.5), [-3, np.nan, 0, 0.5])
    low, high = np.array(-1, np.float32), np.array([2], np.float32)
    for opset in (11, 13):
        np.testing.assert_equal(run("Clip", x, low, high, opset=opset), [-1, np.nan, 0, 2])
        np.testing.assert_equal(run("Clip", x, None, high, opset=opset), [-3, np.nan, 0, 2])
    infinite = np.array([-np.inf, np.inf], np.float32)
    assert run("Clip", infinite, opset=6).tolist() == [np.finfo("f4").min, np.finfo("f4").max]
    assert run("Clip", infinite, opset=1).tolist() == [-np.inf, np.inf]
    assert run("Clip", np.array([1, 9], np.int8), np.array(5, np.int8), np.array(3, np.int8)).tolist() == [3, 3]


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sum_like_onnxruntime(exclusive: int, reverse: int) -> None:
    for axis in (np.array(1, np.int64), np.array([-1], np.int32)):
        check_against_onnxruntime(
            "CumSum", normal(2, 3, 4), axis, opset=14, exclusive=exclusive, reverse=reverse, rtol=1e-5
        )
    x = np.array([[1, 2, 3], [4, 5, 6]], np.int8)
    assert run("CumSum", x[:, :0], np.array(1), exclusive=exclusive).shape == (2, 0)


def test_variadic_of_one_and_of_many() -> None:
    a, b, c = normal(2, 1), normal(1, 3, seed=1), normal(3, seed=2)
    for name in ("Max", "Min", "Sum", "Mean"):
        np.testing.assert_equal(run(name, a), a)
        check_against_onnxruntime(name, a, b, c, opset=8)


def test_where_and_equal_on_strings() -> None:
    x, y = np.array(["a", "b"], object), np.array(["a", "c"], object)
    assert run("Equal", x, y).tolist() == [True, False]
    assert run("Where", np.array([True, False]), x, y).tolist() == ["a", "c"]


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("Add", [normal(2, 3), normal(4)], {}, r"shapes \(2, 3\), \(4,\) don't broadcast"),
        ("Mul", [normal(2), normal(2, dtype=np.float64)], {}, "different types: float32, float64"),
        ("Pow", [normal(2), normal(3)], {}, "don't broadcast"),
        ("Max", [], {}, "needs at least one input"),
        ("Where", [np.array([True, False]), normal(3), normal(3)], {}, "don't broadcast"),
        ("BitShift", [np.array([1], np.uint8)] * 2, {"direction": "UP"}, "direction is 'UP'"),
        ("CumSum", [normal(2, 3), np.array(2)], {}, "axis 2 is out of range for an input of rank 2"),
        ("Clip", [normal(2), normal(2)], {}, "min should be a scalar"),
        ("Det", [normal(2, 3)], {}, "square"),
    ],
)
def test_refusals(name: str, inputs: list[np.ndarray], attributes: dict[str, str], message: str) -> None:
    with pytest.raises(OpError, match=message):
        lookup("", name, running.NEWEST).function(*inputs, **attributes)
