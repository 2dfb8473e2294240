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

_SPECIALISED = 3
"""Estimate of how often a function with specialisation constants is compiled for one kernel."""

_RATE = 6000.0
"""Bytes of Python code that are compiled in a second; measured as 3000 to 11000."""

_TRUSTED = 10.0
"""Seconds of compiling after which the measured rate counts as much as the expected one."""

_ENDED = -1
"""Stands for a request after the last one of a process."""

Request = tuple[str, str, str]
"""Module and name of a kernel, and the kinds of its arguments."""


def compile_together(missing: Sequence[tuple[Kernel, str]]) -> None:
    """Compile kernels for the cache. A kernel that fails is left out; compiling it for use raises the error."""
    # the longest ones first, so that all processes end at about the same time
    ordered = sorted(missing, key=lambda pair: -effort(pair[0]))
    found = [(request, effort(kernel)) for kernel, kinds in ordered if (request := _request(kernel, kinds))]
    requests = [request for request, _ in found]
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(processors, len(requests) // 2)
    if len(requests) < LEAST or count < 2:
        return
    code_cache.announce(
        f"compiling kernels for this machine: {len(requests)}, on {count} processors; later runs reuse them"
    )
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(requests)):
        todo.put(number)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    # modules in the current folder are not ours
    command = [sys.executable, "-P", "-m", "tinyonnx.codegen.parallel"]
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    with ExitStack() as stack:
        threads = []
        for _ in range(count):
            # Ctrl-C reaches this process, which then ends the others
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, process_group=0
            )
            stack.callback(_end, process)
            threads.append(threading.Thread(target=_serve, args=(process, requests, todo, done), daemon=True))
            threads[-1].start()
        progress, waiting = CompileProgress(), [work for _, work in found]
        finished: list[float] = []
        ended = 0
        while ended < count:
            with suppress(queue.Empty):
                number = done.get(timeout=_INTERVAL)
                if number == _ENDED:
                    ended += 1
                else:
                    finished.append(waiting[number])
                    waiting[number] = 0
            progress.show(finished, [work for work in waiting if work], count - ended)


class CompileProgress:
    """Logs at intervals how many kernels are compiled, and the seconds left.

    The records have the attribute `passing`: a terminal may show them in place.
    """

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()

    def show(self, finished: Sequence[float], others: Sequence[float], processes: int) -> None:
        """Log how many kernels are compiled, if the last message is old enough.

        `finished` and `others` are the efforts of the kernels that are compiled and that are not; the first ones of
        `others`, one per process, are half done on average.
        """
        now = time.monotonic()
        if now > self._said + _INTERVAL and others:
            self._said = now
            left = seconds_left(now - self._began, finished, others, max(processes, 1))
            count = len(finished) + len(others)
            log.info(
                "compiled %d of %d kernels, about %.0f s left", len(finished), count, left, extra={"passing": True}
            )


def seconds_left(elapsed: float, finished: Sequence[float], others: Sequence[float], processes: int) -> float:
    """Estimate the seconds until the kernels with the efforts `others` are compiled, too, as described at `show`.

    The pace is the expected one at first and then more and more the measured one.
    """
    begun = sum(others[:processes]) / 2
    expected = (sum(finished) + begun) / _RATE
    pace = (elapsed * processes + _TRUSTED) / (expected + _TRUSTED)
    return (sum(others) - begun) / _RATE * pace / processes


def effort(kernel: Kernel) -> float:
    """Estimate how long a kernel takes to compile, by the bytes of Python code that become part of it."""
    code = [(len(helper.function.__code__.co_code), bool(helper.statics)) for helper in kernel.helpers()]
    return sum(size * _SPECIALISED if specialised else size for size, specialised in code)


def _request(kernel: Kernel, kinds: str) -> Request | None:
    """Return the name of a kernel for another process; None if it can't be found by name."""
    module, name = kernel.function.__module__, kernel.__name__
    found = getattr(sys.modules.get(module), name, None)
    return (module, name, kinds) if found is kernel and module != "__main__" else None


def _serve(
    process: subprocess.Popen[str],
    requests: Sequence[Request],
    todo: queue.SimpleQueue[int],
    done: queue.SimpleQueue[int],
) -> None:
    """Pass requests, by their numbers in `todo`, to a process; put those it has finished into `done`, then _ENDED."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError, queue.Empty, ValueError):  # closed pipes of a process that died or was ended
        while True:
            number = todo.get_nowait()
            process.stdin.write(json.dumps(requests[number]) + "\n")
            process.stdin.flush()
            if not process.stdout.readline():
                break
            done.put(number)
    done.put(_ENDED)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _main() -> None:
    gc.disable()  # most of the many objects that a compiler makes live as long as the process
    for line in sys.stdin:
        module, name, kinds = json.loads(line)
        with suppress(Exception):  # the process that needs the kernel compiles it again and raises the error
            code_cache.compile_file(getattr(import_module(module), name), kinds)
        print(flush=True)


if __name__ == "__main__":
    _main()
