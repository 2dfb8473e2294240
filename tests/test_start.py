"""Ctrl-C at every time of a command's start and end: exit code 130, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")

INTERRUPTED = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)

wanted = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
import tinyonnx_start
sys.exit(getattr(tinyonnx_start, sys.argv.pop(1))())
"""


def started(script, *arguments):
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("audiotag", "audiotag"),
        ("audiotag", "argparse"),
        ("audiotag", "audiotag.console"),
        ("tinyonnx", "tinyonnx"),
        ("tinyonnx", "numpy"),
        ("tinyonnx", "tinyonnx.tools.compare"),
        ("onnx_conformance", "onnx_conformance"),
        ("onnx_conformance", "numpy"),
    ],
)
def test_an_interrupted_import_ends_quietly(command, module):
    assert started(INTERRUPTED, module, command, "--version") == (130, "", "")


@pytest.mark.parametrize("module", ["audiotag.commands.models", "numpy"])
def test_an_import_of_a_running_command_ends_quietly(module):
    """Without care, numpy's C modules turn a KeyboardInterrupt into an ImportError."""
    assert started(INTERRUPTED, module, "audiotag", "models", "info", "audiotag-tiny") == (130, "", "")


def test_an_interrupted_command_says_so():
    script = (
        "import os, signal, sys, tinyonnx_start, audiotag.commands.completion as completion\n"
        "completion.run = lambda args: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(tinyonnx_start.audiotag())"
    )
    assert started(script, "completion", "bash") == (130, "", "audiotag: interrupted\n")


def test_ctrl_c_at_the_exit():
    script = (
        "import atexit, os, signal, sys, tinyonnx_start\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "sys.exit(tinyonnx_start.audiotag())"
    )
    code, printed, said = started(script, "completion", "bash")
    assert (code, said) == (130, "")
    assert printed.startswith("_audiotag()") or "audiotag" in printed


def test_an_ignored_signal_stays_ignored():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "argparse", "audiotag", "--version"], capture_output=True, text=True,
        timeout=600, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
