"""Cache of decoded graphs, which saves importing onnx and parsing: that takes longer than running a small model.

An entry holds the graph without its tensors, and for each tensor its position in the file. The key contains the SHA-256
of the file's content. Graphs with external data or operators registered by the user are not cached.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tinyonnx import disk_cache as disk
from tinyonnx import registry
from tinyonnx.files import read_file
from tinyonnx.ir import Array, Graph, Node, Value
from tinyonnx.limits import Limits
from tinyonnx.onnxfile import schemas

LARGEST = 256 << 20
"""Largest file, in bytes, whose graph is cached: larger ones are rare."""

_SMALL = 64 << 10
"""Bytes of a file below which parsing is as fast as the cache, once onnx is imported."""

KEPT = 32
"""Maximum number of cached graphs."""

_WITHIN = 1 << 20
"""Maximum bytes of tensors stored by value: tensors that the file holds in another form, or not at all."""


_LARGE, _NEAR = 4 << 10, 64 << 10
"""Smallest tensor, in bytes, that is searched for in the whole file; how far ahead smaller ones are searched for."""

_IN_VAIN = 64
"""Divisor of the cost charged for a failed search of the whole file, so that the total search time stays bounded."""


class _Unkept(Exception):
    """The graph has something that is not cached."""


def load(path: str, limits: Limits) -> tuple[Graph, str]:
    """Load a file, from the cache if possible; return its graph and the SHA-256 of its content in hex.

    Raises the errors of `tinyonnx.onnxfile.load.load`.
    """
    data = read_file(path)
    sha256 = hashlib.sha256(data).hexdigest()
    simple = len(data) < _SMALL and "onnx" in sys.modules
    file = None if simple or len(data) > LARGEST or registry.has_custom() else _file(sha256, limits)
    stored = disk.read(file) if file else None
    if file and stored:
        with suppress(OSError):
            os.utime(file)
        return _decoded(marshal.loads(stored), data), sha256

    from tinyonnx.onnxfile.load import load_bytes

    graph = load_bytes(data, path, limits, os.path.dirname(path) or ".")
    if file and b"location" not in data:  # a key of external data, which may change
        with suppress(_Unkept, ValueError):  # marshal raises ValueError for types that it does not support
            disk.write(file, marshal.dumps(_encoded(graph, data)))
            disk.remove_old(file.parent.glob("*"), KEPT)
    return graph, sha256


def key_of(sha256: str, limits: Limits) -> str | None:
    """Identify a cached graph, with the versions of all sources of this package; None if it is not cached."""
    file = None if registry.has_custom() else _file(sha256, limits)
    return file.name if file and file.exists() else None


def _file(sha256: str, limits: Limits) -> Path | None:
    """Return the path of the cache entry; None if tinyonnx or onnx is not installed as plain files."""
    try:
        _versions()
    except OSError:
        return None
    key = hashlib.sha256(repr((sha256, limits, _versions())).encode()).hexdigest()
    return disk.folder() / "graphs" / key[:32]


@cache
def _versions() -> list[Any]:
    """Return all that determines how a file is decoded: Python, and path, size and modification time of sources."""
    onnx = importlib.util.find_spec("onnx")
    sources = [__file__, *([onnx.origin] if onnx and onnx.origin else [])]
    files = [(path, os.stat(path)) for path in sources]
    files += [(entry.path, entry.stat()) for entry in _sources(os.path.dirname(registry.__file__))]
    return [sys.version, *sorted((path, status.st_size, status.st_mtime_ns) for path, status in files)]


def _sources(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield all Python files in a folder and those within. `pathlib` takes several times as long."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _sources(entry.path)


# -- to plain objects -------------------------------------------------------------------


def _encoded(graph: Graph, data: bytes) -> Any:
    arrays, values = _Arrays(data), _Values()
    encoded = _graph(graph, arrays, values)
    return (
        encoded,
        [_value(v, arrays) for v in values.found],
        arrays.places,
        [(key, schema and _schema(schema)) for key, schema in _schemas(graph).items()],
    )


def _graph(graph: Graph, arrays: _Arrays, values: _Values) -> tuple[Any, ...]:
    """Encode a graph or subgraph: values and arrays by their numbers. Raises _Unkept."""
    nodes = [
        (
            n.op_type,
            [-1 if v is None else values.number(v) for v in n.inputs],
            [-1 if v is None else values.number(v) for v in n.outputs],
            {name: _attribute(value, arrays, values) for name, value in n.attributes.items()},
            n.domain,
            n.opset,
            n.name,
            n.index,
            n.origin,
        )
        for n in graph.nodes
    ]
    lists = [
        [values.number(v) for v in vs] for vs in (graph.inputs, graph.initializers, graph.overridable, graph.outputs)
    ]
    declared = [_value(v, arrays) for v in graph.declared_outputs]
    return graph.name, graph.opsets, graph.metadata, graph.output_names, lists, declared, nodes


class _Values:
    """Assigns consecutive numbers to values."""

    def __init__(self) -> None:
        self.found: list[Value] = []
        self._numbers: dict[int, int] = {}

    def number(self, value: Value) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.found)
            self.found.append(value)
        return self._numbers[id(value)]


class _Arrays:
    """Positions of arrays in a file (dtype, shape, offset), or their bytes if the file does not hold them."""

    def __init__(self, data: bytes) -> None:
        self.places: list[tuple[str, tuple[int, ...], int | bytes]] = []
        self._data = data
        self._at = 0
        self._within = 0
        self._numbers: dict[int, int] = {}

    def number(self, array: Array) -> int:
        if id(array) not in self._numbers:
            if array.dtype.isbuiltin != 1 or array.dtype == object:
                raise _Unkept
            content = array.tobytes()
            place: int | bytes = content if len(content) <= 16 else self._find(content)
            self._numbers[id(array)] = len(self.places)
            self.places.append((array.dtype.str, array.shape, place))
        return self._numbers[id(array)]

    def _find(self, content: bytes) -> int | bytes:
        """Return the offset of a tensor, or its bytes if it is not in the file.

        Tensors mostly follow each other; the whole file is searched for large ones only.
        """
        far = len(content) >= _LARGE
        place = self._data.find(content, self._at, None if far else self._at + len(content) + _NEAR)
        if place < 0 and far:
            place = self._data.find(content, 0, self._at)
        if place >= 0:
            self._at = place + len(content)
            return place
        self._within += max(len(content), len(self._data) // _IN_VAIN if far else 0)
        if self._within > _WITHIN:
            raise _Unkept
        return content


def _value(value: Value, arrays: _Arrays) -> Any:
    const = -1 if value.const is None else arrays.number(value.const)
    if value.dtype is not None and (value.dtype.isbuiltin != 1 or value.dtype == object):
        raise _Unkept
    return value.name, value.dtype and value.dtype.str, value.shape, value.type, const


def _attribute(value: Any, arrays: _Arrays, values: _Values) -> Any:
    """Encode an attribute: an array or a subgraph as a tuple, anything else as itself. Raises _Unkept."""
    if isinstance(value, np.ndarray):
        return (arrays.number(value),)
    if isinstance(value, Graph):
        return _graph(value, arrays, values)
    if type(value) in (int, float, str) or (isinstance(value, list) and {*map(type, value)} <= {int, float, str}):
        return value
    raise _Unkept


def _schemas(graph: Graph) -> dict[schemas.Key, schemas.Schema | None]:
    return {(node.domain, node.op_type, node.opset): schemas.schema_of(node) for node in graph.walk()}


def _schema(schema: schemas.Schema) -> Any:
    inputs = [(i.name, sorted(i.types), i.shared, i.required) for i in schema.inputs]
    return inputs, schema.variadic, schema.min_inputs, schema.max_outputs


# -- and back ---------------------------------------------------------------------------


def _decoded(stored: Any, data: bytes) -> Graph:
    encoded, values, places, learned = stored
    for key, schema in learned:
        if not schemas.is_known(key):
            schemas.learn(key, schema and _schema_of(*schema))
    arrays = [_array_of(data, *place) for place in places]
    return _graph_of(arrays, [_value_of(arrays, *value) for value in values], *encoded)


def _graph_of(
    arrays: list[Array], values: list[Value], name: str, opsets: dict[str, int], metadata: dict[str, str],
    output_names: list[str], lists: list[list[int]], declared: list[Any], nodes: list[Any],
) -> Graph:  # fmt: skip
    def attribute(value: Any) -> Any:
        if not isinstance(value, tuple):
            return value
        return arrays[value[0]] if len(value) == 1 else _graph_of(arrays, values, *value)

    graph = Graph(name, opsets)
    graph.metadata = metadata
    graph.inputs, graph.initializers, graph.overridable, outputs = ([values[i] for i in numbers] for numbers in lists)
    for op_type, inputs, results, attributes, domain, opset, node_name, index, origin in nodes:
        graph.add_node(
            Node(
                op_type,
                [None if i < 0 else values[i] for i in inputs],
                [None if i < 0 else values[i] for i in results],
                {key: attribute(value) for key, value in attributes.items()},
                domain=domain,
                opset=opset,
                name=node_name,
                index=index,
                origin=origin,
            )
        )
    for value, output_name in zip(outputs, output_names, strict=True):
        graph.add_output(value, output_name)
    graph.declared_outputs = [_value_of(arrays, *value) for value in declared]
    return graph


def _array_of(data: bytes, dtype: str, shape: tuple[int, ...], place: int | bytes) -> Array:
    # copied because arrays in the file are unaligned, which makes arithmetic slow
    lies, at = (data, place) if isinstance(place, int) else (place, 0)
    array: Array = np.ndarray(shape, dtype, lies, at).copy()
    array.flags.writeable = False
    return array


def _value_of(arrays: list[Array], name: str, dtype: str | None, shape: Any, type: str | None, const: int) -> Value:
    value = Value(name, None if dtype is None else np.dtype(dtype), shape, arrays[const] if const >= 0 else None)
    value.type = type
    return value


def _schema_of(inputs: list[Any], variadic: bool, min_inputs: int, max_outputs: int) -> schemas.Schema:
    known = tuple(
        schemas.InputSchema(name, frozenset(types), shared, required) for name, types, shared, required in inputs
    )
    return schemas.Schema(known, variadic, min_inputs, max_outputs)
