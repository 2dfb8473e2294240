"""The classes of a model: index in its output, id and name; by default the 527 classes of AudioSet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from audiotag.errors import LabelError

N_CLASSES = 527
"""Number of AudioSet's classes."""


@dataclass(frozen=True, slots=True)
class Label:
    """A class; `mid` is its id, such as AudioSet's ontology id (MID), and may be empty."""

    index: int
    mid: str
    name: str


def _key(text: str) -> str:
    return " ".join(text.lower().split())


class LabelSet(Sequence[Label]):
    """The classes of a model in the order of its output.

    Args:
        labels: (name, id) of each class; an id may be empty.

    Raises:
        ValueError: there is no class, one has no name, or two have the same name.
    """

    def __init__(self, labels: Iterable[tuple[str, str]]) -> None:
        self._labels = tuple(Label(index, mid, name) for index, (name, mid) in enumerate(labels))
        if not self._labels:
            raise ValueError("the list of classes is empty")
        seen: dict[str, int] = {}
        for label in self._labels:
            key = _key(label.name)
            if not key:
                raise ValueError(f"class {label.index} has no name")
            if key in seen:
                raise ValueError(f"classes {seen[key]} and {label.index} have the same name {label.name!r}")
            seen[key] = label.index

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # an int or a slice, as in `list`
        return self._labels[index]

    def __iter__(self) -> Iterator[Label]:
        return iter(self._labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self._labels == other._labels

    def __hash__(self) -> int:
        return hash(self._labels)

    @cached_property
    def _by_key(self) -> dict[str, Label]:
        by_id = {_key(label.mid): label for label in self._labels if label.mid}
        return by_id | {_key(label.name): label for label in self._labels}

    @cached_property
    def _most_commas(self) -> int:
        return max(label.name.count(",") for label in self._labels)

    def find(self, name: str) -> Label:
        """Find a class by name, ignoring case, or by id.

        Raises LabelError, which suggests similar names.
        """
        label = self._by_key.get(_key(name))
        if label is None:
            from difflib import get_close_matches

            near = get_close_matches(_key(name), self._by_key, n=3)
            hint = f"; did you mean {' or '.join(repr(self._by_key[key].name) for key in near)}?" if near else ""
            raise LabelError(f"no class is named {name!r}{hint}")
        return label

    def parse(self, text: str) -> tuple[Label, ...]:
        """Parse a comma-separated list of classes; names that contain commas need no quotes.

        "Dog, Male speech, man speaking" is two classes: the longest matching name is taken.

        Raises LabelError.
        """
        parts = [part.strip() for part in text.split(",")]
        found: list[Label] = []
        while parts:
            for size in range(min(self._most_commas + 1, len(parts)), 1, -1):
                label = self._by_key.get(_key(", ".join(parts[:size])))
                if label is not None:
                    break
            else:
                size = 1
                label = self.find(parts[0]) if parts[0] else None
            if label is not None:
                found.append(label)
            parts = parts[size:]
        if not found:
            raise LabelError("the list of classes is empty")
        return tuple(dict.fromkeys(found))

    def select(self, labels: str | Iterable[str | int]) -> Sequence[int]:
        """Convert comma-separated text, or names, ids and indices, to class indices.

        Raises LabelError.
        """
        if isinstance(labels, str):
            return [label.index for label in self.parse(labels)]
        indices = []
        for item in labels:
            if isinstance(item, str):
                indices.append(self.find(item).index)
            elif 0 <= item < len(self):
                indices.append(int(item))
            else:
                raise LabelError(f"class {item} is not in 0..{len(self) - 1}")
        if not indices:
            raise LabelError("the list of classes is empty")
        return list(dict.fromkeys(indices))


@cache
def audioset() -> LabelSet:
    """Return the 527 classes of AudioSet."""
    text = (Path(__file__).parent / "data" / "audioset_labels.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return LabelSet((name, mid) for _, mid, name in rows)
