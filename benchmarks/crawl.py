"""Benchmark of runs over many files: `python -m benchmarks.crawl`.

Creates short clips, one in twenty of them corrupt, and tags them with one worker and with several
in turns. Every run must account for every file. With `--kills` it also kills runs at random moments,
resumes them, and compares the result with that of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 32000
BAD = 20
"""One file out of this many is corrupt."""

CORRUPT: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda content, rng: b"",
    "text": lambda content, rng: b"not a sound, in spite of the name\n" * 20,
    "random": lambda content, rng: rng.randbytes(len(content)),
    "truncated": lambda content, rng: content[: rng.randrange(1, 36)],
    "wrong header": lambda content, rng: content[:20] + rng.randbytes(16) + content[36:],
}


class Run(NamedTuple):
    """Measurements of a run: wall time, CPU time of all processes in seconds, peak memory of the largest one in MiB."""

    seconds: float
    cpu: float
    peak: float


def main(argv: Sequence[str] | None = None) -> int:
    """Create the files, tag them and print the results; return 1 if a file is missing or a row differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crawl", description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of the longest clip (default: 1)")
    parser.add_argument("--lengths", type=int, default=4, help="number of different clip lengths (default: 4)")
    parser.add_argument("--model", default="untrained-mn10")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kills", type=int, default=0)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        bad = make_files(args.files, args.seconds, args.lengths)
        print(f"{args.files} files of {args.lengths} lengths up to {args.seconds:g} s, {bad} corrupt; {args.model}")
        runs: dict[int, list[Run]] = {1: [], args.workers: []}
        for _ in range(args.repeats):
            for workers, measured in runs.items():
                measured.append(tag(args.model, "out.jsonl", workers))
                if not accounted_for("out.jsonl", args.files, bad):
                    return 1
        for workers, measured in runs.items():
            seconds, cpu = (median(run[i] for run in measured) for i in (0, 1))
            print(
                f"{workers} workers: {args.files / seconds:.1f} files/s, {1e3 * cpu / args.files:.2f} ms of "
                f"processor time per file, largest process {max(run.peak for run in measured):.0f} MiB"
            )
        ratios = [one.seconds / more.seconds for one, more in zip(*runs.values(), strict=True)]
        print(f"speedup {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), medians of {args.repeats} turns")
        return 0 if not args.kills or survives(args.model, args.workers, args.kills) else 1


def make_files(count: int, seconds: float, lengths: int) -> int:
    """Write `clips/` and return the number of corrupt files, which must fail."""
    rng, numbers = random.Random(1), np.random.default_rng(1)
    noise = (numbers.standard_normal(int(seconds * RATE) + RATE) * 0.1).astype(np.float32)
    kinds = list(CORRUPT)
    for i in range(count):
        path = Path(f"clips/{i // 1000:03d}/{i:06d}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        start, length = int(numbers.integers(RATE)), int(seconds * RATE * (1 + numbers.integers(lengths)) / lengths)
        soundfile.write(path, noise[start : start + length], RATE, subtype="PCM_16")
        if i % BAD == 0:
            path.write_bytes(CORRUPT[kinds[i // BAD % len(kinds)]](path.read_bytes(), rng))
    return -(-count // BAD)


def command(model: str, output: str, workers: int) -> list[str]:
    """Make the command line of a run."""
    arguments = ["tag", "clips", "--model", model, "--format", "jsonl", "--output", output, "--workers", str(workers)]
    return [sys.executable, "-m", "audiotag", *arguments]


def tag(model: str, output: str, workers: int) -> Run:
    """Tag all files, overwriting earlier results."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run([*command(model, output, workers), "--overwrite"], stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 1, "corrupt files make the exit code 1"
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, cpu, after.ru_maxrss / 1024)


def accounted_for(output: str, files: int, bad: int) -> bool:
    """Return whether each file has one row, and each corrupt one an error."""
    with open(output) as file:
        rows = [json.loads(line) for line in file]
    errors = {row["path"] for row in rows if "error" in row}
    expected = {str(path) for path in Path("clips").rglob("*.wav")}
    corrupt = {path for path in expected if int(Path(path).stem) % BAD == 0}
    whole = len(rows) == files and {row["path"] for row in rows} == expected and errors == corrupt
    if not whole:
        print(f"{len(rows)} rows for {files} files, {len(errors)} errors for {bad} corrupt files")
        print(f"unexpected: {sorted(errors ^ corrupt)[:10]}")
    return whole


def survives(model: str, workers: int, kills: int) -> bool:
    """Return whether a run that is killed and resumed several times writes the rows of an uninterrupted one."""
    rng = random.Random(2)
    size = os.path.getsize("out.jsonl")
    arguments = [*command(model, "killed.jsonl", workers), "--resume"]
    killed, began = 0, time.perf_counter()
    while killed < kills:
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        goal = (os.path.getsize("killed.jsonl") if killed else 0) + rng.randrange(2 * size // kills)
        while process.poll() is None and (
            not os.path.exists("killed.jsonl") or os.path.getsize("killed.jsonl") < min(goal, size)
        ):
            time.sleep(0.002)
        if process.poll() is not None:
            break
        time.sleep(rng.random() * 0.2)
        process.kill()
        process.wait()
        killed += 1
    done = subprocess.run(arguments, stderr=subprocess.DEVNULL)
    with open("out.jsonl") as whole, open("killed.jsonl") as other:
        same = sorted(whole) == sorted(other) and done.returncode == 1
    print(f"{killed} kills in {time.perf_counter() - began:.0f} s: rows are {'the same' if same else 'different'}")
    return same


if __name__ == "__main__":
    sys.exit(main())
