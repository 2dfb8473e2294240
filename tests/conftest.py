"""Fixtures for what lies outside the repository: real weights, real recordings, PyTorch's numbers, a browser."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audiotag.models import catalog

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # shells start background jobs with SIGINT ignored; tests send it to child processes, which inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout; tests that need it skip without, but not in CI."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        assert not os.environ.get("CI"), f"CI must have {path}: real weights and recordings"
        pytest.skip("needs ../shared: real weights and recordings")
    return path


@pytest.fixture(scope="session")
def mn04(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientAT's mn04_as as we convert it from its checkpoint."""
    path = tmp_path_factory.mktemp("mn04") / "mn04.onnx"
    catalog.convert(shared / "data/mn04_as_mAP_432.pt", path)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Selenium's driver of a headless Chromium that logs what pages say."""
    web = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        assert not os.environ.get("CI"), "CI must have a browser"
        pytest.skip("no chromium and chromedriver here")
    options = web.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1500,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = web.Chrome(options=options, service=web.ChromeService(driver))
    yield started
    started.quit()
