from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest

from audiotag import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_message_replaces_the_status_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "20")
    console.show("working " + "x" * 100)
    console.say("done")
    console.say("again")
    console.show("more")
    console.show("")
    clear = "\r\x1b[K"
    assert terminal.getvalue() == f"working {'x' * 11}{clear}audiotag: done\naudiotag: again\nmore{clear}"


def test_no_status_line_without_a_terminal(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    console.show("working")
    console.say("done")
    assert file.getvalue() == "audiotag: done\n"


@pytest.mark.parametrize("stderr", [None, Full()])
def test_a_stderr_that_takes_nothing_is_ignored(monkeypatch, stderr):
    monkeypatch.setattr("sys.stderr", stderr)
    console.say("lost")
    console.show("lost")
    assert not console.on_terminal()


def test_messages_of_the_engine_are_relayed_once(capsys):
    console.relay_engine()
    console.relay_engine()
    logging.getLogger("tinyonnx.some.module").info("compiling %d kernels", 3)
    logging.getLogger("tinyonnx").debug("not that")
    assert capsys.readouterr().err == "audiotag: compiling 3 kernels\n"


def test_what_native_code_prints_is_not_among_rows_and_messages():
    script = """
import os
from audiotag.console import say, separate_native_output
separate_native_output()
os.write(1, b"native")
os.write(2, b"native")
print("row")
say("message")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("row\n", "audiotag: message\n")
