"""Embeddings of many sounds, kept in the cache so that each is computed once."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from audiotag.errors import AudioError
from audiotag.models.catalog import cache_dir
from tinyonnx.disk_cache import remove_old
from tinyonnx.files import write_file

if TYPE_CHECKING:
    from audiotag.tagger import Tagger
    from tinyonnx.ir import Array

_SAVED = 200
"""Number of new embeddings after which the cache is written."""

_MOST = 100_000
"""Maximum number of embeddings that are kept of a model, those that were used last; 154 MB of 384 numbers."""

_MODELS = 8
"""Maximum number of models of which embeddings are kept."""


def embed_all(
    tagger: Tagger, paths: Sequence[str], progress: Callable[[int], None] | None = None
) -> tuple[Array, dict[int, AudioError]]:
    """Compute the embeddings of sound files, except those in the cache, whose size and time of change are the same.

    Returns:
        (embeddings, failures): (files, n) float32, NaN where a file can't be read, and the errors by row.

    Raises:
        ModelError: the model can't be loaded or has no embedding.
    """
    store = _Store(tagger)
    vectors: dict[int, Array] = {}
    failures: dict[int, AudioError] = {}
    try:
        for row, path in enumerate(paths):
            key = _key(path)
            vector = store.get(key)
            if vector is None:
                try:
                    vector = tagger.embed(path)
                except AudioError as error:
                    failures[row] = error
                else:
                    store.add(key, vector)
            if vector is not None:
                vectors[row] = vector
            if progress is not None:
                progress(row + 1)
    finally:
        store.save()
    size = len(next(iter(vectors.values()))) if vectors else 0
    joined = np.full((len(paths), size), np.nan, np.float32)
    for row, vector in vectors.items():
        joined[row] = vector
    return joined, failures


def _key(path: str) -> str:
    """Return an identifier of a file's content: path, size and time; the path alone if it can't be examined."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return path
    return f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"


class _Store:
    """The embeddings of a model by file, in one file of the cache; see `_MOST` and `_MODELS` for how many are kept."""

    def __init__(self, tagger: Tagger) -> None:
        _ = tagger.network
        precision = tagger.network.precision
        facts = [tagger.model.sha256, str(tagger.channel), *([precision] if precision != "float32" else [])]
        name = hashlib.sha256(" ".join(facts).encode()).hexdigest()[:32]
        self._path = cache_dir() / "embeddings" / f"{name}.npz"
        self._vectors: dict[str, Array] = {}
        self._new = 0
        damaged = (ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with (
            suppress(OSError, *damaged),
            open(self._path, "rb") as file,
            np.load(file, allow_pickle=False) as saved,
        ):
            self._vectors = dict(zip(saved["keys"].tolist(), saved["vectors"], strict=True))

    def get(self, key: str) -> Array | None:
        name = _digest(key)
        vector = self._vectors.pop(name, None)
        if vector is not None:
            self._vectors[name] = vector  # the last of the dict is the one used last
        return vector

    def add(self, key: str, vector: Array) -> None:
        self._vectors[_digest(key)] = vector
        self._new += 1
        if self._new >= _SAVED:
            self.save()

    def save(self) -> None:
        """Write the cache; a full disk or missing rights only cost time next time."""
        if not self._new:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            kept = list(self._vectors.items())[-_MOST:]
            keys, vectors = np.array([key for key, _ in kept]), np.stack([vector for _, vector in kept])
            content = io.BytesIO()
            np.savez(content, keys=keys, vectors=vectors)
            write_file(self._path, content.getvalue(), durable=False)
            self._new = 0
            remove_old(self._path.parent.glob("*.npz"), _MODELS)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]
