"""Models that break a rule of the specification are no findings, nor are results that it leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from onnx_conformance.fuzz.judge import REFUSED, VALUE, first_difference
from onnx_conformance.fuzz.referee import Referee
from onnx_conformance.fuzz.rounding import with_noise
from onnx_conformance.fuzz.undefined import open_results
from onnx_conformance.generate import inference
from onnx_conformance.generate.inference import inferred, isolated, with_values
from onnx_conformance.generate.sample import Sample
from onnx_conformance.generate.surround import in_branch, in_loop
from onnx_conformance.generate.validity import with_bodies
from onnx_conformance.runtimes import RUNTIMES
from onnx_conformance.workers import PASSED, Bench, JobOutcome, RunModel

_GRAMS = """max_gram_length = 1, min_gram_length = 1, max_skip_count = 0, mode = "TF", ngram_counts = [0],
    ngram_indexes = [0]"""


def _model(text: str, opset: int = 17, ml: int = 1) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "ai.onnx.ml" : {ml}]> {text}')


@pytest.mark.parametrize(
    ("text", "opset", "cause"),
    [
        ("m (float[1,1,2] x) => (float[a,b,c] y) { y = AveragePool <kernel_shape = [2], pads = [1, 0]> (x) }", 1, "7"),
        ("m (float[1,8,2] x, int64 a, int64 b) => (float[n,m,l,2] y) { y = STFT (x, a, , b) }", 17, "one-sided"),
        ("m (float[2,4] x, float[3] s) => (float[a,b] y) { y = PRelu (x, s) }", 17, "PRelu"),
        ("m (float[2,4] x, float[3] s) => (float[a,b] y) { y = LayerNormalization (x, s) }", 17, "LayerNorm"),
        (f"m (string[2] x) => (float[n] y) {{ y = TfIdfVectorizer <{_GRAMS}, pool_int64s = [2]> (x) }}", 24, "pool"),
        ("m (float[1,1,1,1,1] x, float[1,1,1,1,3] g) => (float[a,b,c,d,e] y) { y = GridSample (x, g) }", 17, "4 axes"),
        ("m (float[3,5] x, int64[3] t, float[6] w) => (float y) { y = SoftmaxCrossEntropyLoss (x, t, w) }", 12, "each"),
    ],
)  # fmt: skip
def test_models_that_break_a_rule(text: str, opset: int, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        inferred(_model(text, opset))


@pytest.mark.parametrize(
    ("text", "feeds", "cause"),
    [
        ("m (float[2] x, int64[1] s) => (float[n] y) { y = Squeeze (x, s) }", {"s": np.array([0])}, "Squeeze"),
        ("m (float[2] x, float[2] a) => (float[2] y) { y = Clip (x, a) }", {"a": np.zeros(2, "f")}, "one number"),
        ("m (float[2] x, float a) => (uint8[2] y) { y = QuantizeLinear (x, a) }", {"a": np.float32(0)}, "positive"),
    ],
)
def test_values_that_break_a_rule(text: str, feeds: dict[str, Any], cause: str) -> None:
    feeds = {"x": np.ones(2, np.float32), **{name: np.asarray(value) for name, value in feeds.items()}}
    with pytest.raises(ValueError, match=cause):
        with_values(_model(text), feeds)


def test_functions_of_the_specification_compute_the_same() -> None:
    body = with_bodies(_model('m (float[4] x) => (float[4] y) { y = Gelu <approximate = "tanh"> (x) }', 21))
    assert len(body.graph.node) > 5
    x = np.linspace(-2, 2, 4).astype(np.float32)
    expected = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    (y,) = RUNTIMES["reference"].start()(body.SerializeToString())({"x": x})
    np.testing.assert_allclose(y, expected, rtol=1e-5)


# -- onnx's inference in a worker ---------------------------------------------------------------


def test_a_model_that_ends_the_inference_is_refused_and_the_next_one_is_not() -> None:
    model = _model("m (float[2] x) => (float[2] y) { y = Abs (x) }")
    here = inferred(model)
    with isolated():
        assert inferred(model) == here
        with pytest.raises(ValueError, match="Reshape"):
            inferred(_model("m (float[2] x) => (float[1] y) { s = Constant <value_ints = [3]> () y = Reshape (x, s) }"))
        assert inference._worker is not None
        outcomes = inference._worker.run(_Abort())
        assert [outcome.status for outcome in outcomes.values()] == ["crashed"]
        assert inferred(model) == here
    assert inference._worker is None


class _Abort:
    """A job that ends its process, as onnx's inference does for some models."""

    def __call__(self, *_: object) -> JobOutcome:
        import os

        os.abort()


