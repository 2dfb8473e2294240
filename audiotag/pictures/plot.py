"""A plot of a recording: spectrogram, and class scores and events over time (extra `plot`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from audiotag.errors import Error, OutputError, printable
from audiotag.events import Event
from audiotag.features import mel
from audiotag.sound import audio
from audiotag.sound.windows import Grid

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel
    from audiotag.options import TagOptions
    from audiotag.tagger import Tagger
    from tinyonnx.ir import Array

COLUMNS = 1600
"""Maximum number of columns of a plot; more are averaged."""

CLASSES = 10
RANGE = 80.0
"""Dynamic range of the spectrogram in decibels."""

_FREQUENCIES = (100, 250, 500, 1000, 2000, 4000, 8000, 15000)
_INK, _HEAT, _EVENT = "#222222", "OrRd", "#1f4e79"


@dataclass(frozen=True)
class Timeline:
    """The content of a plot.

    Attributes:
        duration: length of the clip in seconds.
        spectrogram: (bands, columns) decibels, evenly spaced over the duration.
        edges: (n+1,) borders of the windows' columns in seconds.
        scores: (n, classes) probabilities.
        names: the names of the classes.
        events: events, if they were requested.
    """

    duration: float
    spectrogram: Array
    edges: Array
    scores: Array
    names: tuple[str, ...]
    events: tuple[Event, ...]


def check(path: str) -> None:
    """Raise Error if matplotlib is missing, OutputError if it does not support the suffix of the file."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise Error("--plot needs matplotlib: pip install 'tinyonnx[plot]'") from None
    kinds = FigureCanvasBase.get_supported_filetypes()
    if os.path.splitext(path)[1][1:].lower() not in kinds:
        raise OutputError(path, f"has no suffix of a picture format: {', '.join('.' + kind for kind in sorted(kinds))}")


def write_plot(tagger: Tagger, source: str, options: TagOptions, path: str) -> None:
    """Write the plot of a clip in the format given by the suffix of `path`.

    The options determine the windows (by default chosen for the clip's length), the number and
    selection of classes, and whether events are marked.

    Raises AudioError, ModelError, OutputError.
    """
    duration, spectrogram = _spectrogram(source, tagger.channel)
    window, hop = (options.window, options.hop) if options.window else suitable(duration)
    timeline = _analyse(tagger, source, Grid(window, hop or window), duration, spectrogram, options)
    rows = classes(timeline.scores, options.top or CLASSES, options.threshold, options.labels)
    figure = draw(timeline, rows, os.path.basename(source), tagger.model)
    try:
        figure.savefig(path, dpi=160)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from None


def suitable(duration: float) -> tuple[float, float]:
    """Return the window and hop in seconds for a plot of a clip of the given length."""
    hop = min(max(0.5, duration / 240), 10.0)
    return min(max(2.0, 2 * hop), 10.0), hop


def classes(
    scores: Array, top: int, threshold: float | None = None, among: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return indices of the classes with the highest scores, ordered by the time of their maximum."""
    best = scores.max(axis=0)
    indices = np.arange(len(best)) if among is None else np.array(sorted(among))
    if threshold is not None and (best[indices] >= threshold).any():
        indices = indices[best[indices] >= threshold]
    chosen = indices[np.argsort(-best[indices], kind="stable")][:top]
    return tuple(chosen[np.argsort(scores[:, chosen].argmax(axis=0), kind="stable")].tolist())


def _spectrogram(source: str, channel: str | int) -> tuple[float, Array]:
    """Return the seconds of a clip, and its log-mel energies in decibels, (bands, columns), at most 2 * COLUMNS."""
    stream = mel.LogMelStream()
    columns, width = np.empty((mel.DEFAULT.n_mels, 0), np.float32), 1
    rest = columns

    def add(frames: Array) -> None:
        nonlocal columns, width, rest
        rest = np.concatenate([rest, frames], axis=1)
        whole = rest.shape[1] // width * width
        columns = np.concatenate([columns, _means(rest[:, :whole], width)], axis=1)
        rest = rest[:, whole:]
        while columns.shape[1] >= 2 * COLUMNS:
            if columns.shape[1] % 2:
                rest = np.concatenate([np.repeat(columns[:, -1:], width, axis=1), rest], axis=1)
            columns = _means(columns[:, : columns.shape[1] // 2 * 2], 2)
            width *= 2

    # the rows have the warnings
    for block in audio.stream(source, channel=channel, notes=[]):
        add(stream.push(block))
    add(stream.finish())
    if rest.shape[1]:
        columns = np.concatenate([columns, rest.mean(axis=1, keepdims=True)], axis=1)
    decibels = 10 / np.log(10) * (5 * columns - 4.5)
    return stream.n_samples / audio.SAMPLE_RATE, decibels


def _means(columns: Array, width: int) -> Array:
    means: Array = columns.reshape(len(columns), -1, width).mean(axis=2)
    return means


def _analyse(
    tagger: Tagger, source: str, grid: Grid, duration: float, spectrogram: Array, options: TagOptions
) -> Timeline:
    spans, scores = [], []
    for tagged in tagger.score_windows(source, grid, notes=[]):
        spans.append((tagged.start, tagged.end))
        scores.append(tagged.scores.astype(np.float32))
    middles = np.array([sum(span) / 2 for span in spans])
    edges = np.concatenate([[spans[0][0]], (middles[1:] + middles[:-1]) / 2, [spans[-1][1]]])
    names = tuple(label.name for label in tagger.labels)
    return Timeline(duration, spectrogram, edges, np.stack(scores), names, _events(tagger, source, options))


def _events(tagger: Tagger, source: str, options: TagOptions) -> tuple[Event, ...]:
    if options.events is None:
        return ()
    rows = tagger.find_events(source, options.events, options.window, options.hop, labels=options.labels)
    return tuple(Event(tag.index, row.start, row.end, tag.score) for row in rows for tag in row.tags)


# -- drawing ----------------------------------------------------------------------------


def draw(timeline: Timeline, rows: Sequence[int], name: str, model: ResolvedModel) -> Any:
    """Draw the figure with one row per class."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"font.size": 9, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": "#999999"}
    height = 0.26 * len(rows) + 0.3
    style |= {"xtick.color": _INK, "ytick.color": _INK, "text.parse_math": False}
    with rc_context(style):
        figure = Figure(figsize=(11, 3.4 + height), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=(2.3, height))
        above = figure.add_subplot(grid[0])
        below = figure.add_subplot(grid[1], sharex=above)
        _draw_spectrogram(figure, above, timeline)
        _draw_scores(figure, below, timeline, rows)
        warning = "" if model.trained else ", untrained: scores mean nothing"
        above.set_title(printable(name), loc="left", fontweight="bold")
        length = f"{timeline.duration:.1f} s" if timeline.duration < 60 else _clock(timeline.duration)
        above.set_title(f"{length}, {printable(model.name)}{warning}", loc="right", fontsize=8)
        above.tick_params(labelbottom=False)
        _label_time(below, timeline)
    return figure


