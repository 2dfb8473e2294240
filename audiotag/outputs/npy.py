"""Embeddings as .npy arrays, each beside a JSONL file with its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any

from audiotag.outputs.interface import PartWriter
from audiotag.outputs.jsonl import json_text

if TYPE_CHECKING:
    from audiotag.results import Failure, Result


class NpyWriter(PartWriter):
    """Writes `part-00000.npy`, ...: embeddings (rows, n) float32 of the rows of `part-00000.jsonl`, ...

    The embedding of a failure is NaN.
    """

    suffixes = (".npy",)
    embeddings = "always"

    def pack(self, rows: Sequence[Result | Failure]) -> tuple[Any, int]:
        lines, vectors = [], []
        for row in rows:
            fields = row.to_dict()
            fields.pop("embedding", None)
            lines.append(json_text(fields) + "\n")
            vectors.append(getattr(row, "embedding", None))
        return (lines, vectors), sum(map(len, lines)) + sum(0 if x is None else x.nbytes for x in vectors)

    def write(self, packs: Sequence[Any], rows: int, folder: str, number: int) -> None:
        import numpy as np

        lines = [line for pack in packs for line in pack[0]][:rows]
        vectors = [vector for pack in packs for vector in pack[1]][:rows]
        size = next((len(vector) for vector in vectors if vector is not None), 0)
        array = np.full((len(vectors), size), np.nan, np.float32)
        for i, vector in enumerate(vectors):
            if vector is not None:
                array[i] = vector
        # the array last, because its existence marks the part as complete
        _replace(folder, f"part-{number:05d}.jsonl", lambda file: file.write("".join(lines).encode()))
        _replace(folder, f"part-{number:05d}.npy", lambda file: np.save(file, array))


def _replace(folder: str, name: str, write: Callable[[IO[bytes]], object]) -> None:
    temporary = os.path.join(folder, f".{name}.tmp")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(folder, name))
