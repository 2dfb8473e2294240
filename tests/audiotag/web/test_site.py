"""The static page, in a real browser."""

from __future__ import annotations

import functools
import json
import re
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

pytest.importorskip("ziglang")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadingHTTPServer]:
    folder = tmp_path_factory.mktemp("web") / "site"
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
    until(lambda: browser.find_element("id", "files").is_enabled())
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


def saved(browser: Any, format: str) -> str:
    """The content of a download."""
    script = """
        const [format, done] = arguments, create = URL.createObjectURL;
        HTMLAnchorElement.prototype.click = () => {};
        URL.createObjectURL = (blob) => (blob.text().then(done), create.call(URL, blob));
        document.querySelector(`[data-format=${format}]`).dispatchEvent(new MouseEvent("click"));
    """
    return str(browser.execute_async_script(script, format))


def test_another_page_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.html").write_text("mine")
    assert main(["web", "-o", str(tmp_path)]) == 1
    assert "holds another page, which would be overwritten" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_files_are_tagged_as_in_the_package(page: Any, clips: dict[str, Path]) -> None:
    page.find_element("id", "files").send_keys(f"{clips['one.wav']}\n{clips['two.flac']}")
    until(lambda: len(page.find_elements("css selector", ".clip")) == 2)
    until(lambda: page.find_element("id", "status").text == "")
    titles = [element.text for element in page.find_elements("css selector", ".clip h2")]
    assert titles == ["two.flac, 3.00 s", "one.wav, 10.00 s"]
    assert len(page.find_elements("css selector", ".clip .cells")) == 16
    cells = page.execute_script(
        "return [...document.querySelectorAll('.cells i')].map((cell) => [cell.title, Number(cell.style.opacity)])"
    )
    known = re.compile(r".*? (below )?(\d\.\d{3}), (\d+\.\d) to (\d+\.\d) s")
    for title, opacity in cells:
        found = known.fullmatch(title)
        assert found is not None
        assert float(found[4]) - float(found[3]) == pytest.approx(2)
        assert opacity == (0 if found[1] else pytest.approx(float(found[2]), abs=6e-4))
    assert any(opacity == 0 for _, opacity in cells)
    rows = [json.loads(line) for line in saved(page, "json").splitlines()]
    whole = next(row for row in rows if row["path"] == "one.wav")
    expected = {tag.label: tag.score for tag in Tagger().tag(clips["one.wav"]).tags}
    assert [tag["label"] for tag in whole["tags"]] == list(expected)
    np.testing.assert_allclose([tag["score"] for tag in whole["tags"]], list(expected.values()), rtol=0, atol=2e-5)
    assert saved(page, "csv").startswith("path,start,end,label,score\n")
    assert all(len(line.split("\t")) == 3 for line in saved(page, "txt").splitlines())
    assert errors(page) == []


def test_a_file_is_played_from_where_the_waveform_is_clicked(page: Any, clips: dict[str, Path]) -> None:
    page.find_element("id", "files").send_keys(str(clips["one.wav"]))
    until(lambda: page.find_elements("css selector", ".clip"))
    until(lambda: page.execute_script("return document.querySelector('audio').duration > 9"))
    page.find_element("css selector", ".wave").click()  # in the middle
    until(lambda: page.execute_script("return Math.abs(document.querySelector('audio').currentTime - 5) < 0.5"))


def test_a_file_that_is_no_sound(page: Any, clips: dict[str, Path]) -> None:
    page.find_element("id", "files").send_keys(str(clips["text.wav"]))
    until(lambda: "text.wav: this browser can't decode it" in page.find_element("id", "status").text)
    assert not page.find_elements("css selector", ".clip")


def test_the_microphone_is_tagged_live(page: Any) -> None:
    page.find_element("id", "live").click()
    until(lambda: len(page.find_elements("css selector", "#now-tags li")) == 10)
    assert page.find_element("id", "live").get_attribute("aria-pressed") == "true"
    page.find_element("id", "live").click()
    until(lambda: page.find_element("id", "live").get_attribute("aria-pressed") == "false")
    assert errors(page) == []


def test_works_without_a_network(page: Any, site: ThreadingHTTPServer, clips: dict[str, Path]) -> None:
    page.execute_async_script("navigator.serviceWorker.ready.then(arguments[0])")
    until(lambda: page.execute_script("return caches.keys().then((names) => names.length)") == 1)
    page.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        page.refresh()
        until(lambda: page.find_element("id", "files").is_enabled())
        page.find_element("id", "files").send_keys(str(clips["one.wav"]))
        until(lambda: page.find_elements("css selector", ".clip"))
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
        page.find_element("id", "files").send_keys(str(clips["one.wav"]))
        until(lambda: page.find_elements("css selector", ".clip"))
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.set_window_size(size["width"], size["height"])
