"""Commands that run programs of other machines: qemu, wine, node."""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

FOREIGN = ("aarch64-linux", "x86_64-windows")
"""Targets other than this one whose programs can be run."""

_WINE = ("wine64", "/usr/lib/wine/wine64", "wine")

ENVIRONMENT = {
    **{key: os.environ[key] for key in ("HOME", "PATH", "WINEPREFIX") if key in os.environ},
    "WINEDEBUG": "-all",
    "LC_ALL": "C.UTF-8",
}
"""Environment of these programs: wine needs HOME, a locale of UTF-8 for names, and WINEDEBUG for a clean stderr."""


def needed(*programs: str) -> str:
    """Return the first of these programs that is installed; without one the test is skipped, in CI it fails."""
    found = next(filter(None, map(shutil.which, programs)), None)
    if found is None:
        message = f"{' or '.join(programs)} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def runner(target: str) -> list[str]:
    """Return the beginning of the command that runs a program of a target."""
    if (sys.platform, platform.machine(), target) == ("linux", "x86_64", "x86_64-linux"):
        return []
    match target:
        case "aarch64-linux":
            return [needed("qemu-aarch64-static", "qemu-aarch64")]
        case "x86_64-windows":
            return [_wine()]
    pytest.skip(f"nothing here runs programs of {target}")


@cache
def _wine() -> str:
    """Return the path of wine, whose folder in the home is made and whose services run as long as this process.

    A program that is the first one starts the services, which takes seconds, and has their messages on its stderr.
    """
    wine = needed(*_WINE)
    subprocess.run([wine, "cmd", "/c", "exit"], env=ENVIRONMENT, capture_output=True, timeout=600, check=True)
    shell = subprocess.Popen(
        [wine, "cmd"], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert shell.stdout is not None
    assert shell.stdout.readline()
    # it ends with its standard input
    atexit.register(shell.communicate)
    return wine


def suffixed(path: Path, target: str) -> Path:
    """Return the path of a program, with the suffix that the system asks for."""
    return path.with_name(f"{path.name}.exe") if target.endswith("windows") else path
