"""Every command and every Python block of README and docs runs as it stands."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

import audiotag.cli
import tinyonnx.cli
from tests.docs.blocks import NOT_RUN, PAGES, ROOT, Block, blocks, inline
from tests.docs.stage import free_port, prepare, run

CANNOT_RUN = {
    r"^(cd .* && )?(pip|apt-get) install": "installs packages, which .ci/run does in a clean environment",
    r"^python3\.\d+ -m venv ": "needs another version of Python",
    r"^arecord ": "records from a microphone without end",
    r"^pytest|^scripts/check|^\.ci/run|&& pytest": "runs the tests, of which this is one",
    r"^python -m conformance ": "takes minutes; .ci/run, tests/conformance and tests/onnx_conformance run it",
    r"^python -m benchmarks ": "takes minutes; tests/benchmarks runs it with small models",
    r"^python -m models\.train": "trains for an hour; tests/models holds its result",
    r"^scripts/mutate ": "runs other tests many times; tests/scripts runs it",
    r"^scripts/wheels ": "compiles for minutes; tests/scripts and .ci/run run it",
    r"--target ": "tests/tinyonnx/native/test_targets.py builds a small model for all targets",
    r"^(scp|ssh|xattr) ": "needs another machine",
    r"^audiotag web |^node |http\.server": "tests/audiotag/web and tests/audiotag/standalone build and run them",
    r"^mkdocs ": "tests/docs/test_site.py builds the site",
    r"^ruff ": "checks the checkout, as scripts/check does",
}
"""Commands that no test runs, and why."""

NEEDS = {
    r"--plot": "matplotlib",
    r"parquet": "pyarrow",
    r"standalone|tinyonnx compile|audio-inference|libmodel": "ziglang",
    r"audiotag serve|curl ": "uvicorn",
    r"onnxruntime( |$)": "onnxruntime",
    r"--runtime openvino": "openvino",
    r"import ray": "ray",
}
"""Packages of extras that commands need; without them they are skipped, but not in CI."""

REPLACED = {
    "/data": "{stage}",
    "s3://bucket/recordings/": "{stage}/recordings",
    "s3://bucket/tags/": "{stage}/ray-tags",
    "127.0.0.1:8000": "127.0.0.1:{port}",
    "ray.init()": 'ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")',
    "backend --runtime 'command:": "backend --folder cases --runtime 'command:",
    "backend --runtime onnxruntime --": "backend --folder cases --runtime onnxruntime --",
    "onnx-conformance backend --runtime": "onnx-conformance backend --match 'test_(abs|add|relu)$' --runtime",
    "onnx-conformance backend": "onnx-conformance backend --timeout 600",
    "python run.py": "python block.py",
    "--time 30m": "--time 3s --timeout 600",
}
"""Replacements for resources outside of this machine, those others may be using, and commands that take minutes."""

FINE = {r"^grep ": (0, 1), r"^tinyonnx reduce ": (1,), r"^onnx-conformance fuzz ": (0, 1)}
"""Exit codes that are not failures: 1 from grep means no match, 1 from reduce that a model does not differ, and 1
from fuzz that the runtime under test has a fault."""

MARKS = {"README.md": (), "docs/standalone.md": pytest.mark.targets}
"""The marks of pages; all others are trials."""


def _cannot_run(command: str) -> str | None:
    return next((why for pattern, why in CANNOT_RUN.items() if re.search(pattern, command)), None)


def _fine(command: str) -> tuple[int, ...]:
    return next((codes for pattern, codes in FINE.items() if re.search(pattern, command)), (0,))


def _missing(text: str) -> str | None:
    """Return the package that a command needs and this machine lacks."""
    for pattern, package in NEEDS.items():
        if re.search(pattern, text) and importlib.util.find_spec(package) is None:
            assert not os.environ.get("CI"), f"CI must have {package}"
            return package
    if "mn04_as_mAP_432.pt" in text or "mn04.onnx" in text:
        return None if _checkpoint() else "../shared"
    if text.startswith("curl ") and not shutil.which("curl"):
        return "curl"
    return None


def _checkpoint() -> Path | None:
    path = Path(__file__).resolve().parents[3] / "shared/data/mn04_as_mAP_432.pt"
    return path if path.exists() else None


def _runnable() -> list[object]:
    found = [page for page in PAGES if any(block.kind in ("shell", "python") for block in blocks(page))]
    return [pytest.param(page, marks=MARKS.get(page, pytest.mark.trials)) for page in found]


class _Page:
    """Runs the blocks of one page in order, on one stage, as a reader would."""

    def __init__(self, stage: Path, environment: dict[str, str]) -> None:
        self.stage, self.environment, self.port = stage, environment, free_port()
        self.problems: list[str] = []
        self._servers: list[subprocess.Popen[bytes]] = []

    def _fill(self, text: str) -> str:
        for old, new in REPLACED.items():
            text = text.replace(old, new.format(stage=self.stage, port=self.port))
        return text

    def run(self, block: Block) -> None:
        """Note what fails."""
        if block.kind == "python":
            if _missing(block.text) is None:
                (self.stage / "block.py").write_text(self._fill(block.text))
                self._run("python block.py", f"{block.page}:{block.line} (python)")
            return
        if block.kind != "shell":
            return
        whole = block.text.startswith("#!") or "=$(" in block.text
        for command in [block.text] if whole else block.commands:
            if _cannot_run(command) is not None or _missing(command) is not None:
                continue
            if command == "audiotag serve":
                self._serve()
            else:
                self._run(self._fill(command), f"{block.page}:{block.line}: {command}")

    def _run(self, command: str, what: str) -> None:
        done = run(command, self.stage, self.environment)
        if done.returncode not in _fine(command) or "Traceback" in done.stderr:
            self.problems.append(f"{what}\nexit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-3000:]}")

    def _serve(self) -> None:
        command = [sys.executable, "-m", "audiotag", "serve", "--port", str(self.port)]
        server = subprocess.Popen(
            command, cwd=self.stage, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._servers.append(server)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=600).close()
                return
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None, "the server ended"
                time.sleep(0.05)

    def close(self) -> None:
        for server in self._servers:
            server.terminate()
            server.wait()


@contextmanager
def _page(stage: Path) -> Iterator[_Page]:
    page = _Page(stage, prepare(stage, _checkpoint()))
    try:
        yield page
    finally:
        page.close()


@pytest.mark.parametrize("name", _runnable())
def test_what_a_page_says_works(name: str, tmp_path: Path) -> None:
    with _page(tmp_path) as page:
        for block in blocks(name):
            page.run(block)
        assert not page.problems, "\n\n".join(page.problems)


def test_every_block_is_commands_python_or_marked() -> None:
    known = {"shell", "python", *NOT_RUN}
    for page in PAGES:
        for block in blocks(page):
            assert block.kind in known, f"{page}:{block.line}: mark this block as bash, python or text"


def test_the_reasons_not_to_run_are_needed() -> None:
    commands = [command for page in PAGES for block in blocks(page) for command in block.commands]
    for pattern in CANNOT_RUN:
        assert any(re.search(pattern, command) for command in commands), f"nothing is called {pattern} any more"
    texts = "\n".join(block.text for page in PAGES for block in blocks(page))
    for old in REPLACED:
        assert old in texts, f"no page says {old} any more"


def test_few_commands_are_not_run() -> None:
    commands = [
        command for page in PAGES for block in blocks(page) if block.kind == "shell" for command in block.commands
    ]
    assert sum(_cannot_run(command) is None for command in commands) > 40


def _help(module: str, *command: str) -> str:
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(sys, "argv", [module, *command, "--help"])
        patch.delitem(sys.modules, f"{module}.__main__", raising=False)  # runpy warns if another test imported it
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert not ended.value.code
    return output.getvalue()


def _helps(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the help of a parser and of its commands."""
    yield parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _helps(command)


