"""Files and graphs that are not models, through sessions; details in tests/tinyonnx/onnxfile/test_hostile_files.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import tinyonnx
from tests.system.hostile.models import in_time, model, refused, session

RELU = "[act] y = Relu(x)"
ONE = {"x": np.ones(1, np.float32)}


def changed(change: Callable[[onnx.ModelProto], Any], nodes: str = RELU, **rest: Any) -> onnx.ModelProto:
    proto = model(nodes, **rest)
    change(proto)
    return proto


def with_tensor(**fields: Any) -> onnx.ModelProto:
    return changed(lambda m: m.graph.initializer.append(TensorProto(name="w", **{"data_type": 1, **fields})))


def external(**entries: str) -> onnx.ModelProto:
    tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return changed(lambda m: m.graph.initializer.append(tensor))


F = '<domain: "f", opset_import: ["": 18, "f": 1]>'

# the model, and the text that the message must contain
BROKEN: dict[str, tuple[onnx.ModelProto | bytes, str]] = {
    "empty": (b"", "is empty"),
    "truncated": (model(RELU).SerializeToString()[:-7], "doesn't parse"),
    "random": (np.random.default_rng(1).bytes(5000), "not an ONNX model"),
    "another message": (numpy_helper.from_array(np.ones(3)).SerializeToString(), "not an ONNX model"),
    "no graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
    "no opset": (changed(lambda m: m.ClearField("opset_import")), "imports no opset"),
    "opset 0": (changed(lambda m: setattr(m.opset_import[0], "version", 0)), "opset 0"),
    "opset of the future": (changed(lambda m: setattr(m.opset_import[0], "version", 9999)), "opset 9999"),
    "nesting": (
        model(
            "y = f.F80(x)",
            functions=" ".join(f"{F} F{i} (v) => (w) {{ w = {f'f.F{i - 1}' if i else 'Relu'}(v) }}" for i in range(81)),
        ),
        "nested more than 64",
    ),
    "recursion": (
        model("[act] y = f.F(x)", functions=f"{F} F (v) => (w) {{ w = f.F(v) }}"),
        'f.F "act/w" (node 0): function f.F calls',
    ),
    "recursion of two": (
        model("y = f.A(x)", functions=f"{F} A (v) => (w) {{ w = f.B(v) }} {F} B (v) => (w) {{ w = f.A(v) }}"),
        "calls itself",
    ),
    "unknown operator": (model("[act] y = Nonsense(x)"), 'Nonsense (1 node, first "act")'),
    "unknown domain": (model("[act] y = com.acme.Relu(x)"), 'domain "com.acme"'),
    "cycle": (model("a = Relu(b) b = Relu(a) y = Add(a, x)"), "cycle"),
    "undefined": (model("[act] y = Relu(nowhere)"), 'Relu "act" (node 0): reads "nowhere"'),
    "defined twice": (model("y = Relu(x) [act] y = Abs(x)"), 'Abs "act" (node 1): "y" is already defined'),
    "never produced": (model("z = Relu(x)"), 'output "y" is never produced'),
    "defined later, captured before": (
        model(
            "y = If(c) <then_branch = t () => (p) { p = Relu(q) }, else_branch = e () => (q) { q = Relu(x) }>",
            constants="bool c = {1}",
        ),
        'reads "q"',
    ),
    "bytes and dims": (with_tensor(dims=[3], raw_data=bytes(8)), 'initializer "w" has 8 bytes, its shape [3]'),
    "negative dims": (with_tensor(dims=[-3], raw_data=bytes(8)), "negative dimension -3"),
    "unknown dtype": (with_tensor(dims=[1], data_type=77, raw_data=bytes(4)), "unknown data type 77"),
    "overflowing dims": (with_tensor(dims=[2**62, 2**62], raw_data=bytes(4)), "over 4294967296 bytes"),
    "overflowing dims of nothing": (with_tensor(dims=[0, 2**62, 4]), "over 4294967296 bytes"),
    "rank": (with_tensor(dims=[1] * 65, raw_data=bytes(4)), "rank 65"),
    "no name": (changed(lambda m: m.graph.initializer.append(numpy_helper.from_array(np.ones(1), ""))), "no name"),
    "invalid UTF-8": (
        changed(lambda m: setattr(m.graph.node[0], "name", "PLACEHOLDER"))
        .SerializeToString()
        .replace(b"PLACE", b"\xff\xfe\xfd\xfc\xfb"),
        "not valid UTF-8",
    ),
    "external, parent": (external(location="../secret"), "../secret"),
    "external, absolute": (external(location="/etc/passwd"), "/etc/passwd"),
    "external, missing": (external(location="none"), "none"),
    "external, link": (external(location="link"), "link"),
    "external, hard link": (external(location="hard"), "hard"),
    "external, device": (external(location="fifo"), "fifo"),
    "external, folder": (external(location="."), '"w"'),
    "external, null byte": (external(location="a\0b"), '"w"'),
    "external, long name": (external(location="n" * 5000), '"w"'),
    "external, past the end": (external(location="data", offset="6"), "data"),
    "external, negative offset": (external(location="data", offset="-4"), "-4"),
    "external, huge offset": (external(location="data", offset="9" * 19), "data"),
    "external, digits of another script": (external(location="data", offset="٣"), "offset"),
    "external, sparse": (external(location="sparse", length=str(1 << 40)), "1099511627776 bytes"),
    "external, no location": (external(offset="0"), "without a location"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder beside the model: data, links to a secret, a pipe without a writer, and an empty file of a terabyte."""
    (tmp_path / "secret").write_bytes(bytes(8))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "data").write_bytes(bytes(8))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "hard").hardlink_to(tmp_path / "secret")
    os.mkfifo(folder / "fifo")
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    return folder


