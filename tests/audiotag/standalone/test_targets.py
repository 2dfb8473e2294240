"""The whole program for other machines, run by node, qemu and wine: its output is the same as here."""

from __future__ import annotations

import gzip
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotag.commands.demo import synthesise
from tests.audiotag.standalone.programs import program
from tests.tinyonnx.native.machines import ENVIRONMENT, needed, runner

pytest.importorskip("ziglang")
if sys.platform != "linux" or platform.machine() != "x86_64":
    pytest.skip("compares with the program for x86-64 Linux", allow_module_level=True)

TARGETS = ("wasm", "aarch64-linux", "x86_64-windows")

EXACT = {"wasm": "v2", "x86_64-windows": "v3"}
"""Targets whose results equal those of a level of x86-64 bit for bit: same lanes, same fusion of products."""

Outcome = tuple[int, bytes, bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the program for this machine."""
    return [str(program("x86_64-linux", tmp_path_factory))]


@pytest.fixture(scope="module", params=TARGETS)
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """A target, and the command of its program."""
    target = request.param
    command = [needed("node")] if target == "wasm" else runner(target)
    file = program(target, tmp_path_factory)
    return target, [*command, str(file.with_suffix(".mjs") if target == "wasm" else file)]


@pytest.fixture(scope="module")
def clips(folder: Path) -> dict[str, Path]:
    """Sounds of several lengths, rates and encodings, in the folder in which programs run."""
    sound = synthesise()
    names = {"whole": "whole.wav", "short": "short.wav", "stereo": "stereo.wav", "odd": "a b 'c' ä 音 😀.wav"}
    soundfile.write(folder / names["whole"], sound, 32000, subtype="FLOAT")
    soundfile.write(folder / names["short"], sound[:9000], 32000, subtype="PCM_16")
    soundfile.write(folder / names["stereo"], np.stack([sound, 0.5 * sound], 1)[:90000], 44100, subtype="PCM_24")
    soundfile.write(folder / names["odd"], sound[50000:130000], 16000, subtype="PCM_U8")
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.wav").write_bytes(b"")
    return {name: folder / file for name, file in names.items()}


def run(command: list[str], folder: Path, *args: str, level: str = "v3", stdin: bytes = b"") -> Outcome:
    done = subprocess.run(
        [*command, *args],
        input=stdin,
        capture_output=True,
        cwd=folder,
        env={**ENVIRONMENT, "TINYONNX_CPU": level},
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def rows(outcome: Outcome) -> list[Any]:
    return [json.loads(line) for line in outcome[1].splitlines()]


def scores(row: Any) -> Any:
    return np.array([tag["score"] for tag in sorted(row["tags"], key=lambda tag: tag["index"])])


def test_all_scores(here: list[str], there: tuple[str, list[str]], folder: Path, clips: dict[str, Path]) -> None:
    target, command = there
    args = ("--json", "--top", "527", *(path.name for path in clips.values()))
    result = run(command, folder, *args)
    for level in {"v2", "v3", EXACT.get(target, "v2")}:
        expected = run(here, folder, *args, level=level)
        if EXACT.get(target) == level:
            assert result == expected
        for row, wanted in zip(rows(result), rows(expected), strict=True):
            assert len(row["tags"]) == 527
            np.testing.assert_allclose(scores(row), scores(wanted), rtol=0, atol=1e-5)


def test_recordings(shared: Path, here: list[str], there: tuple[str, list[str]], tmp_path: Path) -> None:
    target, command = there
    paths = sorted((shared / "data/esc10").rglob("*.ogg"))[::32]
    assert len(paths) == 10
    for path in paths:
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(tmp_path / f"{path.stem}.wav", samples, rate)
    names = [f"{path.stem}.wav" for path in paths]
    result, expected = (
        run(c, tmp_path, "--json", "--top", "527", *names, level=EXACT.get(target, "v2")) for c in (command, here)
    )
    if target in EXACT:
        assert result == expected
    for row, wanted in zip(rows(result), rows(expected), strict=True):
        np.testing.assert_allclose(scores(row), scores(wanted), rtol=0, atol=1e-5)


CASES: dict[str, tuple[str, ...]] = {
    "no arguments": (),
    "help": ("--help",),
    "an unknown option": ("--nothing",),
    "a wrong value": ("--top", "x", "whole.wav"),
    "no samples' rate": ("--raw", "f32le", "-"),
    "a missing file": ("none.wav", "short.wav"),
    "a folder": (".",),
    "no sound": ("text.wav", "empty.wav"),
    "failures as JSON": ("--json", "--threshold", "0.9", "none.wav", "text.wav", "short.wav"),
    "windows": ("--window", "2", "--hop", "1.5", "--top", "1", "whole.wav"),
    "windows as JSON": ("--json", "--window", "4", "--top", "2", "whole.wav", "short.wav"),
    "odd names": ("--threshold", "0.9", "a b 'c' ä 音 😀.wav", "ü/\u2028.wav"),
}


NUMBERS = re.compile(r"\d+\.\d+(?:e-\d+)?")


@pytest.mark.parametrize("name", CASES)
def test_command_lines(
    here: list[str], there: tuple[str, list[str]], folder: Path, clips: dict[str, Path], name: str
) -> None:
    target, command = there
    level = EXACT.get(target, "v2")
    result, expected = (run(c, folder, *CASES[name], level=level) for c in (command, here))
    if target in EXACT:
        assert result == expected
        return
    assert result[::2] == expected[::2]
    # scores, as text of four decimals or in JSON, may differ in the last place
    texts = [NUMBERS.split(outcome[1].decode()) for outcome in (result, expected)]
    assert texts[0] == texts[1]
    numbers = [list(map(float, NUMBERS.findall(outcome[1].decode()))) for outcome in (result, expected)]
    np.testing.assert_allclose(*numbers, rtol=0, atol=1.1e-4)


def test_standard_input(here: list[str], there: tuple[str, list[str]], folder: Path, clips: dict[str, Path]) -> None:
    target, command = there
    level = EXACT.get(target, "v2")
    whole = clips["stereo"].read_bytes()
    samples = synthesise()[:40000].astype("<f4").tobytes()
    for data, args in ((whole, ("-",)), (samples, ("--raw", "f32le", "--rate", "32000", "-")), (b"", ("-",))):
        results = [run(c, folder, "--json", "--top", "1", *args, level=level, stdin=data) for c in (command, here)]
        assert len({(code, err) for code, _, err in results}) == 1
        for row, wanted in zip(*map(rows, results), strict=True):
            if "tags" in wanted:
                np.testing.assert_allclose(scores(row), scores(wanted), rtol=0, atol=1e-5)
                del row["tags"], wanted["tags"]
            assert row == wanted


def test_standard_output_that_takes_no_more(
    here: list[str], there: tuple[str, list[str]], folder: Path, clips: dict[str, Path]
) -> None:
    target, command = there
    level = EXACT.get(target, "v2")

    def outcome(command: list[str], file: int) -> tuple[int, bytes]:
        done = subprocess.run(
            [*command, "--window", "1", "whole.wav", "none.wav"],
            stdout=file,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**ENVIRONMENT, "TINYONNX_CPU": level},
            timeout=600,
            restore_signals=False,  # a closed pipe is an error of the system, not the end of the process
            check=False,
        )
        return done.returncode, done.stderr

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed, open("/dev/full", "wb") as full:
        results = [[outcome(c, file.fileno()) for file in (closed, full)] for c in (command, here)]
    assert results[0] == results[1]
    assert results[1] == [(0, b""), (1, b"audio-inference: standard output: No space left on device\n")]


def test_closed_standard_output(
    here: list[str], there: tuple[str, list[str]], folder: Path, clips: dict[str, Path]
) -> None:
    target, command = there
    if target == "wasm":
        pytest.skip("node opens standard streams that are closed")
    # closed by a shell: in the test's own process another file may have become number 1
    shell = ["/bin/sh", "-c", 'exec "$0" "$@" >&-']
    results = [run([*shell, *c], folder, "whole.wav", level=EXACT.get(target, "v2")) for c in (command, here)]
    assert results == [(1, b"", b"audio-inference: standard output: Bad file descriptor\n")] * 2


MEMORY = """
const Instance = WebAssembly.Instance;
WebAssembly.Instance = function (...args) { return instance = new Instance(...args); };
let instance;
process.on("exit", () => console.error(instance.exports.memory.buffer.byteLength));
process.argv.splice(1, 1);
import(process.argv[1]);
"""
"""Runs a program in node, then writes the bytes of its memory to stderr."""


def test_size(there: tuple[str, list[str]]) -> None:
    from audiotag import Tagger

    target, command = there
    weights = sum(4 * v.const.size for v in Tagger().network.session.graph.initializers if v.const is not None)
    if target != "wasm":
        assert Path(command[-1]).stat().st_size <= weights + (2 << 20)
        return
    content = Path(command[-1]).with_suffix(".wasm").read_bytes()
    assert len(content) <= 3_000_000
    assert len(gzip.compress(content)) <= 2_000_000


def test_memory_in_node(there: tuple[str, list[str]], folder: Path, clips: dict[str, Path]) -> None:
    target, command = there
    if target != "wasm":
        pytest.skip("only WebAssembly tells its memory")
    script = folder / "memory.cjs"
    script.write_text(MEMORY)
    arguments = [command[0], str(script), command[1], "whole.wav"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=folder, check=True, timeout=600)
    assert "whole.wav" in done.stdout
    assert int(done.stderr.splitlines()[-1]) <= 48 << 20
