"""The executable's program with models that have their own classes, front end and kind of scores."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from audiotag import ModelError, Tagger
from audiotag.models.catalog import resolve
from audiotag.models.description import KEY, ClassLabel, Length, efficientat
from audiotag.models.families import descriptions
from audiotag.models.families.efficientat import config
from audiotag.models.metadata import with_entry
from audiotag.standalone.build import build_program
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
MODELS = {
    "classes": (efficientat(labels=LABELS), SEVEN),
    "hop": (efficientat(config(640), LABELS), SEVEN),
    "decibels": (DECIBELS, SEVEN),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("window", [None, 0.7])
def test_rows_are_the_package_s(name, window, tmp_path):
    description, options = MODELS[name]
    tagger = Tagger(described(tmp_path / "model.onnx", description, **options))
    facts = Facts(tagger.model.name, tagger.model.sha256, description=description)
    program = FrontEnd(facts, 20)
    file = io.BytesIO()
    samples = np.random.default_rng(0).standard_normal(100_001) * np.repeat([0.001, 0.3, 0.01], 33_334)[:100_001]
    soundfile.write(file, samples * 0.2, 32000, format="WAV", subtype="FLOAT")
    content = file.getvalue()
    written = []
    arguments = [b"./program", b"--json", b"--top=7", *([] if window is None else [b"--window", b"0.7"]), b"-"]
    model = lambda features: tagger.network(features[0])[0]  # noqa: E731
    code = program.run(arguments, model, io.BytesIO(content), lambda file, data: written.append(data), 4096)
    found = [json.loads(line) for line in b"".join(written).decode().splitlines()]
    if window is None:
        expected = [tagger.tag(content, name="-").to_dict()]
    else:
        expected = [row.to_dict() for row in tagger.tag_windows(content, window, name="-")]
    assert code == 0
    assert found == expected


def test_models_that_can_not_be_compiled_are_refused_in_one_line(tmp_path):
    slow = replace(efficientat(labels=LABELS), rate=16000, features=replace(config(), rate=16000, mel=_low()))
    path = described(tmp_path / "model.onnx", slow, **SEVEN)
    end = r"only models of log-mel features at 32000 Hz, of any length, become executables; use audiotag tag$"
    with pytest.raises(ModelError, match=rf"hears 16000 Hz; {end}"):
        build_program(resolve(path), tmp_path / "program")
    short = replace(efficientat(labels=LABELS), length=Length(min=0.5, max=9))
    path = described(tmp_path / "short.onnx", short, **SEVEN)
    with pytest.raises(ModelError, match=rf"takes at least 0\.5 s, takes at most 9 s; {end}"):
        build_program(resolve(path), tmp_path / "program")
    bands = replace(config().mel, bins=64)
    turned = replace(efficientat(replace(config(), mel=bands), LABELS), layout=("batch", 1, "time", "mel"))
    path = described(tmp_path / "turned.onnx", turned, **SEVEN, input="float[batch, 1, 128, 64] x")
    with pytest.raises(ModelError, match=rf"takes time before mel bands; {end}"):
        build_program(resolve(path), tmp_path / "program")


def _low():
    return replace(config().mel, fmax=7000.0)
