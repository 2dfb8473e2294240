"""Inputs for a model: from .npy files, or generated from shapes and a seed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinyonnx.dtypes import from_onnx_type
from tinyonnx.errors import InputError
from tinyonnx.ir import Array, Graph
from tinyonnx.limits import MAX_RANK
from tinyonnx.ort.options import SessionOptions
from tinyonnx.ort.session import NodeArg

DEFAULT_SIZE = 256
"""Size of a symbolic dimension that is not given, unless it is the first one of an input (batch: 1)."""

_SHAPE = "shape:"
"""Prefix of a shape in the place of a file."""

_ITEM_BYTES = 8
"""Bytes of a generated number before conversion to the dtype of the input."""


class HasInputs(Protocol):
    """A session, or the inputs that the outline of a model declares."""

    def get_inputs(self) -> list[NodeArg]:
        """Return the inputs that must be fed."""

    def get_session_options(self) -> SessionOptions:
        """Return the options, which limit sizes."""


@dataclass(frozen=True)
class DeclaredInputs:
    """The inputs of a graph that no session runs."""

    graph: Graph

    def get_inputs(self) -> list[NodeArg]:
        """Return the inputs of the graph."""
        return [NodeArg(v.name, v.type or "", list(v.shape or ())) for v in self.graph.inputs]

    def get_session_options(self) -> SessionOptions:
        """Return default options."""
        return SessionOptions()


def parse_dim(text: str) -> tuple[str, int]:
    """Parse the size of a symbolic dimension given as NAME=N. Raises InputError."""
    name, _, size = text.partition("=")
    if not name or not _is_size(size):
        raise InputError(f"{text}: expected NAME=N")
    return name, int(size)


def parse_input(text: str) -> tuple[str, str | tuple[int, ...]]:
    """Parse NAME=FILE.npy or NAME=shape:1,2,3, an item of `given` of `make_feeds`. Raises InputError."""
    name, _, source = text.partition("=")
    if not name or not source:
        raise InputError(f"{text}: expected NAME=FILE.npy or NAME=shape:1,1,128,1000")
    return name, _shape(source) if source.startswith(_SHAPE) else source


def make_feeds(
    session: HasInputs,
    given: Mapping[str, str | tuple[int, ...]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int | None = 0,
    default: int | None = DEFAULT_SIZE,
    arrays: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Return an array per input: from the .npy file in `given`, from `arrays`, else noise of the shape in `given`.

    Noise is normally distributed for floats, 0 or 1 for integers and bools, "a" or "b" for strings. `dims` gives sizes
    of symbolic dimensions; of the others the first one of an input is 1, any other `default`. Equal seeds give equal
    arrays; without a seed they are zeros that take no memory.

    Raises InputError for an unknown input or dimension, a dimension without a size, a file without an array, an input
    that is not a tensor; OSError if a file can't be read.
    """
    arguments = {arg.name: arg for arg in session.get_inputs()}
    sources, loaded = dict(given or {}), dict(arrays or {})
    if unknown := [name for name in (*sources, *loaded) if name not in arguments]:
        raise InputError(f"{_quoted(unknown)}: the inputs are {_quoted(arguments)}")
    known = dict(dims or {})
    symbolic = {d for arg in arguments.values() for d in arg.shape if isinstance(d, str)}
    for name in known:
        if name not in symbolic:
            raise InputError(f"--dim {name}: the symbolic dimensions are {_quoted(sorted(symbolic)) or 'none'}")
    for name, source in sources.items():
        if isinstance(source, str):
            loaded[name] = _load(source)
    for name, arg in arguments.items():
        if name in loaded:
            known |= _sizes(arg, loaded[name].shape)
        elif isinstance(shape := sources.get(name), tuple):
            known |= _sizes(arg, shape)
    rng = None if seed is None else np.random.default_rng(seed)
    feeds = {}
    for name, arg in arguments.items():
        if name in loaded:
            feeds[name] = loaded[name]
        else:
            shape = sources.get(name)
            if not isinstance(shape, tuple):
                shape = _complete(arg, known, default)
            # zeros take no memory, but numpy limits the size as well
            limit = np.iinfo(np.int64).max if rng is None else session.get_session_options().limits.max_tensor_bytes
            if math.prod(shape) * _ITEM_BYTES > limit:
                raise InputError(f'input "{name}" of shape {list(shape)} would be over the limit of {limit} bytes')
            feeds[name] = _noise(arg, shape, rng)
    return feeds


def load_arrays(path: str) -> dict[str, Array]:
    """Return the arrays of an .npz file by name.

    Raises InputError if it is not such a file, OSError if it can't be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise InputError(f"{path}: not an .npz file of arrays") from None


def shapes_only(feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays of the same shapes and dtypes that take no memory, for planning; other values stay."""
    fillers = {name: np.array("" if a.dtype.kind == "O" else 0, a.dtype) for name, a in feeds.items() if _is_array(a)}
    return {name: np.broadcast_to(fillers[name], a.shape) if name in fillers else a for name, a in feeds.items()}


def _is_array(feed: Any) -> bool:
    return isinstance(feed, np.ndarray)


def is_known(session: HasInputs) -> bool:
    """Return whether the file declares every input's shape."""
    return all(isinstance(d, int) for arg in session.get_inputs() for d in arg.shape)


def _sizes(arg: NodeArg, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the sizes of symbolic dimensions that a given array implies for other inputs."""
    return {dim: size for dim, size in zip(arg.shape, shape, strict=False) if isinstance(dim, str)}


def _shape(source: str) -> tuple[int, ...]:
    dims = [d.strip() for d in source.removeprefix(_SHAPE).split(",") if d.strip()]
    if not all(map(_is_size, dims)) or len(dims) > MAX_RANK:
        raise InputError(f"{source}: expected dimensions such as shape:1,1,128,1000")
    return tuple(map(int, dims))


def _is_size(text: str) -> bool:
    return text.isdecimal() and len(text) < len(str(np.iinfo(np.int64).max))


def _complete(arg: NodeArg, known: Mapping[str, int], default: int | None) -> tuple[int, ...]:
    shape = []
    for axis, dim in enumerate(arg.shape):
        size = dim if isinstance(dim, int) else known.get(str(dim), 1 if axis == 0 else default)
        if size is None:
            wanted = f"--dim {dim}=N, or " if dim else ""
            raise InputError(
                f'input "{arg.name}" has the shape {_text(arg)}: give {wanted}--input {arg.name}=shape:… '
                f"or {arg.name}=FILE.npy"
            )
        shape.append(size)
    return tuple(shape)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _text(arg: NodeArg) -> str:
    return f"[{', '.join('?' if d is None else str(d) for d in arg.shape)}]"


def _noise(arg: NodeArg, shape: tuple[int, ...], rng: np.random.Generator | None) -> Array:
    if not arg.type.startswith("tensor("):
        raise InputError(f'input "{arg.name}" is a {arg.type or "value of unknown type"}: it can\'t be generated')
    dtype = from_onnx_type(arg.type)
    if rng is None:
        return np.broadcast_to(np.array("" if dtype.kind == "O" else 0, dtype), shape)
    if dtype.kind == "O":
        return rng.choice(np.array(["a", "b"], object), shape)
    if dtype == np.float32:
        return np.asarray(rng.standard_normal(shape, np.float32))
    if dtype.kind in "fcV":
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype)


def _load(source: str) -> Any:
    try:
        array = np.load(source, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{source}: not a .npy file of numbers") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{source}: an archive of arrays; expected a .npy file")
    return array
