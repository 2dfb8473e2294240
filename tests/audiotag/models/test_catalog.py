from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from audiotag.errors import ModelError
from audiotag.models import catalog
from audiotag.models.catalog import ModelNotFound, resolve
from tests.audiotag.models.releases import refusal

pytestmark = pytest.mark.usefixtures("home")


# -- pull ---------------------------------------------------------------------------------


def test_unknown_name():
    assert "mn10_as" in refusal("mn99_as", error=ModelNotFound)


# -- resolve ------------------------------------------------------------------------------


def test_untrained_models_are_honest(tmp_path):
    model = resolve("untrained-mn01")
    assert model.name == "untrained-mn01"
    assert not model.trained
    assert "mean nothing" in model.note
    assert isinstance(model.source, bytes)
    assert model.sha256 == hashlib.sha256(model.source).hexdigest()

    path = tmp_path / "saved.onnx"
    path.write_bytes(model.source)
    assert not resolve(path).trained
    assert "mean nothing" in resolve(path).note


def test_a_checkpoint_is_converted_in_memory(checkpoint, tmp_path):
    model = resolve(checkpoint)
    out = tmp_path / "mn01.onnx"
    catalog.convert(checkpoint, out)
    assert model.source == out.read_bytes()
    assert resolve(str(out)).sha256 == model.sha256
    assert resolve(str(out)).source == str(out)
    assert model.trained


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mn10_as", "audiotag models pull mn10_as"),
        ("mn99", "mn10_as"),
        ("nosuch.onnx", "no such model file"),
        ("folder/x", "no such model file"),
        ("untrained-mn99", "audiotag-tiny"),
        ("", "no such model"),
    ],
)
def test_what_is_not_there(name, said):
    with pytest.raises(ModelNotFound, match=said):
        resolve(name)


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="can't be read"):
        resolve(tmp_path)


@pytest.mark.parametrize(
    ("variables", "platform", "expected"),
    [
        ({"AUDIOTAG_HOME": "/a"}, "linux", "/a"),
        ({"XDG_CACHE_HOME": "/x"}, "linux", "/x/audiotag"),
        ({}, "linux", "/home/u/.cache/audiotag"),
        ({}, "darwin", "/home/u/Library/Caches/audiotag"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/audiotag"),
    ],
)
def test_cache_folder(monkeypatch, variables, platform, expected):
    for name in ("AUDIOTAG_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert catalog.cache_dir() == Path(expected)


# -- command line -------------------------------------------------------------------------
