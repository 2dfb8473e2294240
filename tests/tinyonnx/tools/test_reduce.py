"""`tinyonnx reduce` finds planted wrong kernels, and `tinyonnx extract` cuts parts out."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import tinyonnx
import tinyonnx.kernels
from tests.tinyonnx.commands.test_commands import call
from tests.tinyonnx.tools.networks import minilm, resnet18
from tinyonnx import registry
from tinyonnx.cli import main
from tinyonnx.errors import OpError
from tinyonnx.ops.fused import fused_conv
from tinyonnx.registry import lookup


def plant(monkeypatch: pytest.MonkeyPatch, function: Any, position: int, when: Callable[..., bool]) -> None:
    """Give the kernels of an operator another input at this position, where the inputs are as `when` says."""

    def wrong(kernel: registry.Fast) -> registry.Fast:
        def bind(pool: Any, out: Any, *inputs: Any, **attributes: Any) -> Any:
            given = list(inputs)
            if when(*inputs):
                given[position] = given[position] * np.float32(1.25)
            return kernel.bind(pool, out, *given, **attributes)

        return kernel._replace(bind=bind)

    kernels = registry._FAST[function]
    monkeypatch.setitem(registry._FAST, function, [wrong(kernel) for kernel in kernels])


def reduced(model: Path, tmp_path: Path, capsys: Any, *given: str, against: str = "onnxruntime") -> onnx.ModelProto:
    folder = tmp_path / "part"
    text = call(capsys, "reduce", model, "--against", against, "-o", folder, "--seconds", "600", *given)
    part = onnx.load(folder / "model.onnx")
    count = len(part.graph.node)
    assert f": {count} node{'s' if count > 1 else ''} (" in text
    feeds, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    results = tinyonnx.InferenceSession(folder / "model.onnx").run(list(expected.files), dict(feeds))
    assert any(np.abs(ours - expected[name]).max() > 1e-4 for name, ours in zip(expected.files, results))
    runpy.run_path(str(folder / "compare.py"))
    assert "greatest difference" in capsys.readouterr().out
    return part


def test_a_wrong_convolution_in_resnet18(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(resnet18(width=8, size=32), tmp_path / "m.onnx")
    plant(monkeypatch, fused_conv, 1, lambda x, w, *_: w.shape[2] == 3 and w.shape[0] > 16)
    part = reduced(tmp_path / "m.onnx", tmp_path, capsys)
    assert 1 <= len(part.graph.node) <= 3
    assert "Conv" in {node.op_type for node in part.graph.node}
    weights = [tensor for tensor in part.graph.initializer if len(tensor.dims) == 4]
    assert weights[0].dims[0] in (17, 32)  # the fault needs more than 16 channels
    assert all(value.type.tensor_type.shape.dim[2].dim_value <= 2 for value in part.graph.input)


def test_a_wrong_product_in_minilm(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(minilm(layers=2, width=32, heads=4), tmp_path / "m.onnx")
    for domain, name in (("", "MatMul"), (registry.FUSED, "Linear")):
        plant(monkeypatch, lookup(domain, name, 17).function, 1, lambda a, b, *_: b.shape == (128, 32))
    part = reduced(tmp_path / "m.onnx", tmp_path, capsys, "--dim", "tokens=7")
    assert [node.op_type for node in part.graph.node] == ["MatMul"]


def test_a_wrong_normalisation_is_found_beside_numpy(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(minilm(layers=1, width=32, heads=4), tmp_path / "m.onnx")
    plant(monkeypatch, lookup("", "LayerNormalization", 17).function, 1, lambda x, *_: x.shape[-1] > 8)
    part = reduced(tmp_path / "m.onnx", tmp_path, capsys, "--dim", "tokens=7", against="unoptimized")
    assert [node.op_type for node in part.graph.node] == ["LayerNormalization"]


def test_a_wrong_kernel_in_mn04(shared: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lookup("", "Gemm", 17).function, 1, lambda a, b, *_: b.shape[0] == 527)
    plant(monkeypatch, lookup(registry.FUSED, "FusedGemm", 1).function, 1, lambda a, b, *_: b.shape[0] == 527)
    path = shared / "data/onnx/mn04_torchscript.onnx"
    part = reduced(path, tmp_path, capsys, "--dim", "time_axis=100")
    assert [node.op_type for node in part.graph.node] == ["Gemm"]


def test_a_node_that_fails(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OpError("planted")

    text = '<ir_version: 8, opset_import: ["" : 17]> m (double[n,3] x) => (double[n,3] y) {'
    onnx.save(onnx.parser.parse_model(text + "a = Abs(x) b = Sqrt(a) c = Erf(b) y = Neg(c) }"), tmp_path / "m.onnx")
    monkeypatch.setattr(lookup("", "Erf", 17), "function", fails)
    folder = tmp_path / "part"
    call(capsys, "reduce", tmp_path / "m.onnx", "--against", "reference", "-o", folder, "--dim", "n=4")
    assert [node.op_type for node in onnx.load(folder / "model.onnx").graph.node] == ["Erf"]


def test_another_model_with_one_other_weight(tmp_path: Path, capsys: Any) -> None:
    model = minilm(layers=2, width=32, heads=4)
    onnx.save(model, tmp_path / "m.onnx")
    (weight,) = [t for t in model.graph.initializer if list(t.dims) == [128, 32]][1:]
    weight.CopyFrom(onnx.numpy_helper.from_array(1.25 * onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(model, tmp_path / "other.onnx")
    folder = tmp_path / "part"
    call(
        capsys, "reduce", tmp_path / "m.onnx", "--against", tmp_path / "other.onnx", "-o", folder, "--dim", "tokens=7"
    )  # fmt: skip
    part = onnx.load(folder / "model.onnx")
    assert [node.op_type for node in part.graph.node] == ["MatMul"]
    assert weight.name in part.graph.node[0].input
    (other,) = np.load(folder / "expected.npz").values()
    feeds = dict(np.load(folder / "inputs.npz"))
    (ours,) = tinyonnx.InferenceSession(folder / "model.onnx").run(None, feeds)
    np.testing.assert_allclose(other, 1.25 * ours, rtol=1e-5)


def test_no_difference_is_said(tmp_path: Path, capsys: Any) -> None:
    onnx.save(resnet18(width=8, size=32), tmp_path / "m.onnx")
    text = call(capsys, "reduce", tmp_path / "m.onnx", "--against", "onnxruntime", "-o", tmp_path / "part", code=1)
    assert "does not differ" in text
    assert not (tmp_path / "part").exists()


def test_the_folder_is_checked_before_the_work(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(resnet18(width=8, size=32), tmp_path / "m.onnx")
    monkeypatch.setattr("tinyonnx.tools.reduce.reduce_model", None)
    arguments = ["reduce", str(tmp_path / "m.onnx"), "--against", "onnxruntime"]
    assert main([*arguments, "-o", str(tmp_path / "m.onnx" / "part")]) == 1
    assert capsys.readouterr().err.endswith("m.onnx is not a folder\n")


TEXT = """
    <ir_version: 8, opset_import: ["": 17]>
    net (float[n, 4] x, float[4] bias) => (float[n, 4] y) <float[4] c = {1, 2, 3, 4}> {
        a = Mul (x, c)
        b = Add (a, bias)
        d = Relu (b)
        e = Neg (d)
        y = Exp (e)
    }
