"""Interface of the output formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from audiotag.options import TagOptions
    from audiotag.results import Failure, Result


class Format:
    """Properties that every format declares."""

    one_clip: ClassVar[bool] = False
    """Whether rows do not name their clip, so that an output can only be about one."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes of output names that select the format, in lower case."""

    embeddings: ClassVar[Literal["never", "optional", "always"]] = "never"
    """Whether rows contain the embedding: never, with `--embeddings`, or always."""

    def __init__(self, options: TagOptions) -> None:
        """Make an encoder of rows with these options. Raises Error if a package that the format needs is missing."""
        self.options = options


class Encoder(Format, ABC):
    """A text format: one file, or standard output.

    The rows of a clip are encoded one after the other, so an encoder may remember earlier rows,
    for headings. Each encoded row is whole lines. An empty line at the beginning of an output is removed.
    """

    def header(self) -> str:
        """Return the text at the beginning of a new file."""
        return ""

    @abstractmethod
    def encode(self, row: Result | Failure) -> str:
        """Return the text of a row, empty if the format cannot express it.

        The text may contain undecodable bytes of file names as lone surrogates (`os.fsdecode`); they are written
        unchanged.
        """


class PartWriter(Format, ABC):
    """A binary format: a folder of numbered part files."""

    @abstractmethod
    def pack(self, rows: Sequence[Result | Failure]) -> tuple[Any, int]:
        """Convert rows to a compact form; return it with its size in bytes."""

    @abstractmethod
    def write(self, packs: Sequence[Any], rows: int, folder: str, number: int) -> None:
        """Write the first `rows` packed rows as part `number`, atomically and durably.

        Raises OSError.
        """
