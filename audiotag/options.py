"""Options that determine the rows of a clip, each declared once.

A field of `TagOptions` that is made with `flag` is also an option of `audiotag tag`. All fields
are sent to worker processes, recorded in the journal of an output, and handed to
`Tagger.rows`, which applies them.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from audiotag.events import EventOptions
    from audiotag.sound.audio import RawFormat

TAGS, WINDOWS = "tags", "windows"
"""Groups of flags, as `audiotag tag --help` lists them."""


# -- parsers: argparse names them in messages by their function names -----------------------


def number(text: str) -> int:
    """Parse a count of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def seconds(text: str) -> float:
    """Parse a positive, finite number of seconds."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


def probability(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return value


def channel(text: str) -> str | int:
    """Parse the name or number of a channel."""
    from audiotag.sound.channels import parse_channel

    try:
        return parse_channel(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def precision(text: str) -> str:
    """Parse the type of the operands of products."""
    from tinyonnx.ort.options import PRECISIONS

    if text not in PRECISIONS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither {' nor '.join(PRECISIONS)}")
    return text


# -- declaration ----------------------------------------------------------------------------


class Flag(NamedTuple):
    """Command-line form of a `TagOptions` field; `parse` is None for a switch without a value."""

    name: str
    parse: Callable[[str], Any] | None
    metavar: str | None
    help: str
    group: str

    def add_to(self, parser: Any, field: str) -> None:
        """Add the option to an argparse parser or argument group; its value is stored under the name of the field."""
        if self.parse is None:
            parser.add_argument(self.name, dest=field, action="store_true", help=self.help)
        else:
            parser.add_argument(self.name, dest=field, type=self.parse, metavar=self.metavar, help=self.help)


def flag(
    name: str,
    default: Any,
    help: str,
    *,
    parse: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    group: str = TAGS,
) -> Any:
    """Declare a field of `TagOptions` that is also a command-line option."""
    return dataclasses.field(default=default, metadata={"flag": Flag(name, parse, metavar, help, group)})


@dataclass(frozen=True)
class TagOptions:
    """Options that determine the rows of a clip.

    `labels` are indices, converted from names by the classes of the model. Events without `window` use frame-wise
    scores or windows, see `Tagger.find_events`. `events`, `labels` and `raw` are composed in `audiotag.commands.tag`.
    """

    top: int | None = flag("--top", 10, "maximum number of tags (default: 10)", parse=number, metavar="N")
    threshold: float | None = flag(
        "--threshold", None, "omit tags with a score below P", parse=probability, metavar="P"
    )
    labels: tuple[int, ...] | None = flag(
        "--labels", None, "consider only these classes (names or ids)", parse=str, metavar="A,B,..."
    )
    channel: str | int = flag(
        "--channel", "mean", "of several channels: mean (default), left, right, first, a number from 1, or loudest",
        parse=channel, metavar="C",
    )  # fmt: skip
    precision: str = flag(
        "--precision", "float32", "of large products: float32 (default), or bfloat16 where the processor has it",
        parse=precision, metavar="TYPE",
    )  # fmt: skip
    embeddings: bool = flag("--embeddings", False, "also write the embedding vector of each result")
    window: float | None = flag(
        "--window", None, "tag windows of this length instead of whole files", parse=seconds, metavar="SECONDS",
        group=WINDOWS,
    )  # fmt: skip
    hop: float | None = flag(
        "--hop", None, "time between window starts (default: the window length)", parse=seconds, metavar="SECONDS",
        group=WINDOWS,
    )  # fmt: skip
    events: EventOptions | None = None
    raw: RawFormat | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON-compatible values, for the journal and for file metadata.

        Without the default precision, which earlier versions don't have.
        """
        values = dataclasses.asdict(self)
        return values if self.precision != "float32" else {k: v for k, v in values.items() if k != "precision"}


def flags(group: str | None = None) -> Iterator[tuple[str, Flag]]:
    """Yield (field name, flag) of the fields of `TagOptions` that are command-line options, of one group if given."""
    for field in dataclasses.fields(TagOptions):
        declared = field.metadata.get("flag")
        if declared is not None and group in (None, declared.group):
            yield field.name, declared