def _draw_spectrogram(figure: Any, axes: Any, timeline: Timeline) -> None:
    bands = len(timeline.spectrogram)
    top = float(timeline.spectrogram.max())
    image = axes.imshow(
        timeline.spectrogram - top,
        extent=(0, max(timeline.duration, 1e-3), 0, bands),
        aspect="auto",
        origin="lower",
        cmap="magma",
        vmin=-RANGE,
        vmax=0,
        interpolation="antialiased",
    )
    axes.set_yticks([_band(hz) for hz in _FREQUENCIES], [f"{hz / 1000:g}" for hz in _FREQUENCIES])
    axes.set_ylabel("kHz")
    figure.colorbar(image, ax=axes, pad=0.01, aspect=14, label="dB")


def _draw_scores(figure: Any, axes: Any, timeline: Timeline, rows: Sequence[int]) -> None:
    edges, scores = _fewer(timeline.edges, timeline.scores[:, rows])
    image = axes.pcolormesh(edges, np.arange(len(rows) + 1), scores.T, cmap=_HEAT, vmin=0, vmax=1, rasterized=True)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [_short(timeline.names[row]) for row in rows])
    axes.set_ylim(len(rows), 0)
    axes.tick_params(axis="y", length=0)
    axes.hlines(np.arange(1, len(rows)), *edges[[0, -1]], color="white", linewidth=1)
    for event in timeline.events:
        if event.label in rows:
            row = rows.index(event.label)
            axes.plot((event.start, event.end), (row + 0.82,) * 2, color=_EVENT, linewidth=3, solid_capstyle="butt")
    axes.set_xlim(0, max(timeline.duration, 1e-3))
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=max(4, 1.4 * len(rows)), label="score")
    bar.outline.set_visible(False)


def _fewer(edges: Array, scores: Array) -> tuple[Array, Array]:
    """Reduce the windows to at most COLUMNS by taking the maximum of neighbouring scores."""
    step = -(-len(scores) // COLUMNS)
    starts = np.arange(0, len(scores), step)
    return np.append(edges[starts], edges[-1]), np.maximum.reduceat(scores, starts, axis=0)


def _label_time(axes: Any, timeline: Timeline) -> None:
    duration = timeline.duration
    unit = "seconds" if duration < 120 else "m:ss" if duration < 3600 else "h:mm:ss"
    axes.set_xlabel(f"{unit} (blue: events)" if timeline.events else unit)
    if duration < 120:
        return
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    steps = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    axes.xaxis.set_major_locator(MultipleLocator(next((s for s in steps if duration / s <= 12), duration / 12)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: _clock(t)))


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _band(hz: float) -> float:
    """Return the position of a frequency on the axis of mel bands, whose centres are at integers plus one half."""
    low, high = (1127 * np.log(1 + f / 700) for f in (mel.DEFAULT.mel.fmin, mel.DEFAULT.mel.fmax))
    place = (1127 * np.log(1 + hz / 700) - low) / (high - low) * (mel.DEFAULT.n_mels + 1)
    return float(place) - 0.5


def _short(name: str) -> str:
    return name if len(name) <= 30 else name[:29].rstrip(" ,") + "…"
