"""The server with a model of another rate, with its own classes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotag import LabelError, Tagger
from audiotag.models.describe import describe, description_of
from audiotag.sound import audio

pytest.importorskip("starlette")


class Direct:
    """Decodes in this process."""

    def decode(self, sound: Any, abandoned: Any, notes: list[str]) -> Any:
        return audio.read(io.BytesIO(sound.data), name=sound.name, notes=notes, target=sound.target)


@pytest.fixture
def tagger(shared, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"sound {i}\n" for i in range(10)))
    model = tmp_path / "wave.onnx"
    describe(shared / "data/families/wave10/wave10.onnx", description_of("waveform_16k", labels), model)
    return Tagger(model)


def ask(tagger, data, **parameters):
    from audiotag.serve.analysis import AnalysisRequest, Query, analyse

    query = Query.of(parameters, tagger.labels)
    return analyse(tagger, Direct(), AnalysisRequest(io.BytesIO(data), "clip", query, 60)).content


def test_answers_are_the_tagger_s(tagger):
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).standard_normal(3 * 44100) * 0.1, 44100, format="WAV")
    data = file.getvalue()
    expected = tagger.tag(data, name="clip", top=10).to_dict()
    assert ask(tagger, data) == expected
    assert {tag["label"] for tag in expected["tags"]} == {f"sound {i}" for i in range(10)}
    assert len(ask(tagger, data, window="1", labels="sound 3")) == 3
    assert ask(tagger, data, spectrogram="1")["spectrogram"].startswith("data:image/png")
    with pytest.raises(LabelError, match="no class is named 'Dog'"):
        ask(tagger, data, labels="Dog")
