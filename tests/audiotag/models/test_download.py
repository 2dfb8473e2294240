"""Downloads of models."""

from __future__ import annotations

import errno
import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import tinyonnx
from audiotag.models import download
from audiotag.models.catalog import model_path, pull, resolve
from audiotag.models.releases import MODELS
from tests.audiotag.models.releases import left_over, refusal

pytestmark = pytest.mark.usefixtures("home")


def test_pull(releases, pinned, home, checkpoint):
    told = []
    path = pull("mn01_as", releases.url, lambda have, total: told.append((have, total)))
    assert path == model_path("mn01_as")
    assert left_over(home) == ["mn01_as.onnx"]
    assert told[-1] == (len(releases.data), len(releases.data))
    assert [h for h, _ in told] == sorted(h for h, _ in told)

    model = resolve("mn01_as")
    assert (model.source, model.trained) == (str(path), True)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    graph = tinyonnx.InferenceSession(path).graph
    assert graph.metadata["custom:source"] == pinned.asset
    assert graph.metadata["custom:source_sha256"] == pinned.sha256

    assert pull("mn01_as", releases.url) == path
    assert len(releases.requests) == 1


def test_pull_resumes_after_a_cut(releases, pinned, home):
    releases.cut_after = 100_000
    message = refusal("mn01_as", releases.url)
    assert f"100000 of {len(releases.data)} bytes" in message
    assert left_over(home) == [f"{pinned.asset}.part"]
    releases.cut_after = None
    pull("mn01_as", releases.url)
    assert releases.requests == [None, "bytes=100000-"]
    assert left_over(home) == ["mn01_as.onnx"]


def test_pull_starts_over_where_the_server_can_not_resume(releases, pinned, home):
    releases.cut_after = 1000
    refusal("mn01_as", releases.url)
    releases.cut_after, releases.ranges = None, False
    pull("mn01_as", releases.url)
    assert left_over(home) == ["mn01_as.onnx"]


def test_a_part_that_does_not_fit_is_dropped(releases, pinned, monkeypatch, home):
    monkeypatch.setitem(MODELS, "mn01_as", replace(pinned, size=None))
    part = home / "models" / f"{pinned.asset}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(releases.data) + 1))
    assert "pull again" in refusal("mn01_as", releases.url)
    pull("mn01_as", releases.url)
    assert left_over(home) == ["mn01_as.onnx"]


def test_a_part_that_is_whole_is_not_fetched_again(releases, home):
    part = home / "models" / f"{MODELS['mn01_as'].asset}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(releases.data)
    pull("mn01_as", releases.url)
    assert releases.requests == [f"bytes={len(releases.data)}-"]
    assert left_over(home) == ["mn01_as.onnx"]


def test_a_wrong_hash(releases, pinned, home):
    releases.data = releases.data[:-1] + b"!"
    message = refusal("mn01_as", releases.url)
    assert pinned.sha256 in message
    assert hashlib.sha256(releases.data).hexdigest() in message
    assert left_over(home) == []


def test_a_wrong_size(releases, pinned, home):
    releases.data += b"!"
    assert str(pinned.size) in refusal("mn01_as", releases.url)
    assert left_over(home) == []


def test_an_asset_that_is_not_pinned(releases, home):
    assert MODELS["mn01_as"].sha256 is None
    pull("mn01_as", releases.url)
    metadata = tinyonnx.InferenceSession(model_path("mn01_as")).graph.metadata
    assert metadata["custom:source_sha256"] == hashlib.sha256(releases.data).hexdigest()


def test_an_asset_of_another_architecture(releases, home):
    """The file is a checkpoint of mn01."""
    assert "the download is mn01, not mn02" in refusal("mn02_as", releases.url)
    assert left_over(home) == []


def test_an_asset_that_is_far_too_large(releases, home):
    announced = MODELS["mn01_as"].most_bytes + 1
    releases.data += bytes(announced - len(releases.data))
    releases.cut_after = 1 << 20
    assert f"has {announced} bytes, more than the {announced - 1}" in refusal("mn01_as", releases.url)
    assert left_over(home) == []


def test_a_download_that_takes_too_long_resumes(releases, home, monkeypatch):
    monkeypatch.setattr(download, "MAX_SECONDS", -1.0)
    assert "takes longer than -1 s; pull again" in refusal("mn01_as", releases.url)
    assert left_over(home) == ["mn01_as_mAP_298.pt.part"]


def test_an_asset_that_is_no_checkpoint(releases, home):
    releases.data = b"<html>please log in</html>"
    assert "not a checkpoint" in refusal("mn01_as", releases.url)
    assert left_over(home) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_of_the_server(releases, status):
    releases.status = status
    message = refusal("mn01_as", releases.url)
    assert message.startswith("mn01_as: ")
    assert str(status) in message


def test_offline():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        message = refusal("mn01_as", f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert "offline" in message
    assert message.startswith("mn01_as: ")


def test_only_http():
    assert "http" in refusal("mn01_as", "file:///etc")


def test_a_full_disk(releases, monkeypatch):
    class Full:
        def __init__(self, *_: object) -> None:
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", *arguments):
        return Full() if "b" in mode and str(path).endswith(".part") else open(path, mode, *arguments)

    monkeypatch.setattr(download, "open", opened, raising=False)
    assert "disk is full" in refusal("mn01_as", releases.url)


def test_a_cache_that_can_not_be_made(releases, home):
    home.write_text("a file where the folder should be")
    assert str(home) in refusal("mn01_as", releases.url)


def test_concurrent_pulls_download_once(releases, pinned, home):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: pull("mn01_as", releases.url), range(4)))
    assert set(paths) == {model_path("mn01_as")}
    assert len(releases.requests) == 1
    assert left_over(home) == ["mn01_as.onnx"]
