"""Maps, which models of ai.onnx.ml take and give, as Python dicts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyonnx.dtypes import TypedMap, from_onnx_type

_SPELLING = re.compile(r"map\((\w+),(tensor\(\w+\))\)")


def as_map(feed: Any, wanted: str) -> TypedMap:
    """Convert a dict to the ONNX type `wanted`, such as ``map(int64,tensor(float))``.

    Keys become int or str, values plain Python objects. Raises TypeError, ValueError or OverflowError with the cause.
    """
    spelling = _SPELLING.fullmatch(wanted)
    if spelling is None:
        raise TypeError(f"{wanted} is not supported")
    if not isinstance(feed, Mapping):
        raise TypeError(f"expects {wanted}, a dict, got {type(feed).__name__}")
    key_type, dtype = spelling[1], from_onnx_type(spelling[2])
    keys = [_plain(key, "string" if key_type == "string" else "integer", "key") for key in feed]
    if key_type != "string":
        np.array(keys, from_onnx_type(f"tensor({key_type})"))  # raises OverflowError if a key doesn't fit
    kind = {"O": "string", "f": "number"}.get(dtype.kind, "integer")
    values = [_plain(value, kind, f"value of key {key!r}") for key, value in feed.items()]
    if kind != "string":
        with np.errstate(over="ignore"):
            values = np.array(values, dtype).tolist()
    return TypedMap(dict(zip(keys, values, strict=True)), wanted, dtype)


_KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}


def _plain(value: Any, kind: str, what: str) -> Any:
    """Return a Python object or numpy scalar as a Python object. Raises TypeError if it is not of this kind."""
    plain = (
        value.item() if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim) else value
    )
    if not isinstance(plain, _KINDS[kind]) or isinstance(plain, bool):
        raise TypeError(f"{what} must be a{'n' * (kind == 'integer')} {kind}, is {value!r}")
    return plain
