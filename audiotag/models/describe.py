"""Adding a description to a model."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from audiotag.errors import ModelError, printable
from audiotag.features.records import to_json
from audiotag.models.description import KEY, ClassLabel, Description, audioset_labels, from_value
from audiotag.models.families import descriptions
from audiotag.models.labels_file import read_labels
from audiotag.models.metadata import with_entry
from audiotag.models.network import Network


def description_of(features: str, labels: str | os.PathLike[str] | None = None) -> Description:
    """Make a description from the name of a ready one or a JSON file, with the classes of a file.

    JSON without "labels" gets those of the file, or AudioSet's.

    Raises ModelError.
    """
    own = None if labels is None else read_labels(labels)
    ready = descriptions()
    try:
        if features in ready:
            return ready[features] if own is None else replace(ready[features], labels=own)
        return _from_file(features, own)
    except ValueError as error:
        raise ModelError(printable(f"{labels if features in ready else features}: {error}")) from None


def _from_file(path: str, labels: tuple[ClassLabel, ...] | None) -> Description:
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        ready = ", ".join(descriptions())
        raise ModelError(printable(f"{path}: no such description or file; descriptions are {ready}")) from None
    except OSError as error:
        raise ModelError(printable(f"{path}: can't be read: {error.strerror}")) from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if isinstance(value, dict) and (labels is not None or "labels" not in value):
        value = {**value, "labels": [to_json(label) for label in labels or audioset_labels()]}
    return from_value(value)


def describe(model: str | os.PathLike[str], description: Description, out: str | os.PathLike[str]) -> Network:
    """Write a model with a description, which is checked by loading it; nothing else in the file changes.

    Raises ModelError.
    """
    name, target = os.fspath(model), Path(out)
    try:
        content = with_entry(Path(model).read_bytes(), KEY, description.to_text())
    except OSError as error:
        raise ModelError(printable(f"{name}: can't be read: {error.strerror}")) from None
    except ValueError as error:
        raise ModelError(printable(f"{name}: {error}")) from None
    part = target.with_name(f".{target.name}.part.onnx")
    try:
        part.write_bytes(content)  # beside the target, where external data are found
        network = Network(str(part), name)
        os.replace(part, target)
    except OSError as error:
        raise ModelError(printable(f"{os.fspath(out)}: can't be written: {error.strerror}")) from None
    except ModelError as error:
        raise ModelError(str(error).replace(str(part), name)) from None
    finally:
        part.unlink(missing_ok=True)
    return network