# -- results that are open --------------------------------------------------------------------


def _run(model: onnx.ModelProto, feeds: Any) -> list[Any] | None:
    with np.errstate(all="ignore"):
        return list(RUNTIMES["reference"].start()(model.SerializeToString())(dict(feeds)))


@pytest.mark.parametrize(
    ("text", "x", "y", "where", "between"),
    [
        ("m (float[4] x) => (int8[4] y) { y = Cast <to = 3> (x) }", np.float32([1.5, 127.9, 128, np.nan]),
         np.int8([1, 127, 0, 0]), [0, 0, 1, 1], (-128, 127)),
        ("m (int8[3] x) => (int8[3] y) { p = Constant <value_int = 2> () y = Pow (x, p) }", np.int8([3, -4, 12]),
         np.int8([9, 16, -112]), [0, 0, 1], (-128, 127)),
        ("m (int32[3] x) => (int32[3] y) { y = Add (x, x) }", np.int32([1, -(2**31), 2**30]),
         np.int32([2, 0, -(2**31)]), [0, 1, 1], (-(2**31), 2**31 - 1)),
        ("m (int32[1,2] x) => (int32[1,1] y) { y = ReduceMean <axes = [1]> (x) }", np.int32([[1, 2]]),
         np.int32([[1]]), [[1]], (1, 2)),
        ("m (int32[2] x) => (int32[2] y) { y = Div (x, x) }", np.int32([5, 0]), np.int32([1, 0]), [0, 1],
         (-(2**31), 2**31 - 1)),
        ("m (float[2] x) => (float y) { y = ReduceMax <keepdims = 0> (x) }", np.float32([1, np.nan]),
         np.float32(np.nan), True, None),
        ("m (float[0] x) => (float[1] y) { y = ReduceMean (x) }", np.zeros(0, np.float32), np.zeros(1, np.float32),
         [1], None),
    ],
)  # fmt: skip
def test_open_results(text: str, x: Any, y: Any, where: Any, between: tuple[int, int] | None) -> None:
    values = {"x": x, "y": np.asarray(y), "p": np.array(2)}
    found = open_results(_model(text), values, _run)
    assert found["y"].where.tolist() == np.array(where, bool).tolist()
    if between is not None:
        ends = found["y"].least[found["y"].where], found["y"].greatest[found["y"].where]
        assert (set(ends[0].tolist()), set(ends[1].tolist())) == ({between[0]}, {between[1]})


def test_results_that_the_specification_defines_are_not_open() -> None:
    model = _model("m (int32[3] x) => (int32[3] y) { two = Constant <value_int = 2> () t = Cast <to = 6> (two) "
                   "a = Div (x, t) y = Abs (a) }")  # fmt: skip
    values = {"x": np.int32([-3, 2, 5]), "two": np.array(2), "t": np.int32(2), "a": np.int32([-1, 1, 2]),
              "y": np.int32([1, 1, 2])}  # fmt: skip
    assert open_results(model, {k: np.asarray(v) for k, v in values.items()}, _run) == {}


def test_numbers_that_a_runtime_may_take_for_zero_are_noisy() -> None:
    model = _model("m (float[2] x) => (float[2] y) { y = Reciprocal (x) }")
    values = {"x": np.float32([1e-40, 1]), "y": np.float32([np.inf, 1])}
    runs = [_run(with_noise(model, values, np.random.default_rng(seed)), {"x": values["x"]}) for seed in range(8)]
    assert {bool(np.isinf(run[0][1])) for run in runs if run} == {False}
    model = _model("m (float[2] x, float c) => (float[2] y) { y = Mul (x, c) }")
    values = {"x": np.float32([1e-40, 1]), "c": np.array(1e38, np.float32), "y": np.float32([0.01, 1e38])}
    runs = [_run(with_noise(model, values, np.random.default_rng(seed)), {n: values[n] for n in "xc"})
            for seed in range(8)]  # fmt: skip
    assert len({bool(run[0][0] == 0) for run in runs if run}) == 2


