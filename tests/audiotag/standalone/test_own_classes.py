"""The executable's program with models that have their own classes, front end and kind of scores."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import soundfile

from audiotag import Tagger
from audiotag.models.description import KEY, ClassLabel, Description, Length, efficientat
from audiotag.models.families import descriptions
from audiotag.models.families.efficientat import config
from audiotag.models.metadata import with_entry
from audiotag.standalone.source import Facts
from tests.audiotag.conftest import make_tagger
from tests.audiotag.standalone.front import FrontEnd

LABELS = tuple(ClassLabel(name, f"/x/{name}") for name in ("wolf, grey", "owl", 'a "b"', "é", "e", "f", "g"))


def described(path, description, **options):
    make_tagger(path, **options)
    path.write_bytes(with_entry(path.read_bytes(), KEY, description.to_text()))
    return path


SEVEN = {"output": "float[batch, 7] logits", "classes": 7}
PANNS = descriptions()["panns"].features
DECIBELS = replace(
    efficientat(labels=LABELS),
    features=replace(PANNS, mel=replace(PANNS.mel, bins=128), log=replace(PANNS.log, top_db=60)),
)
SLOW = replace(config(), rate=16000, mel=replace(config().mel, fmax=7000.0))
ROWS = {**SEVEN, "input": "float[batch, 1, time, 128] x", "axes": [1, 2]}
WAVES = None


def waveform_model(path, description):
    """Seven scores that follow from the mean magnitude of the samples."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[batch, samples] x) => (float[batch, 7] logits)
            <float[1, 7] weights = {1, -2, 3, -4, 5, -6, 7}> {
            magnitudes = Abs (x)
            mean = ReduceMean <axes = [1]> (magnitudes)
            logits = MatMul (mean, weights)
        }""")
    path.write_bytes(with_entry(model.SerializeToString(), KEY, description.to_text()))
    return path


def waveform(rate, **length):
    return Description("waveform", rate, ("batch", "samples"), "logits", LABELS, length=Length(**length))


MODELS = {
    "classes": (efficientat(labels=LABELS), SEVEN),
    "hop": (efficientat(config(640), LABELS), SEVEN),
    "decibels": (DECIBELS, SEVEN),
    "another rate": (efficientat(SLOW, LABELS), SEVEN),
    "a rate of many decimals": (efficientat(replace(config(), rate=44100), LABELS), SEVEN),
    "time first": (replace(efficientat(labels=LABELS), layout=("batch", 1, "time", "mel")), ROWS),
    "waveform": (waveform(16000), WAVES),
    "a least length": (replace(efficientat(labels=LABELS), length=Length(min=4.0)), SEVEN),
    "pieces": (replace(efficientat(SLOW, LABELS), length=Length(min=0.9, max=1.11)), SEVEN),
    "pieces of waveforms": (waveform(16000, min=0.9, max=1.11), WAVES),
    "a fixed length": (waveform(48000, fixed=0.8), WAVES),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("window", [None, 0.7])
def test_rows_are_the_package_s(name, window, tmp_path):
    description, options = MODELS[name]
    path = tmp_path / "model.onnx"
    tagger = Tagger(waveform_model(path, description) if options is None else described(path, description, **options))
    facts = Facts(tagger.model.name, tagger.model.sha256, description=description)
    program = FrontEnd(facts, 20)
    file = io.BytesIO()
    samples = np.random.default_rng(0).standard_normal(100_001) * np.repeat([0.001, 0.3, 0.01], 33_334)[:100_001]
    soundfile.write(file, samples * 0.2, description.rate, format="WAV", subtype="FLOAT")
    content = file.getvalue()
    written = []
    arguments = [b"./program", b"--json", b"--top=7", *([] if window is None else [b"--window", b"0.7"]), b"-"]
    model = lambda features: tagger.network(features)[0]  # noqa: E731
    code = program.run(arguments, model, io.BytesIO(content), lambda file, data: written.append(data), 4096)
    found = [json.loads(line) for line in b"".join(written).decode().splitlines()]
    if window is None:
        expected = [tagger.tag(content, name="-").to_dict()]
    else:
        expected = [row.to_dict() for row in tagger.tag_windows(content, window, name="-")]
    assert code == 0
    assert found == expected


def test_longer_windows_than_a_model_takes_are_refused(tmp_path):
    description = waveform(16000, max=5.5)
    program = FrontEnd(Facts("model", "0" * 64, description=description), 20)
    written = []
    arguments = [b"./program", b"--window=5.6", b"a.wav"]
    write = lambda file, data: written.append(data)  # noqa: E731
    assert program.run(arguments, lambda _: None, io.BytesIO(), write) == 2
    assert b"--window: seconds from 0.02 to 5.5 must follow" in b"".join(written)
