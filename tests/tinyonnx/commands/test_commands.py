"""The commands that look inside a model, as a user calls them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import tinyonnx
from tinyonnx.cli import main

TEXT = """
    <ir_version: 8, opset_import: ["": 17]>
    net (float[batch, 4, t, 16] x) => (float[batch, 6] y)
    <float[6] gamma = {1, 2, 1, 2, 1, 2}, float[6] beta = {0, 0, 1, 1, 2, 2},
     float[6] mean = {0, 1, 0, 1, 0, 1}, float[6] var = {1, 4, 1, 4, 1, 4}>
    {
        conv = Conv (x, w)
        norm = BatchNormalization (conv, gamma, beta, mean, var)
        active = Relu (norm)
        pooled = GlobalAveragePool (active)
        s = Shape (x)
        zero = Constant <value_int = 0> ()
        n = Gather (s, zero)
        one = Constant <value_ints = [-1]> ()
        axes = Constant <value_ints = [0]> ()
        n1 = Unsqueeze (n, axes)
        target = Concat <axis = 0> (n1, one)
        y = Reshape (pooled, target)
    }
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "net.onnx")


def write(path: Path, change: float = 0.0) -> Path:
    proto = onnx.parser.parse_model(TEXT)
    weights = np.random.default_rng(0).standard_normal((6, 4, 1, 1), dtype=np.float32)
    weights[0, 0] += change
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(proto, path)
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main(list(map(str, arguments))) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out if not code else captured.out + captured.err


def call_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    assert main([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_inspect_without_shapes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = call(capsys, "inspect", model)
    assert "12 nodes" in text
    assert "batch×4×t×16" in text
    report = call_json(capsys, "inspect", model)
    assert report["opsets"] == {"": 17}
    assert [node["op"] for node in report["nodes"]][:3] == ["Conv", "BatchNormalization", "Relu"]
    assert report["macs"] is None


def test_inspect_with_shapes_counts(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = call_json(capsys, "inspect", model, "--dim", "t=10")
    conv = report["nodes"][0]
    assert conv["outputs"][0]["shape"] == [1, 6, 10, 16]
    assert (conv["parameters"], conv["macs"], conv["bytes"]) == (24, 6 * 160 * 4, 6 * 160 * 4)
    assert report["macs"] == conv["macs"]
    assert [node["outputs"][0]["shape"] for node in report["nodes"]][4:] == [[4], [], [], [1], [1], [1], [2], [1, 6]]


def test_the_plan_says_what_became_of_the_nodes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = call_json(capsys, "inspect", model, "--optimized", "--input", "x=shape:2,4,10,16")["plan"]
    first, second, third = plan["steps"]
    assert first["origin"] == ["conv", "norm", "active"]
    assert (first["kind"], first["op"], first["macs"]) == ("kernel", "FusedConv", 2 * 6 * 160 * 4)
    assert first["kernels"]
    assert first["bytes"] == 2 * 6 * 160 * 4
    assert (second["op"], third["op"]) == ("GlobalAveragePool", "Reshape")
    assert plan["arena_bytes"] >= first["bytes"]
    assert "conv + norm + active" in call(capsys, "inspect", model, "--optimized", "--dim", "t=10")


def test_numpy_steps_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> net (float[3] x) => (int64[a, b] y) { y = NonZero (x) }
    """)
    onnx.save(proto, tmp_path / "m.onnx")
    (step,) = call_json(capsys, "inspect", tmp_path / "m.onnx", "--optimized")["plan"]["steps"]
    assert (step["kind"], step["why"]) == ("numpy", "no kernel for this operator")


def test_a_pass_and_what_was_done(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = call(capsys, "inspect", model, "--pass", "fold_batchnorm", "--dim", "t=10")
    assert "fold_batchnorm: norm" in text
    fused = call_json(capsys, "inspect", model, "--pass", "fuse_activation", "--dim", "t=10")["graph"]
    assert fused["macs"] == call_json(capsys, "inspect", model, "--dim", "t=10")["macs"]
    assert "tinyonnx.FusedConv" not in text
    assert "tinyonnx.FusedConv" in call(capsys, "inspect", model, "--pass", "fuse_activation", "--dim", "t=10")


def test_the_optimised_model_as_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    saved = tmp_path / "out.onnx"
    call(capsys, "inspect", model, "--save", saved, "--dim", "t=10")
    onnx.checker.check_model(onnx.load(saved))
    assert [node.op_type for node in onnx.load(saved).graph.node] == ["Conv", "Relu", "GlobalAveragePool", "Reshape"]
    read = {name for node in onnx.load(saved).graph.node for name in node.input}
    assert {tensor.name for tensor in onnx.load(saved).graph.initializer} <= read
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 4, 10, 16), dtype=np.float32)}
    results = [onnxruntime.InferenceSession(path).run(None, feeds)[0] for path in (model, saved)]
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "--save"),
        ("compile", "--output"),
        ("run", "--save"),
        ("trace", "--save"),
        ("trace", "--html"),
        ("profile", "--trace"),
    ],
)
def test_the_model_itself_is_not_overwritten(model: Path, capsys: pytest.CaptureFixture[str], command: Any) -> None:
    name, option = command
    content = model.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main([name, str(model), option, str(model)])
    assert ended.value.code == 2
    assert "would overwrite the model" in capsys.readouterr().err
    assert model.read_bytes() == content


@pytest.mark.parametrize("opset", [7, 11, 12, 17])
def test_the_file_is_of_the_models_opset(opset: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnxruntime

    resized = (
        "Resize (half, none, scales)" if opset >= 11 else "Upsample (half, scales)" if opset >= 9 else "Relu (half)"
    )
    squeezed = "Squeeze (big, front)" if opset >= 13 else "Squeeze <axes = [0]> (big)"
    proto = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": {opset}]>
        net (float[1, 4, t] x) => (float[a, b] y)
        <float[3] scales = {{1, 1, 2}}, float[0] none = {{}}, int64[1] front = {{0}}> {{
            half = Identity (x)
            big = {resized}
            flat = {squeezed}
            y = Relu (flat)
        }}
    """)
    onnx.save(proto, tmp_path / "in.onnx")
    call(capsys, "inspect", tmp_path / "in.onnx", "--save", tmp_path / "out.onnx", "--dim", "t=3")
    saved = onnx.load(tmp_path / "out.onnx")
    onnx.checker.check_model(saved, full_check=True)
    assert [entry.version for entry in saved.opset_import] == [opset]
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 4, 3), dtype=np.float32)}
    results = [onnxruntime.InferenceSession(tmp_path / name).run(None, feeds)[0] for name in ("in.onnx", "out.onnx")]
    np.testing.assert_array_equal(*results)


