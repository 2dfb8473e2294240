"""Interrupted runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audiotag.crawl.commands import POSIX, at_work, lines, rows


@POSIX
def test_an_interrupt_after_standard_input_keeps_no_half_of_a_file(clips, command, noise):
    content = Path(clips[0]).read_bytes()
    soundfile.write("long.wav", np.tile(noise[:, 0], 60), 32000, subtype="PCM_16")
    long = Path("long.wav").read_bytes()
    os.mkfifo("pipe.wav")
    arguments = [*command, "-", "pipe.wav", "--window", "0.5", "--output", "out.jsonl"]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdin.write(content)
    process.stdin.close()
    with open("pipe.wav", "wb", buffering=0) as pipe:
        pipe.write(long[: len(long) // 2])
        at_work(process, rows=10)
        process.send_signal(signal.SIGINT)
        assert process.wait(300) == 130
    assert {row["path"] for row in rows(Path("out.jsonl").read_text())} == {"-"}


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_interrupted(number, workers, expected, crawl, waiting):
    """All processes get the signal, as from a terminal or a batch system."""
    arguments = [*crawl, *workers]
    process = subprocess.Popen([*arguments, waiting], stderr=subprocess.PIPE, text=True, start_new_session=True)
    at_work(process)
    os.killpg(process.pid, number)
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 130, err
    *_, hint, last = err.splitlines()
    assert hint == "audiotag: out.jsonl: to continue, run the same command with --resume"
    assert last == "audiotag: interrupted"
    assert "Traceback" not in err
    interrupted = Path("out.jsonl").read_text()
    assert set(interrupted.splitlines()) <= set(expected)
    done = subprocess.run([*arguments, "--resume"], capture_output=True, text=True, timeout=300)
    # rows that the interrupted run finished are kept, not only those that it had made durable
    assert f"audiotag: out.jsonl: {len(rows(interrupted))} files done already, " in done.stderr
    assert done.returncode == 1
    assert lines("out.jsonl") == expected


@POSIX
def test_the_second_interrupt_kills():
    code = """
import os, signal, sys, time
from audiotag.crawl.signals import interruptible
try:
    with interruptible():
        print("here", flush=True)
        time.sleep(100)
except KeyboardInterrupt:
    pass
with interruptible():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(100)
    finally:
        print("cleaning up", flush=True)
        time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == -signal.SIGINT
    process.stdout.close()


@POSIX
def test_who_ignores_interrupts_goes_on_doing_so(expected, crawl):
    arguments = [*crawl]
    process = subprocess.Popen(
        arguments, stderr=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    at_work(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 1
    assert lines("out.jsonl") == expected
