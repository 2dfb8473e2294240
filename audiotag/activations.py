"""A page that shows what the model hears in a clip: waveform, log-mel, every layer, tags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from audiotag import audio
from audiotag.errors import OutputError
from audiotag.mel import DEFAULT, log_mel
from tinyonnx.tools.inspect import inspect_plan, report_graph
from tinyonnx.tools.report import Report, Section, curve, small_picture
from tinyonnx.tools.trace import trace

if TYPE_CHECKING:
    from audiotag.audio import Source
    from audiotag.results import Result
    from audiotag.tagger import Tagger


def write_activations(tagger: Tagger, source: Source, result: Result, path: str) -> None:
    """Write the page of a clip that was tagged as `result`.

    Raises AudioError, ModelError, OutputError.
    """
    samples = audio.read(source, name=result.path)
    features = log_mel(samples)
    network = tagger.network
    session, feeds = network.session, network.feeds(features[None])
    graph = session.plan_for(None, feeds).graph
    report = Report(
        f"{os.path.basename(result.path)} heard by {result.model}", report_graph(session, graph, {}), flip=True
    )
    report.add_plan(inspect_plan(session, feeds))
    length = f"{result.duration:.2f} s"
    report.sections.append(Section("waveform", curve=curve(samples), note=length))
    bands = f"{DEFAULT.n_mels} mel bands, low at the bottom, {features.shape[1]} frames"
    report.sections.append(Section("log-mel spectrogram", image=small_picture(features, flip=True), note=bands))
    report.sections.append(Section("tags", bars=[(tag.label, tag.score) for tag in result.tags]))
    trace(session, feeds, report.add_activation)
    try:
        report.write(path)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from None
