from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tinyonnx.codegen.kernel import DISABLED

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or DISABLED, reason="only x86-64 Linux loads ELF itself"
)

RUN_A_KERNEL_AND_PRINT_MAPPINGS = """
import numpy as np
from tinyonnx.kernels import BoundKernel, elementwise

x, y = np.arange(5, dtype=np.uint32), np.zeros(5, np.uint32)
BoundKernel(elementwise.copy, (x, y)).run(0, 1)
assert (x == y).all()
print(open("/proc/self/maps").read())
"""


def test_no_page_is_writable_and_executable() -> None:
    command = [sys.executable, "-c", RUN_A_KERNEL_AND_PRINT_MAPPINGS]
    subprocess.run(command, check=True, capture_output=True)  # compiles, if the cache is empty
    maps = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    permissions = [line.split()[1] for line in maps.splitlines() if line]
    assert any("x" in p for p in permissions)
    assert not [p for p in permissions if "w" in p and "x" in p]
