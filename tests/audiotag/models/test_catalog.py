from __future__ import annotations

import errno
import hashlib
import http.server
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinyonnx
from audiotag import cli
from audiotag.errors import ModelError
from audiotag.models import catalog, download
from audiotag.models.catalog import MODELS, ModelNotFound, model_path, pull, resolve
from audiotag.models.download import PullError
from audiotag.models.mobilenet import random_graph
from tests.audiotag.models import torchfile
from tests.audiotag.models.torchfile import tensor


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of mn01's shapes, as torch.save writes it."""
    state = {v.name: tensor(v.const) for v in random_graph("mn01").initializers if v.name != "spatial_axes"}
    state["features.0.1.num_batches_tracked"] = tensor(np.array(7), "LongStorage")
    return torchfile.save(tmp_path_factory.mktemp("checkpoint") / "mn01.pt", state)


class Server:
    """One file over HTTP, with ranges; `cut_after` ends the connection after so many bytes of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.cut_after: int | None = None
        self.ranges = True
        self.status = 200
        self.requests: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # clients that hang up are part of the tests
        self.url = f"http://127.0.0.1:{self.http.server_port}/release"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(self.data) and wanted:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.data)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.data[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cut_after])

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(checkpoint):
    server = Server(checkpoint.read_bytes())
    yield server
    server.close()


@pytest.fixture
def pinned(monkeypatch, checkpoint):
    """mn01_as with the size and hash of our checkpoint."""
    data = checkpoint.read_bytes()
    model = replace(MODELS["mn01_as"], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(MODELS, "mn01_as", model)
    return model


def refusal(*arguments, error=PullError, **options) -> str:
    with pytest.raises(error) as caught:
        pull(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def left_over(home: Path) -> list[str]:
    return sorted(p.name for p in (home / "models").iterdir() if p.suffix != ".lock")


# -- pull ---------------------------------------------------------------------------------


def test_pull(server, pinned, home, checkpoint):
    told = []
    path = pull("mn01_as", server.url, lambda have, total: told.append((have, total)))
    assert path == model_path("mn01_as")
    assert left_over(home) == ["mn01_as.onnx"]
    assert told[-1] == (len(server.data), len(server.data))
    assert [h for h, _ in told] == sorted(h for h, _ in told)

    model = resolve("mn01_as")
    assert (model.source, model.trained) == (str(path), True)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    graph = tinyonnx.InferenceSession(path).graph
    assert graph.metadata["custom:source"] == pinned.asset
    assert graph.metadata["custom:source_sha256"] == pinned.sha256

    assert pull("mn01_as", server.url) == path
    assert len(server.requests) == 1


def test_pull_resumes_after_a_cut(server, pinned, home):
    server.cut_after = 100_000
    message = refusal("mn01_as", server.url)
    assert f"100000 of {len(server.data)} bytes" in message
    assert left_over(home) == [f"{pinned.asset}.part"]
    server.cut_after = None
    pull("mn01_as", server.url)
    assert server.requests == [None, "bytes=100000-"]
    assert left_over(home) == ["mn01_as.onnx"]


def test_pull_starts_over_where_the_server_can_not_resume(server, pinned, home):
    server.cut_after = 1000
    refusal("mn01_as", server.url)
    server.cut_after, server.ranges = None, False
    pull("mn01_as", server.url)
    assert left_over(home) == ["mn01_as.onnx"]


def test_a_part_that_does_not_fit_is_dropped(server, pinned, monkeypatch, home):
    monkeypatch.setitem(MODELS, "mn01_as", replace(pinned, size=None))
    part = home / "models" / f"{pinned.asset}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(server.data) + 1))
    assert "pull again" in refusal("mn01_as", server.url)
    pull("mn01_as", server.url)
    assert left_over(home) == ["mn01_as.onnx"]


def test_a_part_that_is_whole_is_not_fetched_again(server, home):
    part = home / "models" / f"{MODELS['mn01_as'].asset}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.data)
    pull("mn01_as", server.url)
    assert server.requests == [f"bytes={len(server.data)}-"]
    assert left_over(home) == ["mn01_as.onnx"]


def test_a_wrong_hash(server, pinned, home):
    server.data = server.data[:-1] + b"!"
    message = refusal("mn01_as", server.url)
    assert pinned.sha256 in message
    assert hashlib.sha256(server.data).hexdigest() in message
    assert left_over(home) == []


def test_a_wrong_size(server, pinned, home):
    server.data += b"!"
    assert str(pinned.size) in refusal("mn01_as", server.url)
    assert left_over(home) == []


def test_an_asset_that_is_not_pinned(server, home):
    assert MODELS["mn01_as"].sha256 is None
    pull("mn01_as", server.url)
    metadata = tinyonnx.InferenceSession(model_path("mn01_as")).graph.metadata
    assert metadata["custom:source_sha256"] == hashlib.sha256(server.data).hexdigest()


def test_an_asset_that_is_no_checkpoint(server, home):
    server.data = b"<html>please log in</html>"
    assert "not a checkpoint" in refusal("mn01_as", server.url)
    assert left_over(home) == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_of_the_server(server, status):
    server.status = status
    message = refusal("mn01_as", server.url)
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


def test_a_full_disk(server, monkeypatch):
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
    assert "disk is full" in refusal("mn01_as", server.url)


def test_a_cache_that_can_not_be_made(server, home):
    home.write_text("a file where the folder should be")
    assert str(home) in refusal("mn01_as", server.url)


def test_concurrent_pulls_download_once(server, pinned, home):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: pull("mn01_as", server.url), range(4)))
    assert set(paths) == {model_path("mn01_as")}
    assert len(server.requests) == 1
    assert left_over(home) == ["mn01_as.onnx"]


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


def audiotag(*arguments) -> int:
    return cli.main(["models", *map(str, arguments)])


def test_list(capsys):
    assert audiotag("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(MODELS)
    assert lines[1].startswith("audiotag-tiny")
    assert "bundled with audiotag" in lines[1]
    assert any(line.startswith("mn10_as ") and "4,876,831" in line and "to be pulled" in line for line in lines)


def test_convert_and_info(checkpoint, tmp_path, capsys):
    out = tmp_path / "mn01.onnx"
    assert audiotag("convert", checkpoint, out) == 0
    assert audiotag("info", out) == 0
    text = capsys.readouterr().out
    assert hashlib.sha256(out.read_bytes()).hexdigest() in text
    assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() in text
    for fact in ("123,783", "527", "melspec tensor(float) (batch, 1, 128, time)", "embedding tensor(float)"):
        assert fact in text


def test_pull_command(server, monkeypatch, capsys):
    real = catalog.pull
    monkeypatch.setattr(catalog, "pull", lambda name, progress: real(name, server.url, progress))
    assert audiotag("pull", "mn01_as") == 0
    text = capsys.readouterr().out
    assert str(model_path("mn01_as")) in text
    assert "not pinned" in text
    assert hashlib.sha256(server.data).hexdigest() in text
    assert audiotag("info", "mn01_as") == 0
    assert audiotag("list") == 0
    assert "on this machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "mn10_as"),
        ("info", "nosuch"),
        ("pull", "nosuch"),
        ("convert", "nosuch.pt", "out.onnx"),
    ],
)
def test_errors_are_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert audiotag(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("audiotag: ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_convert_to_where_nothing_can_be_written(checkpoint, tmp_path, capsys):
    assert audiotag("convert", checkpoint, tmp_path / "no" / "out.onnx") == 1
    assert audiotag("convert", checkpoint, tmp_path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(str(tmp_path) in line for line in lines)
