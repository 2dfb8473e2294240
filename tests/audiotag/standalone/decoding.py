"""The decoder as a function of bytes."""

from __future__ import annotations

import ctypes
import io

import numpy as np

from audiotag.sound.audio import SAMPLE_RATE
from audiotag.standalone.resampler import LARGEST
from tests.audiotag.standalone.front import front_end
from tinyonnx.ir import Array


class Decoder:
    """Reads files from standard input.

    Attributes:
        rate: sample rate of the last file.
        promised: frames that its header promises.
        warnings: bits, as in `c/sound.h`.
    """

    def __init__(self) -> None:
        self.rate = self.promised = self.warnings = 0

    def __call__(
        self, content: bytes, piece: int = 1 << 30, raw: tuple[int, int, int] = (0, 0, 0)
    ) -> tuple[str, Array]:
        """Return (what is wrong, samples) of a file that comes in pieces; raw: encoding, channels, rate."""
        return self.read(io.BytesIO(content), len(content), piece, raw)

    def read(
        self, file: io.BytesIO, most: int, piece: int = 1 << 30, raw: tuple[int, int, int] = (0, 0, 0)
    ) -> tuple[str, Array]:
        """Return the same of a file object with at most `most` samples at its rate."""
        # as many as there may be at the lowest rate
        samples = np.empty(most * SAMPLE_RATE // 1000 + LARGEST, np.float32)
        found, written = np.zeros(3, np.int64), list[bytes]()
        count = front_end().call(
            "decode_file", b"-", *(_long(number) for number in raw), _at(samples), _at(found),
            stdin=file, write=lambda _, data: written.append(data), piece=piece,
        )  # fmt: skip
        self.rate, self.promised, self.warnings = found.tolist()
        return b"".join(written).decode(), samples[:count].copy()


def _long(number: int) -> object:

    return ctypes.c_int64(number)


def _at(array: Array) -> object:

    return ctypes.c_void_p(array.ctypes.data)
