"""An HTML page with the waveform, log-mel spectrogram, tags and all layer activations of a clip."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from audiotag.errors import OutputError
from audiotag.features.settings import MelConfig
from audiotag.sound import audio
from tinyonnx.tools.inspect import inspect_plan, report_rewritten
from tinyonnx.tools.report import PictureAxis, Report, Section, curve, small_picture
from tinyonnx.tools.trace import trace

if TYPE_CHECKING:
    from audiotag.results import Result
    from audiotag.sound.audio import Source
    from audiotag.tagger import Tagger

_MARKED_HZ = 0, 500, 1000, 2000, 4000, 8000


def write_activations(tagger: Tagger, source: Source, result: Result, path: str) -> None:
    """Write the page of a clip and its result.

    Raises AudioError, ModelError, OutputError.
    """
    samples = audio.read(source, name=result.path, channel=tagger.channel, notes=[], target=tagger.rate)
    network = tagger.network
    config = network.description.shown
    features = network.description.spectrogram(samples)
    session, feeds = network.session, network.feeds(network.description.hear(samples)[None])
    graph = session.plan_for(None, feeds).graph
    seconds = len(samples) / tagger.rate
    time, frequency = _time_axis(seconds), _frequency_axis(config)
    # (batch, channels, frequency, time): feature maps cover the same extent as the spectrogram
    report = Report(
        f"{os.path.basename(result.path)} tagged by {result.model}", report_rewritten(session, feeds, graph),
        axes={2: frequency, 3: time},
    )  # fmt: skip
    report.add_plan(inspect_plan(session, feeds))
    mel = small_picture(features, flip=True)
    report.sections = [
        Section("waveform", curve=curve(samples), columns=time),
        Section("log-mel spectrogram", mel, rows=frequency, columns=time, note=f"{len(features)} mel bands"),
        Section("tags", bars=[(tag.label, tag.score) for tag in result.tags]),
    ]
    trace(session, feeds, report.add_activation)
    try:
        report.write(path)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from None


def _time_axis(seconds: float) -> PictureAxis:
    """Place at most five ticks at round times, and one at the end."""
    step = 10 ** math.floor(math.log10(max(seconds, 1e-3)))
    step = next(step * factor for factor in (0.2, 0.5, 1, 2) if seconds / (step * factor) <= 5)
    marks = [i * step for i in range(math.ceil(seconds / step)) if seconds - i * step >= step]
    return PictureAxis(
        "time", [(t / seconds, f"{t:g}") for t in marks] + [(1.0, f"{seconds:.3g} s")] if seconds else []
    )


def _frequency_axis(config: MelConfig) -> PictureAxis:
    """Place ticks in Hz on the mel scale."""
    low, high = (np.log1p(hz / 700) for hz in (config.mel.fmin, config.mel.fmax))
    places = [(float((np.log1p(hz / 700) - low) / (high - low)), hz) for hz in _MARKED_HZ if hz <= config.mel.fmax]
    return PictureAxis(
        "frequency", [(p, f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz} Hz") for p, hz in places], upward=True
    )
