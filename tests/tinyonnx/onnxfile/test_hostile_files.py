"""Broken and malicious files: each is refused with a ModelError that names file, culprit and cause."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.tinyonnx.onnxfile.hostile import HEADER, SMALL, parsed, refused, with_tensor
from tinyonnx.errors import ModelError
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load


def test_files_that_are_no_models(tmp_path: Path):
    refused(tmp_path / "none.onnx", "No such file")
    refused(tmp_path, "directory")
    for name, content, cause in [
        ("empty", b"", "is empty"),
        ("text", b"RIFF is not ONNX", "not an ONNX model"),
        ("random", np.random.default_rng(0).bytes(4096), "not an ONNX model"),
        ("truncated", parsed(SMALL).SerializeToString()[:-9], "truncated"),
        ("tensor", numpy_helper.from_array(np.ones(3)).SerializeToString(), "not an ONNX model"),
        ("no graph", onnx.ModelProto(ir_version=8).SerializeToString(), "has no graph"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, cause)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path: Path):
    path = tmp_path / "secret.onnx"
    path.write_bytes(b"x")
    path.chmod(0)
    refused(path, "Permission denied")


def test_path_with_a_null_byte():
    with pytest.raises(ModelError, match="null"):
        load("a\0b.onnx", Limits())


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_device_instead_of_file():
    refused(Path("/dev/zero"), "not a regular file")


def test_opsets():
    model = parsed(SMALL)
    del model.opset_import[:]
    refused(model, "imports no opset")
    for version, cause in [(onnx.defs.onnx_opset_version() + 1, "newest"), (0, "invalid"), (-1, "invalid")]:
        model = parsed(SMALL)
        model.opset_import[0].version = version
        refused(model, f"opset {version}", cause)
    model = parsed(SMALL)
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))
    refused(model, "contradicts")
    refused(SMALL.replace("Relu", "other.Relu"), 'other.Relu "act" (node 0)', 'domain "other"')


@pytest.mark.parametrize("field", ["name", "op_type", "domain", "doc_string"])
def test_invalid_utf8(field: str):
    model = parsed(SMALL)
    setattr(model.graph.node[0], field, "PLACEHOLDER")
    data = model.SerializeToString().replace(b"PLACEHOLDER", b"\xff\xfeACEHOLDER")
    refused(data, f"graph.node[0].{field}", "not valid UTF-8")


def test_invalid_utf8_in_values():
    model = parsed(SMALL)
    model.graph.node[0].attribute.append(helper.make_attribute("s", b"\xff"))
    refused(model, '"s" is not valid UTF-8')
    refused(with_tensor(data_type=TensorProto.STRING, dims=[1], string_data=[b"\xff"]), '"w"', "UTF-8")


SEED = parsed(
    HEADER
    + """ g (float[N,3] x, bool c) => (float[N,3] y) <float[3] w = {1,2,3}, int8[2] i = {1,2}>
    { t = If(c) <then_branch = a () => (float[N,3] p) { p = Add(x, w) },
                 else_branch = b () => (float[N,3] q) { q = f.F<alpha = 2.0>(x) }>
      y = Identity(t) }
    <domain: "f", opset_import: ["": 18]> F <alpha> (x) => (y)
    { z = LeakyRelu<alpha: float = @alpha>(x)  y = Relu(z) }"""
).SerializeToString()


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(SEED)))
def test_damaged_bytes_load_or_are_refused(changes: list[tuple[int, int]], end: int):
    data = bytearray(SEED)
    for position, byte in changes:
        data[position] = byte
    for candidate in (bytes(data), bytes(data[:end])):
        with suppress(ModelError):
            load(candidate, Limits()).verify()
