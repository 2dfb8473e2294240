"""Embeddings in results (folders of Parquet or .npy parts, JSONL files and indices), and the nearest of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from audiotag.errors import Error, printable
from audiotag.search.codes import Codes, candidates

if TYPE_CHECKING:
    from tinyonnx.ir import Array

STEP = 4096
"""Number of rows that are read or compared at a time."""


class SearchError(Error):
    """The results can't be searched; the message names them."""


class Neighbour(NamedTuple):
    """A result, and the cosine similarity of its embedding to the wanted one."""

    similarity: float
    row: dict[str, Any]


class EmbeddingPart(NamedTuple):
    """Embeddings (rows, n) float32 and their rows; `unit` if all embeddings have length 1; their codes in an index."""

    vectors: Array
    rows: ResultLines
    unit: bool = False
    codes: Codes | None = None


class Results:
    """Results with embeddings, read in parts each time that they are iterated over."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __iter__(self) -> Iterator[EmbeddingPart]:
        """Yield the parts; those of JSONL and Parquet have at most 4,096 rows. Raises SearchError."""
        try:
            yield from _parts(self.path)
        except OSError as error:
            raise SearchError(printable(f"{self.path}: can't be read: {error.strerror or error}")) from None
        except ValueError as error:
            raise SearchError(printable(f"{self.path}: can't be read: {error}")) from None


class ResultLines:
    """Lines of JSON, parsed on demand.

    Args:
        path: the file or folder that has them, for messages.
        data: the content of a file of lines, or a memory map of it.
        starts: the first byte of each line, and the end.
    """

    def __init__(self, path: Path, data: Any, starts: Array | None = None) -> None:
        self._path, self._data = path, data
        self.starts = _line_starts(data) if starts is None else starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def text(self, index: int) -> bytes:
        """Return the line without its end."""
        return bytes(self._data[self.starts[index] : self.starts[index + 1]]).rstrip(b"\n")

    def row(self, index: int) -> dict[str, Any]:
        """Return the result in a line. Raises SearchError if it has none."""
        try:
            row = json.loads(self.text(index))
        except ValueError:
            row = None
        if not _is_result(row):
            raise SearchError(
                printable(f"{self._path}: line {index + 1} is not a result of audiotag tag: run it again")
            )
        return row


def _is_result(row: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether an object has the fields of a result that searches need."""
    if not isinstance(row, dict) or not isinstance(row.get("path"), str):
        return False
    tags, model = row.get("tags") or [], row.get("model") or {}
    if not isinstance(tags, list) or not isinstance(model, dict):
        return False
    if not all(isinstance(tag, dict) and isinstance(tag.get("label"), str) for tag in tags):
        return False
    numbers = (row.get("start"), row.get("end"), *(tag.get("score") for tag in tags))
    return all(isinstance(number, int | float) for number in numbers)


def _line_starts(data: Any) -> Array:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    if not len(ends) or ends[-1] != len(data):
        ends = np.append(ends, len(data))
    return np.concatenate([[0], ends]).astype(np.int64) if len(data) else np.zeros(1, np.int64)


# -- reading ----------------------------------------------------------------------------


def open_results(path: str) -> Results:
    """Open results with embeddings: an index, a folder of .npy or Parquet parts, a Parquet file or a JSONL file.

    Indices and .npy parts are memory-mapped, other files are read in parts.

    Raises SearchError.
    """
    results = Results(path)
    if not any(len(part.rows) for part in results):
        raise SearchError(printable(f"{path}: has no embeddings: make it with audiotag tag --embeddings"))
    return results


def _parts(path: str) -> Iterator[EmbeddingPart]:
    place = Path(path)
    place.stat()  # pyarrow's error for a missing file gives no cause
    if (place / "vectors.npy").exists():
        yield _checked(path, _index_part(place))
    elif place.is_dir():
        arrays, tables = sorted(place.glob("*.npy")), sorted(place.glob("*.parquet"))
        if not arrays and not tables:
            raise SearchError(printable(f"{path}: has no part-*.npy or part-*.parquet of audiotag tag --embeddings"))
        if arrays:
            yield from (_checked(path, _npy_part(array)) for array in arrays)
        else:
            for table in tables:
                yield from _parquet_parts(table)
    elif place.suffix == ".parquet":
        yield from _parquet_parts(place)
    else:
        yield from _jsonl_parts(place)


def _mapped_lines(path: Path, starts: Array | None = None) -> ResultLines:
    return ResultLines(path, np.memmap(path, np.uint8, "r") if path.stat().st_size else b"", starts)


def _index_part(folder: Path) -> EmbeddingPart:
    rows = _mapped_lines(folder / "rows.jsonl", np.load(folder / "starts.npy"))
    size = (folder / "rows.jsonl").stat().st_size
    if rows.starts.dtype != np.int64 or rows.starts.ndim != 1 or not _rises(rows.starts, size):
        raise SearchError(printable(f"{folder}: starts.npy does not belong to rows.jsonl: write the index anew"))
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    codes = None
    with suppress(FileNotFoundError):
        codes = Codes(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Codes._fields))
    types = () if codes is None else (codes.codes.dtype, codes.codes.shape, codes.scales.dtype, codes.scales.shape)
    if types and types != (np.int8, vectors.shape, np.float32, (len(vectors), 2)):
        raise SearchError(printable(f"{folder}: codes.npy does not belong to vectors.npy: write the index anew"))
    return EmbeddingPart(vectors, rows, unit=True, codes=codes)


