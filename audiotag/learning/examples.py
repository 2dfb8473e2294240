"""Labelled sounds: a folder with a sub-folder for each class, or a table."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiotag.errors import Error, printable
from audiotag.sound.audio import SUFFIXES

if TYPE_CHECKING:
    from tinyonnx.ir import Array


class ExamplesError(Error):
    """The examples can't be used; the message names the folder or table."""


@dataclass(frozen=True)
class Examples:
    """Paths of sounds, names of the classes, and which classes occur in each sound, (sounds, classes) bool."""

    paths: tuple[str, ...]
    classes: tuple[str, ...]
    targets: Array

    @property
    def single(self) -> bool:
        """Whether no sound has more than one class."""
        return bool((self.targets.sum(axis=1) <= 1).all())

    def without(self, rows: list[int]) -> Examples:
        """Return the examples without some of the sounds."""
        kept = np.setdiff1d(np.arange(len(self.paths)), rows)
        return Examples(tuple(self.paths[i] for i in kept), self.classes, self.targets[kept])


def read_folder(folder: str, negatives: str | None = None) -> Examples:
    """Read examples from a folder: the name of a sub-folder is the class of the sounds in it and below it.

    The sounds in the folder `negatives` have none of the classes.

    Raises ExamplesError.
    """
    if not os.path.isdir(folder):
        raise ExamplesError(printable(f"{folder}: is not a folder with a sub-folder for each class"))
    places = {entry.name: entry.path for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."}
    if negatives is not None:
        places = {name: path for name, path in places.items() if not os.path.samefile(path, negatives)}
    found = {name: _sounds(path) for name, path in sorted(places.items())}
    found = {name: sounds for name, sounds in found.items() if sounds}
    rows = [(path, [name]) for name, sounds in found.items() for path in sounds]
    return _examples(folder, rows, _negatives(negatives), ": put those of each class into a sub-folder named after it")


def read_table(table: str, folder: str | None = None, negatives: str | None = None) -> Examples:
    """Read examples from CSV with the columns `path` and `label`; several labels are separated by ";", or have rows.

    Relative paths are below `folder`, by default that of the table; a row with an empty label has none of the classes.

    Raises ExamplesError.
    """
    base = Path(table).parent if folder is None else Path(folder)
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            column = next((name for name in ("label", "labels", "class") if name in names), None)
            if "path" not in names or column is None:
                raise ExamplesError(printable(f"{table}: its first line must name the columns path and label"))
            found: dict[str, list[str]] = {}
            for row in reader:
                labels = [label.strip() for label in (row[column] or "").split(";")]
                found.setdefault(str(base / (row["path"] or "")), []).extend(label for label in labels if label)
    except OSError as error:
        raise ExamplesError(printable(f"{table}: can't be read: {error.strerror}")) from None
    except UnicodeDecodeError:
        raise ExamplesError(printable(f"{table}: is not UTF-8 text")) from None
    except csv.Error as error:
        raise ExamplesError(printable(f"{table}: is not CSV: {error}")) from None
    return _examples(table, list(found.items()), _negatives(negatives))


def _negatives(folder: str | None) -> list[tuple[str, list[str]]]:
    if folder is None:
        return []
    sounds = _sounds(folder) if os.path.isdir(folder) else []
    if not sounds:
        raise ExamplesError(printable(f"{folder}: has no sounds"))
    return [(path, []) for path in sounds]


def _sounds(folder: str) -> list[str]:
    return sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
    )


def _examples(
    source: str, rows: list[tuple[str, list[str]]], negatives: list[tuple[str, list[str]]], remedy: str = ""
) -> Examples:
    classes = sorted({label for _, labels in rows for label in labels})
    if not classes:
        raise ExamplesError(printable(f"{source}: has no labelled sounds{remedy}"))
    index = {name: i for i, name in enumerate(classes)}
    rows = [*rows, *negatives]
    targets = np.zeros((len(rows), len(classes)), np.bool_)
    for i, (_, labels) in enumerate(rows):
        targets[i, [index[label] for label in labels]] = True
    return Examples(tuple(path for path, _ in rows), tuple(classes), targets)
