"""`Tagger`: a sound in, AudioSet tags out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag import arrow, audio, mel
from audiotag.errors import AudioError, Error
from audiotag.labels import all_labels, select
from audiotag.network import Network
from audiotag.results import Result, Tag

if TYPE_CHECKING:
    from audiotag.audio import RawFormat, Source
    from audiotag.models import ResolvedModel
    from tinyonnx.ir import Array

COLUMNS = ("bytes", "audio", "path")


class Tagger:
    """Tags sounds with the 527 classes of AudioSet.

    The model is loaded on first use, so that a tagger is cheap to make, to pickle and to send
    to other processes, where it loads its own.

    Args:
        model: a model's name or an ONNX file; by default the one that ships with the package.
        threads: that share the work on a clip, at most one per processor.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self._requested = model
        self.threads = threads

    def __reduce__(self) -> tuple[type[Tagger], tuple[str | os.PathLike[str] | None, int]]:
        return type(self), (self._requested, self.threads)

    def __repr__(self) -> str:
        return f"Tagger(model={self._requested!r}, threads={self.threads})"

    @cached_property
    def model(self) -> ResolvedModel:
        """Name, sha256 and provenance of the model.

        Raises ModelError.
        """
        from audiotag.models import resolve

        return resolve(self._requested)

    @cached_property
    def network(self) -> Network:
        """The loaded model.

        Raises ModelError.
        """
        source = self.model.source
        # a file is called by its path, as the user knows it
        return Network(source, source if isinstance(source, str) else self.model.name, self.threads)

    def tag(
        self,
        source: Source,
        rate: int | None = None,
        top: int | None = 10,
        threshold: float | None = None,
        labels: str | Iterable[str | int] | None = None,
        *,
        raw: RawFormat | None = None,
        name: str | None = None,
    ) -> Result:
        """The best tags of a clip.

        Args:
            source: a path, the bytes of a sound file, a binary file object (a pipe, too), or an
                array of samples, (frames,) or (frames, channels), full scale 1.0 for floats.
            rate: sample rate in Hz, for arrays.
            top: how many tags to give at most; None for all.
            threshold: leave out tags with a lower score.
            labels: consider these classes only: names, MIDs or indices, or a comma-separated text.
            raw: says that a file object has samples without a header.
            name: what results and errors call the source, by default its path.

        Raises:
            AudioError: the sound can't be read.
            ModelError: the model can't be loaded or run.
            LabelError: no such class.
            ValueError: `top` is negative or `threshold` is not a probability.
        """
        if top is not None and top < 0:
            raise ValueError(f"top must not be negative, is {top}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1, is {threshold}")
        among = None if labels is None else select(labels)
        name = audio.name_of(source) if name is None else name
        scores, duration = self._score(source, rate, raw, name)
        return Result(
            path=name,
            start=0.0,
            end=duration,
            duration=duration,
            tags=best_tags(scores, top, threshold, among),
            model=self.model.name,
            sha256=self.model.sha256,
            trained=self.model.trained,
        )

    def scores(self, source: Source, rate: int | None = None) -> Array:
        """Sigmoid probabilities (527,) float64 of all classes, in the order of `audiotag.labels.all_labels()`.

        Arguments and errors are those of `tag`.
        """
        return self._score(source, rate, None, audio.name_of(source))[0]

    def __call__(
        self,
        batch: Mapping[str, Any],
        *,
        top: int | None = 10,
        threshold: float | None = None,
        labels: str | Iterable[str | int] | None = None,
    ) -> dict[str, Any]:
        """Tag a batch of columns, as Ray Data's `map_batches` gives it.

        The sound comes from the first of these columns that is there: "bytes" (of sound
        files), "audio" (arrays, with their sample rates in a column "rate"), "path". A column
        "path" beside the others names the clips in messages.

        Returns:
            The batch with two more columns: "tags", a list of {"label", "mid", "index",
            "score"} for each row, and "error", a message where a row could not be read (its
            tags are an empty list), else None. A batch of lists gets lists, one of arrays, as
            Ray Data gives it, Arrow arrays where pyarrow is installed.

        Raises:
            ModelError: the model can't be loaded.
            LabelError: no such class.
            KeyError: the batch has no column of sounds.
        """
        column = next((name for name in COLUMNS if name in batch), None)
        if column is None:
            raise KeyError(f"a batch needs a column {' or '.join(map(repr, COLUMNS))}; it has {sorted(batch)}")
        among = None if labels is None else select(labels)
        _ = self.network
        paths, rates = batch.get("path"), batch.get("rate") if column == "audio" else None
        tags: list[list[dict[str, Any]]] = []
        errors: list[str | None] = []
        for row, source in enumerate(batch[column]):
            name = str(paths[row]) if paths is not None else f"row {row}"
            try:
                if column == "audio":
                    source = np.asarray(source)
                result = self.tag(source, None if rates is None else rates[row], top, threshold, among, name=name)
            except Error as error:
                tags.append([])
                errors.append(str(error))
            else:
                tags.append([tag.to_dict() for tag in result.tags])
                errors.append(None)
        if isinstance(batch[column], np.ndarray):
            return {**batch, **arrow.columns(tags, errors)}
        return {**batch, "tags": tags, "error": errors}

    def _score(self, source: Source, rate: int | None, raw: RawFormat | None, name: str) -> tuple[Array, float]:
        features = mel.LogMelStream()
        # first, so that a broken model is reported before any file is read
        network = self.network

        def frames() -> Any:
            for block in audio.stream(source, rate, raw=raw, name=name):
                yield features.push(block)
            yield features.finish()

        try:
            logits = network(mel.join_frames(frames())[None])[0]
        except MemoryError:
            raise AudioError(name, "too long to tag in one piece in this machine's memory") from None
        return sigmoid(logits), features.n_samples / audio.SAMPLE_RATE


def sigmoid(logits: Array) -> Array:
    """Probabilities, float64, of logits of any shape."""
    # exp can't overflow: its argument is never positive
    small = np.exp(-np.abs(logits.astype(np.float64)))
    probabilities: Array = np.where(logits >= 0, 1, small) / (1 + small)
    return probabilities


def best_tags(
    scores: Array, top: int | None = 10, threshold: float | None = None, among: Iterable[int] | None = None
) -> tuple[Tag, ...]:
    """The best of (527,) scores, best first, equal ones in the order of their index.

    Args:
        scores: one score for each class.
        top: how many at most; None for all.
        threshold: leave out lower ones.
        among: consider these indices only.
    """
    indices = np.arange(len(scores)) if among is None else np.array(sorted(among), np.intp)
    indices = indices[np.argsort(-scores[indices], kind="stable")]
    if threshold is not None:
        indices = indices[scores[indices] >= threshold]
    labels = all_labels()
    return tuple(Tag(labels[i].name, labels[i].mid, labels[i].index, float(scores[i])) for i in indices[:top].tolist())
