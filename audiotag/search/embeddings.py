"""Embeddings in results: folders of Parquet or .npy parts, JSONL files, and indices made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audiotag.errors import Error, printable

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_STEP = 4096
"""ResultLines that are compared at a time where they must be normalised first."""


class SearchError(Error):
    """The results can't be searched; the message names them."""


class Neighbour(NamedTuple):
    """A result, and the cosine similarity of its embedding to the wanted one."""

    similarity: float
    row: dict[str, Any]


class EmbeddingPart(NamedTuple):
    """Embeddings (rows, n) float32 and their rows; `unit` if all embeddings have length 1."""

    vectors: Array
    rows: ResultLines
    unit: bool = False


class ResultLines:
    """Lines of JSON, parsed when asked for.

    Args:
        data: the content of a file of lines, or a memory map of it.
        starts: the first byte of each line, and the end.
    """

    def __init__(self, data: Any, starts: Array | None = None) -> None:
        self._data = data
        self.starts = _line_starts(data) if starts is None else starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(self.text(index))
        return row

    def text(self, index: int) -> bytes:
        """The line without its end."""
        return bytes(self._data[self.starts[index] : self.starts[index + 1]]).rstrip(b"\n")


def _line_starts(data: Any) -> Array:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if not len(ends) or ends[-1] != len(data):
        ends = np.append(ends, len(data))
    return np.concatenate([[0], ends]).astype(np.int64) if len(data) else np.zeros(1, np.int64)


# -- reading ----------------------------------------------------------------------------


def open_results(path: str) -> list[EmbeddingPart]:
    """Open results with embeddings: an index, a folder of .npy or Parquet parts, a Parquet file or a JSONL file.

    Indices and .npy parts are memory-mapped.

    Raises SearchError.
    """
    parts = _open(path)
    if not any(len(part.rows) for part in parts):
        raise SearchError(printable(f"{path}: has no embeddings: make it with audiotag tag --embeddings"))
    return parts


def _open(path: str) -> list[EmbeddingPart]:
    place = Path(path)
    try:
        place.stat()  # pyarrow's error for a missing file gives no cause
        if (place / "vectors.npy").exists():
            rows = ResultLines(np.memmap(place / "rows.jsonl", np.uint8, "r"), np.load(place / "starts.npy"))
            return [_checked(path, EmbeddingPart(np.load(place / "vectors.npy", mmap_mode="r"), rows, unit=True))]
        if place.is_dir():
            arrays, tables = sorted(place.glob("*.npy")), sorted(place.glob("*.parquet"))
            if arrays:
                return [_checked(path, _npy_part(array)) for array in arrays]
            if tables:
                return [part for table in tables for part in _parquet_parts(table)]
            raise SearchError(printable(f"{path}: has no part-*.npy or part-*.parquet of audiotag tag --embeddings"))
        if place.suffix == ".parquet":
            return _parquet_parts(place)
        return [_jsonl_part(path, place.read_bytes())]
    except OSError as error:
        raise SearchError(printable(f"{path}: can't be read: {error.strerror or error}")) from None
    except ValueError as error:
        raise SearchError(printable(f"{path}: can't be read: {error}")) from None


def _npy_part(path: Path) -> EmbeddingPart:
    vectors = np.load(path, mmap_mode="r")
    return EmbeddingPart(vectors, ResultLines(path.with_suffix(".jsonl").read_bytes()))


def _parquet_parts(path: Path) -> list[EmbeddingPart]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise SearchError("reading Parquet needs pyarrow: pip install 'tinyonnx[parquet]'") from None
    table = pyarrow.parquet.read_table(path)
    if "embedding" not in table.column_names:
        raise SearchError(printable(f"{path}: has no embeddings: make it with audiotag tag --embeddings"))
    parts = []
    for batch in table.filter(pyarrow.compute.is_valid(table["embedding"])).to_batches():
        flat = batch["embedding"].flatten().to_numpy(zero_copy_only=False)
        lines = "".join(json.dumps(row) + "\n" for row in batch.drop_columns(["embedding"]).to_pylist())
        parts.append(_checked(str(path), EmbeddingPart(flat.reshape(len(batch), -1), ResultLines(lines.encode()))))
    return parts


