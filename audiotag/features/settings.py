"""Parameters of log-mel features, and the window and filter bank that they define."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from tinyonnx.ir import Array

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Window:
    """The window of a frame: `length` samples, centred in n_fft; `periodic` is one period of a longer window."""

    kind: Literal["hann", "hamming", "rectangular"] = "hann"
    length: int = 800
    periodic: bool = False

    def values(self) -> Array:
        """Return the window (length,), float64."""
        if self.kind == "rectangular":
            return np.ones(self.length)
        constant = 0.5 if self.kind == "hann" else 0.54
        turns = np.arange(self.length) / (self.length if self.periodic else self.length - 1)
        values: Array = constant - (1 - constant) * np.cos(2 * np.pi * turns)
        return values


@dataclass(frozen=True)
class MelBank:
    """Triangular filters, equally wide on a mel scale from `fmin` to `fmax` Hz.

    Triangles of the Kaldi scale are linear in mel and leave out the Nyquist bin; those of "htk" and "slaney" are linear
    in Hz. `norm` "slaney" divides each filter by half its width in Hz; without it the peak is 1.
    """

    scale: Literal["kaldi", "htk", "slaney"] = "kaldi"
    bins: int = 128
    fmin: float = 0.0
    fmax: float = 15000.0
    norm: Literal["slaney"] | None = None


@dataclass(frozen=True)
class Logarithm:
    """log(max(x + offset, floor)); with `top_db`, not below the maximum of the clip less so many decibels.

    Base "10" is the plain decimal logarithm; decibels are that with `MelConfig.scale` 0.1.
    """

    base: Literal["e", "10"] = "e"
    offset: float = 0.0
    floor: float = 0.0
    top_db: float | None = None

    def __post_init__(self) -> None:
        """Check the values. Raises ValueError."""
        if not (self.offset >= 0 and self.floor >= 0 and max(self.offset, self.floor) >= _TINY):
            raise ValueError(
                f"offset {self.offset:g} or floor {self.floor:g} must be a positive float32, none negative"
            )
        if self.top_db is not None and not self.top_db > 0:
            raise ValueError(f"top_db must be positive, not {self.top_db:g}")


@dataclass(frozen=True)
class MelConfig:
    """Parameters of the front end; the defaults are those with which EfficientAT's models were trained.

    Features are (log(mel) + shift) / scale. Frequencies are in Hz, lengths in samples.

    Args:
        rate: sample rate.
        preemphasis: y[n] = x[n+1] - preemphasis · x[n], one sample shorter; None for y = x.
        n_fft: length of a frame, a multiple of 8.
        window: its window.
        hop: distance of frames.
        centre: extend the sound by n_fft/2 at both ends, with its reflection or zeros, so that frame t is centred on
            sample t · hop; None: frame t starts there.
        power: 2 for power spectra, 1 for magnitudes.
        mel: the filter bank.
        log: the logarithm.
        shift: added to the logarithm.
        scale: divides the sum.
    """

    rate: int = 32000
    preemphasis: float | None = 0.97
    n_fft: int = 1024
    window: Window = field(default_factory=Window)
    hop: int = 320
    centre: Literal["reflect", "zero"] | None = "reflect"
    power: Literal[1, 2] = 2
    mel: MelBank = field(default_factory=MelBank)
    log: Logarithm = field(default_factory=lambda: Logarithm(offset=1e-5))
    shift: float = 4.5
    scale: float = 5.0

    def __post_init__(self) -> None:
        """Check the values. Raises ValueError."""
        if self.n_fft < 8 or self.n_fft % 8 or self.n_fft > 1 << 16:
            raise ValueError(f"n_fft must be a multiple of 8 up to 65536, not {self.n_fft}")
        if not 1 < self.window.length <= self.n_fft:
            raise ValueError(f"window.length must be from 2 to n_fft = {self.n_fft}, not {self.window.length}")
        if min(self.rate, self.hop, self.mel.bins) < 1:
            raise ValueError(f"rate, hop, mel.bins must be positive, not {self.rate}, {self.hop}, {self.mel.bins}")
        if not 0 <= self.mel.fmin < self.mel.fmax <= self.rate / 2:
            raise ValueError(
                f"mel.fmin {self.mel.fmin:g} and mel.fmax {self.mel.fmax:g} must satisfy "
                f"0 <= fmin < fmax <= rate / 2 = {self.rate / 2:g}"
            )
        if not self.scale:
            raise ValueError("scale must not be zero")

    @property
    def n_mels(self) -> int:
        """Number of mel bands."""
        return self.mel.bins

    @property
    def lost(self) -> int:
        """Number of samples by which pre-emphasis shortens a clip."""
        return 0 if self.preemphasis is None else 1

    @property
    def padding(self) -> int:
        """Number of samples added at either end."""
        return self.n_fft // 2 if self.centre else 0

    @property
    def least(self) -> int:
        """Length of the shortest pre-emphasised clip that has frames."""
        return {"reflect": self.n_fft // 2 + 1, "zero": 1, None: self.n_fft}[self.centre]

    @property
    def min_samples(self) -> int:
        """Length of the shortest clip that has frames; shorter ones are padded with zeros."""
        return self.least + self.lost

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of a clip."""
        padded = max(n_samples, self.min_samples) - self.lost + 2 * self.padding
        return 1 + (padded - self.n_fft) // self.hop