"""


def test_extract(tmp_path: Path, capsys: Any) -> None:
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    text = call(capsys, "extract", tmp_path / "m.onnx", "--from", "a", "--to", "d", "-o", tmp_path / "p.onnx")
    assert "2 nodes; inputs a, bias; outputs d" in text
    part = onnx.load(tmp_path / "p.onnx")
    onnx.checker.check_model(part, full_check=True)
    session = tinyonnx.InferenceSession(tmp_path / "p.onnx")
    assert [(arg.name, arg.shape) for arg in session.get_inputs()] == [("a", ["n", 4]), ("bias", [4])]
    a = np.float32([[1, -2, 3, -4]])
    np.testing.assert_array_equal(session.run(None, {"a": a, "bias": np.zeros(4, np.float32)})[0], np.maximum(a, 0))
    text = call(capsys, "extract", tmp_path / "m.onnx", "--to", "a", "-o", tmp_path / "p.onnx")
    assert "1 node; inputs x; outputs a" in text
    assert [tensor.name for tensor in onnx.load(tmp_path / "p.onnx").graph.initializer] == ["c"]


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (["--from", "nothing"], "no tensor is called 'nothing'"),
        (["--from", "e", "--to", "a"], "'e' is computed from 'a', not the other way round: swap --from and --to"),
        (["--from", "y", "--to", "x"], "swap --from and --to"),
        (["--from", "bias", "--to", "a"], "'a' does not depend on 'bias': leave it out of --from"),
        (["--from", "a", "--to", "a"], "there is no node between 'a' and 'a'"),
    ],
)
def test_extract_refuses(tmp_path: Path, given: list[str], cause: str, capsys: Any) -> None:
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    text = call(capsys, "extract", tmp_path / "m.onnx", *given, "-o", tmp_path / "p.onnx", code=1)
    assert cause in text
    with pytest.raises(SystemExit):
        main(["extract", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.onnx")])
