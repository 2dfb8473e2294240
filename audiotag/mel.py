"""EfficientAT's log-mel features: pre-emphasis, Hann window, STFT, Kaldi mel banks, logarithm.

Pure functions on float32 arrays, and `LogMelStream`, which does the same block by block in
memory that doesn't grow with the clip.  Both give the same bits however a clip is cut up.

Clips shorter than `MelConfig.min_samples` (514 samples, 16 ms) can't be reflected at their
ends; they are continued with zeros up to that length, down to a clip of no samples at all,
and give two frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tinyonnx.ir import Array


@dataclass(frozen=True)
class MelConfig:
    """Settings of the front end; the defaults are those that EfficientAT's models were trained with.

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

    @property
    def min_samples(self) -> int:
        """Shortest clip whose pre-emphasised samples can be reflected by half a window of the FFT."""
        return self.n_fft // 2 + 2

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a clip."""
        return 1 + (max(n_samples, self.min_samples) - 1) // self.hop_length


DEFAULT = MelConfig()


def preemphasis(x: Array, coefficient: float = DEFAULT.preemphasis) -> Array:
    """High-pass (N,) samples to (N-1,): y[i] = x[i+1] - coefficient * x[i]."""
    y: Array = x[1:] - x.dtype.type(coefficient) * x[:-1]
    return y


@cache
def hann_window(config: MelConfig = DEFAULT) -> Array:
    """Symmetric Hann window, centred in (n_fft,) float32."""
    n = np.arange(config.win_length)
    window = np.zeros(config.n_fft, np.float32)
    start = (config.n_fft - config.win_length) // 2
    window[start : start + config.win_length] = 0.5 - 0.5 * np.cos(2 * np.pi * n / (config.win_length - 1))
    return window


def stft(frames: Array, config: MelConfig = DEFAULT) -> Array:
    """Power spectrum of (T, n_fft) frames: (n_fft/2+1, T), C-contiguous."""
    spectrum = np.fft.rfft(frames * hann_window(config))
    return np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)


@cache
def mel_filterbank(config: MelConfig = DEFAULT) -> Array:
    """Kaldi's triangular mel banks, (n_mels, n_fft/2+1) float32, the Nyquist bin zero.

    Computed in float32 throughout: PyTorch's banks carry the rounding of that, and features
    are compared with theirs.
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
def _bands(config: MelConfig) -> tuple[tuple[int, Array], ...]:
    """Per bank its first bin and its weights (n, 1): a bank touches few bins, and the rest is zeros."""
    bands = []
    for weights in mel_filterbank(config):
        bins = np.flatnonzero(weights)
        start, stop = (bins[0], bins[-1] + 1) if len(bins) else (0, 0)
        bands.append((int(start), weights[start:stop, None]))
    return tuple(bands)


def apply_filterbank(power: Array, config: MelConfig = DEFAULT) -> Array:
    """Mel energies (n_mels, T) of a power spectrum (n_fft/2+1, T)."""
    if power.shape[1] == 1:
        # numpy adds up a lone column in another order, and blocks must not show in the result
        return apply_filterbank(np.repeat(power, 2, axis=1), config)[:, :1]
    mel = np.empty((config.n_mels, power.shape[1]), np.float32)
    for row, (start, weights) in zip(mel, _bands(config), strict=True):
        np.sum(power[start : start + len(weights)] * weights, axis=0, out=row)
    return mel


def _log_mel_of_frames(frames: Array, config: MelConfig) -> Array:
    mel = apply_filterbank(stft(frames, config), config)
    mel += np.float32(config.log_offset)
    np.log(mel, out=mel)
    mel += np.float32(4.5)
    mel /= np.float32(5)
    return mel


class LogMelStream:
    """Log-mel features of a clip that arrives in blocks.

    `push` takes (n,) float32 samples and `finish` ends the clip; both return the frames that
    are complete by then, (n_mels, t) float32.
    """

    def __init__(self, config: MelConfig = DEFAULT) -> None:
        self.config = config
        self.n_samples = 0
        self._last = np.empty(0, np.float32)
        self._pending = np.empty(0, np.float32)
        self._started = False

    def push(self, x: Array) -> Array:
        self.n_samples += len(x)
        joined = np.concatenate([self._last, x])
        self._last = joined[-1:].copy()
        self._pending = np.concatenate([self._pending, preemphasis(joined, self.config.preemphasis)])
        half = self.config.n_fft // 2
        if not self._started and len(self._pending) > half:
            self._started = True
            self._pending = np.concatenate([self._pending[half:0:-1], self._pending])
        return self._take() if self._started else np.empty((self.config.n_mels, 0), np.float32)

    def finish(self) -> Array:
        missing = self.config.min_samples - self.n_samples
        padded = self.push(np.zeros(max(missing, 0), np.float32))
        self.n_samples -= max(missing, 0)
        half = self.config.n_fft // 2
        self._pending = np.concatenate([self._pending, self._pending[-2 : -2 - half : -1]])
        return np.concatenate([padded, self._take()], axis=1)

    def _take(self) -> Array:
        n_fft, hop = self.config.n_fft, self.config.hop_length
        if len(self._pending) < n_fft:
            return np.empty((self.config.n_mels, 0), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(self._pending, n_fft)[::hop]
        mel = _log_mel_of_frames(frames, self.config)
        # what the reflection at the end may need stays, too: n_fft // 2 + 1 < n_fft - hop samples are always left
        self._pending = self._pending[len(frames) * hop :].copy()
        return mel


def log_mel_blocks(blocks: Iterable[Array], config: MelConfig = DEFAULT) -> Iterator[Array]:
    """Log-mel frames of a clip given as blocks of (n,) float32 samples: blocks of (n_mels, t)."""
    stream = LogMelStream(config)
    for block in blocks:
        yield stream.push(block)
    yield stream.finish()


def log_mel(x: Array, config: MelConfig = DEFAULT, block: int = 1 << 16) -> Array:
    """Log-mel features of a clip.

    Args:
        x: (N,) mono samples at `config.sample_rate`, full scale 1.0; N may be 0.
        config: settings of the front end.
        block: samples processed at a time, which bounds memory and changes nothing else.

    Returns:
        (n_mels, 1 + (max(N, min_samples) - 1) // hop_length) float32; digital silence is -1.402585.
    """
    x = np.asarray(x, np.float32)
    return join_frames(log_mel_blocks((x[i : i + block] for i in range(0, len(x), block)), config))


def join_frames(blocks: Iterable[Array]) -> Array:
    """Join (n, t) blocks along time, freeing each once it is copied."""
    parts = list(blocks)
    joined = np.empty((len(parts[0]), sum(part.shape[1] for part in parts)), np.float32)
    parts.reverse()
    at = 0
    while parts:
        part = parts.pop()
        joined[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    return joined
