"""Strings: StringConcat, StringSplit, StringNormalizer, RegexFullMatch, TfIdfVectorizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinyonnx.errors import OpError
from tinyonnx.ir import Array
from tinyonnx.ops.shape import INT64, Shape
from tinyonnx.registry import Context, Info, broadcast, op, same_as
from tinyonnx.sizes.integers import broadcast_shapes

Strings = Sequence[str] | None


def _check_strings(**inputs: Array) -> None:
    for name, x in inputs.items():
        if x.dtype.kind != "O":
            raise OpError(f"{name} is {x.dtype}, should be strings")


def _strings(values: Sequence[str], shape: Shape) -> Array:
    result = np.empty(prod(shape), object)
    result[:] = values
    return result.reshape(shape)


# -- StringConcat, StringSplit ----------------------------------------------------------


@op("StringConcat", since=20, shape=broadcast())
def string_concat(ctx: Context, x: Array, y: Array) -> Array:
    _check_strings(X=x, Y=y)
    try:
        shape = broadcast_shapes(x.shape, y.shape)
    except ValueError:
        raise OpError(f"shapes {list(x.shape)} and {list(y.shape)} don't broadcast") from None
    ctx.check_size(shape, object)
    characters = sum(sum(map(len, a.reshape(-1))) * (prod(shape) // max(a.size, 1)) for a in (x, y))
    ctx.check_size((characters,), np.uint8)
    return np.asarray(np.add(x, y), object)


@op("StringSplit", since=20)
def string_split(
    ctx: Context, x: Array, *, delimiter: str | None = None, maxsplit: int | None = None
) -> tuple[Array, Array]:
    """Return the parts of each string along a new last axis, padded with empty strings, and the number of parts.

    Without a delimiter, white space at both ends is removed; the rest after `maxsplit` keeps its white space.
    """
    _check_strings(X=x)
    limit = -1 if maxsplit is None else maxsplit
    parts = [s.split(delimiter, limit) if delimiter else s.strip().split(None, limit) for s in x.reshape(-1)]
    counts = [len(p) for p in parts]
    width = max(counts, default=0)
    ctx.check_size((*x.shape, width), object)
    filled = [part for p in parts for part in (*p, *[""] * (width - len(p)))]
    return _strings(filled, (*x.shape, width)), np.array(counts, INT64).reshape(x.shape)


# -- StringNormalizer -------------------------------------------------------------------

_CASES: dict[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}


@op("StringNormalizer", since=10)
def string_normalizer(
    x: Array, *, case_change_action: str = "NONE", is_case_sensitive: int = 0, locale: str | None = None,
    stopwords: Strings = None,
) -> Array:  # fmt: skip
    """Return the strings that aren't stopwords, in the given case; case conversion is Unicode's for every locale."""
    _check_strings(X=x)
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise OpError(f"X has shape {list(x.shape)}, should be [C] or [1, C]")
    if case_change_action not in _CASES:
        raise OpError(f"case_change_action is {case_change_action!r}, should be NONE, LOWER or UPPER")
    compared: Callable[[str], str] = str if is_case_sensitive else str.lower
    stop = {compared(word) for word in stopwords or ()}
    kept = [_CASES[case_change_action](s) for s in x.reshape(-1) if compared(s) not in stop] or [""]
    return _strings(kept, (*x.shape[:-1], len(kept)))


# -- RegexFullMatch ---------------------------------------------------------------------


@op("RegexFullMatch", since=20, shape=same_as(0, bool))
def regex_full_match(x: Array, *, pattern: str | None = None) -> Array:
    """Match whole strings; the syntax is RE2's, and the time linear in the strings' length."""
    _check_strings(X=x)
    if pattern is None:
        raise OpError("pattern is missing")
    try:
        import re2
    except ImportError:
        raise OpError("needs RE2: pip install 'tinyonnx[regex]'") from None
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        raise OpError(f"pattern {pattern!r}: {reason.decode() if isinstance(reason, bytes) else reason}") from None
    return np.array([compiled.fullmatch(s) is not None for s in x.reshape(-1)], bool).reshape(x.shape)


# -- TfIdfVectorizer --------------------------------------------------------------------


def _vector_length(ngram_indexes: Sequence[int]) -> int:
    if not len(ngram_indexes) or min(ngram_indexes) < 0:
        raise OpError("ngram_indexes should be at least one index, none negative")
    return max(ngram_indexes) + 1


def _tf_idf_rule(x: Info, *, ngram_indexes: Sequence[int], **_: Any) -> Info:
    dtype = np.dtype(np.float32)
    return Info(dtype, None if x.shape is None else (*x.shape[:-1], _vector_length(ngram_indexes)))


class _Section(NamedTuple):
    """The n-grams of one length: their tokens in the pool, and the index of the first n-gram."""

    n: int
    tokens: slice
    first: int


def _sections(ngram_counts: Sequence[int], size: int, total: int, longest: int) -> list[_Section]:
    starts = [*map(int, ngram_counts), size]
    result, first = [], 0
    for n, (start, end) in enumerate(pairwise(starts), 1):
        if not 0 <= start <= end or (end - start) % n:
            raise OpError(f"ngram_counts {starts[:-1]} don't cut a pool of {size} into whole n-grams")
        result.append(_Section(n, slice(start, end), first))
        first += (end - start) // n
    if starts[0] or first != total:
        raise OpError(f"ngram_counts {starts[:-1]} leave other than {total} n-grams of a pool of {size}")
    if len(result) < longest:
        raise OpError(f"ngram_counts {starts[:-1]} has no n-grams of length {longest}")
    return result


def _token_ids(x: Array, pool: Sequence[int] | Sequence[str]) -> tuple[Array, Array]:
    """Return tokens of `x` and of the pool as consecutive numbers; -1 for tokens that aren't in the pool."""
    known = {token: i for i, token in enumerate(dict.fromkeys(pool))}
    ids = [known.get(token, -1) for token in x.reshape(-1).tolist()]
    return np.array(ids, INT64).reshape(x.shape), np.array([known[token] for token in pool], INT64)