def test_sizes_near_a_whole_number_get_noise_in_both_directions() -> None:
    model = _model("m (float[1,10] x, float[2] s) => (float[a,b] y) { y = Resize (x, , s) }")
    feeds = {"x": np.ones((1, 10), np.float32), "s": np.float32([1, 1.3])}
    values = {**feeds, "y": np.ones((1, 12), np.float32)}
    runs = [_run(with_noise(model, values, np.random.default_rng(seed), scales=True), feeds) for seed in range(8)]
    assert {run[0].shape for run in runs if run} == {(1, 12), (1, 13)}


# -- the referee --------------------------------------------------------------------------------


class _Answers:
    """A bench whose runtimes give fixed results for a model and run all others as onnx's reference."""

    def __init__(self, model: onnx.ModelProto, results: dict[str, Any]) -> None:
        self._model, self._results = model.SerializeToString(), results

    def run(self, job: RunModel, names: list[str] | None = None) -> dict[str, JobOutcome]:
        return {name: self._outcome(job, name) for name in names or list(self._results)}

    def _outcome(self, job: RunModel, name: str) -> JobOutcome:
        if job.model != self._model:
            return job(RUNTIMES["reference"].start(), RUNTIMES["reference"])
        given = self._results[name]
        return JobOutcome("failed", given) if isinstance(given, str) else JobOutcome(PASSED, outputs=[[given]])


def _kind(model: onnx.ModelProto, feeds: dict[str, Any], **results: Any) -> str:
    return Referee(_Answers(model, results), list(results)).judge(model, feeds).kind  # type: ignore[arg-type]


def test_what_the_function_of_an_operator_leaves_by_cancelling_is_no_difference() -> None:
    model = _model('m (float x) => (float y) { y = Gelu <approximate = "tanh"> (x) }', 21)
    feeds = {"x": np.array(-4.0, np.float32)}
    near = np.array(-7.021427e-05, np.float32), np.array(-7.009506225585938e-05, np.float32)
    assert _kind(model, feeds, reference=near[0], b=near[1]) == ""
    assert _kind(model, feeds, reference=near[0], b=np.array(-1e-04, np.float32)) == VALUE


def test_the_rounding_of_whole_results_is_open_by_one() -> None:
    model = _model('m (uint8[1,1,1,2] x, float[4] s) => (uint8[1,1,1,4] y) { y = Resize <mode = "linear"> (x, , s) }')
    feeds = {"x": np.uint8([[[[0, 5]]]]), "s": np.float32([1, 1, 1, 2])}
    down, up = np.uint8([[[[0, 1, 3, 5]]]]), np.uint8([[[[0, 2, 4, 5]]]])
    assert _kind(model, feeds, reference=down, b=up) == ""
    assert _kind(model, feeds, reference=down, b=up + np.uint8(1)) == VALUE


@pytest.mark.parametrize(
    ("text", "feeds", "right", "wrong"),
    [
        ("int32[1,4] x, float[2] s) => (int32[1,8] y) { y = Resize (x, , s) }",
         {"x": np.int32([[0, 50, 100, 7]]), "s": np.float32([1, 2])}, np.int32([[0, 0, 50, 50, 100, 100, 7, 7]]),
         np.int32([[0, 0, 50, 51, 100, 100, 7, 7]])),
        ('int32[1,2] x, float[2] s) => (int32[1,4] y) { y = Resize <mode = "linear"> (x, , s) }',
         {"x": np.int32([[0, 50]]), "s": np.float32([1, 2])}, np.int32([[0, 12, 37, 50]]),
         np.int32([[0, 14, 37, 50]])),
        ("int32[3] x) => (int32[3] y) { y = Add (x, x) }", {"x": np.int32([2**30, 2**30, 4])},
         np.int32([-(2**31), -(2**31), 8]), np.int32([2**31 - 1, 2**31 - 1, 9])),
        ("float[3] x) => (float[3] y) { y = Relu (x) }", {"x": np.float32([np.nan, -1, 2])},
         np.float32([np.nan, 0, 2]), np.float32([0, -1, 2])),
        ("float[3] x) => (int8[3] y) { y = Cast <to = 3> (x) }", {"x": np.float32([300, np.nan, 3.5])},
         np.int8([44, 0, 3]), np.int8([127, -128, 4])),
        ("int64[2] x) => (string[2] y) { y = Cast <to = 8> (x) }", {"x": np.int64([2049, 1])},
         np.array(["2049", "1"], object), np.array(["2050", "1"], object)),
    ],
    ids=["nearest", "linear", "overflow", "nan", "cast", "text"],
)  # fmt: skip
def test_what_is_defined_beside_open_results_is_a_difference(text: str, feeds: Any, right: Any, wrong: Any) -> None:
    assert _kind(_model(f"m ({text}"), feeds, reference=right, b=right) == ""
    assert _kind(_model(f"m ({text}"), feeds, reference=right, b=wrong) == VALUE


