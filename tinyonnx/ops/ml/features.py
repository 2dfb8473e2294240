"""Operators of ai.onnx.ml that prepare features: select, join, scale, impute, encode."""

from __future__ import annotations

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.ml._common import (
    DOMAIN,
    FLOAT,
    STRING,
    Floats,
    Ints,
    Strings,
    as_array,
    as_rows,
    check_numbers,
    positions,
    the_one,
)
from tinyonnx.registry import Context, Info, op, same_as


def _extractor_rule(x: Info, y: Info) -> Info:
    if x.shape is None or y.shape is None:
        return Info(x.dtype, None)
    size = int(np.prod(y.shape))
    return Info(x.dtype, (*(x.shape[:-1] if len(x.shape) > 1 else (1,)), size))


@op("ArrayFeatureExtractor", domain=DOMAIN, shape=_extractor_rule)
def array_feature_extractor(ctx: Context, x: Array, y: Array) -> Array:
    """Select elements along the last axis; a vector is one row."""
    if x.ndim == 0 or y.dtype.kind not in "iu":
        raise OpError(f"needs indices into the last axis of an array, got {y.dtype} into {list(x.shape)}")
    index = y.reshape(-1)
    if index.size and (index.min() < 0 or index.max() >= x.shape[-1]):
        wrong = index.min() if index.min() < 0 else index.max()
        raise OpError(f"index {wrong} is out of range for {x.shape[-1]} features")
    ctx.check_size((*x.shape[:-1], index.size), x.dtype)
    picked = np.take(x, index, -1)
    return picked.reshape(1, -1) if x.ndim == 1 else picked


@op("Binarizer", domain=DOMAIN, shape=same_as())
def binarizer(x: Array, *, threshold: float = 0.0) -> Array:
    check_numbers(x)
    return np.asarray(x > threshold, x.dtype)


def _widths(counts: list[int], inputdimensions: Ints) -> list[int]:
    if inputdimensions is None:
        return counts
    if len(inputdimensions) != len(counts):
        raise OpError(f"{len(inputdimensions)} inputdimensions for {len(counts)} inputs")
    if any(d < 0 for d in inputdimensions):
        raise OpError(f"inputdimensions {list(inputdimensions)} has a negative one")
    return list(inputdimensions)


def _vectorizer_rule(*inputs: Info, inputdimensions: Ints = None) -> Info:
    shapes = [info.shape for info in inputs]
    known = [s for s in shapes if s is not None]
    if not shapes or len(known) < len(shapes) or not all(known):
        return Info(FLOAT, None)
    counts = [int(np.prod(s[1:])) if len(s) > 1 else s[0] for s in known]
    return Info(FLOAT, (known[0][0] if len(known[0]) > 1 else 1, sum(_widths(counts, inputdimensions))))


@op("FeatureVectorizer", domain=DOMAIN, shape=_vectorizer_rule)
def feature_vectorizer(ctx: Context, *inputs: Array, inputdimensions: Ints = None) -> Array:
    """Join the columns of all inputs, each truncated or padded with zeros to its inputdimension."""
    if not inputs:
        raise OpError("needs an input")
    for x in inputs:
        check_numbers(x)
        if x.ndim == 0:
            raise OpError("needs rank 1 or more, got a scalar")
    parts = [x.reshape(1, -1) if x.ndim == 1 else x.reshape(len(x), int(np.prod(x.shape[1:]))) for x in inputs]
    widths = _widths([part.shape[1] for part in parts], inputdimensions)
    n = len(parts[0])
    if any(len(part) != n for part in parts):
        raise OpError(f"the inputs have different numbers of rows: {', '.join(str(len(part)) for part in parts)}")
    ctx.check_size((max(n, 1), sum(widths)), FLOAT)
    result = np.zeros((n, sum(widths)), FLOAT)
    at = 0
    for part, width in zip(parts, widths, strict=True):
        used = min(width, part.shape[1])
        with np.errstate(over="ignore"):
            result[:, at : at + used] = part[:, :used]
        at += width
    return result


