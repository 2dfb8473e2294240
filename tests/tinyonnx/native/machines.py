"""Commands that run programs of other machines: qemu, wine, node."""

from __future__ import annotations

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
}
"""Environment of these programs: wine needs HOME, and writes much to stderr without WINEDEBUG."""


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
    """Return the path of wine, after a run that makes its folder in the home, which writes to stderr."""
    wine = needed(*_WINE)
    subprocess.run([wine, "cmd", "/c", "exit"], env=ENVIRONMENT, capture_output=True, timeout=600, check=True)
    return wine


def suffixed(path: Path, target: str) -> Path:
    """Return the path of a program, with the suffix that the system asks for."""
    return path.with_name(f"{path.name}.exe") if target.endswith("windows") else path
