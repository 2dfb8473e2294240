from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tinyonnx
from tests.tinyonnx.kernels.test_recurrent_models import model as recurrent_model
from tests.tinyonnx.runtime.test_inlining import CASES, content_of, feeds_of
from tinyonnx.cli import main
from tinyonnx.codegen.processor import processor
from tinyonnx.dtypes import round_to_bfloat16
from tinyonnx.native.header import function_name, parameters
from tinyonnx.native.model import CompileError

pytest.importorskip("ziglang")
if sys.platform != "linux" or platform.machine() != "x86_64":
    pytest.skip("native code is for x86-64 Linux", allow_module_level=True)

MODEL = """
    <ir_version: 8, opset_import: ["" : 17]>
    image (float[N, 3, H, W] x, float[8, 3, 3, 3] w, float[8] b) => (float[N, 8, H, W] y, float[N, 8] int) {
        c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
        y = Sigmoid (c)
        g = GlobalAveragePool (y)
        int = Flatten (g)
    }
"""
SHAPE = (2, 3, 9, 11)


def image_model(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    for value in list(model.graph.input)[1:]:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        model.graph.input.remove(value)
    onnx.save(model, tmp_path / "image.onnx")
    return tmp_path / "image.onnx"


def pointer(array: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def test_a_library_is_called_through_ctypes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, library = image_model(tmp_path), tmp_path / "libimage-2.so"
    assert main(["compile", str(model), "-o", str(library), "--input", "x=shape:2,3,9,11"]) == 0
    assert "libimage-2.h" in capsys.readouterr().out
    header = library.with_suffix(".h").read_text()
    assert "int image_2_run(const float *x, float *y, float *int_);" in header
    assert "x: float[2][3][9][11]" in header
    functions = ctypes.CDLL(str(library))
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    expected = tinyonnx.InferenceSession(str(model)).run(None, {"x": x})
    for level in (2, 3, 0):
        assert functions.image_2_level(level) in (2, 3, 4)
        outputs = [np.full_like(array, np.nan) for array in expected]
        assert functions.image_2_run(*map(pointer, [x, *outputs])) == 0
        for output, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, wanted, atol=1e-5)
    symbols = subprocess.run(["readelf", "--dyn-syms", "-W", library], capture_output=True, text=True, check=True)
    exported = {line.split()[7] for line in symbols.stdout.splitlines() if " GLOBAL " in line and " UND " not in line}
    assert exported == {"image_2_run", "image_2_level"}
    assert "NEEDED" not in subprocess.run(["readelf", "-dW", library], capture_output=True, text=True).stdout


def test_an_index_out_of_range_is_an_error_of_one_run(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[4, 3] x, int64[2] i) => (float[2, 3] y, float[2, 2] best, int64[2, 2] places) {
            k = Constant <value_ints = [2]> ()
            y = Gather (x, i)
            best, places = TopK (y, k)
        }"""
    model, library = tmp_path / "rows.onnx", tmp_path / "librows.so"
    onnx.save(onnx.parser.parse_model(text), model)
    assert main(["compile", str(model), "-o", str(library)]) == 0
    assert "-2 for invalid data" in library.with_suffix(".h").read_text()
    run = ctypes.CDLL(str(library)).rows_run
    x = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    session = tinyonnx.InferenceSession(str(model))
    for indices, result in (([1, 3], 0), ([1, 4], -2), ([-5, 0], -2), ([-1, 0], 0)):
        i = np.array(indices)
        outputs = [np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int64)]
        assert run(*map(pointer, [x, i, *outputs])) == result
        if not result:
            for output, wanted in zip(outputs, session.run(None, {"x": x, "i": i}), strict=True):
                np.testing.assert_array_equal(output, wanted)


def test_parameters_may_be_called_like_anything_in_c(tmp_path: Path) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        names (float[4] inputs, float[4] new, float[4] unix, float[4] INPUTS) => (float[4] outputs, float[4] run) {
            a = Add (inputs, unix)
            outputs = Add (a, INPUTS)
            run = Mul (inputs, new)
        }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "names.onnx")
    library = tmp_path / "libnames.so"
    assert main(["compile", str(tmp_path / "names.onnx"), "-o", str(library)]) == 0
    for suffix in ("c", "cc"):
        (tmp_path / f"user.{suffix}").write_text('#include "libnames.h"\n')
        command = [sys.executable, "-m", "ziglang", "cc", "-Wall", "-Werror", "-c", f"user.{suffix}", "-o", "user.o"]
        subprocess.run(command, cwd=tmp_path, check=True)
    xs, ys = np.arange(16, dtype=np.float32).reshape(4, 4), np.empty((2, 4), np.float32)
    assert ctypes.CDLL(str(library)).names_run(*map(pointer, [*xs, *ys])) == 0
    np.testing.assert_array_equal(ys, [xs[0] + xs[2] + xs[3], xs[0] * xs[1]])


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = image_model(tmp_path)
    for name in ("one", "two"):
        assert main(["compile", str(model), "-o", str(tmp_path / name), "--input", "x=shape:2,3,9,11"]) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_files_beside_it_are_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = image_model(tmp_path)
    for name in ("random", "zig", "ziglang", "tinyonnx"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    (tmp_path / ".image.part").write_text("another build's")
    monkeypatch.chdir(tmp_path)
    assert main(["compile", str(model), "-o", "image", "--input", "x=shape:1,3,9,11"]) == 0
    assert (tmp_path / ".image.part").read_text() == "another build's"
    assert not [path for path in tmp_path.glob(".*") if path.name != ".image.part"]


def test_what_can_t_be_written_is_said_before_anything_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = image_model(tmp_path)
    monkeypatch.setattr("tinyonnx.native.products.units", lambda *_: pytest.fail("compiles"))
    for output, message in ((tmp_path, "is a folder, not a file"), (tmp_path / "no" / "lib.so", "No such file")):
        assert main(["compile", str(model), "-o", str(output), "--input", "x=shape:1,3,9,11"]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert str(output) in error
        assert error.count("\n") == 1


def test_nodes_without_a_kernel_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        odd (float[4] x) => (int64[1, N] places, float[M] sorted) {
            places = NonZero (x)
            sorted = Unique (x)
        }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "odd.onnx")
    assert main(["compile", str(tmp_path / "odd.onnx"), "-o", str(tmp_path / "odd")]) == 1
    error = capsys.readouterr().err
    assert "odd.onnx: can't be compiled" in error
    assert 'NonZero "places" (node 0): no kernel for this operator' in error
    assert 'Unique "sorted"' in error
    assert not (tmp_path / "odd").exists()


def test_a_long_list_of_nodes_without_a_kernel_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "\n".join(f"y{i} = NonZero (x)" for i in range(9))
    outputs = ", ".join(f"int64[1, N] y{i}" for i in range(9))
    text = f'<ir_version: 8, opset_import: ["" : 17]> odd (float[4] x) => ({outputs}) {{\n{body}\n}}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "odd.onnx")
    assert main(["compile", str(tmp_path / "odd.onnx"), "-o", str(tmp_path / "odd")]) == 1
    error = capsys.readouterr().err
    assert error.count("NonZero") == 3
    assert error.endswith("; and 6 more\n")


def test_names_in_c() -> None:
    assert function_name("libmn10") == "mn10"
    assert function_name("7-zip") == "_7_zip"
    assert function_name("int") == "int_"
    graph = tinyonnx.ir.Graph("", {})
    values = [graph.add_input(tinyonnx.Value(str(i), np.dtype(t), (2,))) for i, t in enumerate(["<f4", "<i8", "?"])]
    found = parameters(values, ["a.b", "a/b", "über"], {"x"})
    assert [p.name for p in found] == ["a_b", "a_b_", "_ber"]
    assert [p.type for p in found] == ["float", "int64_t", "uint8_t"]
    strings = graph.add_input(tinyonnx.Value("s", np.dtype("c8"), (2,)))
    with pytest.raises(CompileError, match="C has no type"):
        parameters([strings], ["s"])


POWERS = """
    <ir_version: 8, opset_import: ["" : 17]>
    powers (float[4, 5] x, float[5] e) => (float[4, 5] y) {
        a = Abs (x)
        y = Pow (a, e)
    }
"""


@pytest.mark.parametrize("name", ["powers.so", "powers"])
def test_functions_of_the_c_library_are_linked(tmp_path: Path, name: str) -> None:
    onnx.save(onnx.parser.parse_model(POWERS), tmp_path / "powers.onnx")
    assert main(["compile", str(tmp_path / "powers.onnx"), "-o", str(tmp_path / name)]) == 0
    x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    e, y = np.arange(5, dtype=np.float32) / 2, np.empty_like(x)
    if name == "powers":
        data = x.tobytes() + e.tobytes()
        result = subprocess.run([tmp_path / name], input=data, capture_output=True, check=True, env={})
        y = np.frombuffer(result.stdout, np.float32).reshape(4, 5)
    else:
        assert ctypes.CDLL(str(tmp_path / name)).powers_run(*map(pointer, [x, e, y])) == 0
    np.testing.assert_allclose(y, np.abs(x) ** e, rtol=1e-6)


def test_levels_may_change_between_runs(tmp_path: Path) -> None:
    """Zeros among unpacked constants, as the biases of an LSTM's states, aren't what another level left there."""
    (tmp_path / "layer.onnx").write_bytes(recurrent_model("LSTM", outputs=["y"]))
    library = tmp_path / "layer.so"
    assert main(["compile", str(tmp_path / "layer.onnx"), "-o", str(library), "--input", "x=shape:9,3,5"]) == 0
    functions = ctypes.CDLL(str(library))
    x = np.random.default_rng(1).standard_normal((9, 3, 5)).astype(np.float32)
    (expected,) = tinyonnx.InferenceSession(str(tmp_path / "layer.onnx")).run(None, {"x": x})
    for level in (2, 3, 0, 3, 2):
        functions.layer_level(level)
        y = np.full_like(expected, np.nan)
        assert functions.layer_run(pointer(x), pointer(y)) == 0
        np.testing.assert_allclose(y, expected, atol=1e-5)


WIDE = """
    <ir_version: 8, opset_import: ["" : 17]>
    wide (float[N, 48, H, W] x, float[65, 48, 1, 1] w, float[65] b) => (float[N, 65, H, W] y) {
        c = Conv (x, w, b)
        y = Relu (c)
    }
"""


def wide_model(tmp_path: Path) -> tuple[Path, Any]:
    """Return a model of one product, and its result with weights in bfloat16."""
    model = onnx.parser.parse_model(WIDE)
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((65, 48, 1, 1)).astype(np.float32)
    rounded = round_to_bfloat16(weights)
    for name, array in (("w", weights), ("b", rng.standard_normal(65).astype(np.float32))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del model.graph.input[1:]
    onnx.save(model, tmp_path / "wide.onnx")
    # inputs are 0 where means are measured: biases stay
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(rounded, "w"))
    return tmp_path / "wide.onnx", tinyonnx.InferenceSession(model.SerializeToString())


def test_weights_in_bfloat16_at_every_level(tmp_path: Path) -> None:
    path, expected = wide_model(tmp_path)
    library = tmp_path / "libwide.so"
    assert (
        main(["compile", str(path), "-o", str(library), "--input", "x=shape:1,48,3,7", "--precision", "bfloat16"]) == 0
    )
    assert "AVX512-BF16" in library.with_suffix(".h").read_text()
    functions = ctypes.CDLL(str(library))
    x = np.random.default_rng(1).standard_normal((1, 48, 3, 7)).astype(np.float32)
    best = functions.wide_level(0)
    assert (best == 5) == any(name in processor().features for name in ("avx512_bf16", "avx512bf16"))
    for level in (5, 4, 3, 2, 5):
        # where the best level multiplies in bfloat16, so is the other operand
        operand = round_to_bfloat16(x) if functions.wide_level(level) == 5 else x
        y = np.full((1, 65, 3, 7), np.nan, np.float32)
        assert functions.wide_run(pointer(x), pointer(y)) == 0
        np.testing.assert_allclose(y, expected.run(None, {"x": operand})[0], rtol=1e-5, atol=1e-5)


def test_weights_in_bfloat16_are_stored_once(tmp_path: Path) -> None:
    path, _ = wide_model(tmp_path)
    library = tmp_path / "libwide.so"
    assert (
        main(["compile", str(path), "-o", str(library), "--input", "x=shape:1,48,3,7", "--precision", "bfloat16"]) == 0
    )
    weights = onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0])[:8, :2, 0, 0]
    rounded = round_to_bfloat16(weights)
    bits = np.ascontiguousarray(rounded).view(np.uint32)
    content = library.read_bytes()
    # pairs of weights of eight filters lie side by side, and nowhere are these weights float32
    assert content.count((bits[:, 0] >> 16 | bits[:, 1]).astype("<u4").tobytes()) == 1
    assert all(content.count(numbers[:, 0].tobytes()) == 0 for numbers in (weights, rounded))


def test_branches_are_taken_as_in_a_session(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[4, 3] x, int64[2] i, float a) => (float[2, 3] y) {
            zero = Constant <value_float = 0.0> ()
            c = Greater (a, zero)
            y = If (c) <
                then_branch = then () => (float[2, 3] p) { p = Gather (x, i) },
                else_branch = other () => (float[2, 3] q) {
                    one = Constant <value_float = -1.0> ()
                    d = Less (a, one)
                    m = ReduceMean <axes = [0], keepdims = 1> (x)
                    q = If (d) <
                        then_branch = then2 () => (float[2, 3] r) {
                            r = Constant <value = float[2, 3] {1, 2, 3, 4, 5, 6}> ()
                        },
                        else_branch = other2 () => (float[2, 3] s) {
                            t = Constant <value_ints = [2, 3]> ()
                            s = Expand (m, t)
                        }>
                }>
        }"""
    model, library = tmp_path / "either.onnx", tmp_path / "libeither.so"
    onnx.save(onnx.parser.parse_model(text), model)
    assert main(["compile", str(model), "-o", str(library)]) == 0
    run = ctypes.CDLL(str(library)).either_run
    session = tinyonnx.InferenceSession(str(model))
    x = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    y = np.zeros((2, 3), np.float32)
    good, bad = np.array([3, -1]), np.array([0, 4])
    for a, i, result in ((1, good, 0), (1, bad, -2), (0, bad, 0), (-2, bad, 0), (0, good, 0), (1, good, 0)):
        given = np.array(a, np.float32)
        assert run(*map(pointer, [x, i, given, y])) == result
        if not result:
            np.testing.assert_array_equal(y, session.run(None, {"x": x, "i": i, "a": given})[0])


def test_loops_run_as_in_a_session(tmp_path: Path) -> None:
    model, library = tmp_path / "nested.onnx", tmp_path / "libnested.so"
    model.write_bytes(content_of(CASES["nested"]))
    assert main(["compile", str(model), "-o", str(library)]) == 0
    run = ctypes.CDLL(str(library)).nested_run
    session = tinyonnx.InferenceSession(str(model))
    y = np.zeros((3, 4), np.float32)
    for n, go in ((3, True), (0, True), (4, False), (7, True), (1, True)):
        feeds = feeds_of(session, n, go)
        assert run(*map(pointer, [feeds["x"], feeds["n"], feeds["go"], y])) == 0
        np.testing.assert_array_equal(y, session.run(None, feeds)[0])
