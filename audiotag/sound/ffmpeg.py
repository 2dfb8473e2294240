"""Sound that libsndfile can't read (AAC in m4a, webm, video files …), by FFmpeg through the extra `formats`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from audiotag.errors import AudioError
from audiotag.sound.pcm import BLOCK

if TYPE_CHECKING:
    from tinyonnx.ir import Array

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("m4a", "m4b", "aac", "mka", "weba", "wma", "ac3", "eac3", "amr", "ape", "wv", "tta", "dts", "ra", "spx"),
        *("mp4", "m4v", "mov", "webm", "mkv", "avi", "wmv", "flv", "3gp", "3g2", "mpg", "mpeg", "m2ts", "mts", "ogv"),
    )
)
"""Suffixes of files that count as sound when a folder is searched."""

HINT = "FFmpeg may read it: pip install 'tinyonnx[formats]'"
"""Advice in errors if the extra is not installed."""

_ONLY_THIS_FILE = {"protocol_whitelist": "none"}
"""Options without which FFmpeg would follow playlists to other files, and to addresses in the network."""

_READS_ANY_METADATA = 19
"""From this version of PyAV on, metadata that are not UTF-8 need no option."""

_GUESSED_DURATION = frozenset(("aac", "mp3", "ac3", "eac3", "dts", "mpeg", "mpegts", "loas", "amr", "g722", "g726"))
"""Formats without a duration of their own: FFmpeg computes one from the bit rate, or the last time stamps."""

_GAP = 0.1
"""Seconds by which a time stamp may differ from the samples before it."""

_BACK = 1.0
"""Seconds by which time stamps must jump back to begin another recording, as in concatenated files."""

_LONGEST_GAP = 86400.0
"""Maximum seconds without packets in a file that count as silence; time stamps that jump farther are damaged."""


class Container:
    """The first audio track of a file.

    Args:
        file: a binary file object; one that can't seek will do for most formats.
        name: its name in errors.
        notes: takes messages about what is missing or damaged.
        format: FFmpeg's name of the format, if it is known.

    Raises:
        AudioError: it has no sound that FFmpeg decodes.
        ImportError: the extra isn't installed.
    """

    def __init__(self, file: IO[bytes], name: str, notes: list[str], format: str | None = None) -> None:
        import av

        self._name, self._notes, self._errors = name, notes, av.FFmpegError
        self._resampler: Any = av.AudioResampler
        older: dict[str, Any] = (
            {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < _READS_ANY_METADATA else {}
        )
        try:
            self._container: Any = av.open(file, "r", format, container_options=_ONLY_THIS_FILE, **older)
        except av.FFmpegError:
            raise AudioError(name, "is not sound in a format that libsndfile or FFmpeg reads") from None
        # a track without a codec context has a codec that FFmpeg doesn't support
        track = next((track for track in self._container.streams.audio if track.codec_context is not None), None)
        if track is None:
            self.close()
            raise AudioError(name, "is not sound in a format that libsndfile or FFmpeg reads: it has no audio track")
        self._track: Any = track
        # seconds given, how much of that is silence, and by how much time stamps have gone back
        self._total = self._silence = self._back = 0.0
        self._undecoded, self._first_undecoded = 0, 0.0

    def close(self) -> None:
        self._container.close()

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """Yield the rate in Hz and samples, (frames, channels) float32 of full scale 1.0.

        Times are those of the container: where packets are missing there is silence. Raises AudioError.
        """
        form: Any = None
        to_float: Any = None
        found = False
        try:
            for frame in self._frames():
                if form != (frame.sample_rate, frame.layout.name, frame.format.name):
                    form = frame.sample_rate, frame.layout.name, frame.format.name
                    to_float = self._resampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
                rate, channels = frame.sample_rate, frame.layout.nb_channels
                yield from self._silence_before(frame, rate, channels)
                frame.pts = None
                for part in to_float.resample(frame):
                    samples: Array = part.to_ndarray().reshape(-1, channels)
                    self._total += len(samples) / rate
                    found = True
                    yield rate, samples
        except (self._errors, OSError, ValueError) as error:
            raise AudioError(self._name, f"damaged or truncated after {self._total:.2f} s: {_reason(error)}") from None
        if not found:
            raise AudioError(self._name, "has no sound that could be decoded")
        self._check()

    def _frames(self) -> Iterator[Any]:
        """Decode what can be decoded, and count the packets that can't."""
        for packet in self._container.demux(self._track):
            try:
                yield from packet.decode()
            except self._errors as error:
                if isinstance(error, OSError) and type(error).__name__ != "InvalidDataError":
                    raise
                self._first_undecoded = self._first_undecoded if self._undecoded else self._total
                self._undecoded += 1

    def _silence_before(self, frame: Any, rate: int, channels: int) -> Iterator[tuple[int, Array]]:
        """Yield silence up to the time of a frame, if packets before it are missing."""
        start = self._container.start_time
        if frame.pts is None or frame.time_base is None or start is None:
            return
        time = float(frame.pts * frame.time_base) - start / 1e6
        if time + self._back < self._total - _BACK:
            self._back = self._total - time
        ahead = time + self._back - self._total
        if ahead < _GAP:
            return
        if self._silence + ahead > _LONGEST_GAP:
            raise AudioError(self._name, f"its time stamps leap from {self._total:.2f} s to {time:.2f} s")
        if not self._silence:
            self._notes.append(f"has no sound from {self._total:.2f} s to {time:.2f} s: silence is put there")
        self._silence += ahead
        missing = round(ahead * rate)
        step = max(1, BLOCK // channels)
        for at in range(0, missing, step):
            silence = np.zeros((min(step, missing - at), channels), np.float32)
            self._total += len(silence) / rate
            yield rate, silence

    def _check(self) -> None:
        if self._undecoded:
            self._notes.append(
                f"{self._undecoded} packets could not be decoded, the first one after {self._first_undecoded:.2f} s"
            )
        promised = 0.0
        with suppress(TypeError, ValueError):
            promised = float(self._track.duration * self._track.time_base)
        if not promised and self._container.duration and not self._container.streams.video:
            promised = self._container.duration / 1e6
        guessed = set(self._container.format.name.split(",")) & _GUESSED_DURATION
        if not guessed and self._total < promised - max(_GAP, 0.001 * promised):
            self._notes.append(
                f"ends early: its container promises {promised:.2f} s, {self._total:.2f} s could be decoded"
            )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
