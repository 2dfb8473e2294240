from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import tinyonnx
from audiotag.models.mobilenet import random_graph
from tinyonnx import disk_cache, registry
from tinyonnx.ir import Graph, Value
from tinyonnx.limits import Limits
from tinyonnx.onnxfile import graph_cache
from tinyonnx.onnxfile.load import load

LIMITS = Limits()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of stored graphs in this test."""
    monkeypatch.setattr(disk_cache, "folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(registry, "_custom", False)  # other tests register operators
    return tmp_path / "cache" / "graphs"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    tinyonnx.save_model(random_graph("mn01", seed=0), path)
    return path


def write(path: Path, text: str, *tensors: np.ndarray[Any, Any], **options: Any) -> str:
    """Return a model file, its initializers w0, w1, …"""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(t, f"w{i}") for i, t in enumerate(tensors))
    onnx.save(proto, path, **options)
    return str(path)


def described(graph: Graph) -> Any:
    def of(value: Value | None) -> Any:
        if value is None:
            return None
        const = (
            None if value.const is None else (value.const.dtype.str, value.const.tolist(), value.const.flags.writeable)
        )
        return value.name, value.dtype, value.shape, value.type, const

    lists = (graph.inputs, graph.initializers, graph.overridable, graph.outputs, graph.declared_outputs)
    attributes = [
        {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in node.attributes.items() if type(v) is not Graph}
        for node in graph.nodes
    ]
    nodes = [
        (n.op_type, n.domain, n.opset, n.name, n.index, n.origin, list(map(of, n.inputs)), list(map(of, n.outputs)))
        for n in graph.nodes
    ]
    return (
        [list(map(of, values)) for values in lists],
        nodes,
        attributes,
        graph.opsets,
        graph.metadata,
        graph.output_names,
    )


def all_described(graph: Graph) -> list[Any]:
    """Return a graph and its subgraphs."""
    inner = [each for node in graph.nodes for subgraph in node.subgraphs for each in all_described(subgraph)]
    return [described(graph), *inner]


def test_small_files_are_kept_for_processes_without_onnx(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.onnx", "g (float[2] x) => (y) { y = Neg(x) }")
    expected = described(graph_cache.load(path, LIMITS)[0])
    assert not folder.exists()
    monkeypatch.delitem(sys.modules, "onnx")
    graph_cache.load(path, LIMITS)
    monkeypatch.delattr("tinyonnx.onnxfile.load.load_bytes")
    assert described(graph_cache.load(path, LIMITS)[0]) == expected


def test_a_graph_is_the_same_the_second_time(folder: Path, model: Path) -> None:
    expected = described(load(model))
    for _ in range(2):
        graph, sha256 = graph_cache.load(str(model), LIMITS)
        graph.verify()
        assert described(graph) == expected
        assert sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
        assert len(list(folder.iterdir())) == 1


VARIETY = """
g (float[N, 4] x, float[3] unused) => (float[N, "M"] y, z)
<float[2] given = {1, 2}, int64[1] axis = {1}, float[0] nothing = {}, bool[2] bits = {1, 0}>
{
    t = Constant<value = float[2, 2] {1, 2, 3, 4}>()
    s = Concat<axis = 0>(given, nothing)
    r = Clip(x, , w2)
    y = Gemm<alpha = 0.5, transB = 1>(r, w0)
    q, z = Split<axis = 1>(y)
    c = Cast<to = 10>(w1)
    e = LeakyRelu<alpha = 0.25>(x)
    k = Unsqueeze(s, axis)
    d = TfIdfVectorizer<max_gram_length = 1, max_skip_count = 0, min_gram_length = 1, mode = "TF", ngram_counts = [0],
        ngram_indexes = [0, 1], pool_strings = ["a", "b"], weights = [0.5, 2.0]>(x)
}
"""


def test_everything_that_graphs_have(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.arange(40000, dtype=np.float32).reshape(10000, 4), np.array([1.5], np.float16), np.float32(3)
    path = write(tmp_path / "m.onnx", VARIETY, *weights)
    expected = described(load(path))
    assert described(graph_cache.load(path, LIMITS)[0]) == expected
    monkeypatch.delattr("tinyonnx.onnxfile.load.load_bytes")
    assert described(graph_cache.load(path, LIMITS)[0]) == expected


RUN = """
import sys
import numpy as np
import tinyonnx
session = tinyonnx.InferenceSession(sys.argv[1])
(y,) = session.run(["logits"], {"melspec": np.ones((1, 1, 128, 100), np.float32)})
print("onnx" in sys.modules, "google.protobuf" in sys.modules, y.sum())
"""


def test_the_second_process_needs_no_onnx(model: Path, tmp_path: Path) -> None:
    def run() -> list[str]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "NUMBA_DISABLE_JIT": "1"}
        command = [sys.executable, "-c", RUN, str(model)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    first, second = run(), run()
    assert first[:2] == ["True", "True"]
    assert second == ["False", "False", first[2]]


def test_a_file_that_changed_is_another_file(folder: Path, model: Path) -> None:
    graph_cache.load(str(model), LIMITS)
    tinyonnx.save_model(random_graph("mn01", seed=1), model)
    assert described(graph_cache.load(str(model), LIMITS)[0]) == described(load(model))
    model.write_bytes(model.read_bytes()[:-1000])
    with pytest.raises(tinyonnx.ModelError, match=r"model\.onnx"):
        graph_cache.load(str(model), LIMITS)


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: data[:-1] + b"?", lambda data: b""])
def test_what_is_damaged_is_loaded_again(damage: Any, folder: Path, model: Path) -> None:
    expected = described(graph_cache.load(str(model), LIMITS)[0])
    (kept,) = folder.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    assert described(graph_cache.load(str(model), LIMITS)[0]) == expected
    assert kept.read_bytes() == whole


def test_limits_hold_for_what_is_known_too(folder: Path, model: Path) -> None:
    graph_cache.load(str(model), LIMITS)
    with pytest.raises(tinyonnx.ModelError, match="more than 10 nodes"):
        graph_cache.load(str(model), Limits(max_nodes=10))


def test_custom_operators_count(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_custom", True)
    graph_cache.load(str(model), LIMITS)
    assert not folder.exists()


BIG = np.arange(20000, dtype=np.float32)


def test_external_data_may_change(folder: Path, tmp_path: Path) -> None:
    text = "g (float[1] x) => (y) { s = ReduceMean<axes = [0]>(w0) y = Add(x, s) }"
    external: dict[str, Any] = {"save_as_external_data": True, "size_threshold": 32, "location": "weights"}
    path = write(tmp_path / "m.onnx", text, np.zeros(16, np.float32), **external)
    padding = onnx.load(path, load_external_data=False)
    padding.doc_string = "." * graph_cache._SMALL
    Path(path).write_bytes(padding.SerializeToString())
    feeds = {"x": np.zeros(1, np.float32)}
    assert tinyonnx.InferenceSession(path).run(None, feeds) == [0]
    (tmp_path / "weights").write_bytes(np.full(16, 2, np.float32).tobytes())
    assert tinyonnx.InferenceSession(path).run(None, feeds) == [2]


NESTED = """
g (bool c, float[20000] x) => (y, n) {
    t = Mul(x, w0)
    n = Constant<value = int64 {3}>()
    y, z = If<
        then_branch = t () => (a, f) {
            a = Add(t, w0)
            f = Loop<body = l (int64 i, bool go, float[N] v) => (bool on, float[N] u) {
                on = Identity(go)
                u = Add(v, a)
            }>(n, , x)
        },
        else_branch = e () => (b, h) <float[2] own = {1, 2}> { b = Sub(x, w0) h = Identity(own) }
    >(c)
}
"""


def test_subgraphs_with_what_they_capture(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "m.onnx", NESTED, BIG)
    expected = all_described(load(path))
    assert len(expected) == 4
    graph_cache.load(path, LIMITS)
    monkeypatch.delattr("tinyonnx.onnxfile.load.load_bytes")
    graph, _ = graph_cache.load(path, LIMITS)
    graph.verify()
    assert all_described(graph) == expected
    for c, result in ((False, BIG - BIG), (True, BIG * BIG + BIG)):
        y, n = tinyonnx.InferenceSession(path).run(None, {"c": np.array(c), "x": BIG})
        np.testing.assert_array_equal(y, result)
        assert n == 3


def test_few_graphs_are_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "KEPT", 3)
    paths = [write(tmp_path / f"{i}.onnx", "g (float[20000] x) => (y) { y = Add(x, w0) }", BIG + i) for i in range(5)]
    for now, path in enumerate([*paths[:3], paths[0], *paths[3:]]):
        graph_cache.load(path, LIMITS)
        for kept in folder.iterdir():
            if kept.stat().st_mtime > 1e6:
                os.utime(kept, (now, now))
    assert len(list(folder.iterdir())) == 3
    before = {kept.name for kept in folder.iterdir()}
    graph_cache.load(paths[0], LIMITS)
    assert {kept.name for kept in folder.iterdir()} == before


class Searched(bytes):
    """Counts the bytes that are searched, at most."""

    count = 0

    def find(self, wanted: Any, start: Any = 0, end: Any = None, /) -> int:
        self.count += (len(self) if end is None else min(end, len(self))) - start
        return super().find(wanted, start, len(self) if end is None else end)


@pytest.mark.parametrize("size", [64, 8000])
def test_tensors_in_another_form_are_not_looked_for_in_vain_again_and_again(size: int) -> None:
    data = Searched(4 << 20)
    arrays = graph_cache._Arrays(data)
    tensors = [np.full(size // 8, i + 1) for i in range(1000)]
    with suppress(graph_cache._Unkept):
        for tensor in tensors:
            arrays.number(tensor)
    assert data.count < 100 * len(data)


@pytest.mark.skipif(os.name != "posix", reason="no modes")
def test_what_is_kept_is_the_user_s_alone(folder: Path, model: Path) -> None:
    mask = os.umask(0)
    try:
        graph_cache.load(str(model), LIMITS)
    finally:
        os.umask(mask)
    for path in (folder, *folder.iterdir()):
        assert not path.stat().st_mode & 0o077


def test_nothing_is_kept_by_a_package_without_files(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New versions of a package in one executable or archive look like old ones."""
    monkeypatch.setattr(graph_cache, "__file__", "/nowhere/archive.zip/tinyonnx/onnxfile/graph_cache.py")
    monkeypatch.setattr(graph_cache, "_versions", graph_cache._versions.__wrapped__)
    assert described(graph_cache.load(str(model), LIMITS)[0]) == described(load(model))
    assert not folder.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no modes")
def test_a_folder_that_cannot_be_written(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "folder", lambda: Path(os.devnull) / "tinyonnx")
    for _ in range(2):
        assert described(graph_cache.load(str(model), LIMITS)[0]) == described(load(model))
