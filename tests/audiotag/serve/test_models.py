"""A server with several models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audiotag import ModelError, Tagger
from tests.audiotag.conftest import make_tagger
from tests.audiotag.serve.servers import Server, serving, until, wav
from tests.audiotag.serve.test_windows import ask

pytest.importorskip("uvicorn")

from audiotag.serve.taggers import Taggers


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from audiotag.models.describe import describe, description_of

    folder = tmp_path_factory.mktemp("models")
    labels = folder / "labels.txt"
    labels.write_text("owl\nfox\n")
    small = make_tagger(folder / "foreign.onnx", output="float[batch, 2] logits", classes=2)
    describe(small, description_of("efficientat", labels), folder / "animals.onnx")
    return [str(make_tagger(folder / "linear.onnx")), str(folder / "animals.onnx")]


@pytest.fixture(scope="module")
def server(models: list[str]) -> Iterator[Server]:
    with serving(models[0], "--model", models[1]) as started:
        yield started


def test_requests_choose_a_model(server: Server, models: list[str]) -> None:
    assert "models linear.onnx, animals.onnx, listening on" in server.said
    first, second = (Tagger(path) for path in models)
    for query, tagger in (("", first), ("?model=linear.onnx", first), ("?model=animals.onnx", second)):
        _, row = server.ask(f"tag{query}", wav(2))
        assert row["model"]["name"] == tagger.model.name
        assert [tag["label"] for tag in row["tags"]] == [tag.label for tag in tagger.tag(wav(2)).tags]
        assert len(server.ask(f"labels{query}")[1]) == len(tagger.labels)
    status, (head, *_) = ask(server, "model=animals.onnx&window=2", wav(2))
    assert (status, head["labels"], head["model"]) == (200, ["owl", "fox"], "animals.onnx")
    health = server.ask("health")[1]
    assert [model["name"] for model in health["models"]] == ["linear.onnx", "animals.onnx"]
    assert health["model"] == health["models"][0]


@pytest.mark.parametrize("path", ["tag", "windows", "labels"])
def test_an_unknown_model(server: Server, path: str) -> None:
    status, content = server.ask(f"{path}?model=x", None if path == "labels" else wav(1))
    assert (status, content["error"]["message"]) == (400, "no model is named 'x'; served are linear.onnx, animals.onnx")


def test_two_models_of_one_name(models: list[str]) -> None:
    with pytest.raises(ModelError, match=r"^linear\.onnx: two models have this name"):
        Taggers([Tagger(models[0]), Tagger(models[0])])


def test_the_page_offers_the_models(server: Server, browser: Any, tmp_path: Path) -> None:
    browser.get(server.url)
    until(lambda: "Model linear.onnx, 527 classes" in browser.find_element("id", "model").text)
    (tmp_path / "a.wav").write_bytes(wav(3))
    browser.find_element("id", "file").send_keys(str(tmp_path / "a.wav"))

    def tags() -> list[str]:
        script = "return [...document.querySelectorAll('#tags .name')].map((each) => each.textContent)"
        found: list[str] = browser.execute_script(script)
        return found

    until(lambda: len(tags()) == 10)
    choice = browser.find_element("id", "models")
    assert [option.text for option in choice.find_elements("tag name", "option")] == ["linear.onnx", "animals.onnx"]
    choice.send_keys("animals.onnx")
    until(lambda: sorted(tags()) == ["fox", "owl"])
    assert "Model animals.onnx, 2 classes" in browser.find_element("id", "model").text
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
