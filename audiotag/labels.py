"""The 527 classes of AudioSet: index in the model output, ontology id (MID) and display name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audiotag.errors import LabelError

N_CLASSES = 527


@dataclass(frozen=True, slots=True)
class Label:
    """A class of AudioSet."""

    index: int
    mid: str
    name: str


@cache
def all_labels() -> tuple[Label, ...]:
    """All classes in the order of the model output."""
    text = (Path(__file__).parent / "data" / "audioset_labels.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return tuple(Label(int(index), mid, name) for index, mid, name in rows)


@cache
def _by_key() -> dict[str, Label]:
    return {key: label for label in all_labels() for key in (_key(label.name), _key(label.mid))}


def _key(text: str) -> str:
    return " ".join(text.lower().split())


def find(name: str) -> Label:
    """Find a class by display name, ignoring case, or by MID.

    Raises LabelError, which suggests similar names.
    """
    label = _by_key().get(_key(name))
    if label is None:
        from difflib import get_close_matches

        near = get_close_matches(_key(name), _by_key(), n=3)
        hint = f"; did you mean {' or '.join(repr(_by_key()[key].name) for key in near)}?" if near else ""
        raise LabelError(f"no AudioSet class is named {name!r}{hint}")
    return label


def parse(text: str) -> tuple[Label, ...]:
    """Parse a comma-separated list of classes; names that contain commas need no quotes.

    "Dog, Male speech, man speaking" is two classes: the longest matching name is taken.

    Raises LabelError.
    """
    parts = [part.strip() for part in text.split(",")]
    longest = max(label.name.count(",") for label in all_labels()) + 1
    found: list[Label] = []
    while parts:
        for size in range(min(longest, len(parts)), 1, -1):
            label = _by_key().get(_key(", ".join(parts[:size])))
            if label is not None:
                break
        else:
            size = 1
            label = find(parts[0]) if parts[0] else None
        if label is not None:
            found.append(label)
        parts = parts[size:]
    if not found:
        raise LabelError("the list of AudioSet classes is empty")
    return tuple(dict.fromkeys(found))


def select(labels: str | Iterable[str | int]) -> Sequence[int]:
    """Convert comma-separated text, or names, MIDs and indices, to class indices.

    Raises LabelError.
    """
    if isinstance(labels, str):
        return [label.index for label in parse(labels)]
    indices = []
    for item in labels:
        if isinstance(item, str):
            indices.append(find(item).index)
        elif 0 <= item < N_CLASSES:
            indices.append(int(item))
        else:
            raise LabelError(f"class {item} is not in 0..{N_CLASSES - 1}")
    if not indices:
        raise LabelError("the list of AudioSet classes is empty")
    return list(dict.fromkeys(indices))
