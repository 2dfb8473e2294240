"""Indices of embeddings: a folder of files that are memory-mapped.

`vectors.npy` has embeddings of length 1, `codes.npy` and `scales.npy` the same as bytes (`audiotag.search.codes`),
`rows.jsonl` the rows and `starts.npy` where each begins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from audiotag.search.codes import MAX_SIZE, Codes, encode
from audiotag.search.embeddings import STEP, SearchError

if TYPE_CHECKING:
    from audiotag.search.embeddings import EmbeddingPart
    from tinyonnx.ir import Array

_NAMES = ("rows.jsonl", "starts.npy", "codes.npy", "scales.npy", "vectors.npy")


class _ArrayFile:
    """An .npy file of (rows, n) whose number of rows is known at the end."""

    def __init__(self, file: BinaryIO, dtype: type[Any], columns: int) -> None:
        self._file, self._dtype, self._columns = file, np.dtype(dtype), columns
        self.rows = 0
        self._header()
        self._begin = file.tell()

    def add(self, rows: Array) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def finish(self) -> None:
        """Write the header again; it has the same length for every number of rows."""
        self._file.seek(0)
        self._header()
        assert self._file.tell() == self._begin

    def _header(self) -> None:
        described = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.rows, self._columns)}
        np.lib.format.write_array_header_1_0(self._file, described)


def write_index(parts: Iterable[EmbeddingPart], folder: str) -> int:
    """Write an index of the rows that have embeddings; return their number.

    `parts` may be those of an index in the same folder.

    Raises SearchError, OSError.
    """
    os.makedirs(folder, exist_ok=True)
    try:
        return _write(parts, folder)
    except BaseException:
        for name in _NAMES:
            with suppress(OSError):
                os.unlink(os.path.join(folder, f"{name}.part"))
        raise


def _write(parts: Iterable[EmbeddingPart], folder: str) -> int:
    with ExitStack() as stack:
        files = {name: stack.enter_context(open(os.path.join(folder, f"{name}.part"), "wb")) for name in _NAMES}
        arrays: dict[str, _ArrayFile] = {}
        lengths, size = [0], 0
        for part in parts:
            kept = np.flatnonzero(np.isfinite(part.vectors[:, 0]))
            if not len(kept):
                continue
            if size and part.vectors.shape[1] != size:
                sizes = sorted({size, part.vectors.shape[1]})
                raise SearchError(f"the results have embeddings of different models, of {sizes} numbers")
            if not size:
                size = part.vectors.shape[1]
                coded = {"codes": (np.int8, size), "scales": (np.float32, 2)} if size <= MAX_SIZE else {}
                for name, (dtype, columns) in {"vectors": (np.float32, size), **coded}.items():
                    arrays[name] = _ArrayFile(files[f"{name}.npy"], dtype, columns)
            for start in range(0, len(kept), STEP):
                chosen = kept[start : start + STEP]
                chunk = np.array(part.vectors[chosen])
                chunk /= np.maximum(np.linalg.norm(chunk, axis=1, keepdims=True), 1e-30)
                found = {"vectors": chunk, **(encode(chunk)._asdict() if size <= MAX_SIZE else {})}
                for name, array in found.items():
                    arrays[name].add(array)
                lengths += [files["rows.jsonl"].write(part.rows.text(row) + b"\n") for row in chosen.tolist()]
        if not size:
            raise SearchError("the results have no embeddings")
        np.save(files["starts.npy"], np.cumsum(lengths))
        for array in arrays.values():
            array.finish()
    _publish(folder, {f"{name}.npy" for name in Codes._fields} if size > MAX_SIZE else set())
    return arrays["vectors"].rows


def _publish(folder: str, without: set[str]) -> None:
    """Rename the files to their final names.

    Vectors.npy, which marks the index as complete, is removed first and comes last.
    """
    for name in {"vectors.npy", *without}:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    for name in _NAMES:
        part = os.path.join(folder, f"{name}.part")
        if name in without:
            os.unlink(part)
        else:
            os.replace(part, os.path.join(folder, name))
