"""Fixtures for resources outside of the repository: real weights, real recordings, PyTorch's numbers, a browser."""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

try:
    import fcntl
except ImportError:
    fcntl = None  # on Windows, where two workers may do the same work

os.environ.setdefault("HYPOTHESIS_NO_PLUGINS", "1")  # other packages' take half a second to import
import hypothesis

from audiotag.models import catalog
from onnx_conformance.suite.cases import Case, load_suite
from tinyonnx import passes

passes.VERIFY_EACH = True

# nothing that is made while tests are collected is garbage, and looking for it would take half of the time
gc.disable()

# tests pass on busy machines, too: neither an example nor the making of one has a time limit;
# examples are the same in every run, and the fuzzers look for new ones
hypothesis.settings.register_profile(
    "any speed", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any speed")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # shells start background jobs with SIGINT ignored; tests send it to child processes, which inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("CI"):
    # the extra `dev` has every package that tests ask for: in CI none of them is skipped

    def _must_import(name: str, *_: object, **__: object) -> Any:
        return importlib.import_module(name)

    pytest.importorskip = _must_import

ROOT = Path(__file__).resolve().parents[1]

TARGETS = (
    "tests/audiotag/standalone/test_build.py",
    "tests/audiotag/standalone/test_other_models.py",
    "tests/audiotag/standalone/test_sanitizers.py",
    "tests/audiotag/standalone/test_targets.py",
    "tests/audiotag/web",
    "tests/tinyonnx/native",
)
"""Files and folders that build executables, libraries and modules, for this machine and others, and run them."""

TRIALS = (
    "tests/audiotag/test_typing.py",
    "tests/docs/test_site.py",
    "tests/system/acceptance",
    "tests/system/fuzz",
)
"""Files and folders that try out whole programs as their users do: packages, pages, benchmarks, other tools.

Tests in a browser are trials, too.
"""

SLOW = (
    *TARGETS,
    *TRIALS,
    "tests/audiotag/commands/test_serve.py",
    "tests/audiotag/crawl/test_pool.py",
    "tests/audiotag/crawl/test_progress.py",
    "tests/audiotag/crawl/test_run.py",
    "tests/audiotag/crawl/test_signals.py",
    "tests/audiotag/crawl/test_workers.py",
    "tests/audiotag/serve",
    "tests/audiotag/standalone",
    "tests/scripts",
    "tests/tinyonnx/codegen/test_code_cache.py",
)
"""Files and folders that take long, build executables, or start many processes."""

LONGEST = (
    "tests/tinyonnx/native/test_targets.py",
    "tests/docs/test_commands.py",
    "tests/audiotag/standalone/test_other_models.py",
    "tests/audiotag/standalone/test_targets.py",
    "tests/audiotag/standalone/test_build.py",
    "tests/system/acceptance/test_packages.py",
    "tests/benchmarks/test_zoo.py",
    "tests/tinyonnx/native/test_library.py",
)
"""The files of targets and trials that take longest, the longest first."""

QUICK = (
    "tests/audiotag/features",
    "tests/audiotag/crawl/test_dispatch.py",
    "tests/audiotag/crawl/test_inputs.py",
    "tests/audiotag/crawl/test_job.py",
    "tests/audiotag/crawl/test_manifests.py",
    "tests/audiotag/crawl/test_worker_queue.py",
    "tests/audiotag/models/test_catalog.py",
    "tests/audiotag/outputs",
    "tests/audiotag/test_errors.py",
    "tests/audiotag/test_events.py",
    "tests/audiotag/test_labels.py",
    "tests/audiotag/test_options.py",
    "tests/audiotag/test_results.py",
    "tests/audiotag/test_tagger.py",
    "tests/docs/test_distribution.py",
    "tests/tinyonnx/kernels/test_conv.py",
    "tests/tinyonnx/kernels/test_elementwise.py",
    "tests/tinyonnx/kernels/test_gemm.py",
    "tests/tinyonnx/kernels/test_pool.py",
    "tests/tinyonnx/kernels/test_rows.py",
    "tests/tinyonnx/onnxfile/test_load.py",
    "tests/tinyonnx/ops/test_control.py",
    "tests/tinyonnx/ops/test_sequence.py",
    "tests/tinyonnx/ops/test_shape.py",
    "tests/tinyonnx/ops/test_tensor.py",
    "tests/tinyonnx/ort",
    "tests/tinyonnx/passes",
    "tests/tinyonnx/runtime/test_arena.py",
    "tests/tinyonnx/runtime/test_item_loops.py",
    "tests/tinyonnx/runtime/test_plan.py",
    "tests/tinyonnx/runtime/test_planner.py",
    "tests/tinyonnx/runtime/test_shape_independent.py",
    "tests/tinyonnx/sizes",
    "tests/tinyonnx/test_custom_ops.py",
    "tests/tinyonnx/test_ir.py",
    "tests/tinyonnx/test_registry.py",
)
"""A selection across the packages that answers within half a minute."""


@cache
def _is_below(path: Path, places: tuple[str, ...]) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name == place or name.startswith(f"{place}/") for place in places)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Return one more than the processors for `-n auto`, because some tests wait for processes that they started."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or not hasattr(os, "sched_getaffinity"):
        return None
    return len(os.sched_getaffinity(0)) + 1


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't import the files of tests that `-m` leaves out, because that takes seconds; files that are named stay."""
    if not collection_path.is_file() or not collection_path.name.startswith("test_"):
        return None
    if collection_path in {Path(config.invocation_params.dir, name.partition("::")[0]) for name in config.args}:
        return None
    match config.getoption("markexpr"):
        case "quick":
            left_out = not _is_below(collection_path, QUICK)
        case "not targets and not trials":
            left_out = _is_below(collection_path, (*TARGETS, *TRIALS))
        case _:
            left_out = False
    return left_out or None


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but nothing of what there is."""
    gc.enable()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by where they are, and begin with the longest, so that no worker is left alone with one."""
    for item in items:
        for name, places in (("targets", TARGETS), ("trials", TRIALS)):
            if _is_below(item.path, places) or (name == "trials" and "browser" in getattr(item, "fixturenames", ())):
                item.add_marker(name)
        if _is_below(item.path, SLOW) or item.get_closest_marker("targets") or item.get_closest_marker("trials"):
            item.add_marker("slow")
        elif _is_below(item.path, QUICK):
            item.add_marker("quick")
    order = {ROOT / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, order.get(item.path, len(order))))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout; tests that need it skip without, but not in CI."""
    path = ROOT.parent / "shared"
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
def onnx_cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """All cases of onnx's backend suite. Computing them takes seconds, so that one worker does it for all."""
    run = tmp_path_factory.getbasetemp()
    stored = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "onnx_cases.pickle"
    with stored.with_suffix(".lock").open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not stored.exists():
            own = run / "onnx_cases.part"
            own.write_bytes(pickle.dumps(load_suite()))
            own.replace(stored)
    cases: list[Case] = pickle.loads(stored.read_bytes())
    return cases


@pytest.fixture
def browser(chromium: Any) -> Any:
    """Selenium's driver of a headless Chromium with an empty page and an empty log."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    return chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Selenium's driver of a headless Chromium that logs errors of pages; tests take `browser`."""
    web = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        assert not os.environ.get("CI"), "CI must have a browser"
        pytest.skip("no chromium and chromedriver here")
    options = web.ChromeOptions()
    options.binary_location = chromium
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1500,900"]
    # a microphone that beeps once a second
    arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = web.Chrome(options=options, service=web.ChromeService(driver))
    yield started
    started.quit()
