"""Operators of ai.onnx.ml that map values to values, and those that take or return maps, which are Python dicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyonnx.dtypes import TypedMap
from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.cast import convert
from tinyonnx.ops.ml._common import DOMAIN, STRING, Floats, Ints, Strings, as_array, class_labels, positions, the_one
from tinyonnx.registry import Context, Info, op

INT64 = np.dtype(np.int64)


# -- value by value -----------------------------------------------------------------------


def _other_kind(x: Info, **_: Any) -> Info:
    return Info(INT64 if x.dtype == STRING else STRING, x.shape)


def _between(x: Array, ints: Array, strings: Array, default_int64: int, default_string: str) -> Array:
    """Map strings to integers, or integers to strings."""
    if x.dtype == STRING:
        return _looked_up(x, strings, ints, np.array(default_int64, INT64))
    if x.dtype != INT64:
        raise OpError(f"needs strings or int64, got {x.dtype}")
    return _looked_up(x, ints, strings, np.array(default_string, STRING))


def _looked_up(x: Array, keys: Array, values: Array, default: Array) -> Array:
    # keys that aren't found have position -1: the default, which is last
    return np.asarray(np.append(values, default.reshape(1))[positions(x, keys)], values.dtype)


@op("CategoryMapper", domain=DOMAIN, shape=_other_kind)
def category_mapper(
    x: Array, *, cats_int64s: Ints = None, cats_strings: Strings = None, default_int64: int = -1,
    default_string: str = "_Unused",
) -> Array:  # fmt: skip
    ints, strings = cats_int64s or [], cats_strings or []
    if len(ints) != len(strings):
        raise OpError(f"{len(ints)} cats_int64s for {len(strings)} cats_strings")
    return _between(x, np.array(ints, INT64), _strings(strings), default_int64, default_string)


def _strings(values: Strings) -> Array:
    return as_array(values) if values else np.empty(0, STRING)


def _encoder_rule(
    x: Info, *, values_floats: Floats = None, values_int64s: Ints = None, values_strings: Strings = None,
    values_tensor: Array | None = None, **_: Any,
) -> Info:  # fmt: skip
    values = the_one(
        "values",
        values_floats=values_floats,
        values_int64s=values_int64s,
        values_strings=values_strings,
        values_tensor=values_tensor,
    )
    return Info(as_array(values).dtype, x.shape)


@op("LabelEncoder", since=2, domain=DOMAIN, shape=_encoder_rule)
def label_encoder(
    x: Array, *, default_float: float = -0.0, default_int64: int = -1, default_string: str = "_Unused",
    default_tensor: Array | None = None, keys_floats: Floats = None, keys_int64s: Ints = None,
    keys_strings: Strings = None, keys_tensor: Array | None = None, values_floats: Floats = None,
    values_int64s: Ints = None, values_strings: Strings = None, values_tensor: Array | None = None,
) -> Array:  # fmt: skip
    """Map keys to values; NaN keys match NaN, and the last one of equal keys counts."""
    keys = as_array(
        the_one(
            "keys", keys_floats=keys_floats, keys_int64s=keys_int64s, keys_strings=keys_strings, keys_tensor=keys_tensor
        )
    )
    values = as_array(
        the_one(
            "values",
            values_floats=values_floats,
            values_int64s=values_int64s,
            values_strings=values_strings,
            values_tensor=values_tensor,
        )
    )
    if keys.ndim != 1 or keys.shape != values.shape:
        raise OpError(f"keys have shape {list(keys.shape)}, values {list(values.shape)}; should be equally long lists")
    if x.dtype != keys.dtype:
        raise OpError(f"keys are {_name(keys)}, the input is {_name(x)}")
    if default_tensor is None:
        plain = {"O": default_string, "f": default_float}.get(values.dtype.kind, default_int64)
        if values.dtype.kind == "i" and not np.iinfo(values.dtype).min <= default_int64 <= np.iinfo(values.dtype).max:
            raise OpError(f"default_int64 {default_int64} doesn't fit into {values.dtype}")
        default_tensor = np.array(plain, values.dtype)
    elif default_tensor.size != 1 or default_tensor.dtype != values.dtype:
        given = f"{_name(default_tensor)}{list(default_tensor.shape)}"
        raise OpError(f"default_tensor must be one {_name(values)}, is {given}")
    return _looked_up(x, keys, values, default_tensor)


@op("LabelEncoder", since=1, domain=DOMAIN, shape=_other_kind)
def label_encoder_1(
    x: Array, *, classes_strings: Strings = None, default_int64: int = -1, default_string: str = "_Unused"
) -> Array:
    strings = _strings(classes_strings)
    return _between(x, np.arange(len(strings)), strings, default_int64, default_string)


def _name(x: Array) -> str:
    return "string" if x.dtype == STRING else x.dtype.name


# -- maps ---------------------------------------------------------------------------------


@op("ZipMap", domain=DOMAIN)
def zip_map(
    x: Array, *, classlabels_int64s: Ints = None, classlabels_strings: Strings = None
) -> list[dict[Any, float]]:
    """Return one dict per row; a vector is one row."""
    labels = class_labels(classlabels_int64s, classlabels_strings).tolist()
    if x.dtype.kind != "f" or x.ndim not in (1, 2) or x.shape[-1] != len(labels):
        raise OpError(f"needs rows of {len(labels)} numbers, one per label, got {x.dtype}{list(x.shape)}")
    return [dict(zip(labels, row, strict=True)) for row in x.reshape(-1, len(labels)).tolist()]


def _dtype_of(x: dict[Any, Any]) -> np.dtype[Any]:
    if isinstance(x, TypedMap):
        return x.dtype
    kinds = {type(value) for value in x.values()}
    return STRING if kinds == {str} else INT64 if kinds == {int} else np.dtype(np.float32)


def _check_map(x: Any) -> None:
    if not isinstance(x, dict):
        raise OpError(f"needs a map, got {type(x).__name__}")


_CAST_TO = {"TO_FLOAT": np.dtype(np.float32), "TO_STRING": STRING, "TO_INT64": INT64}


@op("CastMap", domain=DOMAIN)
def cast_map(
    ctx: Context, x: dict[int, Any], *, cast_to: str = "TO_FLOAT", map_form: str = "DENSE", max_map: int = 1
) -> Array:
    """Return values [1, n] in the order of their keys (DENSE), or at the index given by their keys (SPARSE)."""
    _check_map(x)
    if cast_to not in _CAST_TO:
        raise OpError(f"unknown cast_to {cast_to!r}")
    if any(isinstance(key, str) for key in x):
        raise OpError("needs integer keys, got strings")
    keys = sorted(x)
    values = _cast([x[key] for key in keys], _dtype_of(x), _CAST_TO[cast_to])
    if map_form == "DENSE":
        return values.reshape(1, -1)
    if map_form != "SPARSE":
        raise OpError(f"unknown map_form {map_form!r}")
    if max_map < 1:
        raise OpError(f"max_map is {max_map}, must be positive")
    if keys and not 0 <= keys[0] <= keys[-1] < max_map:
        raise OpError(f"key {keys[0] if keys[0] < 0 else keys[-1]} is out of range for max_map {max_map}")
    ctx.check_size((1, max_map), values.dtype)
    # onnxruntime's fill value for strings; the standard defines none
    result = np.full((1, max_map), "0.f" if values.dtype == STRING else 0, values.dtype)
    result[0, keys] = values
    return result


def _cast(values: list[Any], source: np.dtype[Any], target: np.dtype[Any]) -> Array:
    array = np.empty(len(values), source)
    with np.errstate(over="ignore"):
        array[:] = values
    if source == target:
        return array
    if target == STRING:
        texts = [f"{value:f}" for value in array.tolist()]
        return _strings(texts)
    if target == INT64 and source.kind == "f" and not (np.abs(array) < 2.0**63).all():
        raise OpError(f"{array[~(np.abs(array) < 2.0**63)][0]} doesn't fit into int64")
    return convert(array, target)


@op("DictVectorizer", domain=DOMAIN)
def dict_vectorizer(x: dict[Any, Any], *, int64_vocabulary: Ints = None, string_vocabulary: Strings = None) -> Array:
    """Return values [1, n] in the order of the vocabulary; other keys are ignored, as in scikit-learn."""
    _check_map(x)
    vocabulary = the_one("the vocabulary", int64_vocabulary=int64_vocabulary, string_vocabulary=string_vocabulary)
    wanted = type(vocabulary[0])
    if any(not isinstance(key, wanted) for key in x):
        raise OpError(f"the vocabulary has {wanted.__name__} keys, the keys of the map are of another type")
    dtype = _dtype_of(x)
    missing = "" if dtype == STRING else 0
    result = np.empty((1, len(vocabulary)), dtype)
    result[0, :] = [x.get(key, missing) for key in vocabulary]
    return result
