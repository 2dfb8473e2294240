"""A unit for each CPU level, laid out by a process that compiles for that level."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import IO, Any

from tinyonnx.codegen.parallel import CompileProgress
from tinyonnx.codegen.targets import VARIABLE, TargetMachine
from tinyonnx.errors import Error
from tinyonnx.native.unit import Unit

log = logging.getLogger("tinyonnx")


def units(target: TargetMachine, builder: Callable[..., Unit], *args: Any, precision: str = "float32") -> list[Unit]:
    """Run `builder(*args)`, a module-level function, once at every level of a target, each in a process of its own.

    The levels are those of `TargetMachine.levels_for` the precision.

    Exceptions of the builder are raised here.
    """
    levels = target.levels_for(precision)
    names = [level.label for level in levels]
    log.info("compiling kernels for %s (%s): the first time this takes a minute or two", target.name, ", ".join(names))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    environment |= {key: os.environ[key] for key in ("NUMBA_CACHE_DIR",) if key in os.environ}
    environment |= {VARIABLE: target.name, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    request = pickle.dumps((builder.__module__, builder.__qualname__, args))
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    # modules in the current folder are not ours
                    [sys.executable, "-P", "-m", "tinyonnx.native.levels"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**environment, "NUMBA_CPU_NAME": level.cpu, "NUMBA_CPU_FEATURES": level.features},
                    # this process ends them when it is interrupted
                    process_group=0,
                )
            )
            for level in levels
        ]
        try:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(request)
                process.stdin.close()
            answers = _answers(processes)
        except BaseException:
            for process in processes:
                process.kill()
            raise
    results = []
    for process, answer, level in zip(processes, answers, names, strict=True):
        if process.returncode != 0 or answer is None:
            raise Error(f"the process that compiles for {level} failed")
        if isinstance(answer, Exception):
            raise answer
        results.append(answer)
    return results


def _answers(processes: Sequence[subprocess.Popen[bytes]]) -> list[Unit | Exception | None]:
    """Return the last message of each process, None for one that died, and log their progress."""
    received: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()

    def read(number: int, stream: IO[bytes]) -> None:
        with suppress(EOFError, pickle.UnpicklingError):
            while True:
                received.put((number, pickle.load(stream)))
        received.put((number, None))

    for number, process in enumerate(processes):
        assert process.stdout is not None
        threading.Thread(target=read, args=(number, process.stdout), daemon=True).start()
    answers: list[Unit | Exception | None] = [None] * len(processes)
    kernels: dict[int, tuple[int, list[float]]] = {}
    progress, ended = CompileProgress(), 0
    while ended < len(processes):
        number, message = received.get()
        if message is None:
            ended += 1
        elif isinstance(message, tuple):
            kernels[number] = message
            if len(kernels) == len(processes):
                finished = [effort for done, efforts in kernels.values() for effort in efforts[:done]]
                begun = [effort for done, efforts in kernels.values() for effort in efforts[done : done + 1]]
                others = [effort for done, efforts in kernels.values() for effort in efforts[done + 1 :]]
                progress.show(finished, begun + others, len(begun))
        else:
            answers[number] = message
    return answers


def report(done: int, efforts: list[float]) -> None:
    """Tell the parent process how many kernels are compiled, and the efforts of all; for builders."""
    _send((done, efforts))


def _send(message: Any) -> None:
    sys.stdout.buffer.write(pickle.dumps(message))
    sys.stdout.buffer.flush()


def _main() -> None:
    module, name, args = pickle.load(sys.stdin.buffer)
    try:
        result = getattr(importlib.import_module(module), name)(*args)
    except Exception as error:  # raised again by the parent
        result = error
    _send(result)


if __name__ == "__main__":
    _main()