def _rises(starts: Array, size: int) -> bool:
    """Return whether these are positions in `size` bytes in ascending order, the last of which is the end."""
    return bool(len(starts)) and starts[0] == 0 and starts[-1] == size and bool((starts[1:] >= starts[:-1]).all())


def _npy_part(path: Path) -> EmbeddingPart:
    return EmbeddingPart(np.load(path, mmap_mode="r"), _mapped_lines(path.with_suffix(".jsonl")))


def _parquet_parts(path: Path) -> Iterator[EmbeddingPart]:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise SearchError("reading Parquet needs pyarrow: pip install 'tinyonnx[parquet]'") from None
    with pyarrow.parquet.ParquetFile(path) as file:
        if "embedding" not in file.schema_arrow.names:
            raise SearchError(printable(f"{path}: has no embeddings: make it with audiotag tag --embeddings"))
        for group in file.iter_batches(STEP):
            batch = group.filter(pyarrow.compute.is_valid(group["embedding"]))
            flat = batch["embedding"].flatten().to_numpy(zero_copy_only=False)
            if len(batch):
                lines = "".join(json.dumps(row) + "\n" for row in batch.drop_columns(["embedding"]).to_pylist())
                part = EmbeddingPart(flat.reshape(len(batch), -1), ResultLines(path, lines.encode()))
                yield _checked(str(path), part)


def _jsonl_parts(path: Path) -> Iterator[EmbeddingPart]:
    lines: list[str] = []
    vectors: list[list[float]] = []

    def part() -> EmbeddingPart:
        try:
            array = np.array(vectors, np.float32)
        except (TypeError, ValueError):
            raise SearchError(printable(f"{path}: an embedding is no list of numbers, or has another size")) from None
        return _checked(str(path), EmbeddingPart(array, ResultLines(path, "".join(lines).encode())))

    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError:
                raise SearchError(printable(f"{path}: line {number} is not JSON")) from None
            if isinstance(row, dict) and row.get("embedding") is not None:
                vectors.append(row.pop("embedding"))
                lines.append(json.dumps(row) + "\n")
            if len(lines) == STEP:
                yield part()
                lines, vectors = [], []
    if lines:
        yield part()


def _checked(path: str, part: EmbeddingPart) -> EmbeddingPart:
    if part.vectors.ndim != 2 or len(part.vectors) != len(part.rows):
        raise SearchError(printable(f"{path}: has {len(part.rows)} rows for embeddings of shape {part.vectors.shape}"))
    if part.vectors.dtype.kind != "f":
        raise SearchError(printable(f"{path}: has embeddings of type {part.vectors.dtype}, not of floats"))
    return part


# -- searching --------------------------------------------------------------------------


def nearest(parts: Iterable[EmbeddingPart], vector: Array, count: int) -> list[Neighbour]:
    """Return the `count` rows with the greatest cosine similarity, exactly; rows without an embedding are left out.

    Raises SearchError: embeddings have another size, or a line has no result.
    """
    wanted = (vector / max(float(np.linalg.norm(vector)), 1e-30)).astype(np.float32)
    found: list[Neighbour] = []
    for part in parts:
        if part.vectors.shape[1] != len(wanted):
            raise SearchError(
                f"embeddings of {part.vectors.shape[1]} numbers were made with another model, "
                f"whose embedding of the clip has {len(wanted)}: name it with --model"
            )
        rows = None if part.codes is None else candidates(part.codes, wanted, count)
        similarity = _similarity(part, wanted) if rows is None else part.vectors[rows] @ wanted
        similarity[np.isnan(similarity)] = -np.inf
        best = np.argpartition(-similarity, min(count, len(similarity)) - 1)[:count] if len(similarity) else similarity
        best = np.sort(best[similarity[best] > -np.inf]) if len(best) else np.empty(0, np.int64)
        chosen = best if rows is None else rows[best]
        # in float64, so that rows of equal sound are equally similar and stay in the order of the file
        vectors = np.asarray(part.vectors[chosen], np.float64)
        products = (vectors * wanted).sum(axis=1) / np.maximum(np.sqrt((vectors**2).sum(axis=1)), 1e-30)
        found += [Neighbour(float(product), part.rows.row(row)) for product, row in zip(products, chosen.tolist())]
        found.sort(key=lambda each: -each.similarity)
        del found[count:]
    return found


def _similarity(part: EmbeddingPart, wanted: Array) -> Array:
    if part.unit:
        return np.asarray(part.vectors @ wanted)
    similarity = np.empty(len(part.vectors), np.float32)
    for start in range(0, len(similarity), STEP):
        rows = np.asarray(part.vectors[start : start + STEP], np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            similarity[start : start + STEP] = (rows @ wanted) / np.maximum(lengths, 1e-30)
    return similarity
