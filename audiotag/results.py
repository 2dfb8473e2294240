"""Results of tagging: a `Result` per clip, window or event, or a `Failure` for a clip that could not be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import audiotag
from audiotag.errors import printable

if TYPE_CHECKING:
    from tinyonnx.ir import Array


@dataclass(frozen=True, slots=True)
class Tag:
    """A class and its score, a probability; `mid` is the id of the class, such as AudioSet's, and may be empty."""

    label: str
    mid: str
    index: int
    score: float

    def to_dict(self) -> dict[str, Any]:
        return {"label": self.label, "mid": self.mid, "index": self.index, "score": float(f"{self.score:.6g}")}


@dataclass(frozen=True, slots=True)
class Result:
    """Tags, best first, of the part of a clip from `start` to `end` in seconds.

    `model` and `sha256` identify the model; `trained` is False if its scores mean nothing;
    `embedding` is (n,) float32 if it was requested, otherwise None; `warnings`
    list faults of the sound, such as missing parts. `precision` is the type of the operands of the model's large
    products; rows name it if it isn't float32.
    """

    path: str
    start: float
    end: float
    duration: float
    tags: tuple[Tag, ...]
    model: str
    sha256: str
    trained: bool
    embedding: Array | None = field(default=None, repr=False, compare=False)
    warnings: tuple[str, ...] = ()
    precision: str = "float32"

    @property
    def warning(self) -> str | None:
        """All warnings in one line, None if there are none."""
        return "; ".join(self.warnings) or None

    def with_warnings(self, notes: Iterable[str]) -> Result:
        """Return the result with `notes` before its own warnings, without repetitions."""
        warnings = tuple(dict.fromkeys([*notes, *self.warnings]))
        return self if warnings == self.warnings else replace(self, warnings=warnings)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as a JSON object, one line of JSONL."""
        model = {"name": self.model, "sha256": self.sha256}
        if self.precision != "float32":
            model["precision"] = self.precision
        fields = {
            "path": self.path,
            "start": self.start,
            "end": self.end,
            "duration": self.duration,
            "tags": [tag.to_dict() for tag in self.tags],
            "model": model,
            "audiotag": audiotag.__version__,
        }
        if self.warnings:
            fields["warning"] = self.warning
        if self.embedding is not None:
            # nine digits represent a float32 exactly
            fields["embedding"] = [float(f"{x:.9g}") for x in self.embedding.tolist()]
        return fields

    def to_pandas(self) -> Any:
        """Return the tags as a DataFrame; see `to_pandas`."""
        return to_pandas([self])

    def _repr_html_(self) -> str:
        """Return a small table, as notebooks show it."""
        import html  # takes a millisecond, which only notebooks need

        rows = "".join(
            f"<tr><td>{html.escape(tag.label)}</td><td>{tag.score:.3f}</td>"
            f'<td><div style="background:#4a7ab5;height:.7em;width:{100 * tag.score:.0f}px"></div></td></tr>'
            for tag in self.tags
        )
        name = f"{printable(self.path)}, {self.start:.2f}-{self.end:.2f} s, {self.model}"
        return f"<table><caption>{html.escape(name)}</caption>{rows}</table>"


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that could not be tagged, with the type and message of the error."""

    path: str
    type: str
    message: str

    @classmethod
    def of(cls, path: str, error: Exception) -> Failure:
        return cls(path, type(error).__name__, str(error))

    def to_dict(self) -> dict[str, Any]:
        """Return the row as a JSON object, one line of JSONL."""
        return {"path": self.path, "error": {"type": self.type, "message": self.message}}

    def __str__(self) -> str:
        """Return one line with the clip and the cause."""
        name, message = printable(self.path), printable(self.message)
        return message if message.startswith(f"{name}: ") else f"{name}: {self.type}: {message}"


def to_pandas(results: Iterable[Result | Failure]) -> Any:
    """Make a pandas DataFrame with a row for each tag.

    The columns are path, start, end, label, mid, index, score, warning and error. A result without tags, and a failure,
    is one row without the others' values.

    Raises ImportError: pandas is not installed.
    """
    import pandas

    columns = ("path", "start", "end", "label", "mid", "index", "score", "warning", "error")
    rows: list[tuple[Any, ...]] = []
    for result in results:
        if isinstance(result, Failure):
            rows.append((result.path, None, None, None, None, None, None, None, result.message))
            continue
        clip = (result.path, result.start, result.end)
        tags: list[tuple[Any, ...]] = [(tag.label, tag.mid, tag.index, tag.score) for tag in result.tags]
        rows += [(*clip, *tag, result.warning, None) for tag in tags or [(None,) * 4]]
    return pandas.DataFrame(rows, columns=list(columns)).astype({"index": "Int64"})
