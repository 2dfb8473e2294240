"""Parquet, for data frames and query engines (extra `parquet`)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from audiotag.errors import Error
from audiotag.outputs.arrow import tags_type
from audiotag.outputs.interface import PartWriter

if TYPE_CHECKING:
    from audiotag.options import TagOptions
    from audiotag.results import Failure, Result


class ParquetWriter(PartWriter):
    """Writes `part-00000.parquet`, ...; the columns are the fields of JSONL, null where a row lacks the field.

    The file metadata contain the options as JSON under "audiotag.settings".

    Raises:
        Error: pyarrow is not installed.
    """

    suffixes = (".parquet",)
    embeddings = "optional"

    def __init__(self, options: TagOptions) -> None:
        super().__init__(options)
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
        # readers of a folder skip names that begin with a dot
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
    """Return a file name as valid UTF-8, with undecodable bytes escaped."""
    return name.encode(errors="backslashreplace").decode()


def _schema(pa: Any, options: TagOptions) -> Any:
    text, seconds = pa.string(), pa.float64()
    precision = [("precision", text)] if options.precision != "float32" else []
    columns = [
        ("path", text),
        ("start", seconds),
        ("end", seconds),
        ("duration", seconds),
        ("tags", tags_type(pa)),
        ("model", pa.struct([("name", text), ("sha256", text), *precision])),
        ("audiotag", text),
        ("error", pa.struct([("type", text), ("message", text)])),
        ("warning", text),
    ]
    if options.embeddings:
        columns.append(("embedding", pa.list_(pa.float32())))
    return pa.schema(columns, metadata={"audiotag.settings": json.dumps(options.to_dict())})
