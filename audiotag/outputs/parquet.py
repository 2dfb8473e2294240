"""Parquet, for data frames and query engines: a folder of part files (extra `parquet`)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from audiotag.errors import Error
from audiotag.outputs.arrow import tags_type

if TYPE_CHECKING:
    from audiotag.crawl.job import Options
    from audiotag.results import Failure, Result


class ParquetWriter:
    """Writes `part-00000.parquet` and so on; the columns are JSONL's, and null where a row has no such field.

    The run's settings are in the files' metadata under "audiotag.settings", as JSON.

    Raises:
        Error: pyarrow is not installed.
    """

    def __init__(self, options: Options) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise Error("--format parquet needs pyarrow: pip install 'tinyonnx[parquet]'") from None
        self._pa: Any = pyarrow
        self._schema = _schema(pyarrow, options)

    def pack(self, rows: Sequence[Result | Failure]) -> tuple[Any, int]:
        table = self._pa.Table.from_pylist([_fields(row) for row in rows], schema=self._schema)
        return table, table.nbytes

    def write(self, packs: Sequence[Any], rows: int, folder: str, number: int) -> None:
        path = os.path.join(folder, f"part-{number:05d}.parquet")
        # readers of a folder leave out names that begin with a dot
        temporary = os.path.join(folder, f".{os.path.basename(path)}.tmp")
        with open(temporary, "wb") as file:
            self._pa.parquet.write_table(self._pa.concat_tables(packs).slice(0, rows), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def _fields(row: Result | Failure) -> dict[str, Any]:
    fields = row.to_dict()
    fields["path"] = _text(row.path)
    if "model" in fields:
        fields["model"]["name"] = _text(fields["model"]["name"])
    embedding = getattr(row, "embedding", None)
    return fields if embedding is None else fields | {"embedding": embedding}


def _text(name: str) -> str:
    """The name of a file, which may have bytes that are no text."""
    return name.encode(errors="backslashreplace").decode()


def _schema(pa: Any, options: Options) -> Any:
    text, seconds = pa.string(), pa.float64()
    columns = [
        ("path", text),
        ("start", seconds),
        ("end", seconds),
        ("duration", seconds),
        ("tags", tags_type(pa)),
        ("model", pa.struct([("name", text), ("sha256", text)])),
        ("audiotag", text),
        ("error", pa.struct([("type", text), ("message", text)])),
    ]
    if options.embeddings:
        columns.append(("embedding", pa.list_(pa.float32())))
    return pa.schema(columns, metadata={"audiotag.settings": json.dumps(options.to_dict())})
