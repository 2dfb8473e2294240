"""The page, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.audiotag.serve.servers import Server, until, wav

pytest.importorskip("uvicorn")


def test_the_page_tags_a_file(server: Server, tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "noise.wav"
    path.write_bytes(wav(8))
    browser.get(server.url)
    browser.find_element("id", "file").send_keys(str(path))
    until(lambda: len(browser.find_elements("css selector", ".cells")) == 8)
    assert "noise.wav, 8.00 s" in browser.find_element("id", "title").text
    assert len(browser.find_elements("css selector", "#tags li")) == 10
    assert browser.execute_script("return document.getElementById('mel').naturalWidth") > 100
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_page_says_what_is_wrong(server: Server, tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "text.wav"
    path.write_text("no sound")
    browser.get(server.url)
    browser.find_element("id", "file").send_keys(str(path))
    until(lambda: "not sound in a format" in browser.find_element("id", "status").text)
    assert not browser.find_element("id", "result").is_displayed()
