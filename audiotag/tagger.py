"""`Tagger`: a sound in, AudioSet tags out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audiotag.errors import AudioError, Error
from audiotag.events import HOP, WINDOW, Event, EventOptions, Segmenter
from audiotag.features import mel
from audiotag.labels import all_labels, select
from audiotag.models.network import Network
from audiotag.outputs import arrow
from audiotag.results import Failure, Result, Tag
from audiotag.sound import audio
from audiotag.sound.windows import MAX_PIECE, Grid

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel
    from audiotag.sound.audio import RawFormat, Source
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
        from audiotag.models.catalog import resolve

        return resolve(self._requested)

    @cached_property
    def network(self) -> Network:
        """The loaded model.

        Raises ModelError.
        """
        source = self.model.source
        # a file is called by its path, as the user knows it
        network = Network(source, source if isinstance(source, str) else self.model.name, self.threads)
        if network.sha256 is not None:
            self.model.hashed(network.sha256)
        return network

    def tag(
        self,
        source: Source,
        rate: float | None = None,
        top: int | None = 10,
        threshold: float | None = None,
        labels: str | Iterable[str | int] | None = None,
        *,
        raw: RawFormat | None = None,
        name: str | None = None,
        embedding: bool = False,
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
            embedding: give the embedding, too.

        Raises:
            AudioError: the sound can't be read, or is longer than `audiotag.sound.windows.MAX_PIECE` seconds.
            ModelError: the model can't be loaded or run, or has no embedding.
            LabelError: no such class.
            ValueError: `top` is negative or `threshold` is not a probability.
        """
        choice = Choice.of(top, threshold, labels)
        name = audio.name_of(source) if name is None else name
        return self._result(name, self._piece(source, rate, raw, name, embedding), choice)

    def tag_windows(
        self,
        source: Source,
        window: float,
        hop: float | None = None,
        rate: float | None = None,
        top: int | None = 10,
        threshold: float | None = None,
        labels: str | Iterable[str | int] | None = None,
        *,
        raw: RawFormat | None = None,
        name: str | None = None,
        embedding: bool = False,
    ) -> Iterator[Result]:
        """The best tags of each window of a clip, each as soon as its last sample was read.

        A window's result is that of its samples as a clip of their own. The source may be of any
        length, and never end: memory doesn't grow with it.

        `window` is in seconds, and so is `hop`, from the beginning of a window to that of the
        next, by default `window`. What is left at the end gets a window of full length, too, that
        ends with the clip; a clip shorter than a window gives one result; more in
        `audiotag.sound.windows.Grid`. The other arguments are those of `tag`.

        Raises:
            ValueError: `window` or `hop` is too short, or `window` too long.
            AudioError: iterating raises it where the sound can't be read, perhaps after some results.
            Error: as in `tag`.
        """
        choice = Choice.of(top, threshold, labels)
        grid = Grid(window, window if hop is None else hop)
        name = audio.name_of(source) if name is None else name
        return (
            self._result(name, heard, choice) for heard in self.score_windows(source, grid, rate, raw, name, embedding)
        )

    def find_events(
        self,
        source: Source,
        options: EventOptions | None = None,
        window: float = WINDOW,
        hop: float | None = HOP,
        rate: float | None = None,
        labels: str | Iterable[str | int] | None = None,
        *,
        raw: RawFormat | None = None,
        name: str | None = None,
    ) -> Iterator[Result]:
        """What is heard when: a result with one tag, its best score, for each event, as soon as it is over.

        A clip without events gives one result without tags, over the whole of it. `options` say when
        an event begins and ends, `window` and `hop` which windows are tagged for that; the other
        arguments are those of `tag`.

        Raises:
            Error, ValueError: as in `tag_windows`.
        """
        among = None if labels is None else tuple(select(labels))
        segmenter = Segmenter(options or EventOptions(), among)
        grid = Grid(window, window if hop is None else hop)
        name = audio.name_of(source) if name is None else name
        return self._events(segmenter, self.score_windows(source, grid, rate, raw, name), name)

    def score_windows(
        self,
        source: Source,
        grid: Grid,
        rate: float | None = None,
        raw: RawFormat | None = None,
        name: str | None = None,
        embedding: bool = False,
    ) -> Iterator[Heard]:
        """The scores of all classes in each window; arguments and errors are those of `tag_windows`."""
        network = self.network
        for start, samples in grid.cut(audio.stream(source, rate, raw=raw, name=name)):
            yield _heard(network, mel.log_mel(samples), start, start + len(samples), embedding)

    def embed(self, source: Source, rate: float | None = None) -> Array:
        """The embedding (n,) float32 of a clip: 960 numbers of an mn10, 384 of an mn04.

        Arguments and errors are those of `tag`.
        """
        embedding = self._piece(source, rate, None, audio.name_of(source), True).embedding
        assert embedding is not None
        return embedding

    def scores(self, source: Source, rate: float | None = None) -> Array:
        """Sigmoid probabilities (527,) float64 of all classes, in the order of `audiotag.labels.all_labels()`.

        Arguments and errors are those of `tag`.
        """
        return self._piece(source, rate, None, audio.name_of(source), False).scores

    def tag_batch(
        self, sources: Iterable[Source], rate: float | None = None, top: int | None = 10, **options: Any
    ) -> list[Result | Failure]:
        """Results of many clips, in their order, with a `Failure` for each that can't be read.

        Arguments and errors are those of `tag`.
        """
        _ = self.network
        results: list[Result | Failure] = []
        for source in sources:
            try:
                results.append(self.tag(source, rate, top, **options))
            except AudioError as error:
                results.append(Failure.of(error.name, error))
        return results

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
        choice = Choice.of(top, threshold, labels)
        _ = self.network
        paths, rates = batch.get("path"), batch.get("rate") if column == "audio" else None
        tags: list[list[dict[str, Any]]] = []
        errors: list[str | None] = []
        for row, source in enumerate(batch[column]):
            name = str(paths[row]) if paths is not None else f"row {row}"
            try:
                if column == "audio":
                    source = np.asarray(source)
                heard = self._piece(source, None if rates is None else rates[row], None, name, False)
            except Error as error:
                tags.append([])
                errors.append(str(error))
            else:
                tags.append([tag.to_dict() for tag in choice(heard.scores)])
                errors.append(None)
        if isinstance(batch[column], np.ndarray):
            return {**batch, **arrow.columns(tags, errors)}
        return {**batch, "tags": tags, "error": errors}

    def _piece(self, source: Source, rate: float | None, raw: RawFormat | None, name: str, embedding: bool) -> Heard:
        """A clip heard in one piece."""
        features = mel.LogMelStream()
        # first, so that a broken model is reported before any file is read
        network = self.network

        def frames() -> Iterator[Array]:
            for block in audio.stream(source, rate, raw=raw, name=name):
                yield features.push(block)
                if features.n_samples > MAX_PIECE * audio.SAMPLE_RATE:
                    raise AudioError(
                        name, f"longer than {MAX_PIECE / 60:g} min: too long for one result, give a window (--window)"
                    )
            yield features.finish()

        try:
            return _heard(network, mel.join_frames(frames()), 0, features.n_samples, embedding)
        except MemoryError:
            raise AudioError(
                name, "too long to tag in one piece in this machine's memory, give a window (--window)"
            ) from None

    def _events(self, segmenter: Segmenter, windows: Iterable[Heard], name: str) -> Iterator[Result]:
        found, end = False, 0.0
        for heard in windows:
            end = heard.end
            for event in segmenter.push(heard.start, heard.end, heard.scores):
                found = True
                yield self._event(name, event)
        for event in segmenter.finish():
            found = True
            yield self._event(name, event)
        if not found:
            yield self._make(name, 0.0, end, ())

    def _event(self, name: str, event: Event) -> Result:
        return self._make(name, event.start, event.end, (tag_of(event.label, event.score),))

    def _result(self, name: str, heard: Heard, choice: Choice) -> Result:
        return self._make(name, heard.start, heard.end, choice(heard.scores), heard.embedding)

    def _make(
        self, name: str, start: float, end: float, tags: tuple[Tag, ...], embedding: Array | None = None
    ) -> Result:
        model = self.model
        # neither has more digits than a sample needs
        length = round(end - start, 9)
        return Result(name, start, end, length, tags, model.name, model.sha256, model.trained, embedding)


