"""Sound that libsndfile can't read (AAC in m4a, webm, video files …), by FFmpeg through the extra `formats`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from audiotag.errors import AudioError

if TYPE_CHECKING:
    from tinyonnx.ir import Array

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("m4a", "m4b", "aac", "mka", "weba", "wma", "ac3", "eac3", "amr", "ape", "wv", "tta", "dts", "ra"),
        *("mp4", "m4v", "mov", "webm", "mkv", "avi", "wmv", "flv", "3gp", "3g2", "mpg", "mpeg", "m2ts", "mts", "ogv"),
    )
)
"""File names that are taken for sound when a folder is searched."""

_ONLY_THIS_FILE = {"protocol_whitelist": "none"}
"""FFmpeg would follow playlists to other files, and to addresses in the network."""


class Container:
    """The first audio track of a file.

    Args:
        file: a binary file object; one that can't seek will do for most formats.
        name: what errors call it.

    Raises:
        AudioError: it has no sound that FFmpeg decodes.
        ImportError: the extra isn't installed.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        import av

        self._name, self._errors = name, av.FFmpegError
        try:
            self._container: Any = av.open(file, "r", container_options=_ONLY_THIS_FILE, metadata_errors="replace")
        except av.FFmpegError:
            raise AudioError(name, "is not sound in a format that libsndfile or FFmpeg reads") from None
        # a track without a codec context has a codec that FFmpeg doesn't know
        track = next((track for track in self._container.streams.audio if track.codec_context is not None), None)
        if track is None:
            self.close()
            raise AudioError(name, "is not sound in a format that libsndfile or FFmpeg reads: it has no audio track")
        self._track: Any = track
        self.samplerate: int = self._track.codec_context.sample_rate
        self._to_float: Any = av.AudioResampler(format="flt")

    def close(self) -> None:
        self._container.close()

    def blocks(self) -> Iterator[Array]:
        """Samples, (frames, channels) float32 of full scale 1.0; channels and rate don't change.

        Raises AudioError.
        """
        total = 0
        try:
            for frame in self._container.decode(self._track):
                for part in self._to_float.resample(frame):
                    samples: Array = part.to_ndarray().reshape(-1, part.layout.nb_channels)
                    total += len(samples)
                    yield samples
        except (self._errors, OSError, ValueError) as error:
            where = f"after {total / self.samplerate:.2f} s" if self.samplerate else ""
            raise AudioError(self._name, f"damaged or truncated {where}: {_reason(error)}") from None
        if not total:
            raise AudioError(self._name, "has no sound that could be decoded")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
