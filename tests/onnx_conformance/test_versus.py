from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_conformance import ConformanceError
from onnx_conformance.cli import main
from onnx_conformance.runtimes import RUNTIMES, find_runtime
from onnx_conformance.runtimes.base import Runtime
from onnx_conformance.suite import command as suite_command
from onnx_conformance.suite.cases import load_folder
from onnx_conformance.suite.reports import CaseRow, Summary
from onnx_conformance.suite.versus import changes, histogram, write_matrix
from onnx_conformance.workers import FAILED, PASSED, UNSUPPORTED


def _write_case(folder: Path, operator: str, expected: list[float]) -> None:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> m (float[2] x) => (float[2] y) {{ y = {operator} (x) }}'
    )
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for name, values in (("input_0", [1.0, -2.0]), ("output_0", expected)):
        proto = numpy_helper.from_array(np.array(values, np.float32))
        (data / f"{name}.pb").write_bytes(proto.SerializeToString())


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    _write_case(tmp_path / "cases/neg", "Neg", [-1, 2])
    _write_case(tmp_path / "cases/deep/abs", "Abs", [1, 3])
    return tmp_path / "cases"


def test_folders_of_cases(cases: Path) -> None:
    found = {case.name: case for case in load_folder(cases)}
    assert set(found) == {"neg", "deep/abs"}
    assert (found["neg"].operator, found["neg"].opset, found["neg"].type) == ("Neg", 17, "float32")
    assert load_folder(cases / "neg")[0].name == "neg"


