"""Lists of classes in files."""

from __future__ import annotations

import csv
import os

from audiotag.errors import ModelError, printable
from audiotag.models.description import ClassLabel

_NAMES, _IDS = ("display_name", "name", "label", "class"), ("mid", "id", "code")
"""Headings of the columns with names and ids, in order of preference."""


def read_labels(path: str | os.PathLike[str]) -> tuple[ClassLabel, ...]:
    """Read the classes of a model in the order of its output.

    The file is a table, CSV or TSV, with a heading such as `index,mid,display_name`, or has one name per line.

    Raises ModelError.
    """
    name = os.fspath(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [line for line in file.read().splitlines() if line.strip() and not line.startswith("#")]
    except OSError as error:
        raise ModelError(printable(f"{name}: can't be read: {error.strerror}")) from None
    except UnicodeDecodeError:
        raise ModelError(printable(f"{name}: is not a list of classes: it is not UTF-8 text")) from None
    if not lines:
        raise ModelError(printable(f"{name}: has no classes"))
    separator = "\t" if "\t" in lines[0] else ","
    heading = [cell.strip().lower() for cell in lines[0].split(separator)]
    column = next((heading.index(key) for key in _NAMES if key in heading), None)
    if column is None:
        return tuple(ClassLabel(line.strip()) for line in lines)
    at = next((heading.index(key) for key in _IDS if key in heading), None)
    labels = []
    try:
        rows = list(csv.reader(lines[1:], delimiter=separator))
    except csv.Error as error:
        raise ModelError(printable(f"{name}: is not a list of classes: {error}")) from None
    for number, row in enumerate(rows, 2):
        if len(row) <= column:
            raise ModelError(printable(f"{name}: row {number} has no column {heading[column]}"))
        labels.append(ClassLabel(row[column].strip(), "" if at is None or at >= len(row) else row[at].strip()))
    return tuple(labels)