@pytest.mark.parametrize(("greatest", "read"), [(False, -128), (True, 127)])
def test_nodes_read_the_ends_of_open_results(greatest: bool, read: int) -> None:
    model = _model("m (float[2] x) => (int8[2] y, int32[2] z) { y = Cast <to = 3> (x) z = Cast <to = 6> (y) }")
    values = {"x": np.float32([3, 300]), "y": np.int8([3, 44]), "z": np.int32([3, 44])}
    found = open_results(model, values, _run)
    run = _run(with_noise(model, values, np.random.default_rng(0), False, found, greatest), {"x": values["x"]})
    assert run is not None
    assert run[1].tolist() == [3, read]
    assert run[0][1] != read  # an output is compared with its ends


def test_a_refusal_of_what_is_open_is_no_difference() -> None:
    model = _model("m (float[2] x, float s) => (uint8[2] y) { y = QuantizeLinear (x, s) }")
    feeds = {"x": np.float32([1, np.nan]), "s": np.array(1, np.float32)}
    assert _kind(model, feeds, reference=np.uint8([1, 0]), b=np.uint8([1, 0]), c="not a number") == ""
    feeds["x"] = np.float32([1, 2])
    assert _kind(model, feeds, reference=np.uint8([1, 2]), b=np.uint8([1, 2]), c="no reason") == REFUSED


def test_numbers_as_strings_may_have_any_further_digits() -> None:
    texts = np.array(["0.479", "inf", "a"], object), np.array(["0.47900391", "INF", "a"], object)
    assert first_difference([texts[0]], [texts[1]], []) is None
    assert first_difference([texts[0]], [np.array(["0.478", "inf", "a"], object)], []) is not None


def test_a_refusal_that_the_sizes_of_the_inference_explain_is_no_difference() -> None:
    pool = "AveragePool <ceil_mode = 1, kernel_shape = [2, 4], pads = [0, 1, 1, 2], strides = [3, 3]> (x)"
    branches = ", ".join(f"{n}_branch = {n} () => (float[1,1,a,b] {n}y) {{ {n}y = {pool} }}" for n in ("then", "else"))
    model = inferred(_model(f"m (float[1,1,1,2] x, bool c) => (float[1,1,a,b] y) {{ y = If <{branches}> (c) }}", 19))
    feeds = {"x": np.ones((1, 1, 1, 2), np.float32), "c": np.array(True)}
    one = np.ones((1, 1, 1, 1), np.float32)
    assert _kind(model, feeds, reference=one, b=one, c="another shape") == ""
    plain = inferred(_model("m (float[1,1,1,2] x) => (float[1,1,1,2] y) { y = Abs (x) }"))
    ones = np.ones((1, 1, 1, 2), np.float32)
    assert _kind(plain, {"x": ones}, reference=ones, b=ones, c="another shape") == REFUSED


@pytest.mark.parametrize("around", [in_branch, in_loop])
def test_what_is_open_in_a_subgraph_is_open(around: Any) -> None:
    model = _model("m (float[2] x) => (int8[2] y) { y = Cast <to = 3> (x) }")
    sample = around(np.random.default_rng(0), Sample(model, {"x": np.float32([3, 300])}, ""))
    values = np.int8([[3, 127], [3, 44], [4, 44]])
    if around is in_loop:
        values = np.repeat(values[:, None], int(sample.feeds["count"]), axis=1)
    assert _kind(sample.model, sample.feeds, reference=values[0], b=values[1]) == ""
    assert _kind(sample.model, sample.feeds, reference=values[0], b=values[2]) == VALUE


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench([RUNTIMES["tinyonnx"], RUNTIMES["reference"]], timeout=600) as bench:
        yield bench


def test_casts_beyond_the_type_are_no_difference(bench: Bench) -> None:
    model = _model("m (float[3] x) => (uint8[3] y) { y = Cast <to = 2> (x) }")
    feeds = {"x": np.float32([3, 300, np.inf])}
    assert Referee(bench, ["tinyonnx", "reference"]).judge(model, feeds).kind == ""
