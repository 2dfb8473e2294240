"""Random numbers: their distributions by statistical tests of fixed seeds, seeds, types, shapes, refusals.

A test statistic is compared with what one sample in a thousand exceeds.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import onnx
import pytest

import tinyonnx
from tests.tinyonnx.ops.running import onnxruntime_outputs, run
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.limits import Limits

F32 = np.float32
FLOAT16, BFLOAT16, DOUBLE, INT32, INT64, BOOL = 10, 16, 11, 6, 7, 9
N = 20_000


def kolmogorov(sample, distribution) -> float:
    """Return the greatest distance between the sample's and the true distribution, times the root of its size."""
    ordered = np.sort(np.asarray(sample, np.float64).reshape(-1))
    true = np.array([distribution(v) for v in ordered])
    steps = np.arange(ordered.size + 1) / ordered.size
    return math.sqrt(ordered.size) * max((steps[1:] - true).max(), (true - steps[:-1]).max())


def correlation(sample) -> float:
    """Return the correlation of neighbours, in standard deviations of that of independent numbers."""
    x = np.asarray(sample, np.float64).reshape(-1)
    return abs(np.corrcoef(x[:-1], x[1:])[0, 1]) * math.sqrt(x.size)


ONE_IN_A_THOUSAND = 1.95
"""Value of Kolmogorov's distribution that one sample in a thousand exceeds."""


