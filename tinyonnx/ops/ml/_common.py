"""Shared by the operators of ai.onnx.ml: rows of features, look-ups, class labels, post transforms.

Where the standard leaves details open (the second column of a binary classifier, PROBIT's
approximation), results are those of ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.registry import Info

DOMAIN = "ai.onnx.ml"
FLOAT = np.dtype(np.float32)
STRING = np.dtype(object)

Ints = Sequence[int] | None
Floats = Sequence[float] | None
Strings = Sequence[str] | None


def check_numbers(x: Array) -> None:
    """Raise OpError unless the elements are integers or floating-point numbers."""
    if x.dtype.kind not in "fiu":
        raise OpError(f"needs numbers, got {'strings' if x.dtype == STRING else x.dtype}")


def as_rows(x: Array) -> Array:
    """Return features as [rows, features]; a vector is one row. Raises OpError for another rank, and for strings."""
    check_numbers(x)
    if x.ndim not in (1, 2):
        raise OpError(f"needs rank 1 or 2, got {list(x.shape)}")
    return x.reshape(1, -1) if x.ndim == 1 else x


def row_count(x: Info) -> int | None:
    """Return the number of rows that `as_rows` returns, or None if it isn't known."""
    if x.shape is None or len(x.shape) not in (1, 2):
        return None
    return 1 if len(x.shape) == 1 else x.shape[0]


def column_count(values: int, rows: int, what: str) -> int:
    """Return the number of columns of a flat list with `rows` rows. Raises OpError if it is empty or doesn't divide."""
    if rows < 1 or values < 1 or values % rows:
        raise OpError(f"{what}: {values} values don't make {rows} rows")
    return values // rows


# -- one of several attributes ----------------------------------------------------------


def the_one(what: str, **candidates: Any) -> Any:
    """Return the only attribute that is given and not empty. Raises OpError if there are none or several."""
    given = [name for name, value in candidates.items() if value is not None and not _is_empty(value)]
    if len(given) != 1:
        raise OpError(f"{what} must be given once, by {' or '.join(candidates)}; got {' and '.join(given) or 'none'}")
    return candidates[given[0]]


def _is_empty(values: Any) -> bool:
    return values.size == 0 if isinstance(values, np.ndarray) else not values


def as_array(values: Sequence[Any] | Array) -> Array:
    """Return an attribute's list as its ONNX type: int64, float32, or an object array of str."""
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values[0], str):
        array = np.empty(len(values), STRING)
        array[:] = values
        return array
    return np.array(values, np.float32 if isinstance(values[0], float) else np.int64)


def class_labels(ints: Ints, strings: Strings, suffix: str = "int64s") -> Array:
    """Return the class labels of a classifier. Raises OpError unless exactly one of the lists is given."""
    return as_array(the_one("the class labels", **{f"classlabels_{suffix}": ints, "classlabels_strings": strings}))


def positions(x: Array, keys: Array) -> Array:
    """Return the index of each element of `x` in `keys`, or -1; the last one of equal keys. NaN equals NaN."""
    if x.dtype == STRING:
        places = {key: i for i, key in enumerate(keys.tolist())}
        found = (places.get(value, -1) for value in x.reshape(-1).tolist())
        return np.fromiter(found, np.int64, x.size).reshape(x.shape)
    if not keys.size:
        return np.full(x.shape, -1, np.int64)
    order = np.argsort(keys, kind="stable")
    at = order[np.maximum(np.searchsorted(keys[order], x, "right") - 1, 0)]
    same = (keys[at] == x) | ((keys[at] != keys[at]) & (x != x))
    return np.asarray(np.where(same, at, -1), np.int64)


# -- post transforms ----------------------------------------------------------------------


def logistic(x: Array) -> Array:
    """Return the sigmoid, without overflow."""
    upper = 1 / (1 + np.exp(-np.abs(x)))
    return np.asarray(np.where(x < 0, 1 - upper, upper))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def _softmax_zero(x: Array) -> Array:
    """Compute Softmax over the non-zero scores; zeros stay zero."""
    e = np.where(np.abs(x) > 1e-7, np.exp(x - x.max(1, keepdims=True)), 0)
    total = e.sum(1, keepdims=True)
    return np.asarray(e / np.where(total == 0, 1, total))


def _probit(x: Array) -> Array:
    """Return quantiles of the normal distribution by Winitzki's approximation, as in other runtimes."""
    y = 2 * x - 1
    log = np.log((1 - y) * (1 + y))
    half = 2 / (math.pi * 0.147) + log / 2
    return np.asarray(math.sqrt(2) * np.copysign(np.sqrt(np.sqrt(half * half - log / 0.147) - half), y))


_TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "NONE": lambda x: x,
    "SOFTMAX": _softmax,
    "LOGISTIC": logistic,
    "SOFTMAX_ZERO": _softmax_zero,
    "PROBIT": _probit,
}
TRANSFORMS = list(_TRANSFORMS)
"""Names of the post transforms, in the order of their numbers in TreeEnsemble."""


def transformed(scores: Array, name: str, dtype: np.dtype[Any] = FLOAT) -> Array:
    """Return scores [rows, classes] after a post transform. Raises OpError for an unknown one."""
    if name not in _TRANSFORMS:
        raise OpError(f"unknown post_transform {name!r}")
    with np.errstate(all="ignore"):
        return _TRANSFORMS[name](scores.astype(np.float64)).astype(dtype)


def two_columns(score: Array, name: str, mixed: bool) -> Array:
    """Return scores [rows, 2] of a binary classifier that has one score [rows], that of the second class.

    The first class gets the complement: -s where scores have both signs (`mixed`), else 1 - s
    as of a probability. Raises OpError for an unknown transform.
    """
    s = score.astype(np.float64)
    pair = np.stack([-s if mixed or name == "LOGISTIC" else 1 - s, s], axis=1)
    return transformed(pair, name if name in ("LOGISTIC", "PROBIT") or name not in _TRANSFORMS else "NONE")
