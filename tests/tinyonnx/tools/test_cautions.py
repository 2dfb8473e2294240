"""Cautions of `inspect` about nodes whose results are random or differ between runtimes."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.parser
import pytest

import tinyonnx
from tinyonnx.cli import main
from tinyonnx.tools.inspect import inspect_graph

YES, NO = "mode = Constant<value = bool {1}>()", "mode = Constant<value = bool {0}>()"


def model(body: str, inputs: str = "float[4] x", initializers: str = "float ratio = {0.5}") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 13]> m ({inputs}) => (float[n] y) <{initializers}> {{ {body} }}'
    )


def cautions(proto: onnx.ModelProto) -> list[str]:
    return inspect_graph(tinyonnx.InferenceSession(proto.SerializeToString())).cautions


@pytest.mark.parametrize(
    ("body", "inputs", "initializers", "count"),
    [
        (f"{YES} a = Dropout(x, ratio, mode) y = Neg(a)", "float[4] x", "float ratio = {0.5}", 1),
        (f"{NO} a = Dropout(x, ratio, mode) y = Neg(a)", "float[4] x", "float ratio = {0.5}", 0),
        ("a = Dropout(x, ratio, mode) y = Neg(a)", "float[4] x", "float ratio = {0.5}, bool mode = {1}", 1),
        ("a = Dropout(x, ratio, mode) y = Neg(a)", "float[4] x", "float ratio = {0.5}, bool mode = {0}", 0),
        ("a = Dropout(x, ratio, mode) y = Neg(a)", "float[4] x, bool mode", "float ratio = {0.5}", 1),
        ("a = Dropout(x) y = Neg(a)", "float[4] x", "float unused = {1}", 0),
    ],
)
def test_dropout(body: str, inputs: str, initializers: str, count: int) -> None:
    found = cautions(model(body, inputs, initializers))
    assert len(found) == count
    assert all('Dropout "a"' in text and "training mode" in text for text in found)


@pytest.mark.parametrize(
    ("mode", "shape", "scale", "count"),
    [
        ("align_corners", "1,1,4", 0.6, 1),
        ("align_corners", "1,1,4", 0.5, 0),
        ("align_corners", "1,1,w", 0.5, 1),
        ("align_corners", "1,1,5", 1.5, 0),
        ("half_pixel", "1,1,4", 0.6, 0),
    ],
)
def test_resize(mode: str, shape: str, scale: float, count: int) -> None:
    body = f'y = Resize<mode = "linear", coordinate_transformation_mode = "{mode}">(x, "", scales)'
    found = cautions(model(body, f"float[{shape}] x", f"float[3] scales = {{1, 1, {scale}}}"))
    about = [text for text in found if "align_corners" in text]
    assert len(about) == count
    assert all('Resize "y"' in text for text in about)


def test_they_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model(f"{YES} a = Dropout(x, ratio, mode) y = Neg(a)"), path)
    assert main(["inspect", str(path)]) == 0
    assert 'caution  Dropout "a" (node 1) is in training mode' in capsys.readouterr().out
