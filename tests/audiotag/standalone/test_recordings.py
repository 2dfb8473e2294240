from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import soxr

from audiotag import Tagger
from tests.audiotag.standalone.decoding import Decoder


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16000, 32000, 44100, 48000])
def test_recordings_score_as_in_the_package(shared, mn04, rate, channels):
    tagger, decode = Tagger(mn04), Decoder()
    paths = sorted((shared / "data/esc10").rglob("*.ogg"))
    assert len(paths) == 320
    for path in paths[channels::16]:
        samples, own_rate = soundfile.read(path, dtype="float32")
        samples = soxr.resample(samples, own_rate, rate)
        if channels == 2:
            samples = np.stack([samples, 0.7 * np.roll(samples, 17)], axis=1)
        file = io.BytesIO()
        soundfile.write(file, samples, rate, format="WAV")
        problem, found = decode(file.getvalue())
        assert not problem
        scores, expected = tagger.scores(found, 32000), tagger.scores(file.getvalue())
        np.testing.assert_allclose(scores, expected, rtol=0, atol=0 if rate == 32000 else 5e-3)
        assert scores.argmax() == expected.argmax()
