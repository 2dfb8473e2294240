"""The site builds without a warning, and has the pages that are generated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tinyonnx
from tests.docs.blocks import ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr

    def page(name: str) -> str:
        return (tmp_path / "site" / name / "index.html").read_text()

    coverage = page("operators")
    assert all(name in coverage for name in ("Conv", "com.microsoft", "ai.onnx.ml", "LayerNormalization"))
    assert "--resume" in page("command-line")
    reference = page("reference/tinyonnx") + page("reference/audiotag")
    assert all(name in reference for name in ("InferenceSession", "ResourceError", "install_as_onnxruntime", "Tagger"))
    assert tinyonnx.__version__ in page("changelog")
