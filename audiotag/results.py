"""What tagging gives: a `Result` for a clip, or a `Failure` where it could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import audiotag
from audiotag.errors import printable

if TYPE_CHECKING:
    from tinyonnx.ir import Array


@dataclass(frozen=True, slots=True)
class Tag:
    """One class of AudioSet and its score, the sigmoid probability."""

    label: str
    mid: str
    index: int
    score: float

    def to_dict(self) -> dict[str, Any]:
        return {"label": self.label, "mid": self.mid, "index": self.index, "score": float(f"{self.score:.6g}")}


@dataclass(frozen=True, slots=True)
class Result:
    """Tags, best first, of the part from `start` to `end` of a clip; times in seconds.

    `model` and `sha256` say what produced them, `trained` whether the scores mean anything;
    `embedding` (n,) float32 is there if it was asked for.
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

    def to_dict(self) -> dict[str, Any]:
        """The object of one JSONL line."""
        fields = {
            "path": self.path,
            "start": self.start,
            "end": self.end,
            "duration": self.duration,
            "tags": [tag.to_dict() for tag in self.tags],
            "model": {"name": self.model, "sha256": self.sha256},
            "audiotag": audiotag.__version__,
        }
        if self.embedding is not None:
            # as many digits as float32 needs
            fields["embedding"] = [float(f"{x:.9g}") for x in self.embedding.tolist()]
        return fields


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that gave no result, and why."""

    path: str
    type: str
    message: str

    @classmethod
    def of(cls, path: str, error: Exception) -> Failure:
        return cls(path, type(error).__name__, str(error))

    def to_dict(self) -> dict[str, Any]:
        """The object of one JSONL line."""
        return {"path": self.path, "error": {"type": self.type, "message": self.message}}

    def __str__(self) -> str:
        """One line that names the clip and the cause."""
        name, message = printable(self.path), printable(self.message)
        return message if message.startswith(f"{name}: ") else f"{name}: {self.type}: {message}"
