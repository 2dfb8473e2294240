"""`Scorer`: scores of clips, their windows and frames, from sound and a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from audiotag.errors import AudioError, ModelError
from audiotag.features import mel
from audiotag.features.samples import NO_SAMPLES
from audiotag.models.frames import PIECE, STEP, FramePiece, MedianFilter, join
from audiotag.sound import audio
from audiotag.sound.windows import MAX_PIECE, SHORTEST, TOO_SHORT, Grid

if TYPE_CHECKING:
    from audiotag.models.network import Network, Outcome
    from audiotag.sound.audio import RawFormat, Source
    from tinyonnx.ir import Array


class Clip(NamedTuple):
    """Sound for `audiotag.sound.audio.stream`: source, rate of an array, format of samples, name in errors."""

    source: Source
    rate: float | None
    raw: RawFormat | None
    name: str


class Scored(NamedTuple):
    """Scores (classes,) of the part of a clip from `start` to `end` in seconds, and its embedding if requested."""

    start: float
    end: float
    scores: Array
    embedding: Array | None


@dataclass
class Scorer:
    """Scores clips with a model; `channel` is that of `audiotag.sound.channels.Mixer`.

    `reached`, if set, is called with the seconds of a clip that have been read; for programs with one clip at a time.
    All methods take `notes`, a list for warnings about the sound; without it they are AudioWarnings.
    """

    network: Network
    channel: str | int
    reached: Callable[[float], None] | None = None

    @property
    def rate(self) -> int:
        """Sample rate of the model in Hz."""
        return self.network.description.rate

    def clip(self, clip: Clip, embedding: bool, notes: list[str] | None) -> Scored:
        """Score a clip in one piece; if the model takes only shorter sounds, average the scores of pieces.

        Raises AudioError, ModelError.
        """
        description = self.network.description
        longest = description.lengths.longest
        if longest is not None:
            return self._mean(list(self.windows(clip, Grid(longest, longest), embedding, notes)))
        stream, last, length = description.stream(), NO_SAMPLES, 0
        parts: list[Array] = []
        try:
            for block in self._blocks(clip, notes):
                length += len(block)
                if length > MAX_PIECE * self.rate:
                    raise AudioError(
                        clip.name,
                        f"longer than {MAX_PIECE / 60:g} min: too long for one result, use windows (--window)",
                    )
                if len(last):
                    parts.append(stream.push(last))
                last = block
            missing = description.missing(length)
            parts.append(stream.finish(np.concatenate([last, np.zeros(missing, np.float32)]) if missing else last))
            joined = description.finished(mel.join_frames(parts))
            if notes is not None:
                self._note_length(length, notes)
            return self._scored(self.network.answer(joined, embedding=embedding), 0, length)
        except MemoryError:
            raise AudioError(clip.name, "not enough memory to tag it in one piece, use windows (--window)") from None

    def windows(self, clip: Clip, grid: Grid, embedding: bool, notes: list[str] | None) -> Iterator[Scored]:
        """Yield the scores of each window. Raises AudioError, ModelError."""
        for start, samples in self._windows(clip, grid, notes):
            outcome = self.network.answer(self.network.description.hear(samples), embedding=embedding)
            yield self._scored(outcome, start, start + len(samples))

    def events(self, clip: Clip, window: float | None, hop: float | None, notes: list[str] | None) -> Iterator[Scored]:
        """Yield the scores from which events are found: frame-wise ones if the model has any, else those of windows.

        `window` and `hop` are in seconds, with the defaults of `Tagger.find_events`. Raises AudioError, ModelError.
        """
        from audiotag.events import HOP, WINDOW

        description = self.network.description
        longest = description.lengths.longest
        if description.frames is not None:
            size = window or longest or PIECE
            grid = self.checked(Grid(size, hop or (size if window else STEP * size)))
            return self.frames(self._windows(clip, grid, notes))
        size = window or min(WINDOW, longest or WINDOW)
        return self.windows(clip, self.checked(Grid(size, hop or window or min(HOP, size))), False, notes)

    def checked(self, grid: Grid) -> Grid:
        """Return the grid, if the model takes windows of that length. Raises ModelError."""
        longest = self.network.description.lengths.longest
        if longest is not None and grid.window > longest + 1e-6:
            raise ModelError(
                f"{self.network.name}: takes at most {longest:g} s, not windows of {grid.window:g} s; "
                f"use --window {longest:g}"
            )
        return grid

    def piece_grid(self) -> Grid:
        """Return the overlapping pieces from which frame-wise scores are computed."""
        size = self.network.description.lengths.longest or PIECE
        return Grid(size, STEP * size, self.rate)

    def frames(self, pieces: Iterable[tuple[int, Array]]) -> Iterator[Scored]:
        """Yield the filtered scores of each frame of a clip.

        `pieces` are pairs of first sample and samples at the model's rate. Raises ModelError.
        """
        frames = self.network.description.frames
        assert frames is not None
        median, begin = MedianFilter(frames.median or 1), 0.0
        for ends, scores in median.over(join(self._pieces(pieces), frames.rate)):
            for end, row in zip(ends.tolist(), scores, strict=True):
                yield Scored(begin, end, row, None)
                begin = end

    def _pieces(self, pieces: Iterable[tuple[int, Array]]) -> Iterator[FramePiece]:
        for start, samples in pieces:
            outcome = self.network.answer(self.network.description.hear(samples), frames=True)
            assert outcome.frames is not None
            yield FramePiece(start / self.rate, (start + len(samples)) / self.rate, outcome.frames)

    def _windows(self, clip: Clip, grid: Grid, notes: list[str] | None) -> Iterator[tuple[int, Array]]:
        """Yield the first sample and the samples of each window, at the model's rate."""
        grid = replace(grid, rate=self.rate)
        for start, samples in grid.cut(self._blocks(clip, notes)):
            if notes is not None and len(samples) < grid.size:
                self._note_length(len(samples), notes)
            yield start, samples

    def _blocks(self, clip: Clip, notes: list[str] | None) -> Iterator[Array]:
        blocks = audio.stream(
            clip.source, clip.rate, raw=clip.raw, name=clip.name, channel=self.channel, notes=notes, target=self.rate
        )
        samples = 0
        for block in blocks:
            self.network.prepare(len(block))
            samples += len(block)
            if self.reached is not None:
                self.reached(samples / self.rate)
            yield block

    def _mean(self, pieces: list[Scored]) -> Scored:
        vectors = [piece.embedding for piece in pieces if piece.embedding is not None]
        mean = np.asarray(np.mean(vectors, axis=0), np.float32) if vectors else None
        return Scored(0.0, pieces[-1].end, np.mean([piece.scores for piece in pieces], axis=0), mean)

    def _scored(self, outcome: Outcome, start: int, end: int) -> Scored:
        return Scored(start / self.rate, end / self.rate, outcome.scores, outcome.embedding)

    def _note_length(self, samples: int, notes: list[str]) -> None:
        """Add a note if a clip of `samples` samples is too short for reliable tags."""
        if samples < SHORTEST * self.rate:
            notes.append(TOO_SHORT.format(samples / self.rate))
