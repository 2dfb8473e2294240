"""The fuzzer finds planted faults of a runtime, reduces them to the operator, and takes rounding for no difference."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ml_dtypes import bfloat16
from onnx import TensorProto, numpy_helper, parser

import tinyonnx
from onnx_conformance import ConformanceError, reproduce
from onnx_conformance.cli import main
from onnx_conformance.fuzz.campaign import Campaign, Settings
from onnx_conformance.fuzz.findings import _write_value, describe, write_finding
from onnx_conformance.fuzz.judge import REFUSED, SHAPE, TYPE, VALUE, first_difference, groups, is_off
from onnx_conformance.fuzz.referee import Referee, Verdict
from onnx_conformance.fuzz.rounding import with_noise
from onnx_conformance.fuzz.shrink import _plainer, shrunk
from onnx_conformance.fuzz.widen import slack
from onnx_conformance.generate import surround
from onnx_conformance.generate.inference import inferred
from onnx_conformance.generate.sample import Sample
from onnx_conformance.generate.source import SampleSource
from onnx_conformance.runtimes import RUNTIMES
from onnx_conformance.suite.cases import load_folder
from onnx_conformance.workers import FAILED, PASSED, Bench, JobOutcome, RunModel
from tests.onnx_conformance.runtimes import HOSTILE, UNREADABLE, WRONG_TANH


@pytest.fixture(scope="module")
def source(loaded_suite: None) -> SampleSource:
    return SampleSource(1)


@pytest.fixture(scope="module")
def referee() -> Iterator[Referee]:
    with Bench([WRONG_TANH, RUNTIMES["onnxruntime"], RUNTIMES["reference"]], timeout=600) as bench:
        yield Referee(bench, ["wrong-tanh", "onnxruntime", "reference"])


def _model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


# -- what counts as different ---------------------------------------------------------------


def test_rounding_is_no_difference(referee: Referee) -> None:
    cancelling = _model("m (float[1,64] x, float[64,1] y) => (float[1,1] z) { z = MatMul (x, y) }")
    r = np.random.default_rng(0)
    x = r.standard_normal((1, 64)).astype(np.float32) * 1000
    y = np.ones((64, 1), np.float32)
    y[-1] = -x[0, :-1].sum() / x[0, -1]
    assert referee.judge(cancelling, {"x": x, "y": y}).kind == ""


def test_rounding_of_narrow_types_is_no_difference() -> None:
    sums = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> m (bfloat16[n] x, int64[1] a) => (bfloat16[1] y) '
        "{ y = ReduceMean (x, a) }"
    )
    feeds = {"x": np.ones(1000, bfloat16), "a": np.zeros(1, np.int64)}
    names = ["tinyonnx-unfused", "reference", "onnxruntime"]
    with Bench([RUNTIMES[name] for name in names], timeout=600) as bench:
        referee = Referee(bench, names)
        verdict = referee.judge(sums, feeds)
        results = [float(outcome.outputs[0][0][0]) for outcome in verdict.outcomes.values() if outcome.outputs]
        assert max(results) > 2 * min(results)  # one of them adds in bfloat16
        assert verdict.kind == ""


def test_what_constants_of_a_formula_leave_is_no_difference(referee: Referee) -> None:
    model = _model("m (int32 n, float[1] c) => (float[1] z) { y = BlackmanWindow (n) z = Div (c, y) }")
    verdict = referee.judge(model, {"n": np.array(1, np.int32), "c": np.ones(1, np.float32)})
    results = [outcome.outputs[0][0] for outcome in verdict.outcomes.values() if outcome.outputs]
    assert len({float(result[0]) for result in results}) > 1
    assert verdict.kind == ""


def test_the_sign_of_a_zero_is_no_difference() -> None:
    model = _model("m (float[1] x, float[1] c) => (float[1] z) { y = Mul (x, x) z = Div (c, y) }")
    feeds = {"x": np.zeros(1, np.float32), "c": np.ones(1, np.float32)}
    run = RUNTIMES["onnxruntime-disabled"].start()
    values = {**feeds, "y": np.zeros(1, np.float32), "z": np.array([np.inf], np.float32)}
    noisy = [with_noise(model, values, np.random.default_rng(seed)) for seed in range(4)]
    runs = [[values["z"]], *(run(each.SerializeToString())(feeds) for each in noisy)]
    assert first_difference([np.array([-np.inf], np.float32)], [values["z"]], runs) is None


def test_numbers_without_axes_stay_arrays() -> None:
    for plain in _plainer(np.array(0.123, np.float32)):
        assert isinstance(plain, np.ndarray)


def test_runtimes_may_calculate_in_the_type_of_an_input() -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 20]> m (float[1,1,2,2] x, float16[1,1,1,2] g) => (float[1,1,1,1] y) '
        "{ y = GridSample (x, g) }"
    )
    feeds = {"x": np.ones((1, 1, 2, 2), np.float32), "g": np.zeros((1, 1, 1, 2), np.float16)}
    assert slack(model, feeds)[2] == "float16"
    near, far = [np.float32([1.001])], [np.float32([1.1])]
    truth = [np.float32([1.0])]
    assert [is_off(near, truth, 1.0, 0.0), is_off(near, truth, 1.0, 0.0, "float16")] == [True, False]
    assert is_off(far, truth, 1.0, 0.0, "float16")


def test_float32_tells_who_is_wrong_in_double(referee: Referee) -> None:
    text = "m (double[4] x) => (double[4] y) { a = Hardmax (x) y = Tanh (a) }"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}')
    verdict = referee.judge(model, {"x": np.arange(4.0)})
    assert "onnxruntime" not in [name for group in verdict.groups for name in group]
    assert (verdict.kind, verdict.suspects) == (VALUE, ("wrong-tanh",))
    assert verdict.groups == [["reference"], ["wrong-tanh"]]


def test_a_model_that_nobody_runs_to_its_end_is_no_difference() -> None:
    model = _model("m (float[4] x) => (float[4] y) { a = Acosh (x) y = Sinh (a) }")
    with Bench([HOSTILE, WRONG_TANH], timeout=1) as bench:  # the first hangs, the second refuses
        assert Referee(bench, ["hostile", "wrong-tanh"]).judge(model, {"x": np.ones(4, np.float32)}).kind == ""


def test_a_package_that_one_operator_needs_is_no_difference() -> None:
    assert RUNTIMES["tinyonnx"].is_unsupported(tinyonnx.NodeError("needs RE2: pip install 'tinyonnx[regex]'"))
    assert RUNTIMES["reference"].is_unsupported(ModuleNotFoundError("No module named 'PIL'"))


def test_ties_of_exact_operators_count() -> None:
    a = [np.array([0.0, 2.0, 2.0], np.float32)]
    assert first_difference(a, [np.array([0.0, 2.0, 2.0], np.float32)], []) is None
    found = first_difference(a, [np.array([1.0, 2.0, 3.0], np.float32)], [])
    assert found is not None
    assert found.kind == VALUE
    model = _model("m (float[3] x) => (float[3] y) { y = Round (x) }")
    assert with_noise(model, {"x": a[0]}, np.random.default_rng(0)) == model


@pytest.mark.parametrize(
    ("ours", "kind"),
    [
        (np.zeros((2, 1), np.float32), SHAPE),
        (np.zeros(2, np.float64), TYPE),
        (np.array([0, np.nan], np.float32), VALUE),
        (np.array([0, 1e-3], np.float32), VALUE),
    ],
)
def test_kinds_of_differences(ours: np.ndarray, kind: str) -> None:
    found = first_difference([ours], [np.zeros(2, np.float32)], [])
    assert found is not None
    assert found.kind == kind


def test_whole_numbers_that_noise_moves_are_ties() -> None:
    runs = [[np.arange(8)], [np.where(np.arange(8) == 3, 4, np.arange(8))]]
    assert first_difference([np.arange(8)], [np.where(np.arange(8) == 3, 4, np.arange(8))], runs) is None
    assert first_difference([np.arange(8)], [np.where(np.arange(8) == 5, 4, np.arange(8))], runs) is not None


def test_elements_that_noise_missed_by_chance_are_no_difference() -> None:
    ours, others = np.zeros(64, np.float32), np.where(np.arange(64) == 5, 1e-6, 0).astype(np.float32)
    moved = np.where(np.arange(64) == 5, 0, 5e-7).astype(np.float32)
    assert first_difference([ours], [others], [[ours], [moved]]) is None
    rare = np.where(np.arange(64) == 7, 5e-7, 0).astype(np.float32)
    assert first_difference([ours], [others], [[ours], [rare]]) is not None


def test_groups() -> None:
    agree = {frozenset("ab"): False, frozenset("ac"): True, frozenset("bc"): False}
    assert groups(["a", "b", "c"], agree) == [["a", "c"], ["b"]]


def test_who_is_in_doubt(referee: Referee) -> None:
    model = _model("m (float[4] x) => (float[4] y) { a = Neg (x) b = Tanh (a) y = Relu (b) }")
    verdict = referee.judge(model, {"x": -np.ones(4, np.float32)})
    assert (verdict.kind, verdict.suspects) == (VALUE, ("wrong-tanh",))
    assert referee.judge(model, {"x": np.ones(4, np.float32)}).kind == ""
    refused = _model("m (float[4] x) => (float[4] y) { y = Sinh (x) }")
    verdict = referee.judge(refused, {"x": np.ones(4, np.float32)})
    assert (verdict.kind, verdict.suspects) == (REFUSED, ("wrong-tanh",))


def test_random_numbers_are_not_compared(referee: Referee) -> None:
    model = _model("m () => (float[4] y) { y = RandomNormal <shape = [4], seed = 1.0> () }")
    assert referee.judge(model, {}).kind == ""


def test_models_are_reduced_to_the_operator(referee: Referee) -> None:
    model = _model(
        "m (float[2,6] x, float[6,6] w) => (float[2,6] y) "
        "{ a = MatMul (x, w) b = Relu (a) c = Tanh (b) d = Neg (c) e = Softmax <axis = 1> (d) y = Add (e, a) }"
    )
    r = np.random.default_rng(0)
    feeds = {"x": r.standard_normal((2, 6)).astype(np.float32), "w": np.eye(6, dtype=np.float32)}
    verdict = referee.judge(model, feeds)
    values = referee.values(model, feeds, "onnxruntime")
    small, inputs = shrunk(model, feeds, values, lambda m, f: verdict.same_fault(referee.judge(m, f)), 600)
    assert [node.op_type for node in small.graph.node] == ["Tanh"]
    assert [array.size for array in inputs.values()] == [1]


def test_models_with_absent_inputs_are_reduced(referee: Referee) -> None:
    model = _model(
        "m (float[2,6] x, int64[1] s, int64[1] e) => (float[2,6] y) "
        "{ a = Neg (x) b = Slice (a, s, e, s, e) c = Tanh (b) y = Neg (c) }"
    )
    model.graph.node[1].input[3] = ""
    feeds = {"x": -np.ones((2, 6), np.float32), "s": np.array([0]), "e": np.array([1])}
    verdict = referee.judge(model, feeds)
    assert verdict.suspects == ("wrong-tanh",)
    values = referee.values(model, feeds, "onnxruntime")
    small, _ = shrunk(model, feeds, values, lambda m, f: verdict.same_fault(referee.judge(m, f)), 600)
    assert [node.op_type for node in small.graph.node] == ["Tanh"]


def test_declared_shapes_of_what_is_cut_are_forgotten(referee: Referee) -> None:
    model = _model("m (float[4,6] x) => (float[4,6] y) <float[4,6] a> { a = Tanh (x) y = Softmax <axis = 1> (a) }")
    verdict = referee.judge(model, {"x": np.ones((4, 6), np.float32)})
    small, inputs = shrunk(
        model, {"x": np.ones((4, 6), np.float32)}, None, lambda m, f: verdict.same_fault(referee.judge(m, f)), 600
    )
    assert inputs["x"].shape != (4, 6)
    assert not small.graph.value_info
    (output,) = small.graph.output
    assert [dim.WhichOneof("value") for dim in output.type.tensor_type.shape.dim] == [None, None]


@pytest.mark.parametrize("around", [surround.in_branch, surround.in_loop])
def test_nodes_are_taken_out_of_subgraphs(around: Callable[[np.random.Generator, Sample], Sample]) -> None:
    model = _model("m (float[4] x) => (float[4] y) { a = Neg (x) y = Tanh (a) }")
    sample = around(np.random.default_rng(0), Sample(model, {"x": np.ones(4, np.float32)}, ""))
    assert [node.op_type for node in sample.model.graph.node] in (["If"], ["Loop"])

    def shows(flat: onnx.ModelProto, feeds: dict[str, object]) -> bool:
        inferred(flat)
        kinds = [node.op_type for node in flat.graph.node]
        return (kinds, [v.name for v in flat.graph.output], list(feeds)) == (["Neg", "Tanh"], ["y"], ["x"])

    flat, _ = shrunk(sample.model, sample.feeds, None, shows, seconds=600)
    assert [node.op_type for node in flat.graph.node] == ["Neg", "Tanh"]


def test_faults_within_branches_are_reduced_to_the_operator(referee: Referee) -> None:
    model = _model("m (float[4] x) => (float[4] y) { y = Tanh (x) }")
    sample = surround.in_branch(np.random.default_rng(0), Sample(model, {"x": np.ones(4, np.float32)}, ""))
    verdict = referee.judge(sample.model, sample.feeds)
    assert verdict.suspects == ("wrong-tanh",)
    small, _ = shrunk(sample.model, sample.feeds, None, lambda m, f: verdict.same_fault(referee.judge(m, f)), 600)
    assert [node.op_type for node in small.graph.node] == ["Tanh"]


# -- a run ----------------------------------------------------------------------------------


def test_a_run_finds_a_planted_fault_and_goes_on(
    tmp_path: Path, source: SampleSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_conformance.fuzz.campaign.SampleSource", lambda *_: source)
    monkeypatch.setattr(source, "turns", [(("", "Tanh"), 13), (("", "Abs"), 13)])
    monkeypatch.setattr(source, "_only", frozenset({"Tanh"}))
    runtimes = [WRONG_TANH, RUNTIMES["onnxruntime"], RUNTIMES["reference"]]
    settings = Settings(1, 0.0, tmp_path, only="wrong-tanh")
    state = Campaign(runtimes, settings, lambda _: None).run()
    assert state.number == 0
    campaign = Campaign(runtimes, Settings(1, 1e9, tmp_path, timeout=600, only="wrong-tanh"), lambda _: None)
    draw = source.draw

    def draw_until_found(number: int) -> object:
        if any(cause["suspects"] == ["wrong-tanh"] for cause in campaign.state.causes.values()):
            raise KeyboardInterrupt
        return draw(number)

    monkeypatch.setattr(source, "draw", draw_until_found)
    with pytest.raises(KeyboardInterrupt):
        campaign.run()
    state = Campaign(runtimes, settings, lambda _: None).state
    assert state.number > 0
    (cause,) = (cause for cause in state.causes.values() if cause["suspects"] == ["wrong-tanh"])
    assert (cause["operators"], cause["nodes"]) == (["Tanh"], 1)
    place = tmp_path / cause["folder"]
    finding = json.loads((place / "finding.json").read_text())
    assert "reference" in finding["groups"][0]
    assert finding["groups"][-1] == ["wrong-tanh"]
    assert "With onnx's reference agree: " in (place / "README.md").read_text()
    (case,) = load_folder(place)
    assert case.operator == "Tanh"
    done = subprocess.run(
        [sys.executable, str(place / "reproduce.py")],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert "there is no runtime 'wrong-tanh'" in done.stderr


@pytest.mark.parametrize("runtime", ["onnxruntime-disabled", "reference", "tinyonnx-unfused"])
def test_scripts_run_with_onnx_and_the_runtime_alone(tmp_path: Path, runtime: str) -> None:
    model = _model("m (float[2] x) => (float[2] y) { y = Neg (x) }")
    feeds = {"x": np.ones(2, np.float32)}
    outcomes = {name: JobOutcome(PASSED, outputs=[[np.full(2, value, np.float32)]])
                for name, value in ((runtime, 5), ("a", -1), ("b", -1))}  # fmt: skip
    verdict = Verdict(VALUE, (runtime,), "differs", outcomes, [["a", "b"], [runtime]])
    finding = describe(model, feeds, verdict, {}, nodes_before=1, origin="here", seed=0, number=0, passes=[], drawn=[])
    place = write_finding(tmp_path, finding, model, feeds, verdict)
    script = (place / "reproduce.py").read_text()
    assert "import onnx_conformance" not in script
    assert "from onnx_conformance" not in script
    # the copy of the folder, and the original, beside which no module may have the name of a runtime
    for command in ([str(place / "reproduce.py")], [reproduce.__file__, str(place)]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["y should be float32[2] [-1. -1.]", "y is float32[2] [-1. -1.]"]


def test_scripts_know_types_that_numpy_lacks(tmp_path: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 13]> m (bfloat16[2] x) => (bfloat16[2] y) { y = Identity (x) }'
    )
    feeds = {"x": np.array([1, 2], onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16))}
    outcomes = {name: JobOutcome(PASSED, outputs=[[feeds["x"]]]) for name in ("onnxruntime", "a", "b")}
    verdict = Verdict(VALUE, ("onnxruntime",), "differs", outcomes, [["a", "b"], ["onnxruntime"]])
    finding = describe(model, feeds, verdict, {}, nodes_before=1, origin="here", seed=0, number=0, passes=[], drawn=[])
    place = write_finding(tmp_path, finding, model, feeds, verdict)
    script = [sys.executable, str(place / "reproduce.py")]
    for runtime in ([], [str(place), "tinyonnx"]):
        done = subprocess.run([*script, *runtime], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == ["y should be bfloat16[2] [1 2]", "y is bfloat16[2] [1 2]"]
    done = subprocess.run([*script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "it has no finding.json" in done.stderr


def test_folders_of_runtimes_with_any_name(tmp_path: Path) -> None:
    model, feeds = _model("m (float[2] x) => (float[2] y) { y = Neg (x) }"), {"x": np.ones(2, np.float32)}
    names = [f"command:sh -c '\"$0\" | /a*b? <{i} {'long ' * 60}'" for i in "\\/"]
    outcomes = {name: JobOutcome(PASSED, outputs=[[np.full(2, i, np.float32)]]) for i, name in enumerate(names)}
    verdict = Verdict(VALUE, tuple(names), "differs", outcomes, [[name] for name in names])
    finding = describe(
        model, feeds, verdict, {}, nodes_before=1, origin="here", seed=3, number=7, passes=[], drawn=["Neg", "Tanh"]
    )
    place = write_finding(tmp_path, finding, model, feeds, verdict)
    assert place.parent == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {finding.folder}
    folders = [path.name for path in (place / "outputs").iterdir()]
    assert len(folders) == 2
    assert all(re.fullmatch(r"[\w.+-]{1,120}", name) for name in (*folders, finding.folder))
    assert "fuzz --seed 3 --operator Neg --operator Tanh`, number 7" in (place / "README.md").read_text()


def test_an_interrupted_reduction_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model("m (float[2] x) => (float[2] y) { y = Tanh (x) }")
    sample = Sample(model, {"x": np.ones(2, np.float32)}, "here")
    monkeypatch.setattr(SampleSource, "draw", lambda *_: sample)
    runtimes = [WRONG_TANH, RUNTIMES["onnxruntime"], RUNTIMES["reference"]]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        campaign = Campaign(runtimes, Settings(1, 1e9, tmp_path, timeout=600), lambda _: None)
        with monkeypatch.context() as patch:
            patch.setattr("onnx_conformance.fuzz.campaign.shrunk", interrupted)
            with pytest.raises(KeyboardInterrupt):
                campaign.run()
        assert (campaign.state.number, campaign.state.differences, campaign.state.causes) == (0, 0, {})

    def found(_: str) -> None:
        raise KeyboardInterrupt

    campaign = Campaign(runtimes, Settings(1, 1e9, tmp_path, timeout=600), found)
    with pytest.raises(KeyboardInterrupt):
        campaign.run()
    assert len(campaign.state.causes) == 1


def test_outputs_that_can_not_be_read_fail_and_the_worker_goes_on() -> None:
    with Bench([UNREADABLE], timeout=600) as bench:
        for _ in range(2):
            outcome = bench.run(RunModel(b"", [{}]))["unreadable"]
            assert outcome.status == FAILED
            assert outcome.message.startswith("its outputs can't be read: ValueError: ")


def test_crashes_are_findings() -> None:
    with Bench([HOSTILE, RUNTIMES["onnxruntime"]], timeout=600) as bench:
        model = _model("m (float[2] x) => (float[2] y) { y = Abs (x) }")
        verdict = Referee(bench, ["hostile", "onnxruntime"]).judge(model, {"x": np.ones(2, np.float32)})
    assert (verdict.kind, verdict.suspects) == ("crashed", ("hostile",))


@pytest.mark.parametrize("other", [{"only": "tinyonnx"}, {"operators": frozenset({"Tanh"})}, {"seed": 2}])
def test_a_run_goes_on_with_the_same_options_only(tmp_path: Path, other: dict[str, Any]) -> None:
    runtimes = [RUNTIMES["tinyonnx"], RUNTIMES["reference"]]
    settings = Settings(1, 0.0, tmp_path, only="reference", operators=frozenset({"Abs", "Tanh"}))
    campaign = Campaign(runtimes, settings, lambda _: None)
    campaign._save()
    assert Campaign(runtimes, settings, lambda _: None).state == campaign.state
    with pytest.raises(ConformanceError, match=r"--seed 1 .*--only reference --operator Abs --operator Tanh; choose"):
        Campaign(runtimes, replace(settings, **other), lambda _: None)


@pytest.mark.parametrize(
    ("argv", "cause"), [(["--runtime", "tinyonnx"], "two runtimes"), (["--only", "tract"], "tract")]
)
def test_runs_that_make_no_sense(argv: list[str], cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", *argv]) == 1
    assert cause in capsys.readouterr().err


def test_an_operator_that_onnx_lacks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["fuzz", "--operator", "Sofmax", "--output", str(tmp_path / "findings")]) == 1
    assert "--operator Sofmax: onnx" in capsys.readouterr().err
    assert not (tmp_path / "findings").exists()


@pytest.mark.parametrize("argv", [["--time", "soon"], ["--runtime", "nobody"]])
def test_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fuzz", *argv])
    assert stop.value.code == 2
    assert argv[1] in capsys.readouterr().err


def test_strings_that_are_numbers_are_written(tmp_path: Path) -> None:
    """The reference pads strings with the number 0."""
    _write_value(tmp_path / "x.pb", np.array([["a", 0]], object), "x")
    found = numpy_helper.to_array(TensorProto.FromString((tmp_path / "x.pb").read_bytes()))
    assert found.tolist() == [["a", "0"]]
