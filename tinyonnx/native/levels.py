"""A unit for each CPU level, laid out by a process that compiles for that level."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tinyonnx.codegen.targets import VARIABLE, TargetMachine
from tinyonnx.errors import Error
from tinyonnx.native.unit import Unit

log = logging.getLogger("tinyonnx")


def units(target: TargetMachine, builder: Callable[..., Unit], *args: Any) -> list[Unit]:
    """Run `builder(*args)`, a module-level function, once at every level of a target, each in a process of its own.

    Exceptions of the builder are raised here.
    """
    names = [level.cpu for level in target.levels]
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
            for level in target.levels
        ]
        try:
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(request)
                process.stdin.close()
            answers = [process.stdout.read() for process in processes if process.stdout is not None]
        except BaseException:
            for process in processes:
                process.kill()
            raise
    results = []
    for process, answer, level in zip(processes, answers, names, strict=True):
        if process.returncode != 0:
            raise Error(f"the process that compiles for {level} failed")
        results.append(pickle.loads(answer))
    failed = next((result for result in results if isinstance(result, Exception)), None)
    if failed is not None:
        raise failed
    return results


def _main() -> None:
    module, name, args = pickle.load(sys.stdin.buffer)
    try:
        result = getattr(importlib.import_module(module), name)(*args)
    except Exception as error:  # raised again by the parent
        result = error
    sys.stdout.buffer.write(pickle.dumps(result))


if __name__ == "__main__":
    _main()
