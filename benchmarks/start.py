"""Benchmark of whole processes from start to exit: `audiotag tag clip.wav` against a minimal script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.audio import make_clip
from benchmarks.model import model_file
from benchmarks.turns import Case, Measurement, maxrss_mib, pinned

LAUNCH = Path(__file__).with_name("launch.py")


def run_process(command: Sequence[str], cache: str, into: Measurement) -> None:
    """Run a command with the given cache folder and add it to the measurement, or mark it as absent."""
    # with bytecode, like an installed package
    hidden = ("NUMBA_CACHE_DIR", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in pinned(1).items() if key not in hidden}
    launch = subprocess.run(
        [sys.executable, "-S", "-P", str(LAUNCH), *command],
        env=environment | {"XDG_CACHE_HOME": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    reply = json.loads(launch.stdout)
    if reply["code"] != 0:
        said = launch.stderr.strip().splitlines()
        into.absent = f"exit code {reply['code']}: {said[-1] if said else 'no message'}"
        return
    into.wall.append(reply["wall"])
    into.cpu.append(reply["cpu"])
    into.peak_mib = max(into.peak_mib or 0.0, maxrss_mib(reply["maxrss"]))


def start_cases(model: str, seconds: float, folder: str, warm: int, cold: int) -> Iterable[Case]:
    """Yield the cases with a warm cache, and with an empty one so that kernels are compiled."""
    path, clip = model_file(model, folder), make_clip(seconds, folder)
    commands = {
        "audiotag": [sys.executable, "-m", "audiotag", "tag", "--model", path, clip],
        "script": [sys.executable, "-m", "benchmarks.baseline", path, clip],
    }
    parameters = {"model": model, "seconds": seconds}
    with tempfile.TemporaryDirectory() as cache:
        for command in commands.values():
            run_process(command, cache, Measurement("unmeasured"))
        measurements = _alternate(commands, lambda: cache, warm)
    title = f"process that tags {seconds:g} s, {os.path.basename(model)}"
    yield Case("start", f"{title}, warm", measurements, parameters | {"cache": "warm"})

    def empty() -> str:
        return tempfile.mkdtemp(dir=folder)

    yield Case(
        "start",
        f"{title}, first run",
        _alternate(commands, empty, cold),
        parameters | {"cache": "empty"},
    )


def _alternate(commands: dict[str, list[str]], cache: Callable[[], str], repeats: int) -> list[Measurement]:
    measurements = {name: Measurement(name) for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            if measurements[name].absent is None:
                run_process(command, cache(), measurements[name])
    return list(measurements.values())
