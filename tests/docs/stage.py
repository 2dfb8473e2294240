"""A folder with all files that our documents mention, in which their commands run as they stand."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import helper, numpy_helper, parser

from audiotag.models.catalog import resolve
from tests.docs.blocks import ROOT

SRUN = '#!/bin/sh\nexec "$@"\n'
PARALLEL = """#!/bin/bash
# does on this machine, and one after the other, what GNU parallel would
command="${@: -1}"
while read -r line; do bash -c "${command//\\{\\}/$line}" || exit 1; done
"""


def prepare(stage: Path, checkpoint: Path | None) -> dict[str, str]:
    """Fill the stage and return the environment of its commands."""
    _sounds(stage)
    (stage / "list.txt").write_text("clip.wav\nday.flac\n")
    (stage / "table.csv").write_text("file,place\nclip.wav,here\n")
    (stage / "hosts.txt").write_text("one\ntwo\n")
    for name in ("tags", "parts"):
        (stage / name).mkdir()
    for name in ("models", "examples"):
        (stage / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(0)
    np.save(stage / "melspec.npy", rng.standard_normal((1, 1, 128, 200)).astype(np.float32))
    for name in ("model.onnx", "int8.onnx"):
        (stage / name).write_bytes(_classifier().SerializeToString())
    (stage / "inputs").mkdir()
    np.savez(stage / "inputs/first.npz", x=rng.standard_normal((1, 3, 224, 224)).astype(np.float32))
    _write_case(stage / "cases/neg")
    if checkpoint is not None:
        (stage / "mn04_as_mAP_432.pt").symlink_to(checkpoint)
    # as if it had been pulled
    home = stage / "home"
    (home / "models").mkdir(parents=True)
    content = resolve("untrained-mn01").source
    assert isinstance(content, bytes)
    (home / "models/mn10_as.onnx").write_bytes(content)
    return _environment(stage, home)


def _write_case(folder: Path) -> None:
    """Write a case of the backend suite's form."""
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    text = '<ir_version: 8, opset_import: ["" : 17]> m (float[2] x) => (float[2] y) { y = Neg (x) }'
    (folder / "model.onnx").write_bytes(parser.parse_model(text).SerializeToString())
    for name, values in (("input_0", [1, -2]), ("output_0", [-1, 2])):
        array = np.array(values, np.float32)
        (data / f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())


def _environment(stage: Path, home: Path) -> dict[str, str]:
    programs = stage / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("parallel", PARALLEL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    modules = {"audiotag": "-m audiotag", "tinyonnx": "-m tinyonnx", "onnx-conformance": "-m onnx_conformance"}
    for name, arguments in {**modules, "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    slurm = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "2"}
    return {**os.environ, **slurm, "PATH": path, "PYTHONPATH": python_path, "AUDIOTAG_HOME": str(home)}


def _sounds(stage: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("recordings", "2024-01"):
        (stage / folder).mkdir()
    sounds = {
        "clip.wav": 1.0,
        "more.wav": 2.0,
        "day.flac": 12.0,
        "hour.ogg": 12.0,
        "recordings/a.wav": 1.0,
        "recordings/b.flac": 1.5,
        "2024-01/c.flac": 1.0,
    }
    for name, seconds in sounds.items():
        samples = rng.standard_normal(int(seconds * 32000)) * 0.1
        soundfile.write(stage / name, samples, 32000)
    shutil.copy(ROOT / "examples/crow.flac", stage / "clip.flac")
    (stage / "samples.raw").write_bytes((rng.standard_normal(64000) * 0.1).astype("<f4").tobytes())


def _classifier() -> onnx.ModelProto:
    """Return a small network (1, 3, 224, 224) -> (1, 1000) with a tensor that has the name in the documents."""
    rng = np.random.default_rng(0)
    weights = {"w": (8, 3, 3, 3), "m": (8, 1000)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["any/tensor/in/the/graph"], strides=[4, 4], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["any/tensor/in/the/graph"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1000])],
        [
            onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def free_port() -> int:
    """Return a port of this machine that is not in use at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def run(command: str, stage: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command line on the stage; the limit is for hangs only."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=stage,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=1200,
    )
