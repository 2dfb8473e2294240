"""EfficientAT's log-mel features: pre-emphasis, Hann window, STFT, Kaldi mel banks, logarithm.

Pure functions on float32 arrays, and `LogMelStream`, which computes the same features block by
block in constant memory. Both give identical bits, however a clip is split into blocks.

Clips shorter than `MelConfig.min_samples` (514 samples, 16 ms) are too short for reflection at
their ends; they are padded with zeros to that length and give two frames, even without any sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from audiotag.features import mel_stream
from audiotag.features.fft_kernel import Tables, tables
from audiotag.features.mel_stream import FrontEnd, State

if TYPE_CHECKING:
    from tinyonnx.ir import Array


@dataclass(frozen=True)
class MelConfig:
    """Parameters of the front end; the defaults are those with which EfficientAT's models were trained.

    Rates and frequencies are in Hz, lengths in samples.
    """

    sample_rate: int = 32000
    n_fft: int = 1024
    win_length: int = 800
    hop_length: int = 320
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float = 15000.0
    preemphasis: float = 0.97
    log_offset: float = 1e-5

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.n_fft < 8 or self.n_fft % 8:
            raise ValueError(f"n_fft must be a multiple of 8, not {self.n_fft}")
        if not 1 < self.win_length <= self.n_fft:
            raise ValueError(f"win_length must be from 2 to n_fft = {self.n_fft}, not {self.win_length}")
        if min(self.hop_length, self.n_mels) < 1:
            raise ValueError(f"hop_length and n_mels must be positive, not {self.hop_length} and {self.n_mels}")
        if not self.log_offset >= np.finfo(np.float32).tiny:
            raise ValueError(f"log_offset must be a positive float32, not {self.log_offset}")

    @property
    def min_samples(self) -> int:
        """Length of the shortest clip whose pre-emphasised samples can be reflected by half an FFT window."""
        return self.n_fft // 2 + 2

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a clip."""
        return 1 + (max(n_samples, self.min_samples) - 1) // self.hop_length


DEFAULT = MelConfig()


@cache
def hann_window(config: MelConfig = DEFAULT) -> Array:
    """Symmetric Hann window, centred in (n_fft,) float32."""
    n = np.arange(config.win_length)
    window = np.zeros(config.n_fft, np.float32)
    start = (config.n_fft - config.win_length) // 2
    window[start : start + config.win_length] = 0.5 - 0.5 * np.cos(2 * np.pi * n / (config.win_length - 1))
    return window


@cache
def mel_filterbank(config: MelConfig = DEFAULT) -> Array:
    """Kaldi's triangular mel filter bank, (n_mels, n_fft/2+1) float32, zero at the Nyquist bin.

    Computed in float32 throughout, to have the same rounding errors as PyTorch's filter bank.
    """
    f32 = np.float32
    low, high = (1127 * np.log(1 + f / 700) for f in (config.fmin, config.fmax))
    step = f32((high - low) / (config.n_mels + 1))
    hz = f32(config.sample_rate / config.n_fft) * np.arange(config.n_fft // 2, dtype=f32)
    mel = f32(1127) * np.log(1 + hz / f32(700))
    bank = np.arange(config.n_mels, dtype=f32)[:, None]
    left, centre, right = (f32(low) + (bank + f32(i)) * step for i in range(3))
    weights = np.zeros((config.n_mels, config.n_fft // 2 + 1), f32)
    weights[:, :-1] = np.maximum(0, np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)))
    return weights


@cache
def _tables(config: MelConfig) -> Tables:
    return tables(hann_window(config), mel_filterbank(config), config.hop_length)


def front_end(config: MelConfig) -> FrontEnd:
    """The parameters of a config for the kernels, with scratch memory of their own."""
    tables_ = _tables(config)
    return FrontEnd(np.float32(config.preemphasis), np.float32(config.log_offset), tables_, tables_.scratch())


class LogMelStream:
    """Log-mel features of a clip that arrives in blocks.

    `push` takes (n,) float32 samples and `finish` ends the clip; both return the newly completed
    frames, (n_mels, t) float32.
    """

    def __init__(self, config: MelConfig = DEFAULT) -> None:
        self.config = config
        self._registers = np.zeros(mel_stream.REGISTERS, np.int64)
        y = np.empty(mel_stream.capacity(config.n_fft, config.hop_length), np.float32)
        self._state = State(self._registers, y)
        self._front = front_end(config)

    @property
    def n_samples(self) -> int:
        """Number of samples so far."""
        return int(self._registers[mel_stream.SAMPLES])

    def push(self, x: Array) -> Array:
        return self._columns(x, mel_stream.ALL)

    def finish(self) -> Array:
        return self._columns(np.empty(0, np.float32), mel_stream.LAST)

    def _columns(self, x: Array, what: int) -> Array:
        """Return the new frames in memory of their own."""
        given = int(self._registers[mel_stream.FRAMES])
        most = self.config.n_frames(self.n_samples + len(x)) - given
        out = np.empty((self.config.n_mels, most), np.float32)
        self._registers[mel_stream.FRAMES] = 0
        self._give(x, what, out)
        frames = int(self._registers[mel_stream.FRAMES])
        self._registers[mel_stream.FRAMES] += given
        return out[:, :frames]

    def _give(self, x: Array, what: int, out: Array) -> None:
        """Write new frames to the columns of `out`, (n_mels, frames), after those of the last call."""
        x = np.ascontiguousarray(x, np.float32)
        mel_stream.push(self._state, x, what, out.reshape(-1), out.shape[1], self._front)


def log_mel_blocks(blocks: Iterable[Array], config: MelConfig = DEFAULT) -> Iterator[Array]:
    """Yield the log-mel frames of a clip as blocks (n_mels, t), given blocks of (n,) float32 samples."""
    stream = LogMelStream(config)
    for block in blocks:
        yield stream.push(block)
    yield stream.finish()


def log_mel(x: Array, config: MelConfig = DEFAULT) -> Array:
    """Compute the log-mel features of a clip.

    Args:
        x: (N,) mono samples at `config.sample_rate`, full scale 1.0; N may be 0.
        config: parameters of the front end.

    Returns:
        (n_mels, 1 + (max(N, min_samples) - 1) // hop_length) float32; digital silence is -1.402585.
    """
    features = np.empty((config.n_mels, config.n_frames(len(x))), np.float32)
    LogMelStream(config)._give(x, mel_stream.LAST, features)
    return features


def join_frames(blocks: Iterable[Array]) -> Array:
    """Concatenate (n, t) blocks along time, freeing each after it is copied."""
    parts = list(blocks)
    joined = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), np.float32)
    parts.reverse()
    at = 0
    while parts:
        part = parts.pop()
        joined[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    return joined
