"""Mutated sound files of all containers, read by path, as bytes and through a pipe.

python -m tests.system.fuzz.fuzz_sound [COUNT [SEED [FINDINGS]]]

A finding is a crash or a hang of the decoder, an exception that is no AudioError, or a route that
gives other samples or warnings than the others. Files that show one are written to the folder FINDINGS.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import tempfile
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from audiotag import AudioError
from audiotag.sound import audio
from tests.audiotag.sound.test_damaged import mutated
from tests.audiotag.sound.test_generated import BY_POSITION, CONTAINERS, KINDS, Unseekable, sound

LIMIT = 60
"""Seconds after which a file that takes milliseconds is a hang."""

ENOUGH = 50
"""Findings after which the run ends."""

Outcome = tuple[np.ndarray | None, list[str]]


def read(source: Any) -> Outcome:
    notes: list[str] = []
    try:
        return audio.read(source, name="sound", notes=notes), notes
    except AudioError:
        return None, []


def differs(one: Outcome, other: Outcome) -> str:
    if (one[0] is None) != (other[0] is None):
        return "is read on one route only"
    if one[0] is not None and other[0] is not None and not np.array_equal(one[0], other[0]):
        return f"{len(one[0])} and {len(other[0])} samples, or other ones"
    return "" if one[1] == other[1] else f"warnings {one[1]} and {other[1]}"


def check(content: bytes, container: str, path: Path) -> str:
    """Return the outcome in a word; AssertionError for a finding."""
    path.write_bytes(content)
    by_path = read(path)
    assert not (found := differs(by_path, read(content))), f"path and bytes: {found}"
    by_pipe = read(Unseekable(content))
    # without the length of the file a wrong size in the header means another thing
    if container not in BY_POSITION:
        assert not (found := differs(by_path, by_pipe)), f"path and pipe: {found}"
    return "refused" if by_path[0] is None else "read with a warning" if by_path[1] else "read"


def work(seed: int, findings: Path, reports: Connection) -> None:
    """Check files one after the other, from `seed` on; report each outcome."""
    seeds = {}
    for name, encode in CONTAINERS.items():
        seeds[name] = encode(sound(0.3))
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null:
        for descriptor in (1, 2):  # decoders' own messages
            os.dup2(null.fileno(), descriptor)
        while True:
            chance = random.Random(seed)
            container = chance.choice(list(seeds))
            content = seeds[container]
            if chance.random() < 0.2:
                content = chance.choice([damage for name, (damage, _) in KINDS.items() if name != "low count"])(content)
            content = mutated(chance, content)
            case = findings / f"{seed}.{container.replace(' ', '_')}"
            case.write_bytes(content)
            try:
                outcome = check(content, container, Path(folder, "sound"))
                case.unlink()
            except Exception as error:
                outcome = f"FINDING {container}: {type(error).__name__}: {error}"
            reports.send(outcome)
            seed += 1


def main(count: int = 60_000, seed: int = 0, findings: Path | None = None) -> int:
    """Check files until there are `count` or `ENOUGH` findings; return 1 if there is a finding."""
    findings = findings or Path(tempfile.mkdtemp(prefix="findings-"))
    findings.mkdir(parents=True, exist_ok=True)
    outcomes, found, end = Counter[str](), 0, seed + count
    context = multiprocessing.get_context("spawn")
    while seed < end and found < ENOUGH:
        reports, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(seed, findings, sender), daemon=True)
        process.start()
        sender.close()
        problem = ""
        while seed < end and found < ENOUGH and not problem:
            if not reports.poll(LIMIT):
                problem = "a hang"
                break
            try:
                outcome = reports.recv()
            except EOFError:
                problem = "a crash"
                break
            outcomes["finding" if outcome.startswith("FINDING") else outcome] += 1
            if outcome.startswith("FINDING"):
                found += 1
                print(f"seed {seed}: {outcome}", flush=True)
            seed += 1
        process.kill()
        process.join()
        if problem:
            found += 1
            print(f"seed {seed}: FINDING {problem} (exit code {process.exitcode})", flush=True)
            seed += 1
        else:
            for unfinished in findings.glob(f"{seed}.*"):
                unfinished.unlink()
    print(f"{outcomes.total()} files: " + ", ".join(f"{outcome} {n}" for outcome, n in outcomes.most_common()))
    print(f"findings: {found}, in {findings}" if found else "no findings")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*(kind(text) for kind, text in zip((int, int, Path), sys.argv[1:]))))
