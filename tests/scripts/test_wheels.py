"""Release wheels: their metadata, and that an installation from one compiles nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from audiotag import Tagger
from tests.scripts.loading import ROOT, load_script
from tinyonnx.codegen import targets
from tinyonnx.codegen.processor import processor

SCRIPT = ROOT / "scripts/wheels"

RUN = """
import json, sys, tinyonnx
from audiotag.cli import main
code = main(["tag", "--format", "jsonl", "--top", "527", sys.argv[1]])
print(json.dumps([code, tinyonnx.__file__, [name for name in ("numba", "llvmlite") if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def wheels() -> ModuleType:
    return load_script("wheels")


def test_a_wheel_with_machine_code(wheels: ModuleType, tmp_path: Path) -> None:
    plain = tmp_path / "tinyonnx-1.0-py3-none-any.whl"
    with zipfile.ZipFile(plain, "w") as file:
        file.writestr("tinyonnx/__init__.py", "")
        file.writestr("tinyonnx-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tinyonnx-1.0.dist-info/RECORD", "")
    folder = tmp_path / "code" / "machine_code" / "x86_64-linux-x86-64-v3"
    folder.mkdir(parents=True)
    (folder / "a.o").write_bytes(b"code")
    path = wheels.with_machine_code(plain, tmp_path / "code", "manylinux_2_17_x86_64", tmp_path)
    assert path.name == "tinyonnx-1.0-py3-none-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        text = file.read("tinyonnx-1.0.dist-info/WHEEL").decode()
        records = file.read("tinyonnx-1.0.dist-info/RECORD").decode().splitlines()
    assert text == "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-manylinux_2_17_x86_64\n"
    assert [record.split(",")[0] for record in records] == names
    (code,) = [name for name in names if name.endswith("x86_64-linux-x86-64-v3/a.o")]
    assert code.startswith("tinyonnx/machine_code/")


def test_wrong_usage() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "vax"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no such system: vax" in done.stderr


@pytest.mark.skipif(not os.environ.get("TEST_WHEELS"), reason="takes minutes: set TEST_WHEELS=1, as .ci/run does")
@pytest.mark.skipif(targets.host() != "x86_64-linux", reason="wheels for x86-64 are built there")
def test_a_first_run_compiles_nothing(tmp_path: Path) -> None:
    level = targets.level_of(processor().features).cpu
    build = [sys.executable, str(SCRIPT), "--level", level, "--output", str(tmp_path / "dist"), "x86_64-linux"]
    subprocess.run(build, check=True, timeout=1800)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    here = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(here), str(wheel)]
    subprocess.run(pip, check=True, timeout=600)
    clip = tmp_path / "clip.wav"
    sound = 0.1 * np.random.default_rng(0).standard_normal(5 * 32000)
    soundfile.write(clip, sound, 32000)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    path = os.pathsep.join([str(here), sysconfig.get_path("purelib")])
    environment = kept | {"PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for _ in range(2):  # the second run starts from the stored plan
        command = [sys.executable, "-P", "-c", RUN, str(clip)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=True
        )
        *rows, last = done.stdout.splitlines()
        assert json.loads(last) == [0, str(here / "tinyonnx" / "__init__.py"), []], done.stderr
        assert "compiling" not in done.stderr
        scores = {tag["label"]: tag["score"] for tag in json.loads(rows[0])["tags"]}
        expected = Tagger().tag(clip, top=None)
        assert scores == pytest.approx({tag.label: tag.score for tag in expected.tags}, abs=1e-5)
    assert not list((tmp_path / "cache").rglob("*.o"))
