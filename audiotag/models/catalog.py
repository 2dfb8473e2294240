"""Catalogue of models: names, locations, downloads and conversions."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.errors import ModelError, printable
from audiotag.models.metadata import read_metadata
from audiotag.models.releases import MODELS, ReleaseModel
from tinyonnx import Error as EngineError
from tinyonnx import Graph, save_model, to_bytes

if TYPE_CHECKING:
    from audiotag.labels import LabelSet
    from audiotag.models.download import ProgressCallback

DEFAULT = "audiotag-tiny"
"""The bundled model, used if no other is named."""

FULL_SIZE = "mn10_as"
"""The model recommended for better tags."""

_DEFAULT_NOTE = "bundled with audiotag, distilled from EfficientAT mn04_as (MIT)"

_UNTRAINED = "untrained-"
_UNTRAINED_NOTE = "untrained: seeded random weights, its scores mean nothing"

_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt")


class ModelNotFound(ModelError):
    """The model does not exist or is not on this machine."""


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is available.

    `source` is the path of an ONNX file or its content; `trained` is False if its scores mean
    nothing; `note` is a one-line description.
    """

    name: str
    source: str | bytes
    trained: bool
    note: str

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the ONNX file in hexadecimal. Raises ModelError if it can't be read."""
        return hashlib.sha256(self.source).hexdigest() if isinstance(self.source, bytes) else sha256_of(self.source)

    @cached_property
    def labels(self) -> LabelSet:
        """The classes according to the metadata, else those of AudioSet. Raises ModelError if they can't be read."""
        from audiotag.models.description import KEY, efficientat, parse

        try:
            text = read_metadata(self.source).get(KEY)
            return (efficientat() if text is None else parse(text)).label_set
        except OSError as error:
            raise _unreadable(self.name, error) from None
        except ValueError as error:
            raise ModelError(printable(f"{self.name}: {error}")) from None

    def summary(self) -> ResolvedModel:
        """Return the description without the content but with its hash, for other processes. Raises ModelError."""
        summary = self if isinstance(self.source, str) else replace(self, source="")
        vars(summary)["sha256"] = self.sha256
        return summary

    def hashed(self, sha256: str) -> None:
        """Store a hash that is already known."""
        vars(self)["sha256"] = sha256


def cache_dir() -> Path:
    """Return $AUDIOTAG_HOME, otherwise `audiotag` in the user's cache directory; it may not exist yet.

    For a user without a home directory it is a path that can never exist.
    """
    home = os.environ.get("AUDIOTAG_HOME")
    if home:
        return Path(home)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # required by the XDG specification
        return Path(base) / "audiotag"
    try:
        user = Path.home()
    except RuntimeError:
        return Path(os.devnull) / "audiotag"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or user / "AppData" / "Local") / "audiotag"
    if sys.platform == "darwin":
        return user / "Library" / "Caches" / "audiotag"
    return user / ".cache" / "audiotag"


# -- finding ----------------------------------------------------------------------------


def resolve(name_or_path: str | os.PathLike[str] | None = None) -> ResolvedModel:
    """Find the model of a name or path.

    None is the bundled model, `DEFAULT`. Other names are those of `MODELS`, which must have been
    pulled, and `untrained-mn01` to `untrained-mn40`, networks with seeded random weights. An ONNX
    file is used as it is; a checkpoint (.pt, .pth, .ckpt) is converted in memory.

    Raises ModelNotFound, which says what exists and how to get it, and ModelError for a file
    that can't be read.
    """
    name = DEFAULT if name_or_path is None else os.fspath(name_or_path)
    if name == DEFAULT:
        path = default_path()
        return ResolvedModel(name, str(path), True, _DEFAULT_NOTE)
    if name.startswith(_UNTRAINED) and _is_network(name.removeprefix(_UNTRAINED)):
        return _untrained(name)
    if name in MODELS:
        return _pulled(MODELS[name])
    if os.path.exists(name):
        return _from_path(name)
    known = ", ".join((DEFAULT, *MODELS))
    if os.path.dirname(name) or Path(name).suffix in (".onnx", *_CHECKPOINT_SUFFIXES):
        raise ModelNotFound(printable(f"{name}: no such model file"))
    raise ModelNotFound(
        printable(f"{name}: no such model or file; models are {known} (fetch with: audiotag models pull NAME)")
    )


def model_path(name: str) -> Path:
    """Return the path of a pulled model."""
    return cache_dir() / "models" / f"{name}.onnx"


def default_path() -> Path:
    """Return the path of the bundled model: in the package, or in the checkout from which it runs."""
    package = Path(__file__).parents[1]
    shipped = package / "data" / "default.onnx"
    return shipped if shipped.exists() else package.parent / "models" / "default.onnx"


def _is_network(name: str) -> bool:
    from audiotag.models.mobilenet import WIDTHS

    return name in WIDTHS


def _untrained(name: str) -> ResolvedModel:
    from audiotag.models.mobilenet import random_graph

    content = to_bytes(random_graph(name.removeprefix(_UNTRAINED)))
    return ResolvedModel(name, content, False, _UNTRAINED_NOTE)