def _find(rows: Array, grams: Array) -> Array:
    """Return the index of each row [..., n] among the distinct `grams` [count, n], or -1.

    Works token by token, numbering the prefixes found so far.
    """
    found, known = np.zeros(rows.shape[:-1], INT64), np.zeros(len(grams), INT64)
    base = int(grams.max(initial=0)) + 2
    for row_token, gram_token in zip(np.moveaxis(rows, -1, 0), grams.T):
        codes, known = np.unique(known * base + gram_token, return_inverse=True)
        wanted = np.where((found < 0) | (row_token < 0), -1, found * base + row_token)
        place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        found = np.where(codes[place] == wanted, place, -1)
    if len(np.unique(known)) < len(grams):
        raise OpError("the pool contains duplicate n-grams")
    which = np.empty(len(grams), INT64)
    which[known.reshape(-1)] = np.arange(len(grams))
    return np.where(found >= 0, which[found], -1)


@op("TfIdfVectorizer", since=9, shape=_tf_idf_rule)
def tf_idf_vectorizer(
    ctx: Context, x: Array, *, max_gram_length: int, max_skip_count: int, min_gram_length: int, mode: str,
    ngram_counts: Sequence[int], ngram_indexes: Sequence[int], pool_int64s: Sequence[int] | None = None,
    pool_strings: Strings = None, weights: Sequence[float] | None = None,
) -> Array:  # fmt: skip
    """Return the number of occurrences of each n-gram of the pool in a row, weighted according to `mode`.

    As in the standard's text, weights belong to n-grams; in onnxruntime they belong to columns, which
    is the same if `ngram_indexes` is ascending.
    """
    length = _vector_length(ngram_indexes)
    if mode not in ("TF", "IDF", "TFIDF"):
        raise OpError(f"mode is {mode!r}, should be TF, IDF or TFIDF")
    if not 1 <= min_gram_length <= max_gram_length or max_skip_count < 0:
        raise OpError(
            f"n-grams of {min_gram_length} to {max_gram_length} tokens with {max_skip_count} skipped are impossible"
        )
    if x.ndim not in (1, 2):
        raise OpError(f"X has shape {list(x.shape)}, should be [C] or [N, C]")
    if (pool_int64s is None) == (pool_strings is None):
        raise OpError("needs one of pool_int64s and pool_strings")
    pool: Any = pool_strings if pool_int64s is None else pool_int64s
    if x.dtype not in ((np.dtype(object),) if pool_int64s is None else (np.dtype(np.int32), INT64)):
        raise OpError(f"X is {x.dtype}, the pool has {'strings' if pool_int64s is None else 'integers'}")
    if weights is not None and len(weights) != len(ngram_indexes):
        raise OpError(f"{len(weights)} weights for {len(ngram_indexes)} n-grams")
    sections = _sections(ngram_counts, len(pool), len(ngram_indexes), max_gram_length)
    shape = (*x.shape[:-1], length)
    ctx.check_size(shape, np.float32)

    tokens, pool_tokens = _token_ids(np.atleast_2d(x), pool)
    wanted = sections[min_gram_length - 1 : max_gram_length]
    hits = [_hits(tokens, pool_tokens, section, max_skip_count) for section in wanted]
    found, times = np.unique(np.concatenate(hits), axis=0, return_counts=True)
    row, gram = found.T
    values = times.astype(np.float32)
    if mode != "TF":
        scale = np.ones(len(ngram_indexes), np.float32) if weights is None else np.array(weights, np.float32)
        values = scale[gram] * (1 if mode == "IDF" else values)
    result = np.zeros((len(tokens), length), np.float32)
    np.add.at(result, (row, np.array(ngram_indexes, INT64)[gram]), values)
    return result.reshape(shape)


def _hits(tokens: Array, pool: Array, section: _Section, max_skip: int) -> Array:
    """Return (row, n-gram) of every occurrence of the n-grams of one length, [occurrences, 2]."""
    n, result = section.n, [np.empty((0, 2), INT64)]
    grams = pool[section.tokens].reshape(-1, n)
    for step in range(1, 2 if n == 1 else max_skip + 2):
        windows = tokens.shape[1] - (n - 1) * step
        if windows < 1 or not len(grams):
            break
        rows = np.stack([tokens[:, k * step : k * step + windows] for k in range(n)], axis=-1)
        which = _find(rows, grams)
        row, _ = np.nonzero(which >= 0)
        result.append(np.stack([row, which[which >= 0] + section.first], axis=1))
    return np.concatenate(result)
