"""The static page, in a real browser."""

from __future__ import annotations

import functools
import json
import re
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audiotag import Tagger
from audiotag.cli import main
from audiotag.commands.demo import synthesise
from tests.audiotag.serve.servers import until
from tests.audiotag.standalone.programs import program

pytest.importorskip("ziglang")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadingHTTPServer]:
    folder = tmp_path_factory.mktemp("web") / "site"
    program("wasm", tmp_path_factory)  # compiles the kernels that the page has, too
    assert main(["web", "-o", str(folder)]) == 0

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def page(site: ThreadingHTTPServer, browser: Any) -> Any:
    browser.get(f"http://127.0.0.1:{site.server_port}/")
    until(lambda: "computed on this device" in browser.find_element("id", "model").text)
    return browser


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, sound = tmp_path_factory.mktemp("clips"), synthesise()
    soundfile.write(folder / "one.wav", sound, 32000, subtype="FLOAT")
    soundfile.write(folder / "two.flac", sound[:96000], 32000)
    (folder / "text.wav").write_text("no sound")
    return {path.name: path for path in folder.iterdir()}


def errors(browser: Any) -> list[Any]:
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def saved(browser: Any, kind: str) -> str:
    """Return the content of a download."""
    script = """
        const [kind, done] = arguments, create = URL.createObjectURL;
        HTMLAnchorElement.prototype.click = () => {};
        URL.createObjectURL = (blob) => (blob.text().then(done), create.call(URL, blob));
        document.querySelector(`[data-kind=${kind}]`).dispatchEvent(new MouseEvent("click"));
    """
    return str(browser.execute_async_script(script, kind))


def choose(page: Any, *paths: Path) -> None:
    page.find_element("id", "file").send_keys("\n".join(map(str, paths)))


def title(page: Any) -> str:
    """Return the title of the result that is shown, empty while there is none; read in one step."""
    script = """
        const result = document.getElementById("result");
        return result.offsetParent ? document.getElementById("title").textContent : "";
    """
    return str(page.execute_script(script))


def buttons(page: Any) -> list[str]:
    """Return the words of the files' buttons, read in one step."""
    script = "return [...document.querySelectorAll('#files button')].map((button) => button.innerText)"
    return [" ".join(text.split()) for text in page.execute_script(script)]


def is_stopped(page: Any) -> bool:
    return "stopped at" in page.find_element("id", "warning").text


def test_another_page_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.html").write_text("mine")
    assert main(["web", "-o", str(tmp_path)]) == 1
    assert "holds another page, which would be overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_files_are_tagged_as_in_the_package(page: Any, clips: dict[str, Path]) -> None:
    choose(page, clips["one.wav"])
    until(lambda: title(page) == "one.wav, 10.00 s")
    assert page.find_element("id", "of").text == "The whole clip"
    found = json.loads(saved(page, "json"))
    tagger = Tagger()
    expected = {tag.label: tag.score for tag in tagger.tag(clips["one.wav"]).tags}
    assert [tag["label"] for tag in found["tags"]] == list(expected)
    np.testing.assert_allclose([tag["score"] for tag in found["tags"]], list(expected.values()), rtol=0, atol=2e-5)
    windows = list(tagger.tag_windows(clips["one.wav"], 2, 1, threshold=0.2))
    assert [(row["start"], row["end"]) for row in found["windows"]] == [(row.start, row.end) for row in windows]
    for row, theirs in zip(found["windows"], windows, strict=True):
        scores = {tag["label"]: tag["score"] for tag in row["tags"]}
        for tag in theirs.tags:
            assert scores.get(tag.label, 0.2) == pytest.approx(tag.score, abs=4e-5)
    assert saved(page, "csv").startswith("path,start,end,label,score\r\n")
    assert all(len(line.split("\t")) == 3 for line in saved(page, "audacity").splitlines())
    assert errors(page) == []


def test_formats_of_the_browser_and_several_files(page: Any, clips: dict[str, Path]) -> None:
    choose(page, clips["two.flac"], clips["one.wav"])
    until(lambda: title(page) == "one.wav, 10.00 s")
    until(lambda: buttons(page) == ["two.flac 3.0 s", "one.wav 10.0 s"], state=lambda: buttons(page))
    page.execute_script("document.querySelector('#files button').click()")
    until(lambda: title(page) == "two.flac, 3.00 s")
    assert len(page.find_elements("css selector", "#tags li")) == 10
    assert errors(page) == []


def test_a_file_that_is_no_sound(page: Any, clips: dict[str, Path]) -> None:
    choose(page, clips["text.wav"])
    until(lambda: "text.wav: this browser can't decode it" in page.find_element("id", "status").text)
    assert not page.find_element("id", "result").is_displayed()


def test_a_long_recording_shows_results_while_it_is_analysed(page: Any, tmp_path: Path) -> None:
    rate, hours = 1000, 30  # long for any machine, and more bytes than the page decodes for the level
    samples = 3600 * hours * rate
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 2 * samples, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2,
                         16, b"data", 2 * samples)  # fmt: skip
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * samples)  # zeros that take no room
    for _ in range(2):  # after the first time the model is there again
        choose(page, tmp_path / "long.wav")
        until(lambda: "so far" in title(page))
        page.find_element("id", "cancel").click()
        until(lambda: is_stopped(page))
        assert "so far" not in title(page)
    assert not page.find_element("id", "cancel").is_displayed()
    assert errors(page) == []


def test_the_microphone_is_tagged_live(page: Any) -> None:
    page.find_element("id", "record").click()
    until(lambda: page.find_element("id", "status").text.startswith("Now: "))
    assert page.find_element("id", "record").get_attribute("aria-pressed") == "true"
    page.find_element("id", "record").click()
    until(lambda: page.find_element("id", "record").get_attribute("aria-pressed") == "false")
    until(lambda: re.fullmatch("recording [^,]*, [0-9.:]+( s)?", title(page)))
    assert errors(page) == []


def test_works_without_a_network(page: Any, site: ThreadingHTTPServer, clips: dict[str, Path]) -> None:
    page.execute_async_script("navigator.serviceWorker.ready.then(arguments[0])")
    until(lambda: page.execute_script("return caches.keys().then((names) => names.length)") == 1)
    page.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        page.refresh()
        until(lambda: "computed on this device" in page.find_element("id", "model").text)
        choose(page, clips["one.wav"])
        until(lambda: title(page) == "one.wav, 10.00 s")
    finally:
        page.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {**offline, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1},
        )


def test_fits_a_phone(page: Any, clips: dict[str, Path]) -> None:
    size = page.get_window_size()
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        choose(page, clips["one.wav"])
        until(lambda: title(page) == "one.wav, 10.00 s")
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.set_window_size(size["width"], size["height"])
