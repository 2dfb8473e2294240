"""The page, in a real browser."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.audiotag.serve.servers import Server, until, wav

pytest.importorskip("uvicorn")

ARROW_RIGHT, ARROW_LEFT, HOME, END = "\ue014", "\ue012", "\ue011", "\ue010"


@pytest.fixture
def page(server: Server, browser: Any) -> Any:
    browser.get(server.url)
    until(lambda: "classes" in browser.find_element("id", "model").text)
    return browser


def choose(page: Any, *paths: Path) -> None:
    page.find_element("id", "file").send_keys("\n".join(map(str, paths)))


def is_done(page: Any) -> bool:
    shown = page.find_element("id", "result").is_displayed()
    return shown and "so far" not in page.find_element("id", "title").text


def burst(path: Path, start: float, end: float, seconds: float = 10, rate: int = 32000) -> Path:
    samples = np.zeros(int(seconds * rate), np.float32)
    inside = slice(round(start * rate), round(end * rate))
    samples[inside] = np.random.default_rng(0).standard_normal(len(samples[inside])) * 0.3
    soundfile.write(path, samples, rate)
    return path


def severe(page: Any) -> list[Any]:
    return [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_file(page: Any, tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    path.write_bytes(wav(8))
    choose(page, path)
    until(lambda: is_done(page))
    assert "noise.wav, 8.00 s" in page.find_element("id", "title").text
    assert len(page.find_elements("css selector", "#tags li")) == 10
    until(lambda: page.execute_script("return document.getElementById('mel').naturalWidth") > 100)
    assert 1 <= len(page.find_elements("css selector", "canvas.cells")) <= 12
    assert "0.000" not in page.find_element("tag name", "main").text
    assert severe(page) == []


def cells(page: Any, label: str) -> list[tuple[float, float, float]]:
    """Begin and end of each cell of a class in seconds, and its opacity, as they are drawn."""
    search = page.find_element("id", "search")
    search.clear()
    search.send_keys(label)
    alpha = page.execute_script(
        "const c = [...document.querySelectorAll('canvas.cells')].find(c => c.dataset.label === arguments[0]);"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, 1).data].filter((_, i) => i % 4 === 3)",
        label,
    )
    borders = [0, *(i for i in range(1, len(alpha)) if alpha[i] != alpha[i - 1]), len(alpha)]
    scale = 10 / len(alpha)
    return [(a * scale, b * scale, alpha[a] / 255) for a, b in pairwise(borders)]


def test_cells_lie_around_the_middle_of_their_windows(page: Any, server: Server, tmp_path: Path) -> None:
    path = burst(tmp_path / "burst.wav", 4.9, 5.1)
    choose(page, path)
    until(lambda: is_done(page))
    _, rows = server.ask("tag?window=2&hop=1&top=527", path.read_bytes())
    label = rows[4]["tags"][0]["label"]  # of the window from 4 to 6 s
    scores = {row["start"]: next(t["score"] for t in row["tags"] if t["label"] == label) for row in rows}
    drawn = cells(page, label)
    for start, score in scores.items():
        inside = [opacity for begin, end, opacity in drawn if begin <= start + 1 < end]
        assert inside == [pytest.approx(score, abs=0.006)], "the opacity is the score, at the middle of the window"
    begin, end = next((b, e) for b, e, _ in drawn if b <= 5 < e)
    assert (begin + end) / 2 == pytest.approx(5, abs=0.6 if end - begin > 1.1 else 0.02)


def test_several_files_and_an_error(page: Any, tmp_path: Path) -> None:
    names = ["one.wav", "two.wav", "text.wav"]
    for name in names[:2]:
        (tmp_path / name).write_bytes(wav(3, seed=len(name)))
    (tmp_path / "text.wav").write_text("no sound")
    choose(page, *(tmp_path / name for name in names))
    until(lambda: "not sound in a format" in page.find_element("id", "status").text)
    assert not page.find_element("id", "result").is_displayed(), "an error clears the old result"
    buttons = page.find_elements("css selector", "#files button")
    assert [button.text.split("\n")[0] for button in buttons] == names
    assert [button.text.split("\n")[1] for button in buttons] == ["3.0 s", "3.0 s", "failed"]
    buttons[0].click()
    assert "one.wav" in page.find_element("id", "title").text
    assert page.find_element("id", "status").text == ""


def test_keys_move_the_position(page: Any, tmp_path: Path) -> None:
    choose(page, burst(tmp_path / "burst.wav", 4, 5))
    until(lambda: is_done(page))
    scrub = page.find_element("id", "scrub")
    places = []
    for key in (ARROW_RIGHT, ARROW_RIGHT, ARROW_LEFT, END, HOME):
        scrub.send_keys(key)
        places.append(float(scrub.get_attribute("aria-valuenow")))
    assert places == [1, 2, 1, 10, 0]
    assert scrub.get_attribute("aria-valuemax") == "10.0"
    assert "0.0 s: " in scrub.get_attribute("aria-valuetext")


def test_threshold_and_search_select_classes(page: Any, tmp_path: Path) -> None:
    choose(page, burst(tmp_path / "burst.wav", 4, 5))
    until(lambda: is_done(page))

    def labels() -> list[str]:
        return [name.text for name in page.find_elements("css selector", "#rows .name")]

    page.execute_script(
        "const t = document.getElementById('threshold'); t.value = 0.01; t.dispatchEvent(new Event('input'))"
    )
    assert len(labels()) == 12
    page.find_element("id", "search").send_keys("bark")
    assert labels() == ["Bark"]


def downloaded(page: Any, kind: str) -> str:
    script = """
        const done = arguments[1], make = URL.createObjectURL;
        URL.createObjectURL = (blob) => { blob.text().then(done); URL.createObjectURL = make; return "#"; };
        document.querySelector(`[data-kind=${arguments[0]}]`).click();
    """
    return str(page.execute_async_script(script, kind))


def test_downloads(page: Any, server: Server, tmp_path: Path) -> None:
    path = burst(tmp_path / 'a, "b".wav', 4, 5)
    choose(page, path)
    until(lambda: is_done(page))
    page.execute_script(
        "const t = document.getElementById('threshold'); t.value = 0.05; t.dispatchEvent(new Event('input'))"
    )
    page.execute_script("HTMLAnchorElement.prototype.click = () => {}")
    content = json.loads(downloaded(page, "json"))
    _, rows = server.ask("tag?window=2&hop=1&top=527&threshold=0.05", path.read_bytes())
    assert [(w["start"], w["end"]) for w in content["windows"]] == [(row["start"], row["end"]) for row in rows]
    for ours, row in zip(content["windows"], rows):
        expected = {tag["label"]: pytest.approx(tag["score"], abs=2e-5) for tag in row["tags"]}
        assert {tag["label"]: tag["score"] for tag in ours["tags"]} == expected
    import csv

    table = list(csv.reader(io.StringIO(downloaded(page, "csv"))))
    assert table[0] == ["path", "start", "end", "label", "score"]
    assert len(table) - 1 == sum(len(row["tags"]) for row in rows)
    assert {row[0] for row in table[1:]} == {path.name}
    regions = [line.split("\t") for line in downloaded(page, "audacity").splitlines()]
    assert regions
    assert all(0 <= float(start) < float(end) <= 10 for start, end, _ in regions)
    assert {label for *_, label in regions} == {tag["label"] for row in rows for tag in row["tags"]}


def test_live_tags_while_recording(page: Any) -> None:
    page.find_element("id", "record").click()
    until(lambda: page.find_element("id", "status").text.startswith("Now: "))
    assert "microphone" in page.find_element("id", "title").text
    assert len(page.find_elements("css selector", "#tags li")) == 10
    page.find_element("id", "record").click()
    until(lambda: is_done(page) and page.find_element("id", "title").text.startswith("recording"))
    assert severe(page) == []


def test_a_recording_longer_than_requests_may_be(page: Any, tmp_path: Path) -> None:
    """The server of these tests takes sounds of 20 s and uploads of 2 MiB in one request."""
    rate = 32000
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(0).standard_normal(60 * rate) * 0.1, rate)
    assert path.stat().st_size > 2 << 20
    choose(page, path)
    until(lambda: is_done(page))
    assert "long.wav, 1:00" in page.find_element("id", "title").text
    assert [span.text for span in page.find_elements("css selector", "#axis span")] == [
        "0.0 s", "15.0 s", "30 s", "45 s", "1:00"
    ]  # fmt: skip


def test_an_analysis_that_is_stopped(page: Any, tmp_path: Path) -> None:
    rate, hours = 1000, 20
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", rate, 1, format="FLAC") as file:  # long for any machine, in few bytes
        for _ in range(hours):
            file.write(np.zeros(3600 * rate, np.int16))
    choose(page, path)
    until(
        lambda: "so far" in page.find_element("id", "title").text,
        state=lambda: page.find_element("tag name", "main").text,
    )
    page.find_element("id", "cancel").click()
    until(lambda: "the rest was not analysed" in page.find_element("id", "warning").text)
    until(lambda: is_done(page) and not page.find_element("id", "cancel").is_displayed())


@pytest.mark.parametrize("width", [390, 1100])
def test_nothing_is_cut_off(page: Any, width: int, tmp_path: Path) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        choose(page, burst(tmp_path / "burst.wav", 4, 5))
        until(lambda: is_done(page))
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        for name in ("record", "search", "threshold", "scrub"):
            box = page.find_element("id", name).rect
            assert 0 <= box["x"] < box["x"] + box["width"] <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
