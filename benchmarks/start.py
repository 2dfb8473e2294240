"""Benchmarks of whole processes from start to exit: `audiotag tag` of one clip or many, beside a minimal script."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

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


def crawl_case(model: str, count: int, folder: str, repeats: int) -> Case:
    """Compare tagging `count` WAV files of different lengths with as many of one length and the same total duration."""
    path = model_file(model, folder)
    seconds = np.random.default_rng(0).permutation(np.linspace(1, 10, count)).round(4).tolist()
    different, equal = os.path.join(folder, "different"), os.path.join(folder, "equal")
    for name in (different, equal):
        os.makedirs(name, exist_ok=True)
    for length in seconds:
        make_clip(length, different)
    one = make_clip(round(sum(seconds) / count, 4), folder)
    for i in range(count):
        shutil.copyfile(one, os.path.join(equal, f"{i}.wav"))
    tag = [sys.executable, "-m", "audiotag", "tag", "--model", path, "--format", "jsonl"]
    clips = sorted(os.path.join(different, name) for name in os.listdir(different))
    commands = {
        "audiotag": [*tag, different],
        "audiotag, equal lengths": [*tag, equal],
        "script": [sys.executable, "-m", "benchmarks.baseline", path, *clips],
    }
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for command in commands.values():
        run_process(command, cache, Measurement("unmeasured"))
    measurements = _alternate(commands, lambda: cache, repeats)
    label = os.path.basename(model).removesuffix(".onnx")
    title = f"process that tags {count} WAV files of {count} lengths (1 to 10 s), {label}"
    return Case("crawl", title, measurements, {"model": label, "lengths": count})


def _alternate(commands: dict[str, list[str]], cache: Callable[[], str], repeats: int) -> list[Measurement]:
    measurements = {name: Measurement(name) for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            if measurements[name].absent is None:
                run_process(command, cache(), measurements[name])
    return list(measurements.values())
