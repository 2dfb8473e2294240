"""`Tagger`: computes the tags of sounds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.errors import AudioError, Error
from audiotag.models.network import Network
from audiotag.outputs import arrow
from audiotag.results import Failure, Result, Tag
from audiotag.scoring import Clip, Scored, Scorer
from audiotag.selection import Selection, tag_of
from audiotag.sound import audio
from audiotag.sound.channels import check_channel
from audiotag.sound.windows import Grid
from tinyonnx.ort.options import PRECISIONS

if TYPE_CHECKING:
    from audiotag.events import Event, EventOptions, Segmenter
    from audiotag.labels import LabelSet
    from audiotag.models.catalog import ResolvedModel
    from audiotag.options import TagOptions
    from audiotag.sound.audio import RawFormat, Source
    from tinyonnx.ir import Array

COLUMNS = ("bytes", "audio", "path")
"""Columns of a batch that may contain the sound, in order of preference."""


class Tagger:
    """Tags sounds with the classes of a model, by default the 527 of AudioSet.

    The model is loaded on first use, so that a tagger is cheap to create and to pickle; an unpickled
    tagger loads the model again.

    Args:
        model: a model name or an ONNX file; by default the bundled model.
        threads: number of threads per clip, at most one per processor.
        channel: the channel or mix to tag: "mean", "left", "right", "first", the number of a channel, or "loudest" (see
            `audiotag.sound.channels.Mixer`).
        precision: "float32", or "bfloat16" to round operands of large products where the processor has AVX512-BF16;
            `Result.precision` tells which one was used.

    Raises:
        ValueError: `threads` is less than 1, or `channel` or `precision` is none of these.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        threads: int = 1,
        channel: str | int = "mean",
        precision: str = "float32",
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        check_channel(channel)
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be {' or '.join(PRECISIONS)}, not {precision!r}")
        self._requested = model
        self.threads = threads
        self.channel = channel
        self.precision = precision

    def __reduce__(self) -> tuple[type[Tagger], tuple[str | os.PathLike[str] | None, int, str | int, str]]:
        return type(self), (self._requested, self.threads, self.channel, self.precision)

    def __repr__(self) -> str:
        precision = f", precision={self.precision!r}" if self.precision != "float32" else ""
        return f"Tagger(model={self._requested!r}, threads={self.threads}, channel={self.channel!r}{precision})"

    @cached_property
    def model(self) -> ResolvedModel:
        """Name, SHA-256 and origin of the model.

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
        # messages name a file by the path that the user gave
        network = Network(source, source if isinstance(source, str) else self.model.name, self.threads, self.precision)
        if network.sha256 is not None:
            self.model.hashed(network.sha256)
        return network

    @cached_property
    def scorer(self) -> Scorer:
        """The scoring of sound with the loaded model.

        Raises ModelError.
        """
        return Scorer(self.network, self.channel)

    @property
    def labels(self) -> LabelSet:
        """The classes of the model.

        Raises ModelError.
        """
        return self.network.description.label_set

    @property
    def rate(self) -> int:
        """The sample rate of the model in Hz.

        Raises ModelError.
        """
        return self.network.description.rate

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
        """Return the best tags of a clip.

        Args:
            source: a path, the bytes of a sound file, a binary file object (also a pipe), or an
                array of samples, (frames,) or (frames, channels), full scale 1.0 for floats.
            rate: sample rate in Hz; for arrays only.
            top: maximum number of tags; None for all.
            threshold: omit tags with a lower score.
            labels: consider only these classes: names, ids or indices, or comma-separated text.
            raw: format of a file object that has samples without a header.
            name: name of the source in results and errors, by default its path.
            embedding: include the embedding.

        Raises:
            AudioError: the sound can't be read, or is longer than `audiotag.sound.windows.MAX_PIECE` seconds.
            ModelError: the model can't be loaded or run, or has no embedding.
            LabelError: no such class.
            ValueError: `top` is negative or `threshold` is not a probability.
        """
        selection = Selection.of(top, threshold, labels, self.labels)
        name = audio.name_of(source) if name is None else name
        notes: list[str] = []
        scored = self.scorer.clip(Clip(source, rate, raw, name), embedding, notes)
        return self._result(name, scored, selection).with_warnings(notes)

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
        """Yield the best tags of each window of a clip as soon as its last sample has been read.

        The result of a window equals that of a clip with the same samples. The source may be of any
        length, also endless: memory use does not grow with it.

        `window` and `hop`, the time between window starts, are in seconds; `hop` is `window` by
        default. Samples left at the end get a window of full length that ends with the clip; a clip
        shorter than a window gives one result; see `audiotag.sound.windows.Grid`. The other
        arguments are those of `tag`.

        Raises:
            ValueError: `window` or `hop` is too short, or `window` too long.
            AudioError: while iterating, perhaps after some results, if the sound can't be read.
            Error: as in `tag`.
        """
        selection = Selection.of(top, threshold, labels, self.labels)
        grid = Grid(window, window if hop is None else hop)
        self.scorer.checked(grid)
        name = audio.name_of(source) if name is None else name
        notes: list[str] = []
        windows = self.score_windows(source, grid, rate, raw, name, embedding, notes)
        results = (self._result(name, scored, selection) for scored in windows)
        return _with_notes(results, notes, name, audio.is_live(source))

    def find_events(
        self,
        source: Source,
        options: EventOptions | None = None,
        window: float | None = None,
        hop: float | None = None,
        rate: float | None = None,
        labels: str | Iterable[str | int] | None = None,
        *,
        raw: RawFormat | None = None,
        name: str | None = None,
    ) -> Iterator[Result]:
        """Yield a result for each event when it has ended: one tag, with the highest score of the event.

        A clip without events gives one result without tags, over its whole length. `options` define
        when an event begins and ends. A model with frame-wise scores is run on pieces of `window` seconds, by default
        as long as it takes, `hop` seconds apart; another one on windows, by default of 2 s every 0.5 s, each of which
        determines the time around its middle. The other arguments are those of `tag`.

        Raises:
            Error, ValueError: as in `tag_windows`.
        """
        from audiotag.events import EventOptions, Segmenter

        known = self.labels
        among = None if labels is None else tuple(known.select(labels))
        segmenter = Segmenter(options or EventOptions(), len(known), among)
        name = audio.name_of(source) if name is None else name
        notes: list[str] = []
        windows = self.scorer.events(Clip(source, rate, raw, name), window, hop, notes)
        return _with_notes(self._events(segmenter, windows, name), notes, name, audio.is_live(source))

    def rows(self, source: Source, options: TagOptions, name: str) -> Iterator[Result]:
        """Yield the results that `options` ask for: one for the clip, one per window, or one per event.

        Raises:
            Error: as in `tag`, `tag_windows` and `find_events`.
        """
        common: Any = {"labels": options.labels, "raw": options.raw, "name": name}
        selection: Any = {"top": options.top, "threshold": options.threshold, "embedding": options.embeddings}
        if options.events is not None:
            yield from self.find_events(source, options.events, options.window, options.hop, **common)
        elif options.window is not None:
            yield from self.tag_windows(source, options.window, options.hop, **common, **selection)
        else:
            yield self.tag(source, **common, **selection)

    def score_windows(
        self,
        source: Source,
        grid: Grid,
        rate: float | None = None,
        raw: RawFormat | None = None,
        name: str | None = None,
        embedding: bool = False,
        notes: list[str] | None = None,
    ) -> Iterator[Scored]:
        """Yield the scores of all classes for each window.

        `notes` takes warnings about the sound, see `audiotag.sound.audio.stream`; the other arguments and errors are
        those of `tag_windows`.
        """
        clip = Clip(source, rate, raw, audio.name_of(source) if name is None else name)
        yield from self.scorer.windows(clip, grid, embedding, notes)

    def embed(self, source: Source, rate: float | None = None) -> Array:
        """Return the embedding (n,) float32 of a clip; n is 960 for mn10 and 384 for mn04.

        Arguments and errors are those of `tag`.
        """
        embedding = self.scorer.clip(Clip(source, rate, None, audio.name_of(source)), True, None).embedding
        assert embedding is not None
        return embedding

    def scores(self, source: Source, rate: float | None = None) -> Array:
        """Return the probabilities (classes,) float64, in the order of `Tagger.labels`.

        Arguments and errors are those of `tag`.
        """
        return self.scorer.clip(Clip(source, rate, None, audio.name_of(source)), False, None).scores

    def tag_batch(
        self, sources: Iterable[Source], rate: float | None = None, top: int | None = 10, **options: Any
    ) -> list[Result | Failure]:
        """Return the results of many clips in order, with a `Failure` for each clip that can't be read.

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
        """Tag a batch of columns, the form that Ray Data's `map_batches` passes.

        The sound is read from the first of these columns that exists: "bytes" (contents of sound
        files), "audio" (arrays, with their sample rates in a column "rate"), "path". A column
        "path" beside another one names the clips in messages.

        Returns:
            The batch with three more columns: "tags", a list of {"label", "mid", "index", "score"}
            for each row, "error", None or the message for a row that could not be read, whose
            tags are an empty list, and "warning", None or what is doubtful about the sound. A
            batch of lists gets lists; a batch of arrays, the form of Ray Data, gets Arrow arrays if
            pyarrow is installed.

        Raises:
            ModelError: the model can't be loaded.
            LabelError: no such class.
            KeyError: the batch has none of these columns.
        """
        column = next((name for name in COLUMNS if name in batch), None)
        if column is None:
            raise KeyError(f"the batch has columns {sorted(batch)}, but none of {', '.join(map(repr, COLUMNS))}")
        selection = Selection.of(top, threshold, labels, self.labels)
        _ = self.network
        paths, rates = batch.get("path"), batch.get("rate") if column == "audio" else None
        tags: list[list[dict[str, Any]]] = []
        errors: list[str | None] = []
        warnings: list[str | None] = []
        for row, source in enumerate(batch[column]):
            name = str(paths[row]) if paths is not None else f"row {row}"
            notes: list[str] = []
            try:
                if column == "audio":
                    source = np.asarray(source)
                clip = Clip(source, None if rates is None else rates[row], None, name)
                scored = self.scorer.clip(clip, False, notes)
            except Error as error:
                tags.append([])
                errors.append(str(error))
            else:
                tags.append([tag.to_dict() for tag in selection(scored.scores, self.labels)])
                errors.append(None)
            warnings.append("; ".join(notes) or None)
        if isinstance(batch[column], np.ndarray):
            return {**batch, **arrow.columns(tags, errors, warnings)}
        return {**batch, "tags": tags, "error": errors, "warning": warnings}

    def _events(self, segmenter: Segmenter, windows: Iterable[Scored], name: str) -> Iterator[Result]:
        found, end = False, 0.0
        for scored in windows:
            end = scored.end
            for event in segmenter.push(scored.start, scored.end, scored.scores):
                found = True
                yield self._event(name, event)
        for event in segmenter.finish():
            found = True
            yield self._event(name, event)
        if not found:
            yield self._build(name, 0.0, end, ())

    def _event(self, name: str, event: Event) -> Result:
        return self._build(name, event.start, event.end, (tag_of(self.labels[event.label], event.score),))

    def _result(self, name: str, scored: Scored, selection: Selection) -> Result:
        return self._build(name, scored.start, scored.end, selection(scored.scores, self.labels), scored.embedding)

    def _build(
        self, name: str, start: float, end: float, tags: tuple[Tag, ...], embedding: Array | None = None
    ) -> Result:
        model = self.model
        # rounded to remove the error of the subtraction
        length = round(end - start, 9)
        return Result(
            name, start, end, length, tags, model.name, model.sha256, model.trained, embedding,
            precision=self.network.precision,
        )  # fmt: skip


def _with_notes(results: Iterator[Result], notes: list[str], name: str, live: bool) -> Iterator[Result]:
    """Yield results, each with the notes that were added before it.

    A note that is added at the end of the sound goes to the last result, which is therefore delayed until then. Results
    of live sources are not delayed; such a note is an AudioError after them.
    """
    held: Result | None = None
    try:
        for result in results:
            if held:
                yield held
            held = result.with_warnings(notes)
            notes.clear()
            if live:
                yield held
                held = None
        if held:
            held = held.with_warnings(notes)
        elif notes:
            raise AudioError(name, "; ".join(notes))
    except Error:
        if held:
            yield held
        raise
    if held:
        yield held
