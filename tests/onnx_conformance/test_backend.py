from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from multiprocessing import connection
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from onnx_conformance import ConformanceError, workers
from onnx_conformance.cli import main
from onnx_conformance.runtimes import RUNTIMES, UNFUSED
from onnx_conformance.runtimes.base import Runtime
from onnx_conformance.suite import command as backend
from onnx_conformance.suite.cases import Case
from onnx_conformance.suite.check import CheckCase, run_case
from onnx_conformance.suite.expected import read_expected, surprises
from onnx_conformance.suite.reports import CaseRow, Summary, as_json, write_html, write_junit
from onnx_conformance.workers import CRASHED, FAILED, PASSED, TIMED_OUT, UNSUPPORTED, run_jobs
from tests.onnx_conformance.runtimes import DEAD, HOSTILE, MISSING, NEVER


@pytest.fixture(scope="module")
def suite(onnx_cases: list[Case]) -> dict[str, Case]:
    return {case.name: case for case in onnx_cases}


@pytest.fixture
def quick(suite: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with the suite loaded already."""
    monkeypatch.setattr(backend, "load_suite", lambda: list(suite.values()))


# -- the suite --------------------------------------------------------------------------


def test_cases_know_their_operator(suite: dict[str, Case]) -> None:
    operators = {
        "test_abs": "Abs",
        "test_clip_expanded": "Clip",
        "test_logsoftmax_axis_0_expanded_ver18": "LogSoftmax",
        "test_ai_onnx_ml_label_encoder_string_int": "ai.onnx.ml.LabelEncoder",
        "test_resnet50": "several",
    }
    assert {name: suite[name].operator for name in operators} == operators


def test_light_models_are_fed_a_ramp_and_have_outputs(suite: dict[str, Case]) -> None:
    (data,) = suite["test_squeezenet"].data_sets
    (image,) = data.feeds.values()
    np.testing.assert_array_equal(image.ravel(), (np.arange(image.size) / image.size).astype(np.float32))
    assert [output.shape for output in data.expected] == [(1, 1000, 1, 1)]


def test_sequences_and_optionals_are_lists_and_none(suite: dict[str, Case]) -> None:
    (data,) = suite["test_sequence_insert_at_back"].data_sets
    assert isinstance(data.expected[0], list)
    (data,) = suite["test_optional_has_element_empty_optional_input"].data_sets
    assert list(data.feeds.values()) == [None]


# -- workers ----------------------------------------------------------------------------


def test_a_crash_or_a_hang_costs_one_case(suite: dict[str, Case], monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on beside a case that hangs; when all of them are done, its time is declared to be over."""
    names = [
        "test_abs",
        "test_acosh",
        "test_neg",
        "test_add",
        "test_acos",
        "test_exp",
        "test_sub",
        "test_mul",
        "test_log",
    ]
    outcomes: dict[str, tuple[str, str]] = {}
    now, wait = time.monotonic, connection.wait
    clock = SimpleNamespace(
        monotonic=lambda: now() + (1e5 if len(outcomes) == len(names) - 1 else 0), perf_counter=time.perf_counter
    )
    monkeypatch.setattr(workers, "time", clock)
    monkeypatch.setattr(workers.connection, "wait", lambda objects, seconds: wait(objects, min(seconds, 0.05)))
    for i, outcome in run_jobs([CheckCase(suite[name]) for name in names], HOSTILE, 2, timeout=3600):
        outcomes[names[i]] = outcome.status, outcome.message
    assert {name: status for name, (status, _) in outcomes.items()} == {
        "test_abs": CRASHED,
        "test_acos": CRASHED,
        "test_acosh": TIMED_OUT,
        "test_add": FAILED,
        "test_sub": FAILED,
        "test_mul": UNSUPPORTED,
        "test_neg": PASSED,
        "test_exp": PASSED,
        "test_log": PASSED,
    }
    assert "SIGABRT" in outcomes["test_abs"][1]
    assert "hostile.c:1" in outcomes["test_abs"][1]
    assert "exit code 3" in outcomes["test_acos"][1]
    assert list(outcomes)[-1] == "test_acosh"
    assert "3600 s" in outcomes["test_acosh"][1]
    assert "panicked" in outcomes["test_add"][1]


@pytest.mark.parametrize(("runtime", "cause"), [(NEVER, "library of 1996"), (DEAD, "can't be started")])
def test_a_runtime_that_never_starts(suite: dict[str, Case], runtime: Runtime, cause: str) -> None:
    with pytest.raises(ConformanceError, match=cause):
        list(run_jobs([CheckCase(suite["test_abs"])], runtime, 2, timeout=3600))


def test_an_interrupt_ends_everything() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        (worker,) = [int(pid) for pid in process.stdout.readline().split()]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (130, "")
    assert not Path(f"/proc/{worker}/status").exists()


INTERRUPTED = """
import multiprocessing, sys, threading, time
from onnx import parser
from onnx_conformance.suite.cases import Case
from onnx_conformance.workers import run_jobs
from onnx_conformance.suite.check import CheckCase
from tests.onnx_conformance.runtimes import HOSTILE

def tell():
    while not multiprocessing.active_children():
        time.sleep(0.01)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)

if __name__ == "__main__":
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[3] x) => (float[3] y) { y = Acosh (x) }'
    cases = [CheckCase(Case("acosh", "node", "Acosh", parser.parse_model(text).SerializeToString(), [], 0, 0))]
    threading.Thread(target=tell).start()
    try:
        list(run_jobs(cases, HOSTILE, 1, timeout=3600))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("name", ["tinyonnx", UNFUSED, "reference", "onnxruntime"])
def test_runtimes_that_tests_have(suite: dict[str, Case], name: str) -> None:
    runtime = RUNTIMES[name]
    prepare = runtime.start()
    for case in ("test_softmax_axis_1", "test_sequence_insert_at_back", "test_Conv2d", "test_operator_conv"):
        assert run_case(suite[case], prepare, runtime).status == PASSED
    assert runtime.version()


def test_a_runtime_that_is_not_installed() -> None:
    with pytest.raises(ConformanceError, match="pip install no-such-package"):
        MISSING.check_installed()


# -- expected failures ------------------------------------------------------------------


def test_expected_failures_are_strict() -> None:
    expected = {"b": "why", "c": "why", "d": "random: dice", "gone": "why"}
    passed = {"a": True, "b": False, "c": True, "d": True, "e": False}
    assert surprises(passed, expected, {*passed, "f"}) == [
        "gone: not in the suite, but listed",
        "c: passes, but is listed as a failure",
        "e: fails",
    ]


@pytest.mark.parametrize(
    ("text", "cause"), [("name\n", "1: name has no reason"), ("# x\nn a\nn b\n", "3: n is listed twice")]
)
def test_lists_of_expected_failures_that_say_too_little(tmp_path: Path, text: str, cause: str) -> None:
    path = tmp_path / "expected.txt"
    path.write_text(text)
    with pytest.raises(ConformanceError, match=cause):
        read_expected(path)


# -- the command ------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [f"--{kind}={tmp_path / kind}" for kind in ("json", "html", "junit")]
    assert main(["backend", "--match", "^test_(relu|neg_example)", "--jobs", "1", "--ulp", *outputs]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^Relu +2 +2$", out, re.MULTILINE)
    assert "3 of 3 passed, 0 not as expected" in out
    data = json.loads((tmp_path / "json").read_text())
    assert [row["status"] for row in data["rows"]] == ["passed"] * 3
    assert "test_relu_expanded_ver18" in (tmp_path / "html").read_text()
    assert ET.parse(tmp_path / "junit").getroot().get("tests") == "3"


@pytest.mark.usefixtures("quick")
def test_command_with_a_list_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "expected.txt"
    listed.write_text("test_relu passes after all\ntest_relu_of_old isn't there\ntest_other doesn't match\n")
    arguments = ["backend", "--match", "^test_relu", "--jobs", "1", "--runtime", "reference", "--expected", str(listed)]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "test_relu: passes, but is listed as a failure" in out
    assert "test_relu_of_old: not in the suite, but listed" in out
    assert "test_other" not in out


@pytest.mark.usefixtures("quick")
def test_nothing_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backend", "--match", "no such case"]) == 1
    assert "no case" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--match", "("], ["--jobs", "0"], ["--timeout", "-1"], ["--runtime", "numpy"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["backend", *arguments])
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


# -- reports ----------------------------------------------------------------------------

ROWS = [
    CaseRow("test_good", "node", "Relu", PASSED, "", 0.001, 2.0, None),
    CaseRow("test_bad", "node", "Relu", FAILED, "x < y & \x00 </script> ü\nmore", 0.001, None, None),
    CaseRow("test_known", "simple", "Abs", UNSUPPORTED, "no Abs", 0.001, None, "no Abs yet"),
    CaseRow("test_crash", "simple", "Abs", CRASHED, "killed by SIGSEGV", 0.0, float("inf"), None),
    CaseRow("test_better", "simple", "Abs", PASSED, "", 0.0, 0.0, "was bad"),
    CaseRow("test_lucky", "simple", "Abs", PASSED, "", 0.0, 0.0, "random: dice"),
]
SUMMARY = Summary("peer", "1.0", 2.5, ROWS, ["test_gone: not in the suite, but listed", "test_bad: fails"])


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.script = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "input", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.script += data


def test_html(tmp_path: Path) -> None:
    write_html(SUMMARY, tmp_path / "page.html")
    page = _Page()
    page.feed((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.links == []
    start = page.script.index("const run = ") + len("const run = ")
    data, _ = json.JSONDecoder().raw_decode(page.script, start)
    assert data == json.loads(as_json(SUMMARY))
    assert data["rows"][1]["message"] == ROWS[1].message


def test_junit(tmp_path: Path) -> None:
    write_junit([SUMMARY], tmp_path / "junit.xml")
    root = ET.parse(tmp_path / "junit.xml").getroot()
    assert root.tag == "testsuites"
    found = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert found == {
        "test_good": [],
        "test_bad": ["failure"],
        "test_known": ["skipped"],
        "test_crash": ["error"],
        "test_better": ["failure"],
        "test_lucky": [],
        "test_gone": ["failure"],
    }
    assert [(s.get("name"), s.get("tests"), s.get("failures"), s.get("errors"), s.get("skipped")) for s in root] == [
        ("node", "2", "1", "0", "0"),
        ("simple", "4", "1", "1", "1"),
        ("expected failures", "1", "1", None, None),
    ]


def test_text() -> None:
    text = backend.text_report(SUMMARY, ulp=True)
    lines = [re.split(r"  +", line) for line in text.splitlines()]
    assert ["operator", "passed", "failed", "unsupported", "crashed", "all"] in lines
    assert ["Abs", "2", "1", "1", "4"] in lines
    assert ["total", "3", "1", "1", "1", "6"] in lines
    assert ["test_good", "Relu", "2"] in lines
    assert "test_bad: fails: x < y" in text
    assert "peer 1.0" in text.splitlines()[-1]
    assert "3 of 6 passed, 1 expected to fail, 2 not as expected" in text


def test_reasons_for_some_releases_only(tmp_path: Path) -> None:
    path = tmp_path / "expected.txt"
    path.write_text("test_old onnx<1.23: was wrong\ntest_new onnx>=1.23: is new\ntest_any a reason\n")
    assert set(read_expected(path, "1.22.1")) == {"test_old", "test_any"}
    assert set(read_expected(path, "1.23.0rc1")) == {"test_new", "test_any"}
    assert set(read_expected(path, "2.0.0")) == {"test_new", "test_any"}