def _jsonl_part(path: str, data: bytes) -> EmbeddingPart:
    lines, vectors = [], []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            raise SearchError(printable(f"{path}: line {number} is not JSON")) from None
        if isinstance(row, dict) and "embedding" in row:
            vectors.append(row.pop("embedding"))
            lines.append(json.dumps(row) + "\n")
    if not vectors:
        raise SearchError(printable(f"{path}: has no embeddings: make it with audiotag tag --embeddings"))
    return _checked(path, EmbeddingPart(np.array(vectors, np.float32), ResultLines("".join(lines).encode())))


def _checked(path: str, part: EmbeddingPart) -> EmbeddingPart:
    if part.vectors.ndim != 2 or len(part.vectors) != len(part.rows):
        raise SearchError(printable(f"{path}: has {len(part.rows)} rows for embeddings of shape {part.vectors.shape}"))
    return part


# -- searching --------------------------------------------------------------------------


def nearest(parts: list[EmbeddingPart], vector: Array, count: int) -> list[Neighbour]:
    """Return the `count` rows with the greatest cosine similarity, exactly; rows without an embedding are left out.

    Raises SearchError: embeddings have another size.
    """
    wanted = (vector / max(float(np.linalg.norm(vector)), 1e-30)).astype(np.float32)
    found: list[tuple[float, EmbeddingPart, int]] = []
    for part in parts:
        if part.vectors.shape[1] != len(wanted):
            raise SearchError(
                f"embeddings of {part.vectors.shape[1]} numbers were made with another model, "
                f"whose embedding of the clip has {len(wanted)}: name it with --model"
            )
        similarity = _similarity(part, wanted)
        similarity[np.isnan(similarity)] = -np.inf
        best = np.argpartition(-similarity, min(count, len(similarity)) - 1)[:count] if len(similarity) else ()
        found += [(float(similarity[i]), part, int(i)) for i in best if similarity[i] > -np.inf]
    found.sort(key=lambda each: -each[0])
    return [Neighbour(similarity, part.rows[index]) for similarity, part, index in found[:count]]


def _similarity(part: EmbeddingPart, wanted: Array) -> Array:
    if part.unit:
        return np.asarray(part.vectors @ wanted)
    similarity = np.empty(len(part.vectors), np.float32)
    for start in range(0, len(similarity), _STEP):
        rows = np.asarray(part.vectors[start : start + _STEP])
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        similarity[start : start + _STEP] = (rows @ wanted) / np.maximum(lengths, 1e-30)
    return similarity


# -- indices ----------------------------------------------------------------------------


def write_index(parts: list[EmbeddingPart], folder: str) -> int:
    """Write an index of the rows that have embeddings; return their number.

    It holds embeddings of length 1 and the rows, in files that are memory-mapped. `parts` may be those of an index in
    the same folder.

    Raises SearchError, OSError.
    """
    os.makedirs(folder, exist_ok=True)
    kept = [np.flatnonzero(np.isfinite(part.vectors[:, 0])) for part in parts]
    count = sum(map(len, kept))
    if not count:
        raise SearchError("the results have no embeddings")
    sizes = {part.vectors.shape[1] for part in parts}
    if len(sizes) > 1:
        raise SearchError(f"the results have embeddings of different models, of {sorted(sizes)} numbers")
    names = ("rows.jsonl", "starts.npy", "vectors.npy")
    rows_path, starts_path, vectors_path = (os.path.join(folder, f"{name}.part") for name in names)
    vectors = np.lib.format.open_memmap(vectors_path, "w+", np.float32, (count, *sizes))
    at = 0
    for part, rows in zip(parts, kept, strict=True):
        for start in range(0, len(rows), _STEP):
            chunk = np.array(part.vectors[rows[start : start + _STEP]])
            chunk /= np.maximum(np.linalg.norm(chunk, axis=1, keepdims=True), 1e-30)
            vectors[at : at + len(chunk)] = chunk
            at += len(chunk)
    vectors.flush()
    lengths = []
    with open(rows_path, "wb") as file:
        for line in _lines(parts, kept):
            lengths.append(file.write(line + b"\n"))
    with open(starts_path, "wb") as file:
        np.save(file, np.cumsum([0, *lengths]))
    # vectors.npy marks the index as complete: an old one goes first, the new one comes last
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, "vectors.npy"))
    for name in names:
        os.replace(os.path.join(folder, f"{name}.part"), os.path.join(folder, name))
    return count


def _lines(parts: list[EmbeddingPart], kept: list[Array]) -> Iterator[bytes]:
    for part, rows in zip(parts, kept, strict=True):
        for row in rows.tolist():
            yield part.rows.text(row)