def _pulled(model: ReleaseModel) -> ResolvedModel:
    path = model_path(model.name)
    if not path.exists():
        raise ModelNotFound(f"{model.name}: not on this machine; fetch it with: audiotag models pull {model.name}")
    quality = "frame-wise" if model.mean_ap is None else f"AudioSet mAP {model.mean_ap:.3f}"
    note = f"{model.family} {model.architecture}, {quality}"
    return ResolvedModel(model.name, str(path), True, note)


def _from_path(name: str) -> ResolvedModel:
    path = Path(name)
    if path.suffix.lower() in _CHECKPOINT_SUFFIXES:
        content = to_bytes(_graph_of(path, path.name))
        note = f"converted in memory from {path.name}"
        return ResolvedModel(path.name, content, True, note)
    if _says_untrained(path):
        return ResolvedModel(path.name, name, False, _UNTRAINED_NOTE)
    return ResolvedModel(path.name, name, True, f"file {path.name}")


def _says_untrained(path: Path) -> bool:
    """Return whether the metadata of an ONNX file mark it as made by `random_graph`. Raises ModelError."""
    try:
        return read_metadata(path).get("trained") == "no"
    except OSError as error:
        raise _unreadable(path, error) from None


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises ModelError if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | os.PathLike[str], error: OSError) -> ModelError:
    return ModelError(printable(f"{os.fspath(path)}: can't be read: {error.strerror}"))


# -- making -----------------------------------------------------------------------------


def convert(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    hop: float | None = None,
    bins: int | None = None,
) -> None:
    """Write a checkpoint as a described ONNX file, atomically; see `audiotag.models.conversion.graph_of`.

    Raises ModelError, and CheckpointError for a file that is not a checkpoint or contains code.
    """
    path = Path(checkpoint)
    if path.exists() and os.path.exists(out) and os.path.samefile(path, out):
        raise ModelError(printable(f"{os.fspath(out)}: is the checkpoint itself"))
    _save(_graph_of(path, path.name, labels, hop, bins), out)


def _graph_of(
    checkpoint: Path,
    source: str,
    labels: str | os.PathLike[str] | None = None,
    hop: float | None = None,
    bins: int | None = None,
) -> Graph:
    from audiotag.models.conversion import graph_of

    graph = graph_of(checkpoint, source, labels, hop, bins)
    graph.metadata |= {"custom:source": source, "custom:source_sha256": sha256_of(checkpoint)}
    return graph


def _save(graph: Graph, out: str | os.PathLike[str]) -> None:
    try:
        save_model(graph, out)
    except OSError as error:
        raise ModelError(printable(f"{os.fspath(out)}: can't be written: {error.strerror or error}")) from None
    except EngineError as error:
        raise ModelError(printable(str(error))) from None


# -- fetching ---------------------------------------------------------------------------


def pull(name: str, base_url: str | None = None, progress: ProgressCallback | None = None) -> Path:
    """Fetch a model into the cache, unless it is there, and return its ONNX file; `base_url` replaces its release.

    Downloads the checkpoint (an interrupted download is resumed), verifies its SHA-256 if that is
    pinned and its architecture, converts it, and renames the result to its final name. Concurrent pulls of the same
    model wait for the first one.

    Raises ModelNotFound for an unknown name, PullError if anything else fails.
    """
    from audiotag.models.download import download, locked

    model = MODELS.get(name)
    if model is None:
        raise ModelNotFound(printable(f"{name}: no such model; models that can be pulled: {', '.join(MODELS)}"))
    target = model_path(name)
    if target.exists():
        return target
    with _explained(name):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.parent / f"{model.asset}.part"
        with locked(part.with_suffix(".lock")):
            if not target.exists():
                download(
                    f"{(base_url or model.url).rstrip('/')}/{model.asset}", part, model.size, progress, model.most_bytes
                )
                _adopt(model, part, target)
    return target


def _adopt(model: ReleaseModel, part: Path, target: Path) -> None:
    """Verify and convert the downloaded checkpoint; remove it if it is wrong."""
    from audiotag.models.download import PullError

    try:
        seen = sha256_of(part)
        if model.sha256 is not None and seen != model.sha256:
            raise PullError(f"the download has sha256 {seen}, not {model.sha256}; it was removed, pull again")
        graph = _graph_of(part, model.asset)
        found = graph.metadata.get("custom:architecture", graph.name)
        if found != model.architecture:
            raise PullError(f"the download is {found}, not {model.architecture}; it was removed")
    except ModelError:
        part.unlink(missing_ok=True)
        raise
    _save(graph, target)
    part.unlink()


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Convert errors to a PullError that begins with the model's name."""
    from audiotag.models.download import PullError

    try:
        yield
    except ModelError as error:
        raise PullError(printable(f"{name}: {error}")) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"{error.filename}: {error.strerror}"
        raise PullError(printable(f"{name}: {reason}")) from None
