"""Decoder processes: crashes, hangs, and clients that leave."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn")

from audiotag.crawl.job import EncodedRows, End
from audiotag.errors import AudioError, CrashError, Error
from audiotag.serve import decoders as module
from audiotag.serve.decoders import ClientGoneError, Decoders, Decoding, Sound, TooLongError
from audiotag.sound import audio
from audiotag.sound.audio import RawFormat
from tests.audiotag.crawl.jobs import wait_for
from tests.audiotag.serve.servers import Server, wav


class Odd(Decoding):
    """Work that the name of a sound controls."""

    def events(self, item: Sound) -> Iterator[EncodedRows | End]:
        if item.name == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if item.name == "exit":
            os._exit(3)
        if item.name == "hang":
            time.sleep(100_000)
        yield from super().events(item)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoders]:
    monkeypatch.setattr(module, "Decoding", Odd)
    decoders = Decoders()
    decoders.start()
    yield decoders
    decoders.close()


def sound(name: str = "a.wav", data: bytes | None = None, max_seconds: float = 10) -> Sound:
    return Sound(name, wav() if data is None else data, max_seconds)


def test_samples_are_those_of_the_file(odd: Decoders) -> None:
    for data in (wav(), wav(2.5, 44100)):
        np.testing.assert_array_equal(odd.decode(sound(data=data)), audio.read(data))
    samples = np.arange(-1000, 1000, dtype="<i2")
    found = odd.decode(Sound("x", samples.tobytes(), 10, RawFormat("s16le", 32000)))
    np.testing.assert_array_equal(found, samples / np.float32(32768))


@pytest.mark.parametrize(("name", "how"), [("crash", "SIGSEGV"), ("exit", "exit code 3")])
def test_a_crash_costs_one_sound(name: str, how: str, odd: Decoders) -> None:
    for _ in range(2):
        with pytest.raises(CrashError, match=f"{name}: crashed the decoder: {how}"):
            odd.decode(sound(name))
        assert len(odd.decode(sound())) == 32000


def test_errors_of_sounds(odd: Decoders) -> None:
    with pytest.raises(AudioError, match=r"^x: is empty$"):
        odd.decode(sound("x", b""))
    with pytest.raises(TooLongError, match=r"^x: longer than 2 s$"):
        odd.decode(sound("x", wav(3), 2))
    assert len(odd.decode(sound())) == 32000


def test_a_decoder_that_takes_too_long(odd: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DECODE_SECONDS", 0.5)
    with pytest.raises(AudioError, match=r"hang: decoding took longer than 0\.5 s"):
        odd.decode(sound("hang"))


def test_a_sound_that_nobody_waits_for(odd: Decoders) -> None:
    gone = threading.Event()
    threading.Timer(0.2, gone.set).start()
    with pytest.raises(ClientGoneError):
        odd.decode(sound("hang"), gone)
    assert len(odd.decode(sound())) == 32000


def test_no_decoder_after_the_end(odd: Decoders) -> None:
    odd.close()
    with pytest.raises(Error):
        odd.decode(sound())


def children(pid: int) -> list[int]:
    """Return the processes that descend from one."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *children(child)]
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_the_server_survives_the_death_of_its_decoders(server: Server) -> None:
    assert server.ask("tag", wav())[0] == 200
    killed = children(server.process.pid)
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").is_symlink() and _alive(pid) for pid in killed), "not killed")
    assert server.ask("tag", wav())[0] == 200


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