def test_trace_prints_and_saves(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(1).standard_normal((1, 4, 10, 16), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    arguments = ["trace", model, "--input", f"x={tmp_path / 'x.npy'}"]
    text = call(capsys, *arguments, "--save", tmp_path / "acts.npz", "--only", "act|conv")
    assert "all numbers are finite" in text
    saved = np.load(tmp_path / "acts.npz")
    assert sorted(saved.files) == ["active", "conv"]
    session = tinyonnx.InferenceSession(model)
    (expected,) = session.run(["active"], {"x": x})
    np.testing.assert_allclose(saved["active"], expected, atol=1e-5)
    rows = {row["name"]: row for row in call_json(capsys, *arguments)["activations"]}
    assert rows["active"]["maximum"] == pytest.approx(float(expected.max()), abs=1e-5)
    assert rows["active"]["zeros"] == pytest.approx(float((saved["active"] == 0).mean()))
    assert rows["conv"]["std"] == pytest.approx(float(saved["conv"].std()), rel=1e-4)


def test_trace_names_the_first_layer_that_is_not_finite(model: Path, tmp_path: Path, capsys: Any) -> None:
    x = np.full((1, 4, 2, 16), 3e38, np.float32)
    x[0, :, 0, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    text = call(capsys, "trace", model, "--input", f"x={tmp_path / 'x.npy'}")
    assert "first non-finite: conv" in text
    report = call_json(capsys, "trace", model, "--input", f"x={tmp_path / 'x.npy'}", "--only", "^conv$")
    (row,) = report["activations"]
    assert report["first_non_finite"] == "conv"
    assert row["nans"] == 6
    assert row["infinities"] > 0


def test_trace_goes_into_loops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]>
        net (float[n] x) => (float[n] y, seq(float[n]) s) {
            n = Constant <value = int64 {3}> ()
            go = Constant <value = bool {1}> ()
            y = Loop (n, go, x) <body = once (int64 i, bool go_in, float[n] a) => (bool go_out, float[n] b) {
                go_out = Identity (go_in)
                b = Add (a, a)
            }>
            s = SequenceConstruct (y, x)
        }
    """)
    onnx.save(proto, tmp_path / "m.onnx")
    report = call_json(capsys, "trace", tmp_path / "m.onnx", "--dim", "n=2", "--save", tmp_path / "a.npz")
    adds = [row for row in report["activations"] if row["op"] == "Add"]
    assert [row["path"] for row in adds] == ["y/body/b"] * 3
    assert [row["op"] for row in report["activations"]][-3:] == ["SequenceConstruct", "Constant", "Constant"]
    assert report["activations"][-3]["value"] == "sequence of 2"
    saved = np.load(tmp_path / "a.npz")
    np.testing.assert_allclose(saved["b#3"], 4 * saved["b"])
    assert saved["go_out"].shape == ()


@pytest.mark.parametrize("against", ["reference", "onnxruntime", "unoptimized", "itself", "saved"])
def test_compare(model: Path, against: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "trace", model, "--dim", "t=10", "--save", tmp_path / "acts.npz")
    other = {"itself": str(model), "saved": str(tmp_path / "acts.npz")}.get(against, against)
    result = call_json(capsys, "compare", model, "--against", other, "--dim", "t=10")
    assert result["first_over"] is None
    assert [layer["name"] for layer in result["layers"]] == ["active", "pooled", "y"]
    assert result["layers"][0]["origin"] == ["Conv", "BatchNormalization", "Relu"]
    assert result["worst"]["cosine"] > 0.999999


def test_saved_activations_are_recognised_by_their_content(model: Path, tmp_path: Path, capsys: Any) -> None:
    call(capsys, "trace", model, "--dim", "t=10", "--save", tmp_path / "acts")
    result = call_json(capsys, "compare", model, "--against", tmp_path / "acts", "--dim", "t=10")
    assert result["first_over"] is None
    assert result["layers"]


def test_a_corrupted_weight_is_found_where_it_is(model: Path, tmp_path: Path, capsys: Any) -> None:
    other = write(tmp_path / "corrupted.onnx", change=0.01)
    text = call(capsys, "compare", model, "--against", other, "--dim", "t=10", code=1)
    assert text.splitlines()[1].startswith("FIRST OVER: active (FusedConv = Conv + BatchNormalization + Relu)")
    result = call_json(capsys, "compare", model, "--against", other, "--unoptimized", code=1)
    assert result["first_over"] == "conv"
    call(capsys, "compare", model, "--against", other, "--tolerance", "0.5")


def test_profile(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", model, "--dim", "t=10", "--repeats", "3"]
    text = call(capsys, *arguments, "--trace", tmp_path / "out.json")
    assert re.search(r"FusedConv +1 ", text)
    events = json.loads((tmp_path / "out.json").read_text())["traceEvents"]
    assert [event["name"] for event in events][:2] == ["layout change x:channels_last", "FusedConv active"]
    assert all(event["ph"] == "X" and event["dur"] > 0 for event in events)
    result = call_json(capsys, *arguments)
    steps = result["profile"]["steps"]
    assert sum(step["seconds"] for step in steps) == pytest.approx(result["profile"]["total"])
    assert sum(row[2] for row in result["by_op"]) == pytest.approx(result["profile"]["total"])
    assert steps[1]["macs"] == 6 * 160 * 4
    assert steps[1]["roof"] > 0
    assert 0 <= result["profile"]["undisturbed"] <= result["profile"]["repeats"] >= 3


def test_layers_of_other_shapes_have_no_numbers(model: Path, tmp_path: Path, capsys: Any) -> None:
    saved = tmp_path / "saved.npz"
    call(capsys, "trace", str(model), "--dim", "t=8", "--save", str(saved))
    text = call(capsys, "compare", str(model), "--dim", "t=9", "--against", str(saved), code=1)
    (line,) = [line for line in text.splitlines() if line.startswith("active ")]
    assert "the other side's float32" in line
    assert "1.000000000" not in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", "missing.onnx"], "missing.onnx"),
        (["compare", "{}", "--against", "missing.npz"], "missing.npz"),
        (["compare", "{}", "--against", "missing.onnx"], "missing.onnx"),
        (["compare", "{}", "--against", __file__], "test_commands.py"),
        (["compare", "{}", "--against", "onnxruntim"], "neither a file nor one of reference, onnxruntime, unoptimized"),
        (["trace", "{}", "--inputs", __file__], "not an .npz file"),
        (["inspect", "{}", "--save", "/no/such/folder/m.onnx"], "/no/such/folder/m.onnx: No such file"),
        (["trace", "{}", "--html", "/dev/full"], "/dev/full: No space left"),
        (["profile", "{}", "--repeats", "1", "--trace", "/dev/full"], "/dev/full: No space left"),
        (["trace", "{}", "--save", "/no/such/folder/a.npz"], "/no/such/folder/a.npz"),
        (["inspect", "{}", "--dim", "q=3"], "'batch', 't'"),
        (["trace", "{}", "--input", "x=shape:1,2"], "expects shape"),
    ],
)
def test_mistakes_are_named(model: Path, arguments: list[str], message: str, capsys: Any) -> None:
    assert message in call(capsys, *[a.format(model) for a in arguments], code=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile", "{}", "--repeats", "0"], "--repeats: 0 is not"),
        (["profile", "{}", "--threads", "-1"], "--threads: -1 is not"),
        (["trace", "{}", "--seed", "-1"], "--seed: -1 is not"),
        (["compare", "{}", "--against", "unoptimized", "--tolerance", "nan"], "--tolerance: nan is not"),
        (["compare", "{}", "--against", "unoptimized", "--tolerance", "-0.1"], "--tolerance: -0.1 is not"),
        (["compare", "{}"], "required: --against"),
        (["run", "{}", "--dim", "t"], "--dim: t: expected NAME=N"),
        (["compile", "{}", "-o", "m.so", "--dim", "t=-1"], "--dim: t=-1: expected NAME=N"),
        (["profile", "{}", "--input", "x.npy"], "--input: x.npy: expected NAME=FILE.npy"),
        (["run", "{}", "--dim", f"t={'9' * 20}"], "9: expected NAME=N"),
        (["inspect", "{}", "--input", "x=shape:1,b"], "--input: shape:1,b: expected dimensions"),
        (["inspect", "{}", "--input", f"x=shape:{'9' * 5000}"], "9: expected dimensions"),
        (["trace", "{}", "--input", f"x=shape:{'1,' * 64}1"], "1: expected dimensions"),
        (["trace", "{}", "--only", "["], "--only: '[' is not a regular expression"),
        (["inspect", "{}", "--pass", "fuse_all"], "--pass: unknown pass 'fuse_all'; the passes are"),
        (["ops", "--domain", "ai.onyx"], "--domain: ai.onyx is unknown; the domains are"),
    ],
)
def test_wrong_usage(model: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([a.format(model) for a in arguments])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_results_that_shapes_decide_are_traced_too(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = call_json(capsys, "trace", model, "--dim", "t=10")["activations"]
    assert {row["name"]: row["op"] for row in rows if row["shape"] == [4] or row["name"] == "target"} == {
        "s": "Shape", "target": "Concat"
    }  # fmt: skip
    assert len(rows) == 12
    assert len(call_json(capsys, "trace", model, "--dim", "t=10", "--optimized")["activations"]) == 3


def test_all_inputs_from_one_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(5).standard_normal((2, 4, 3, 16), dtype=np.float32)
    np.savez(tmp_path / "feeds.npz", x=x)
    assert main(["trace", str(model), "--inputs", str(tmp_path / "feeds.npz"), "--only", "active", "--json"]) == 0
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)["activations"]
    (expected,) = tinyonnx.InferenceSession(model).run(["active"], {"x": x})
    assert row["maximum"] == pytest.approx(float(expected.max()), rel=1e-5)
    assert captured.err == ""
    np.savez(tmp_path / "feeds.npz", z=x)
    assert "'z': the inputs are 'x'" in call(capsys, "run", model, "--inputs", tmp_path / "feeds.npz", code=1)


@pytest.mark.parametrize("command", ["trace", "inspect", "profile"])
def test_sizes_beyond_all_bounds(command: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = "9" * 17
    assert "tinyonnx: " in call(capsys, command, model, "--dim", f"t={size}", code=1)
    assert "tinyonnx: " in call(capsys, command, model, "--input", f"x=shape:1,4,{size},16", code=1)


def test_inspecting_shapes_takes_no_memory(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = call_json(capsys, "inspect", model, "--dim", "t=100000000000")
    assert report["bytes"] > 10**13


def test_names_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y\x1b[31m"], name="evil\x1b]0;title\x07")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [2])], [value("y\x1b[31m", 1, [2])])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    for command in (["inspect"], ["inspect", "--optimized"], ["trace"], ["profile"], ["run"]):
        assert "\x1b" not in call(capsys, command[0], tmp_path / "m.onnx", *command[1:])