@cache
def window(config: MelConfig) -> Array:
    """Return the window, centred in (n_fft,) float32."""
    padded = np.zeros(config.n_fft, np.float32)
    start = (config.n_fft - config.window.length) // 2
    padded[start : start + config.window.length] = config.window.values()
    return padded


@cache
def mel_filterbank(config: MelConfig) -> Array:
    """Return the triangular filters, (n_mels, n_fft/2+1) float32."""
    return _kaldi_bank(config) if config.mel.scale == "kaldi" else _triangles_in_hz(config)


def _kaldi_bank(config: MelConfig) -> Array:
    """Return Kaldi's filters: triangles linear in mel, zero at the Nyquist bin.

    Computed in float32 throughout, to have the same rounding errors as PyTorch's filter bank.
    """
    f32 = np.float32
    low, high = (1127 * np.log(1 + f / 700) for f in (config.mel.fmin, config.mel.fmax))
    step = f32((high - low) / (config.n_mels + 1))
    hz = f32(config.rate / config.n_fft) * np.arange(config.n_fft // 2, dtype=f32)
    mel = f32(1127) * np.log(1 + hz / f32(700))
    bank = np.arange(config.n_mels, dtype=f32)[:, None]
    left, centre, right = (f32(low) + (bank + f32(i)) * step for i in range(3))
    weights = np.zeros((config.n_mels, config.n_fft // 2 + 1), f32)
    weights[:, :-1] = np.maximum(0, np.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)))
    if config.mel.norm == "slaney":
        edges = 700 * (np.exp((low + np.arange(config.n_mels + 2) * float(step)) / 1127) - 1)
        weights *= (2 / (edges[2:] - edges[:-2]))[:, None].astype(f32)
    return weights


def _triangles_in_hz(config: MelConfig) -> Array:
    """Return filters of the HTK and Slaney scales: triangles linear in Hz."""
    to_mel, to_hz = (_htk_mel, _htk_hz) if config.mel.scale == "htk" else (_slaney_mel, _slaney_hz)
    low, high = to_mel(np.array([config.mel.fmin, config.mel.fmax]))
    edges = to_hz(np.linspace(low, high, config.n_mels + 2))
    bins = np.arange(config.n_fft // 2 + 1) * config.rate / config.n_fft
    left, centre, right = (edges[i : len(edges) - 2 + i, None] for i in range(3))
    weights: Array = np.maximum(0, np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)))
    if config.mel.norm == "slaney":
        weights *= 2 / (right - left)
    return weights.astype(np.float32)


def _htk_mel(hz: Array) -> Array:
    mel: Array = 2595 * np.log10(1 + hz / 700)
    return mel


def _htk_hz(mel: Array) -> Array:
    hz: Array = 700 * (10 ** (mel / 2595) - 1)
    return hz


_LINEAR, _KNEE = 200 / 3, 1000.0
"""Slaney's scale: Hz per mel below the knee; the knee in Hz, above which it is logarithmic."""

_STEP = np.log(6.4) / 27


def _slaney_mel(hz: Array) -> Array:
    above = _KNEE / _LINEAR + np.log(np.maximum(hz, _KNEE) / _KNEE) / _STEP
    return np.where(hz < _KNEE, hz / _LINEAR, above)


def _slaney_hz(mel: Array) -> Array:
    knee = _KNEE / _LINEAR
    return np.where(mel < knee, mel * _LINEAR, _KNEE * np.exp(_STEP * (np.maximum(mel, knee) - knee)))
