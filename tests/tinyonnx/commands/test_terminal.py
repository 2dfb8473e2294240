"""Tables on terminals, colours, versions and completion."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from audiotag.cli import make_parser as audiotag_parser
from tests.terminals import read_terminal
from tests.tinyonnx.commands.test_broken_models import unknown  # noqa: F401  (a fixture)
from tinyonnx.cli import main, make_parser
from tinyonnx.commands import _terminal
from tinyonnx.commands._shared import table
from tinyonnx.tools.completion import SHELLS, script

ROWS = [("node", "op", "name", "why", "µs"), ("1", "Conv", "/model/features.0/block/conv", "no kernel here", "12345.6")]


def test_tables_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table(ROWS, right=(0, 4)).splitlines()[1] == (
        "   1  Conv  /model/features.0/block/conv  no kernel here  12345.6"
    )
    monkeypatch.setattr("tinyonnx.commands._shared.width", lambda: 50)
    lines = table(ROWS, right=(0, 4)).splitlines()
    assert max(map(len, lines)) <= 50
    assert lines[1] == "   1  Conv  …0/block/conv  no kernel here  12345.6"
    monkeypatch.setattr("tinyonnx.commands._shared.width", lambda: 10)
    assert "12345.6" in table(ROWS, right=(0, 4)), "numbers are never cut"


def on_terminal(command: list[str], **environment: str) -> str:
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyonnx", *command], stdout=theirs, stderr=theirs,
        env={k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"COLUMNS": "60", "TERM": "xterm"} | environment,
    )  # fmt: skip
    os.close(theirs)
    screen = read_terminal(ours)
    process.wait(300)
    return screen


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_colours(unknown: Path) -> None:  # noqa: F811
    command = ["inspect", str(unknown)]
    text = on_terminal(command)
    assert re.search(r"\x1b\[31m +1 +! com[^\r\n]*\x1b\[0m", text)
    assert "\x1b" not in on_terminal(command, NO_COLOR="1")
    assert "\x1b" not in on_terminal(command, TERM="dumb")
    assert "\x1b" not in on_terminal([*command, "--color", "never"])
    piped = [sys.executable, "-m", "tinyonnx", *command]
    assert "\x1b" not in subprocess.run(piped, capture_output=True, text=True, check=True).stdout
    always = subprocess.run([*piped, "--color", "always"], capture_output=True, text=True, check=True)
    assert "\x1b[31m" in always.stdout


@pytest.fixture(autouse=True)
def _no_choice_stays() -> Any:
    yield
    _terminal.set_color("auto")


@pytest.mark.parametrize(
    ("program", "command"),
    [
        *(("tinyonnx", command) for command in ([], ["run"], ["inspect"], ["completion"])),
        *(("audiotag", command) for command in ([], ["tag"], ["serve"], ["models"])),
    ],
)
def test_versions(program: str, command: list[str], capsys: Any) -> None:
    package, cli = importlib.import_module(program), importlib.import_module(f"{program}.cli")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{program} {package.__version__}\n"


def completions(words: list[str]) -> list[str]:
    """Return the completions that bash offers for the last of these words."""
    parser = make_parser() if words[0] == "tinyonnx" else audiotag_parser()
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        script(parser, "bash")
        + f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _{words[0]}; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").touch()
    assert completions(["tinyonnx", "in"]) == ["inspect"]
    assert completions(["tinyonnx", "inspect", "--opt"]) == ["--optimized"]
    assert completions(["tinyonnx", "inspect", "ne"]) == ["net.onnx"]
    assert completions(["tinyonnx", "compare", "net.onnx", "--color", "al"]) == ["always"]
    assert completions(["tinyonnx", "reduce", "--inputs", "n"]) == ["net.onnx"]
    assert completions(["tinyonnx", "completion", ""]) == list(SHELLS)
    assert completions(["audiotag", "ta"]) == ["tag"]
    assert "pull" in completions(["audiotag", "models", ""])
    assert completions(["audiotag", "tag", "--thres"]) == ["--threshold"]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_every_command_and_option(shell: str, capsys: Any) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for word in ("inspect", "reduce", "--against" if shell != "fish" else "-l against"):
        assert word in text
    assert "%(" not in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True, capture_output=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["ops"], ["completion", "bash"], ["--version"], ["--help"]])
def test_a_full_standard_output_is_said_once(arguments: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", "import sys; from tinyonnx.cli import main; sys.exit(main())", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, timeout=300)
    assert (done.returncode, done.stderr) == (1, b"tinyonnx: standard output: No space left on device\n")