@pytest.mark.parametrize("case", BROKEN)
def test_models_that_are_none(case: str, folder: Path) -> None:
    source, cause = BROKEN[case]
    refused(source, tinyonnx.ModelError, cause, folder=folder, feeds=ONE)


def test_nodes_in_any_order() -> None:
    (y,) = session(model("y = Neg(b) b = Relu(a) a = Abs(x)")).run(None, {"x": np.float32([-2])})
    assert y.tolist() == [-2]


def test_deep_chains_are_no_recursion() -> None:
    """Thousands of nodes in a row, of operators for which passes look at the node before."""
    chain = 1500
    for op in ("Reshape", "Squeeze", "Dropout", "Relu", "Add"):
        lines = [
            f"v{i + 1} = {op}(v{i}{', s' if op == 'Reshape' else ', v0' if op == 'Add' else ''})" for i in range(chain)
        ]
        proto = model(" ".join(reversed(lines)), "float[n] v0", f"v{chain}", "int64[1] s = {-1}")
        with in_time():
            (y,) = session(proto).run(None, {"v0": np.float32([0, 2])})
        assert y.tolist() == [0, 2 * (chain + 1) if op == "Add" else 2]


@pytest.mark.parametrize("level", [0, 99])
def test_names_can_not_talk_to_terminals(level: int) -> None:
    escape = "\x1b]0;owned\x07\x1b[2J\n\r\u202e\u2028"
    proto = model("[act] y = Softmax<axis = 5>(x)")
    proto.graph.node[0].name = escape
    proto.graph.node[0].output[0] = proto.graph.output[0].name = f"{escape}y"
    with pytest.raises(tinyonnx.NodeError) as caught:
        session(proto, level).run(None, ONE)
    assert str(caught.value).isprintable()
    assert r"\x1b[2J" in str(caught.value)
    proto.graph.node[0].op_type = escape
    with pytest.raises(tinyonnx.ModelError) as refusal:
        session(proto)
    assert str(refusal.value).isprintable()
    with pytest.raises(tinyonnx.InputError) as unknown:
        session(model(RELU)).run([escape], ONE)
    assert str(unknown.value).isprintable()


def test_names_of_megabytes_make_no_messages_of_megabytes() -> None:
    proto = model(RELU)
    proto.graph.node[0].name = "n" * (8 << 20)
    proto.graph.node[0].op_type = "N" * (8 << 20)
    with in_time(), pytest.raises(tinyonnx.ModelError) as caught:
        session(proto)
    assert len(str(caught.value)) < 10_000


def test_results_are_not_the_initializers() -> None:
    """A caller who writes to a result changes neither the model nor the next run."""
    proto = model("y = Identity(w) z = Relu(w) t = Transpose(w)", outputs="y, z, t, w", constants="float[2] w = {1, 2}")
    for level in (0, 99):
        s = session(proto, level)
        for _ in range(3):
            for result in s.run(None, {"x": np.ones(1, np.float32)}):
                assert result.tolist() == [1, 2]
                result[...] = -5


def test_sequences_do_not_share_what_is_inserted() -> None:
    proto = model(
        "s = SequenceConstruct(x, x) t = SequenceErase(s) y = SequenceAt(t, i)",
        outputs="s, t, y",
        constants="int64 i = {0}",
    )
    for level in (0, 99):
        x = np.ones(2, np.float32)
        s, t, y = session(proto, level).run(None, {"x": x})
        assert (len(s), len(t)) == (2, 1)
        y[...] = 7
        assert x.tolist() == [1, 1]
