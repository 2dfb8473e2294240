"""`audiotag demo`."""

from __future__ import annotations

import numpy as np
import soundfile

from audiotag import cli
from audiotag.commands import demo


def test_demo(tmp_path, capsys, model):
    assert cli.main(["demo", "--save", str(tmp_path / "demo.flac")]) == 0
    out = capsys.readouterr().out
    assert "Siren" in out
    assert "audiotag models pull mn10_as" in out
    assert "mean nothing" not in out
    samples, rate = soundfile.read(tmp_path / "demo.flac", dtype="float32")
    assert rate == 32000
    np.testing.assert_allclose(samples, demo.synthesise(), atol=1 / 32768)
    assert np.abs(samples).max() < 0.999
    assert cli.main(["demo", "--model", model]) == 0
    assert "models pull" not in capsys.readouterr().out
    assert cli.main(["demo", "--model", "untrained-mn01"]) == 0
    assert "scores mean nothing" in capsys.readouterr().out
    assert cli.main(["demo", "--save", str(tmp_path / "none" / "demo.wav")]) == 1
    assert "demo.wav: No such file or directory" in capsys.readouterr().err
