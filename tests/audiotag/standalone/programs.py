"""The executable of the model that ships with the package, for each target: built once for all processes of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from audiotag.cli import main
from tests.locks import one_at_a_time, shared_folder
from tests.tinyonnx.native.machines import suffixed


def program(target: str, factory: pytest.TempPathFactory) -> Path:
    """Return the executable for a target; for WebAssembly the module, with its `.mjs` beside it.

    Of several processes one builds it, with all processors, while the others wait.
    """
    name = shared_folder(factory) / f"audio-inference-{target}"
    file = name.with_suffix(".wasm") if target == "wasm" else suffixed(name, target)
    with one_at_a_time(factory, "executables"):
        if not file.exists():
            assert main(["standalone", "--target", target, "-o", str(file)]) == 0
    return file
