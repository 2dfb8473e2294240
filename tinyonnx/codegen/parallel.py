"""Compile several kernels at once, each in one of as many processes as there are processors.

numba holds a lock while it compiles, so a process compiles one kernel at a time and is then given the next one.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from importlib import import_module

from tinyonnx.codegen import code_cache
from tinyonnx.codegen.kernel import Kernel

log = logging.getLogger("tinyonnx")

LEAST = 4
"""Minimum number of kernels for other processes; fewer are compiled here, because importing the compiler takes as long.
"""

_INTERVAL = 3.0
"""Seconds between messages of progress."""

_RARELY = 1_000_000
"""Objects after which garbage is collected."""

_SPECIALISED = 3
"""Estimate of how often a function with specialisation constants is compiled for one kernel."""

Request = tuple[str, str, str]
"""Module and name of a kernel, and the kinds of its arguments."""


def compile_together(missing: Sequence[tuple[Kernel, str]]) -> None:
    """Compile kernels for the cache. A kernel that fails is left out; compiling it for use raises the error."""
    # the longest ones first, so that all processes end at about the same time
    ordered = sorted(missing, key=lambda pair: -_effort(pair[0]))
    requests = [request for request in map(_request, ordered) if request is not None]
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(processors, len(requests) // 2)
    if len(requests) < LEAST or count < 2:
        return
    code_cache.announce(
        f"compiling kernels for this machine: {len(requests)}, on {count} processors; later runs reuse them"
    )
    todo: queue.SimpleQueue[Request] = queue.SimpleQueue()
    for request in requests:
        todo.put(request)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    # modules in the current folder are not ours
    command = [sys.executable, "-P", "-m", "tinyonnx.codegen.parallel"]
    done: queue.SimpleQueue[bool] = queue.SimpleQueue()
    with ExitStack() as stack:
        threads = []
        for _ in range(count):
            # Ctrl-C reaches this process, which then ends the others
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, process_group=0
            )
            stack.callback(_end, process)
            threads.append(threading.Thread(target=_serve, args=(process, todo, done), daemon=True))
            threads[-1].start()
        progress = CompileProgress()
        finished = ended = 0
        while ended < count:
            if done.get():
                finished += 1
            else:
                ended += 1
            progress.show(finished, len(requests))


class CompileProgress:
    """Logs at intervals how many kernels are compiled, and the seconds left at the pace so far.

    The records have the attribute `passing`: a terminal may show them in place.
    """

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def show(self, done: int, count: int) -> None:
        """Log that `done` of `count` kernels are compiled, if the last message is old enough."""
        now = time.monotonic()
        if now > self._said + _INTERVAL and 0 < done < count:
            self._said = now
            left = (now - self._began) * (count - done) / done
            log.info("compiled %d of %d kernels, about %.0f s left", done, count, left, extra={"passing": True})


def _effort(kernel: Kernel) -> int:
    """Estimate how long a kernel takes to compile, by the bytes of Python code that become part of it."""
    code = [(len(helper.function.__code__.co_code), bool(helper.statics)) for helper in kernel.helpers()]
    return sum(size * _SPECIALISED if specialised else size for size, specialised in code)


def _request(wanted: tuple[Kernel, str]) -> Request | None:
    """Return the name of a kernel for another process; None if it can't be found by name."""
    kernel, kinds = wanted
    module, name = kernel.function.__module__, kernel.__name__
    found = getattr(sys.modules.get(module), name, None)
    return (module, name, kinds) if found is kernel and module != "__main__" else None


def _serve(process: subprocess.Popen[str], todo: queue.SimpleQueue[Request], done: queue.SimpleQueue[bool]) -> None:
    """Pass requests to a process; put True into `done` for each that it has finished, and False at the end."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError, queue.Empty, ValueError):  # closed pipes of a process that died or was ended
        while True:
            process.stdin.write(json.dumps(todo.get_nowait()) + "\n")
            process.stdin.flush()
            if not process.stdout.readline():
                break
            done.put(True)
    done.put(False)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _main() -> None:
    gc.set_threshold(_RARELY)  # most of the many objects that a compiler makes live as long as the process
    for line in sys.stdin:
        module, name, kinds = json.loads(line)
        with suppress(Exception):  # the process that needs the kernel compiles it again and raises the error
            code_cache.compile_file(getattr(import_module(module), name), kinds)
        print(flush=True)


if __name__ == "__main__":
    _main()