@op("Imputer", domain=DOMAIN, shape=same_as())
def imputer(
    x: Array, *, imputed_value_floats: Floats = None, imputed_value_int64s: Ints = None,
    replaced_value_float: float = 0.0, replaced_value_int64: int = 0,
) -> Array:  # fmt: skip
    check_numbers(x)
    if x.dtype.kind == "f":
        given, name = np.array(imputed_value_floats or []), "imputed_value_floats"
        missing = np.isnan(x) if np.isnan(replaced_value_float) else x == replaced_value_float
    else:
        given, name = np.array(imputed_value_int64s or [], np.int64), "imputed_value_int64s"
        missing = x == replaced_value_int64
    if not given.size:
        raise OpError(f"needs {name} for {x.dtype}")
    if x.ndim == 0 or len(given) not in (1, x.shape[-1]):
        raise OpError(f"{len(given)} {name} for shape {list(x.shape)}")
    with np.errstate(over="ignore"):
        values = given.astype(x.dtype)
    if x.dtype.kind != "f" and (values != given).any():
        raise OpError(f"{name} has {given[values != given][0]}, which does not fit {x.dtype}")
    return np.asarray(np.where(missing, values, x))


@op("Normalizer", domain=DOMAIN, shape=same_as(dtype=FLOAT))
def normalizer(x: Array, *, norm: str = "MAX") -> Array:
    """Return rows divided by their maximum, L1 norm or L2 norm; zero rows stay unchanged."""
    rows = as_rows(x).astype(np.float64)
    if norm == "MAX":
        size = rows.max(1, keepdims=True, initial=-np.inf)
    elif norm == "L1":
        size = np.abs(rows).sum(1, keepdims=True)
    elif norm == "L2":
        size = np.sqrt((rows * rows).sum(1, keepdims=True))
    else:
        raise OpError(f"unknown norm {norm!r}")
    with np.errstate(all="ignore"):
        return (rows / np.where(size == 0, 1, size)).astype(FLOAT).reshape(x.shape)


@op("Scaler", domain=DOMAIN, shape=same_as(dtype=FLOAT))
def scaler(x: Array, *, offset: Floats = None, scale: Floats = None) -> Array:
    check_numbers(x)
    result = x.astype(np.float64)
    for name, values, apply in (("offset", offset, np.subtract), ("scale", scale, np.multiply)):
        if values:
            if len(values) != 1 and (x.ndim == 0 or len(values) != x.shape[-1]):
                raise OpError(f"{len(values)} values of {name} for shape {list(x.shape)}")
            with np.errstate(all="ignore"):
                # one value: a scalar, which keeps the rank
                result = apply(result, np.array(values) if len(values) > 1 else values[0])
    with np.errstate(all="ignore"):
        return np.asarray(result, FLOAT)


def _one_hot_rule(x: Info, *, cats_int64s: Ints = None, cats_strings: Strings = None, zeros: int = 1) -> Info:
    if x.shape is None:
        return Info(FLOAT, None)
    return Info(FLOAT, (*x.shape, len(the_one("categories", cats_int64s=cats_int64s, cats_strings=cats_strings))))


@op("OneHotEncoder", domain=DOMAIN, shape=_one_hot_rule)
def one_hot_encoder(
    ctx: Context, x: Array, *, cats_int64s: Ints = None, cats_strings: Strings = None, zeros: int = 1
) -> Array:
    """Return one-hot vectors of categories; numbers are truncated before integer categories are looked up."""
    categories = as_array(the_one("categories", cats_int64s=cats_int64s, cats_strings=cats_strings))
    if (x.dtype == STRING) != (categories.dtype == STRING):
        raise OpError(f"categories are {_kind(categories)}, the input has {_kind(x)}")
    ctx.check_size((*x.shape, len(categories)), FLOAT)
    # a float category is exact up to 2**53, where truncated inputs are, too; NaN finds nothing
    found = positions(np.trunc(x) if x.dtype.kind == "f" else x, categories)
    if not zeros and (found < 0).any():
        raise OpError(f"unknown category {x[found < 0].reshape(-1)[0]!r}, and zeros is 0")
    return np.asarray(found[..., None] == np.arange(len(categories)), FLOAT)


def _kind(x: Array) -> str:
    return "strings" if x.dtype == STRING else "numbers"
