from __future__ import annotations

import json

import numpy as np
import pytest

from audiotag import Failure, Result, Tag, __version__, to_pandas
from audiotag.errors import AudioError

TAG = Tag("Dog", "/m/0bt9lr", 74, 0.123456789)


def test_a_result_as_json():
    result = Result("a.wav", 0.5, 2.5, 2.0, (TAG,), "model", "00ff", True)
    assert json.loads(json.dumps(result.to_dict())) == {
        "path": "a.wav",
        "start": 0.5,
        "end": 2.5,
        "duration": 2.0,
        "tags": [{"label": "Dog", "mid": "/m/0bt9lr", "index": 74, "score": 0.123457}],
        "model": {"name": "model", "sha256": "00ff"},
        "audiotag": __version__,
    }


def test_an_embedding_survives_json():
    vector = np.float32([0.1, 1 / 3, -1e-9, 3e38])
    result = Result("a.wav", 0.0, 1.0, 1.0, (), "model", "00ff", True, vector)
    found = json.loads(json.dumps(result.to_dict()))["embedding"]
    np.testing.assert_array_equal(np.float32(found), vector)


def test_a_failure_names_its_file_once():
    failure = Failure.of("a.wav", AudioError("a.wav", "is empty"))
    assert failure.to_dict() == {"path": "a.wav", "error": {"type": "AudioError", "message": "a.wav: is empty"}}
    assert str(failure) == "a.wav: is empty"
    assert str(Failure.of("a.wav", ValueError("odd"))) == "a.wav: ValueError: odd"


def test_a_failure_is_one_line():
    failure = Failure.of("a\nb", RuntimeError("two\nlines\x1b[31m"))
    assert str(failure) == "a\\nb: RuntimeError: two\\nlines\\x1b[31m"


def test_results_as_a_data_frame():
    pytest.importorskip("pandas")
    result = Result("a.wav", 0.5, 2.5, 2.0, (TAG, Tag("Owl", "", 3, 0.1)), "model", "00ff", True, warnings=("odd",))
    empty = Result("b.wav", 0.0, 1.0, 1.0, (), "model", "00ff", True)
    frame = to_pandas([result, empty, Failure("c.wav", "AudioError", "is empty")])
    assert list(frame["path"]) == ["a.wav", "a.wav", "b.wav", "c.wav"]
    assert frame["label"].fillna("").tolist() == ["Dog", "Owl", "", ""]
    assert frame["index"][:2].tolist() == [74, 3]
    assert frame["error"][3] == "is empty"
    assert frame["warning"][0] == "odd"
    assert result.to_pandas().shape == (2, 9)
    assert to_pandas([]).shape == (0, 9)


def test_a_result_in_a_notebook():
    result = Result("<a>.wav", 0.5, 2.5, 2.0, (TAG,), "model", "00ff", True)
    text = result._repr_html_()
    assert "&lt;a&gt;.wav, 0.50-2.50 s, model" in text
    assert "<td>Dog</td><td>0.123</td>" in text
