"""Check the feeds of a session against the declared inputs, and convert them to the form that operators expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyonnx.dtypes import from_onnx_type, onnx_type
from tinyonnx.errors import InputError
from tinyonnx.ir import Graph
from tinyonnx.ort.maps import as_map
from tinyonnx.ort.values import unwrap


def check_feeds(graph: Graph, feeds: Mapping[str, Any], file: str) -> tuple[list[str], list[Any]]:
    """Return names and values of all graph inputs, then of the overridable initializers that are fed.

    Arrays get native byte order, strings become object arrays of str, lists take the declared type.
    Raises InputError, beginning with `file`, for an unknown or missing name and for a value of another
    type or shape than declared.
    """
    if not isinstance(feeds, Mapping):
        raise InputError(f"{file}: the feeds must be a dict of arrays by input name")
    required = [v.name for v in graph.inputs]
    optional = [v for v in graph.overridable if v.name in feeds]
    known = {*required, *(v.name for v in optional)}
    unknown = [n for n in feeds if n not in known]
    missing = [n for n in required if n not in feeds]
    if unknown or missing:
        parts = [f"unknown {', '.join(map(repr, unknown))}"] if unknown else []
        parts += [f"missing {', '.join(map(repr, missing))}"] if missing else []
        raise InputError(f"{file}: inputs are {', '.join(map(repr, required))}: {'; '.join(parts)}")
    wanted = [*graph.inputs, *optional]
    values = []
    for value in wanted:
        feed = unwrap(feeds[value.name])
        values.append(_check_value(f'{file}: input "{value.name}"', value.type or "", value.shape, feed))
    return [v.name for v in wanted], values


def _check_value(where: str, wanted: str, shape: Sequence[int | str | None] | None, feed: Any) -> Any:
    """Convert a feed to the form that operators expect; `wanted` is its ONNX type, "" for any. Raises InputError."""
    if "map(" in wanted:
        return _check_map(where, wanted, feed)
    if wanted.startswith("optional("):
        return None if feed is None else _check_value(where, wanted[len("optional(") : -1], None, feed)
    if wanted.startswith("seq("):
        if not isinstance(feed, (list, tuple)):
            raise InputError(f"{where} expects {wanted}, a list, got {type(feed).__name__}")
        inner = wanted[len("seq(") : -1]
        return [_check_value(f"{where}, element {i}", inner, None, element) for i, element in enumerate(feed)]
    wanted = wanted.removeprefix("sparse_")
    if not isinstance(feed, (np.ndarray, np.generic, list, tuple, int, float, bool, str)):
        raise InputError(f"{where} expects an array, got {type(feed).__name__}")
    try:
        # as in onnxruntime: a list is converted to the wanted type, an array must already have it
        of_numbers = isinstance(feed, (list, tuple)) and wanted not in ("tensor(string)", "")
        array = np.asarray(feed, from_onnx_type(wanted) if of_numbers else None)
    except (ValueError, TypeError, OverflowError, KeyError) as error:
        raise InputError(f"{where}: {error}") from error
    if array.dtype.kind in "SUT" or (array.dtype == object and wanted == "tensor(string)"):
        try:
            array = (np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array).astype(object)
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: {error}") from error
        if not all(isinstance(item, str) for item in array.flat):
            raise InputError(f"{where} expects strings, got other objects")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    given = onnx_type(array.dtype)
    if given is None or wanted not in (given, ""):
        raise InputError(f"{where} expects {wanted or 'a tensor'}, got {given or array.dtype}")
    if shape is not None:
        if not shape and array.ndim and array.size == 1:
            array = array.reshape(())  # onnxruntime accepts [1] for a scalar as well
        fits = len(shape) == array.ndim and all(
            not isinstance(d, int) or d == n for d, n in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise InputError(f"{where} expects shape {dims_text(shape)}, got {dims_text(array.shape)}")
    return array


def _check_map(where: str, wanted: str, feed: Any) -> Any:
    """Convert a map or a list of maps. Raises InputError."""
    try:
        if not wanted.startswith("seq("):
            return as_map(feed, wanted)
        if not isinstance(feed, (list, tuple)):
            raise TypeError(f"expects {wanted}, a list of dicts, got {type(feed).__name__}")
        return [as_map(item, wanted.removeprefix("seq(").removesuffix(")")) for item in feed]
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise InputError(f"{where}: {error}") from error


def dims_text(shape: Sequence[int | str | None]) -> str:
    """Format a shape for messages; unknown dimensions are "?"."""
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"
