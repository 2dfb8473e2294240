"""Any program: `PROGRAM ARGUMENTS... model.onnx inputs.npz outputs.npz`.

The inputs are arrays by name, as numpy.savez writes them; the outputs are arrays by the names of the model's outputs.
An exit code other than 0 is an error, whose message is the last line on standard error.
"""

from __future__ import annotations

import ctypes
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from onnx import load_from_string

from onnx_conformance import ConformanceError
from onnx_conformance.runtimes.base import Prepare, Run

_PR_SET_PDEATHSIG = 1


class CommandFailedError(ConformanceError):
    """The program ended with an error, or did not write all outputs."""


def start(command: str) -> Prepare:
    """Return the way to prepare a model for a program, written as in a shell."""
    words = shlex.split(command)

    def prepare(model: bytes) -> Run:
        names = [value.name for value in load_from_string(model).graph.output]

        def run(feeds: dict[str, Any]) -> list[Any]:
            with tempfile.TemporaryDirectory(prefix="onnx-conformance-") as folder:
                paths = [Path(folder, name) for name in ("model.onnx", "inputs.npz", "outputs.npz")]
                paths[0].write_bytes(model)
                np.savez(paths[1], **feeds)
                done = subprocess.run(
                    [*words, *map(str, paths)], capture_output=True, text=True, errors="replace",
                    stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                )  # fmt: skip
                if done.returncode:
                    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                    raise CommandFailedError(lines[-1])
                if not paths[2].exists():
                    raise CommandFailedError("the program wrote no outputs")
                with np.load(paths[2]) as found:
                    missing = [name for name in names if name not in found]
                    if missing:
                        raise CommandFailedError(f"the program's outputs lack {', '.join(missing)}")
                    return [found[name] for name in names]

        return run

    return prepare


def _end_with_parent() -> None:
    """Have the system kill this process when its parent ends."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