@pytest.mark.parametrize("seed", [0.0, 1.0, -2.5, 1e30])
@pytest.mark.parametrize(("mean", "scale"), [(0, 1), (3, 0.5), (-100, 20)])
@pytest.mark.parametrize("like", [False, True])
def test_normal_distribution(seed, mean, scale, like):
    attributes = {"mean": float(mean), "scale": scale, "seed": seed, "dtype": DOUBLE}
    if like:
        y = run("RandomNormalLike", np.zeros((N // 10, 10), np.int8), **attributes)
    else:
        y = run("RandomNormal", shape=[N // 10, 10], **attributes)
    assert y.shape == (N // 10, 10)
    distance = kolmogorov(y, lambda v: (1 + math.erf((v - mean) / scale / math.sqrt(2))) / 2)
    assert distance < ONE_IN_A_THOUSAND
    assert correlation(y) < 3.3


@pytest.mark.parametrize("seed", [0.0, 7.0, 0.1])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 5), (10, 10.5)])
@pytest.mark.parametrize("like", [False, True])
def test_uniform_distribution(seed, low, high, like):
    attributes = {"low": float(low), "high": float(high), "seed": seed, "dtype": DOUBLE}
    if like:
        y = run("RandomUniformLike", np.zeros((10, N // 10), object), **attributes)
    else:
        y = run("RandomUniform", shape=[10, N // 10], **attributes)
    assert y.shape == (10, N // 10)
    assert kolmogorov(y, lambda v: (v - low) / (high - low)) < ONE_IN_A_THOUSAND
    assert correlation(y) < 3.3


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16, 1])
def test_uniform_numbers_stay_below_the_end(dtype):
    y = run("RandomUniform", shape=[200_000], dtype=dtype, seed=1.0, low=1.0, high=2.0)
    assert y.min() >= 1
    assert (y < 2).all()
    assert (y == np.nextafter(np.array(2, y.dtype), np.array(1, y.dtype))).any() or dtype == 1


@pytest.mark.parametrize("seed", [3.0, 4.0])
def test_bernoulli(seed):
    p = np.repeat(np.array([0, 0.01, 0.3, 0.5, 0.95, 1], F32), N).reshape(6, N)
    y = run("Bernoulli", p, seed=seed)
    assert set(np.unique(y)) == {0, 1}
    spread = np.sqrt(p[:, 0] * (1 - p[:, 0]) / N)
    assert (np.abs(y.mean(axis=1) - p[:, 0]) <= 3.3 * spread).all()


@pytest.mark.parametrize("seed", [5.0, 6.0])
@pytest.mark.parametrize("dtype", [INT32, INT64])
def test_multinomial(seed, dtype):
    weights = np.array([[1, 2, 3, 4, 0, 10], [5, 5, 5, 5, 5, 0], [0, 0, 0, 0, 0, 1]])
    with np.errstate(divide="ignore"):
        logs = (np.log(weights) + np.array([[2], [-700], [90]])).astype(F32)
    y = run("Multinomial", logs, sample_size=N, dtype=dtype, seed=seed)
    assert y.dtype == (np.int32 if dtype == INT32 else np.int64)
    assert y.shape == (3, N)
    counts = np.array([np.bincount(row, minlength=6) for row in y])
    expected = weights / weights.sum(axis=1, keepdims=True) * N
    assert (counts[weights == 0] == 0).all()
    seen = weights > 0
    chi_squares = np.where(seen, (counts - expected) ** 2 / np.where(seen, expected, 1), 0).sum(axis=1)
    assert (chi_squares < 18.47).all()  # of 4 degrees of freedom; the third row has none and gives 0
    assert max(correlation(y[0]), correlation(y[1])) < 3.3


def test_multinomial_draws_like_onnxruntime_from_the_same_distribution():
    logs = np.log(np.array([[0.1, 0.2, 0.3, 0.4]], F32))
    (theirs,) = onnxruntime_outputs("Multinomial", logs, opset=13, sample_size=N, seed=1.0)
    ours = run("Multinomial", logs, sample_size=N, seed=1.0)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    a, b = np.bincount(ours[0], minlength=4), np.bincount(theirs[0], minlength=4)
    assert ((a - b) ** 2 / (a + b)).sum() < 16.27  # of 3 degrees of freedom


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("RandomNormal", [], {"shape": [3, 5], "mean": 2.0}),
        ("RandomUniform", [], {"shape": [3, 5], "low": -1.0}),
        ("RandomNormalLike", [np.zeros((3, 5), F32)], {}),
        ("RandomUniformLike", [np.zeros((3, 5), F32)], {}),
    ],
)
def test_types_and_shapes_like_onnxruntime(name, inputs, attributes):
    (theirs,) = onnxruntime_outputs(name, *inputs, opset=13, seed=1.0, **attributes)
    ours = run(name, *inputs, opset=13, seed=1.0, **attributes)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) == (np.float32, (3, 5))


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("RandomNormal", [], {"shape": [40]}),
        ("RandomUniform", [], {"shape": [40]}),
        ("RandomNormalLike", [np.zeros(40, F32)], {}),
        ("RandomUniformLike", [np.zeros(40, F32)], {}),
        ("Bernoulli", [np.full(80, 0.5, F32)], {}),
        ("Multinomial", [np.zeros((1, 40), F32)], {"sample_size": 40}),
    ],
)
def test_seeds(name, inputs, attributes):
    first = run(name, *inputs, seed=1.0, **attributes)
    np.testing.assert_array_equal(run(name, *inputs, seed=1.0, **attributes), first)
    for other in ({"seed": 1.5}, {"seed": -1.0}, {}):
        assert (run(name, *inputs, **other, **attributes) != first).any()
    assert (run(name, *inputs, **attributes) != run(name, *inputs, **attributes)).any()


def test_a_session_draws_anew_in_each_run_unless_seeded():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 15]>
        agraph () => (float[8] free, float[8] fixed, float[8] dropped) {
            free = RandomNormal <shape = [8]> ()
            fixed = RandomNormal <shape = [8], seed = 3.0> ()
            ones = Constant <value_floats = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]> ()
            dropped = Bernoulli (ones)
        }
    """)
    session = tinyonnx.InferenceSession(model.SerializeToString())
    (free, fixed, dropped), (free_2, fixed_2, _) = session.run(None, {}), session.run(None, {})
    assert (free != free_2).any()
    np.testing.assert_array_equal(fixed, fixed_2)
    assert (dropped == 1).all()


@pytest.mark.parametrize("number", [FLOAT16, BFLOAT16, 1, DOUBLE])
def test_declared_types(number):
    dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
    assert run("RandomNormal", shape=[2], dtype=number).dtype == dtype
    assert run("RandomUniformLike", np.zeros(2, object), dtype=number).dtype == dtype
    assert run("RandomNormalLike", np.zeros(2, dtype)).dtype == dtype
    assert run("Bernoulli", np.zeros(2, dtype)).dtype == dtype
    assert run("Bernoulli", np.ones(2, dtype), dtype=BOOL).tolist() == [True, True]
    assert run("Bernoulli", np.ones(2, dtype), dtype=INT64).dtype == np.int64
    assert run("RandomNormal", shape=[], dtype=number).shape == ()


# -- Dropout in training ----------------------------------------------------------------


@pytest.mark.parametrize("share", [None, 0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [F32, np.float16, ml_dtypes.bfloat16])
def test_dropout_in_training(share, dtype):
    x = np.ones((100, N // 100), dtype)
    ratio = None if share is None else np.array(share, F32)
    y = run("Dropout", x, ratio, np.array(True), seed=11).astype(F32)
    p = 0.5 if share is None else share
    kept = y != 0
    assert abs(kept.mean() - (1 - p)) <= 3.3 * math.sqrt(p * (1 - p) / N)
    np.testing.assert_array_equal(y[kept], np.array(1 / (1 - np.float32(p))).astype(dtype).astype(F32))
    assert p == 0 or correlation(kept) < 3.3


@pytest.mark.parametrize("seed", [-1, 2**40])
def test_dropout_takes_any_seed(seed):
    x = np.ones(100, F32)
    first = run("Dropout", x, None, np.array(True), seed=seed)
    np.testing.assert_array_equal(run("Dropout", x, None, np.array(True), seed=seed), first)


# -- refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "message"),
    [
        ("RandomNormal", [], {"shape": [-1]}, r"shape \[-1\] has a negative dimension"),
        ("RandomNormal", [], {"shape": [1], "dtype": INT32}, "floating-point type of 16 bits or more, not int32"),
        ("RandomNormal", [], {"shape": [1], "dtype": 17}, "not float8"),
        ("RandomNormal", [], {"shape": [1], "dtype": 99}, "unknown data type 99"),
        ("RandomNormal", [], {"shape": [1], "scale": -1.0}, "scale -1.0"),
        ("RandomNormal", [], {"shape": [1], "mean": math.nan}, "mean is nan"),
        ("RandomUniform", [], {"shape": [1], "low": 2.0}, "low is 2.0 and high 1.0"),
        ("RandomUniform", [], {"shape": [1], "high": math.inf}, "high inf"),
        ("RandomNormalLike", [np.zeros(1, np.int64)], {}, "not int64"),
        ("RandomUniformLike", [np.zeros(1, object)], {}, "not object"),
        ("Bernoulli", [np.array([0.5, 1.5], F32)], {}, "isn't between 0 and 1"),
        ("Bernoulli", [np.array([np.nan], F32)], {}, "isn't between 0 and 1"),
        ("Multinomial", [np.zeros(3, F32)], {}, r"should be \[batch, classes\]"),
        ("Multinomial", [np.zeros((2, 0), F32)], {}, r"should be \[batch, classes\]"),
        ("Multinomial", [np.zeros((2, 3), F32)], {"sample_size": -1}, "sample_size is -1"),
        ("Multinomial", [np.zeros((2, 3), F32)], {"dtype": 1}, "should be int32 or int64"),
        ("Multinomial", [np.full((2, 3), -np.inf, F32)], {}, "no finite greatest logarithm"),
        ("Multinomial", [np.full((2, 3), np.nan, F32)], {}, "no finite greatest logarithm"),
        ("Dropout", [np.ones(2, F32), np.ones(2, F32), np.array(True)], {}, "ratio has shape"),
        ("Dropout", [np.ones(2, F32), np.ones((), F32), np.array(True)], {}, "ratio is 1.0"),
    ],
)
def test_refusals_say_what_is_wrong(name, inputs, attributes, message):
    with pytest.raises(OpError, match=message):
        run(name, *inputs, **attributes)


def test_memory_bombs_are_refused(monkeypatch):
    monkeypatch.setattr("tests.tinyonnx.ops.running.Limits", lambda: Limits(max_tensor_bytes=1 << 20))
    for name in ("RandomNormal", "RandomUniform"):
        with pytest.raises(ResourceError, match="max_tensor_bytes"):
            run(name, shape=[10**6, 10**6])
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        run("Multinomial", np.zeros((2, 3), F32), sample_size=10**9)
