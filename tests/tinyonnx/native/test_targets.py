"""Executables, libraries and modules for other machines, run by qemu, wine and node where these are installed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tinyonnx
from tests.tinyonnx.native.machines import ENVIRONMENT, FOREIGN, needed, runner, suffixed
from tests.tinyonnx.native.test_library import POWERS, SHAPE, image_model
from tinyonnx.cli import main
from tinyonnx.codegen.targets import TARGETS

X = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)

MAGIC = {"elf": b"\x7fELF", "coff": b"MZ", "macho": b"\xcf\xfa\xed\xfe", "wasm": b"\0asm"}


def compiled(model: Path, output: Path, target: str, *options: str) -> Path:
    assert main(["compile", str(model), "-o", str(output), "--target", target, *options]) == 0
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return image_model(folder)


@pytest.fixture(scope="module")
def expected(model: Path) -> Any:
    return np.concatenate([y.ravel() for y in tinyonnx.InferenceSession(str(model)).run(None, {"x": X})])


def output_of(command: list[str | Path], data: bytes, **environment: str) -> Any:
    done = subprocess.run(
        command, input=data, capture_output=True, env={**ENVIRONMENT, **environment}, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return np.frombuffer(done.stdout, np.float32)


@pytest.mark.parametrize("target", FOREIGN)
def test_executables_give_what_the_session_gives(model: Path, folder: Path, expected: Any, target: str) -> None:
    command = runner(target)
    file = compiled(model, suffixed(folder / target, target), target, "--input", "x=shape:2,3,9,11")
    result = output_of([*command, file], X.tobytes())
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    done = subprocess.run([*command, file], input=b"few", capture_output=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"standard input ends too early\n")


def test_scores_are_equal_at_the_same_number_of_lanes(model: Path, folder: Path) -> None:
    """On Windows the levels of x86-64 give the same results as on Linux, bit for bit."""
    command = runner("x86_64-windows")
    options = ("--input", "x=shape:2,3,9,11")
    here = compiled(model, folder / "here", "x86_64-linux", *options)
    there = compiled(model, folder / "there.exe", "x86_64-windows", *options)
    for level in ("v2", "v3"):
        results = [output_of([*c, f], X.tobytes(), TINYONNX_CPU=level) for c, f in (([], here), (command, there))]
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in ("x86_64-linux", "wasm")])
def test_libraries_have_the_format_and_the_functions_of_the_target(model: Path, folder: Path, target: str) -> None:
    suffix = TARGETS[target].suffix
    library = folder / f"libimage_{target.replace('-', '_')}{suffix}"
    compiled(model, library, target, "--input", "x=shape:2,3,9,11")
    content, name = library.read_bytes(), library.stem.removeprefix("lib")
    assert content.startswith(MAGIC[TARGETS[target].object_format])
    assert f"{name}_run".encode() in content
    header = library.with_suffix(".h").read_text()
    assert f"int {name}_run(const float *x, float *y, float *int_);" in header
    assert ("x86-64-v2" in header) == target.startswith("x86_64")


@pytest.mark.parametrize("target", ["aarch64-macos", "x86_64-macos"])
def test_executables_are_linked_where_they_can_not_be_run(model: Path, folder: Path, target: str) -> None:
    file = compiled(model, folder / target, target, "--input", "x=shape:2,3,9,11")
    assert file.read_bytes().startswith(MAGIC["macho"])


@pytest.mark.parametrize("target", [*FOREIGN, "wasm"])
def test_the_same_model_gives_the_same_bytes(model: Path, folder: Path, target: str) -> None:
    first, second = (
        compiled(model, folder / f"{name}-{target}.wasm", target, "--input", "x=shape:2,3,9,11").read_bytes()
        for name in ("one", "two")
    )
    assert first == second


SCRIPT = """
import fs from "node:fs";
const [, , name, data] = process.argv;
const { load } = await import(name + ".mjs");
const model = await load(fs.readFileSync(name + ".wasm"));
const feeds = JSON.parse(fs.readFileSync(data));
for (const key in feeds) feeds[key] = Float32Array.from(feeds[key]);
const twice = [model.run(feeds), model.run(feeds)];
let refused = "";
try { model.run({}); } catch (error) { refused = error.message; }
const lists = twice.map(o => Object.fromEntries(Object.entries(o).map(([key, value]) => [key, Array.from(value)])));
console.log(JSON.stringify({ inputs: model.inputs, outputs: model.outputs, lists, refused }));
"""


def in_node(module: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    node = needed("node")
    script, data = module.with_name("script.mjs"), module.with_name("feeds.json")
    script.write_text(SCRIPT)
    data.write_text(json.dumps({name: x.ravel().astype(float).tolist() for name, x in feeds.items()}))
    done = subprocess.run(
        [node, script, module.with_suffix(""), data], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_module_runs_in_node(model: Path, folder: Path, expected: Any) -> None:
    module = compiled(model, folder / "image.wasm", "wasm", "--input", "x=shape:2,3,9,11")
    found = in_node(module, {"x": X})
    assert found["inputs"] == [{"name": "x", "type": "float", "shape": list(SHAPE)}]
    assert [output["name"] for output in found["outputs"]] == ["y", "int"]
    assert found["refused"] == 'input "x" must be a Float32Array of 594 elements'
    for outputs in found["lists"]:
        result = np.array([*outputs["y"], *outputs["int"]], np.float32)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("target", [*FOREIGN, "wasm"])
def test_functions_of_the_c_library_are_linked(folder: Path, target: str) -> None:
    model = folder / "powers.onnx"
    onnx.save(onnx.parser.parse_model(POWERS), model)
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    e = np.arange(5, dtype=np.float32) / 2
    if target == "wasm":
        needed("node")
        module = compiled(model, folder / "powers.wasm", target)
        y = np.array(in_node(module, {"x": x, "e": e})["lists"][0]["y"])
    else:
        command = runner(target)
        file = compiled(model, suffixed(folder / f"powers-{target}", target), target)
        y = output_of([*command, file], x.tobytes() + e.tobytes())
    np.testing.assert_allclose(y.reshape(4, 5), np.abs(x) ** e, rtol=1e-6)


LOOPS = """
    <ir_version: 8, opset_import: ["" : 17]>
    loops (float[3, 4] x, float[1] r) => (float[3, 4] y, float[2, 3, 4] s) {
        n = Cast <to = 7> (r)
        two = Constant <value_int = 2> ()
        start = Constant <value_floats = [0.0, 0.5, 0.0, 0.0]> ()
        most = Constant <value_float = 100.0> ()
        none = Constant <value_float = 0.0> ()
        y = Loop (n, "", x) <body = b (int64 i, bool c, float[3, 4] p) => (bool c2, float[3, 4] p2) {
            last, rows = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = d (float[4] a, float[4] e) =>
                (float[4] a2, float[4] o) { a2 = Add (a, e)
                                            o = Relu (a2) }> (start, p)
            k = Cast <to = 1> (i)
            p2 = Add (rows, k)
            m = ReduceMax <keepdims = 0> (p2)
            c2 = Less (m, most)
        }>
        z, s = Loop (two, "", y) <body = f (int64 i, bool c, float[3, 4] p) => (bool c, float[3, 4] p2, float[3, 4] q) {
            h = ReduceMean <keepdims = 0> (p)
            positive = Greater (h, none)
            p2 = If (positive) <then_branch = t () => (float[3, 4] u) { u = Sub (p, x) },
                                else_branch = w () => (float[3, 4] v) { v = Neg (p) }>
            q = Mul (p2, r)
        }>
    }
"""


@pytest.mark.parametrize("target", [*FOREIGN, "wasm"])
def test_loops_of_other_machines(folder: Path, target: str) -> None:
    path = folder / f"loops-{target}.onnx"
    onnx.save(onnx.parser.parse_model(LOOPS), path)
    session = tinyonnx.InferenceSession(str(path))
    command = runner(target) if target != "wasm" else []
    output = folder / "loops.wasm" if target == "wasm" else suffixed(folder / f"loops-{target}", target)
    file = compiled(path, output, target)
    x = np.random.default_rng(3).standard_normal((3, 4)).astype(np.float32)
    for trips in (0, 3, 50):
        feeds = {"x": x, "r": np.full(1, trips, np.float32)}
        expected = np.concatenate([result.ravel() for result in session.run(None, feeds)])
        if target == "wasm":
            found = [np.array([*o["y"], *o["s"]], np.float32) for o in in_node(file, feeds)["lists"]]
        else:
            found = [output_of([*command, file], x.tobytes() + feeds["r"].tobytes())]
        for result in found:
            np.testing.assert_allclose(result, expected, rtol=1e-6)