def test_folders_without_cases(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match="no folders"):
        load_folder(tmp_path)
    _write_case(tmp_path / "x", "Neg", [1, 2])
    (tmp_path / "x/model.onnx").write_bytes(b"no model")
    with pytest.raises(ConformanceError, match="x: "):
        load_folder(tmp_path)
    with pytest.raises(ConformanceError, match="there is no such folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(ConformanceError, match="is a file, not a folder"):
        load_folder(tmp_path / "x/model.onnx")


def test_several_runtimes_and_an_earlier_run(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ("json", "junit", "markdown", "matrix", "badge")
    files = [f"--{kind}={tmp_path / kind}" for kind in kinds]
    runtimes = ["--runtime", "reference", "--runtime", "onnxruntime-basic"]
    command = ["backend", "--folder", str(cases), "--jobs", "1", "--ulp", *runtimes]
    assert main([*command, *files]) == 1
    out = capsys.readouterr().out
    assert "operator  reference  onnxruntime-basic  cases" in out
    assert "deep/abs: fails" in out
    data = json.loads((tmp_path / "json").read_text())
    assert [(run["runtime"], len(run["rows"])) for run in data["runs"]] == [("reference", 2), ("onnxruntime-basic", 2)]
    suites = {suite.get("name") for suite in ET.parse(tmp_path / "junit").getroot()}
    assert suites == {"reference.folder", "onnxruntime-basic.folder"}
    assert "| Abs | 0 | 0 | 1 |" in (tmp_path / "markdown").read_text()
    assert "1 of 2" in ET.parse(tmp_path / "badge").getroot().get("aria-label", "")
    assert '"operator": "Neg"' in (tmp_path / "matrix").read_text()

    _write_case(cases / "new", "Floor", [1, -2])
    worse = cases / "neg/test_data_set_0/output_0.pb"
    worse.write_bytes(numpy_helper.from_array(np.array([5, 5], np.float32)).SerializeToString())
    better = cases / "deep/abs/test_data_set_0/output_0.pb"
    better.write_bytes(numpy_helper.from_array(np.array([1, 2], np.float32)).SerializeToString())
    assert main([*command, "--before", str(tmp_path / "json")]) == 1
    out = capsys.readouterr().out
    assert "1 got worse, 1 got better, 1 new, 0 gone" in out
    assert "neg: passed -> failed" in out
    assert "deep/abs: failed -> passed" in out


def test_an_interrupt_keeps_the_runtimes_that_are_finished(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = suite_command._summary

    def interrupted(runtime: Runtime, *arguments: Any) -> Summary:
        if runtime.name == "onnxruntime":
            raise KeyboardInterrupt
        return run(runtime, *arguments)

    monkeypatch.setattr(suite_command, "_summary", interrupted)
    runtimes = ["--runtime", "reference", "--runtime", "onnxruntime"]
    command = ["backend", "--folder", str(cases), "--jobs", "1", *runtimes, f"--json={tmp_path / 'json'}"]
    assert main(command) == 130
    out, errors = capsys.readouterr()
    assert "reference" in out
    assert "the reports have the results of reference" in errors
    assert json.loads((tmp_path / "json").read_text())["runtime"] == "reference"


def test_a_page_of_one_runtime_is_for_one(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["backend", "--folder", str(cases), "--runtime", "reference", "--runtime", "tinyonnx"]
    assert main([*command, "--html", str(tmp_path / "page")]) == 1
    assert "--matrix" in capsys.readouterr().err


def test_a_runtime_that_can_not_start_is_reported(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("json", "junit", "markdown", "matrix", "badge")
    files = [f"--{kind}={tmp_path / kind}" for kind in kinds]
    command = ["backend", "--folder", str(cases), "--match", "neg", "--jobs", "1"]
    cause = "backend:numpy has no function `prepare`"
    assert main([*command, "--runtime", "backend:numpy", "--runtime", "reference", *files]) == 1
    out = capsys.readouterr().out
    assert "backend:numpy, " in out
    assert cause in out
    assert "1 of 1 passed" in out
    runs = json.loads((tmp_path / "json").read_text())["runs"]
    assert [(run["runtime"], len(run["rows"]), cause in run["unavailable"]) for run in runs] == [
        ("backend:numpy", 0, True),
        ("reference", 1, False),
    ]
    assert cause in (tmp_path / "markdown").read_text()
    assert cause in (tmp_path / "matrix").read_text()
    assert "not run" in ET.parse(tmp_path / "badge").getroot().get("aria-label", "")
    failed = ET.parse(tmp_path / "junit").getroot().findall(".//failure")
    assert [cause in (each.get("message") or "") for each in failed] == [True]
    assert main([*command, "--runtime", "backend:numpy", "--runtime", "reference", "--before", f"{tmp_path}/json"]) == 1
    assert "reference since" in capsys.readouterr().out
    assert main([*command, "--runtime", "backend:numpy"]) == 1
    assert cause in capsys.readouterr().err


def test_outputs_are_checked_before_the_work(
    cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the work has begun")

    for name in ("suite.command.load_folder", "accuracy.measure", "fuzz.command.Campaign"):
        monkeypatch.setattr(f"onnx_conformance.{name}", never)
    (tmp_path / "file").write_text("")
    folder = str(tmp_path)
    for option in ("--json", "--html", "--matrix", "--markdown", "--badge", "--junit"):
        assert main(["backend", "--folder", str(cases), "--runtime", "reference", option, folder]) == 1
        assert capsys.readouterr().err == f"conformance: {folder}: is a folder, not a file\n"
    names = ["--runtime", "reference", "--runtime", "tinyonnx"]
    assert main(["accuracy", str(cases / "neg/model.onnx"), "--inputs", str(cases), *names, "--json", folder]) == 1
    assert capsys.readouterr().err == f"conformance: {folder}: is a folder, not a file\n"
    assert main(["fuzz", *names, "--output", f"{folder}/file"]) == 1
    assert capsys.readouterr().err == f"conformance: {folder}/file: is a file, not a folder\n"


@pytest.mark.parametrize(
    ("content", "module"),
    [
        ("import nothing_like_it", "broken_backend"),
        ("1 / 0", "broken_backend.part"),
        ("raise SystemExit(3)", "broken_backend"),
        ("import os; os._exit(4)", "broken_backend.part"),
    ],
)
def test_modules_of_others_are_imported_in_workers_only(
    content: str, module: str, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "broken_backend").mkdir()
    (tmp_path / "broken_backend/__init__.py").write_text(content)
    (tmp_path / "broken_backend/part.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    )
    name = f"backend:{module}"
    assert main(["backend", "--folder", str(cases), "--runtime", name]) == 1
    pair = ["--runtime", name, "--runtime", "reference"]
    assert main(["fuzz", *pair, "--time", "1s", "--output", str(tmp_path / "findings")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"conformance: {name} can't be started: ") for line in lines] == [True, True]
    assert "broken_backend" not in sys.modules


def test_the_version_is_that_of_the_worker(cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_conformance.runtimes.base.Runtime.version", lambda _: "read here")
    command = ["backend", "--folder", str(cases), "--match", "neg", "--runtime", "reference"]
    assert main([*command, "--json", str(tmp_path / "json")]) == 0
    assert json.loads((tmp_path / "json").read_text())["version"] == onnx.__version__


def test_a_runtime_that_dies_with_many_lines_is_one_in_reports(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = "import os\nos.write(2, b'\\x1b[31mno | licence\\nat all\\n')\nos._exit(4)\n"
    (tmp_path / "dying_backend.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    files = [f"--{kind}={tmp_path / kind}" for kind in ("junit", "markdown", "badge")]
    pair = ["--runtime", "backend:dying_backend", "--runtime", "reference"]
    assert main(["backend", "--folder", str(cases), *pair, *files]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "not run" in line)
    assert line.endswith("\\x1b[31mno | licence at all")
    (row,) = (line for line in (tmp_path / "markdown").read_text().splitlines() if line.startswith("| backend:dying"))
    assert "no \\| licence at all |" in row
    failed = ET.parse(tmp_path / "junit").getroot().findall(".//failure")
    assert any("no | licence at all" in (each.get("message") or "") for each in failed)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_is_blamed_on_the_file(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["backend", "--folder", str(cases), "--match", "neg", "--runtime", "reference"]
    for kind in ("json", "html", "junit", "markdown", "matrix", "badge"):
        assert main([*command, f"--{kind}", "/dev/full"]) == 1
        assert capsys.readouterr().err == "conformance: /dev/full: No space left on device\n"


ROWS = [
    CaseRow("a", "node", "Relu", PASSED, "", 0.0, 0.0, None, 13, "float32"),
    CaseRow("b", "node", "Relu", FAILED, "</script>", 0.0, None, None, 13, "float16"),
    CaseRow("c", "node", "Erf", UNSUPPORTED, "no Erf", 0.0, None, None, 13, "float16"),
    CaseRow("d", "node", "Exp", PASSED, "", 0.0, 3.0, None, 13, "float32"),
    CaseRow("e", "node", "Exp", PASSED, "", 0.0, float("inf"), None, 13, "float32"),
]


def test_histogram() -> None:
    assert [pair for pair in histogram(ROWS) if pair[1]] == [("0", 1), ("up to 4", 1), ("over 4096", 1)]


def test_changes_need_the_same_runtime() -> None:
    with pytest.raises(ConformanceError, match="has no peer, only other"):
        changes([{"runtime": "other", "rows": []}], Summary("peer", "1", 0.0, ROWS, []))


def test_earlier_runs_that_are_none(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (b"[]", b"\xff" * 1000):
        (tmp_path / "other").write_bytes(content)
        assert main(["backend", "--folder", str(cases), "--before", str(tmp_path / "other")]) == 1
        assert capsys.readouterr().err.endswith("other is not a result of --json\n")


def test_files_that_are_none(cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sound.wav").write_bytes(b"RIFF\xff")
    for option, path, message in (
        ("--expected", tmp_path / "sound.wav", "is not UTF-8 text"),
        ("--expected", tmp_path / "none", "No such file or directory"),
        ("--json", tmp_path / "none" / "run.json", "No such file or directory"),
        ("--html", tmp_path, "is a folder, not a file"),
    ):
        assert main(["backend", "--folder", str(cases), option, str(path)]) == 1
        assert capsys.readouterr().err == f"conformance: {path}: {message}\n"


def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["backend", "--jobs", "0"])
    error = "onnx-conformance backend: error: argument --jobs: '0' is not a number of processes"
    assert capsys.readouterr().err == f"{error} (see onnx-conformance backend --help)\n"


@pytest.mark.parametrize("arguments", [["--help"], ["backend", "--folder", "CASES"]])
def test_a_standard_output_that_takes_nothing(arguments: list[str], cases: Path) -> None:
    command = [sys.executable, "-c", "from onnx_conformance.cli import command; command()", *arguments]
    command = [str(cases) if word == "CASES" else word for word in command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for redirection, cause in ((">&-", " is closed"), (">/dev/full", ": No space left on device")):
        shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
        done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=600)
        assert (done.returncode, done.stderr) == (1, f"conformance: standard output{cause}\n")


class _Script(HTMLParser):
    text = ""

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() == "<script>":
            self.text += data


def test_page(tmp_path: Path) -> None:
    write_matrix([Summary("peer", "1", 0.0, ROWS, []), Summary("rival", "2", 0.0, ROWS, [])], tmp_path / "page.html")
    page = _Script()
    page.feed((tmp_path / "page.html").read_text())
    start = page.text.index("const { runs: everyRun } = ") + len("const { runs: everyRun } = ")
    data, _ = json.JSONDecoder().raw_decode(page.text, start)
    assert [run["runtime"] for run in data["runs"]] == ["peer", "rival"]
    assert data["runs"][0]["rows"][1]["message"] == "</script>"
    assert data["runs"][0]["rows"][4]["ulp"] is None


# -- runtimes by path and by command ----------------------------------------------------------

MODEL = '<ir_version: 8, opset_import: ["" : 17]> m (float[2] x) => (float[2] y) { y = Neg (x) }'
PROGRAM = """
import sys
import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

model, inputs, outputs = sys.argv[-3:]
feeds = dict(np.load(inputs))
if feeds["x"][0] == 7:
    sys.exit("seven is not for everybody")
if feeds["x"][0] == 8:
    sys.exit(0)
proto = onnx.load(model)
np.savez(outputs, **dict(zip([o.name for o in proto.graph.output], ReferenceEvaluator(proto).run(None, feeds))))
"""


def test_a_program_is_a_runtime(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    runtime = find_runtime(f"command:python {tmp_path / 'program.py'} --flag")
    runtime.check_installed()
    assert runtime.version() == ""
    run = runtime.start()(parser.parse_model(MODEL).SerializeToString())
    np.testing.assert_array_equal(run({"x": np.ones(2, np.float32)})[0], [-1, -1])
    with pytest.raises(ConformanceError, match="seven is not for everybody"):
        run({"x": np.full(2, 7, np.float32)})
    with pytest.raises(ConformanceError, match="no outputs"):
        run({"x": np.full(2, 8, np.float32)})


@pytest.mark.parametrize("name", ["backend:tinyonnx.backend", "backend:tinyonnx.backend:TinyonnxBackend"])
def test_a_backend_is_a_runtime(name: str) -> None:
    runtime = find_runtime(name)
    runtime.check_installed()
    run = runtime.start()(parser.parse_model(MODEL).SerializeToString())
    np.testing.assert_array_equal(run({"x": np.ones(2, np.float32)})[0], [-1, -1])


def test_runtimes_that_are_not_there() -> None:
    for name in ("nobody", "command:", "command:no-such-program", "backend:"):
        with pytest.raises(ConformanceError, match="there is no"):
            find_runtime(name)
    for name in ("command:python 'x", "command:' '"):
        with pytest.raises(ConformanceError, match=r"there is no|command of a shell"):
            find_runtime(name)
    for name in ("backend:.relative", "backend::Class", "backend:a-b", "backend:a..b"):
        with pytest.raises(ConformanceError, match="there is no module"):
            find_runtime(name)
    with pytest.raises(ConformanceError, match="pip install"):
        find_runtime("backend:no_such_package.module").check_installed()
    with pytest.raises(ConformanceError, match="prepare"):
        find_runtime("backend:json").start()


@pytest.mark.parametrize("level", ["disabled", "basic", "extended"])
def test_levels_of_onnxruntime(level: str) -> None:
    run = RUNTIMES[f"onnxruntime-{level}"].start()(parser.parse_model(MODEL).SerializeToString())
    np.testing.assert_array_equal(run({"x": np.ones(2, np.float32)})[0], [-1, -1])