@pytest.fixture(scope="module")
def all_help() -> str:
    conformance = ("backend", "fuzz", "accuracy", "layers", "esc10", "resampling")
    others = [_help("benchmarks"), _help("models.train"), *(_help("conformance", name) for name in conformance)]
    return "\n".join([*_helps(audiotag.cli.make_parser()), *_helps(tinyonnx.cli.make_parser()), *others])


OTHERS_FLAGS = {"--requeue", "--array", "--cpus-per-task", "--strict", "--shared", "--name"}
"""Flags of other programs, and a placeholder."""


def test_every_flag_in_the_text_exists(all_help: str) -> None:
    scripts = [(ROOT / "scripts" / name).read_text() for name in ("mutate", "wheels")]
    known = set(re.findall(r"--[a-z][\w-]+", all_help + "".join(scripts))) | OTHERS_FLAGS
    for page in PAGES:
        for code in inline(page):
            for flag in re.findall(r"(?<![\w-])--[a-z][\w-]+", code):
                assert flag in known, f"{page} mentions {flag}, which no command has"


FILE = re.compile(r"(?:[\w.*-]+/)+[\w.*-]+\.(?:py|md|txt|tsv|csv|onnx|flac)|(?:tinyonnx|audiotag|tests)(?:/[\w-]+)*/")
"""A file, below the checkout or one of the packages, or a folder of theirs."""


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    for code in inline(page):
        for path in FILE.findall(code):
            if "NAME" not in path and "**" not in path and not code.startswith(("http", "~", "audiotag ", "tinyonnx ")):
                bases = (ROOT, ROOT / "tinyonnx", ROOT / "audiotag", (ROOT / page).parent)
                assert any(list(base.glob(path)) for base in bases), f"{page} names {path}, which does not exist"


LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, _ in LINK.findall((ROOT / page).read_text()):
        if "://" not in target and target not in GENERATED:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


GENERATED = {"operators.md", "command-line.md"}
"""Pages that the site's build makes."""