class Heard(NamedTuple):
    """Scores (527,) of a part of a clip from `start` to `end`, in seconds."""

    start: float
    end: float
    scores: Array
    embedding: Array | None


def _heard(network: Network, features: Array, start: int, end: int, embedding: bool) -> Heard:
    logits, embeddings = network.with_embedding(features[None]) if embedding else (network(features[None]), None)
    vector = None if embeddings is None else embeddings[0]
    return Heard(start / audio.SAMPLE_RATE, end / audio.SAMPLE_RATE, sigmoid(logits[0]), vector)


@dataclass(frozen=True)
class Choice:
    """Which of a clip's tags to give: the best `top` of those not below `threshold` and, if given, in `among`."""

    top: int | None
    threshold: float | None
    among: tuple[int, ...] | None

    @classmethod
    def of(cls, top: int | None, threshold: float | None, labels: str | Iterable[str | int] | None) -> Choice:
        """Raises LabelError, ValueError."""
        if top is not None and top < 0:
            raise ValueError(f"top must not be negative, is {top}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold must lie in 0..1, is {threshold}")
        return cls(top, threshold, None if labels is None else tuple(select(labels)))

    def __call__(self, scores: Array) -> tuple[Tag, ...]:
        return best_tags(scores, self.top, self.threshold, self.among)


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
    return tuple(tag_of(i, float(scores[i])) for i in indices[:top].tolist())


def tag_of(index: int, score: float) -> Tag:
    """The tag of a class."""
    label = all_labels()[index]
    return Tag(label.name, label.mid, label.index, score)
