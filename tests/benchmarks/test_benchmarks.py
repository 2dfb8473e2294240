"""The code of the benchmarks; no speed is asserted."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from audiotag.features.mel import log_mel
from benchmarks import machine, model, report
from benchmarks.__main__ import input_shape, main, make_parser
from benchmarks.audio import make_samples
from benchmarks.baseline import LogMel
from benchmarks.peers import MODEL_PEERS
from benchmarks.start import run_process
from benchmarks.table import number, ratio, table
from benchmarks.turns import Case, Contender, Measurement, take_turns
from tinyonnx.codegen.processor import has_bfloat16
from tinyonnx.ort.options import PRECISIONS

SMALL = """
<ir_version: 8, opset_import: ["": 17]>
small (float[batch, 3, 5, 5] x, float[3, 4] y) => (float[batch, 2, 3, 3] conv, float[3, 2] product)
<float[2, 3, 3, 3] w = {WEIGHTS}, float[4, 2] m = {1, 2, 3, 4, 5, 6, 7, 8}>
{
    conv = Conv(x, w)
    product = MatMul(y, m)
}
""".replace("WEIGHTS", ", ".join(map(str, range(54))))


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.onnx"
    onnx.save(onnx.parser.parse_model(SMALL), path)
    return str(path)


def test_every_command_parses() -> None:
    args = make_parser().parse_args(["model", "mn04", "--seconds", "1,2.5", "--batch", "1,8", "--threads", "1,2"])
    assert (args.seconds, args.batch, args.threads) == ([1.0, 2.5], [1, 8], [1, 2])
    assert make_parser().parse_args(["--json", "--repeats", "3", "mel"]).json
    assert make_parser().parse_args(["clip", "--repeats", "3"]).repeats == 3


@pytest.mark.parametrize(
    "line", ["model --threads 0", "model --batch 1,", "model --shape x:1,a", "mel --seconds nan", "clip --repeats -1"]
)
def test_impossible_values_are_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(line.split())
    assert "error: argument" in capsys.readouterr().err


def test_input_shape() -> None:
    assert input_shape("x:0:1,3,48,320") == ("x:0", (1, 3, 48, 320))
    assert input_shape("scalar:") == ("scalar", ())


def test_table_is_aligned_markdown() -> None:
    text = table(["", "ms"], [["one", "1.5"], ["another", "–"]])
    assert text.splitlines() == ["|         |  ms |", "| ------- | --: |", "| one     | 1.5 |", "| another |   – |"]


def test_numbers() -> None:
    assert [number(v) for v in (0.01234, 1.5, 123.4, 12345.6, 0.0, None, math.nan)] == [
        "0.0123", "1.50", "123", "12346", "0.00", "–", "–",
    ]  # fmt: skip
    assert [ratio(1.0, 3.0), ratio(None, 1.0), ratio(1.0, 0.0)] == ["0.33", "–", "–"]


def test_flops_of_convolution_and_product(small: str) -> None:
    session = model.unoptimised(small)
    feeds = model.make_feeds(session.get_inputs(), {"x": (2, 3, 5, 5)})
    assert model.count_flops(session, feeds) == 2 * (2 * 2 * 3 * 3 * 27 + 3 * 2 * 4)


def test_symbolic_dimensions_need_a_shape(small: str) -> None:
    inputs = model.unoptimised(small).get_inputs()
    with pytest.raises(model.UsageError, match="input x has shape"):
        model.make_feeds(inputs, {})
    with pytest.raises(model.UsageError, match="no input is called z"):
        model.make_feeds(inputs, {"z": (1,)})


@pytest.mark.trials
def test_all_peers_agree_on_a_small_model(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    missing = [peer for peer in MODEL_PEERS if importlib.util.find_spec(peer.partition("_")[0]) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert main(["model", small, "--shape", "x:2,3,5,5", "--repeats", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (case,) = document["cases"]
    for measured in case["measurements"]:
        assert measured["absent"] is None
        # OpenVINO's default is bfloat16 where the processor has it
        assert measured["difference"] < 1e-3 or measured["name"] == "openvino"
        assert len(measured["wall"]) == len(measured["cpu"]) == 1
        assert measured["peak_mib"] > 10
    assert document["machine"]["fma_peak_gflops"] > 0


@pytest.mark.trials
def test_peers_agree_on_many_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "lengths", "mn01", "--count", "3", "--repeats", "1"]) == 0
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert (case["part"], [m["name"] for m in case["measurements"]]) == ("lengths", list(MODEL_PEERS[:-1]))
    found = {m["name"]: m for m in case["measurements"]}
    for name in ("tinyonnx", "onnxruntime", "onnxruntime_folded"):
        assert found[name]["difference"] < 1e-4
        assert len(found[name]["wall"]) == 1


@pytest.mark.trials
def test_clips_are_tagged_in_every_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "clip", "--model", "mn01", "--seconds", "1", "--repeats", "1"]) == 0
    cases = json.loads(capsys.readouterr().out)["cases"]
    assert [case["parameters"]["precision"] for case in cases] == list(PRECISIONS[: 1 + has_bfloat16()])
    for case in cases:
        assert [(m["name"], m["absent"], len(m["cpu"])) for m in case["measurements"]] == [
            ("audiotag", None, 1), ("script", None, 1)
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "reason"),
    [("benchmarks.nobody:run", "isn't installed"), ("os:_exit", "exit code 3"), ("os:abort", "SIGABRT")],
)
def test_who_fails_is_absent_with_a_reason(target: str, reason: str) -> None:
    arguments = {"status": 3} if target == "os:_exit" else {}
    (measured,) = take_turns([Contender("x", target, arguments)], threads=1, repeats=1, reference="x")
    assert measured.absent is not None
    assert reason in measured.absent
    text = report.details(Case("model", "title", [measured]), 1e9)
    assert f"x is absent: {measured.absent}" in text


def test_process_is_measured_and_its_failure_told(tmp_path: Path) -> None:
    import sys

    measured = Measurement("sleep")
    run_process([sys.executable, "-c", "import time; time.sleep(0.05)"], str(tmp_path), measured)
    assert measured.absent is None
    assert measured.wall[0] >= 0.05
    run_process([sys.executable, "-c", "raise SystemExit('no such luck')"], str(tmp_path), measured)
    assert measured.absent == "exit code 1: no such luck"


def test_baseline_computes_the_same_features() -> None:
    samples = make_samples(0.5)
    assert np.abs(LogMel()(samples) - log_mel(samples)).max() < 1e-4


def test_summary_has_a_line_for_each_model() -> None:
    pair = [Measurement("tinyonnx", wall=[0.008]), Measurement("onnxruntime", wall=[0.016])]
    text = report.summary([Case("model", "mn10, batch 8", pair, {"batch": 8}, 10**9), Case("mel", "mel", pair)])
    assert "| mn10, batch 8               |     1.00 | 2.00 (0.50) |" in text
    assert "| mel: ms | 8.00 |   16.0 |          0.50 |" in text


def test_summary_has_a_line_for_each_peer() -> None:
    lines = [Measurement(name, cpu=[cpu], peak_mib=50) for name, cpu in (("ours", 0.008), ("a", 0.016), ("b", 0.004))]
    text = report.summary([Case("lengths", "mn10", lines)])
    assert "| mn10, beside a: CPU ms   | 8.00 |   16.0 |          0.50 |" in text
    assert "| mn10, beside b: CPU ms   | 8.00 |   4.00 |          2.00 |" in text
    assert text.count("peak MiB") == 2


@pytest.mark.trials
def test_processes_tag_many_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "crawl", "--model", "mn01", "--count", "3", "--repeats", "1"]) == 0
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert [(m["name"], m["absent"], len(m["cpu"])) for m in case["measurements"]] == [
        ("audiotag", None, 1), ("audiotag, equal lengths", None, 1), ("script", None, 1)
    ]  # fmt: skip


def test_roofline() -> None:
    case = Case("model", "title", [Measurement("x", wall=[0.002])], {"threads": 2}, flops=10**8)
    assert report.roofline(case, case.measurements[0], 1e11) == pytest.approx(4.0)


def test_facts_name_no_place() -> None:
    assert set(machine.facts()) == {"cpu", "cores", "system", "python", "versions", "date"}
