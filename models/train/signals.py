"""Building blocks of synthesised sounds: tones, noise, envelopes and events at 32 kHz."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
RATE = 32000


def tone(frequency: Array, harmonics: int = 1, slope: float = 1.0) -> Array:
    """Return a tone of instantaneous frequency in Hz, harmonic k at amplitude k**-slope."""
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    return sum(np.sin(k * phase) * k**-slope for k in range(1, harmonics + 1))


def band(x: Array, low: float, high: float, order: int = 2) -> Array:
    """Return x through a bandpass between two frequencies in Hz."""
    low, high = max(low, 20.0), min(high, 15500.0)
    return sosfilt(butter(order, [low, max(high, low * 1.05)], "band", fs=RATE, output="sos"), x)


def noise(rng: Rng, n: int, slope: float = 0.0) -> Array:
    """Return noise of peak 1 whose power falls as f**-slope: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20)
    y = np.fft.irfft(spectrum * frequency ** (-slope / 2), n)
    return y / (np.abs(y).max() + 1e-9)


def slow(rng: Rng, n: int, hz: float) -> Array:
    """Return a piecewise linear random curve in [0, 1] with about `hz` points a second."""
    points = rng.random(max(4, int(n / RATE * hz) + 3))
    return np.interp(np.linspace(0, len(points) - 1, n), np.arange(len(points)), points)


def times(rng: Rng, n: int, per_second: float, regular: bool) -> Array:
    """Return sample positions of events, at a constant rate or as a Poisson process."""
    if regular:
        step = RATE / per_second
        at = np.arange(rng.random() * step, n, step) * (1 + 0.0 * rng.random())
    else:
        at = rng.random(rng.poisson(per_second * n / RATE) + 1) * n
    return at.astype(int)


def scatter(n: int, at: Array, sounds: list[Array], gains: Array) -> Array:
    """Return n samples with sounds added at the given positions, cycling through `sounds`."""
    y = np.zeros(n)
    for i, start in enumerate(at):
        sound = sounds[i % len(sounds)]
        end = min(n, start + len(sound))
        if start < n:
            y[start:end] += gains[i] * sound[: end - start]
    return y


def burst(rng: Rng, seconds: float, low: float, high: float) -> Array:
    """Return bandpass noise that decays exponentially."""
    n = max(64, int(seconds * RATE))
    return band(rng.standard_normal(n), low, high) * np.exp(-np.arange(n) / (n / 6))


def ring(rng: Rng, seconds: float, base: float, partials: list[float]) -> Array:
    """Return the partials of a struck body; higher ones decay faster."""
    t = np.arange(int(seconds * RATE)) / RATE
    y = np.zeros(len(t))
    for i, p in enumerate(partials):
        if base * p < 15000:
            decay = np.exp(-t * (3 + 2 * i) / seconds)
            y += rng.uniform(0.3, 1) / (i + 1) ** 0.5 * np.sin(2 * np.pi * base * p * t) * decay
    return y


def in_room(rng: Rng, x: Array, seconds: float, decay: float, level: float) -> Array:
    """Return x with reverberation of time constant `decay` samples, normalised, with background noise."""
    n = int(seconds * RATE)
    room = rng.standard_normal(n) * np.exp(-np.arange(n) / decay) * level
    room[0] = 1
    y = fftconvolve(x, room)[: len(x)]
    return y / (np.abs(y).max() + 1e-9) * 0.4 + noise(rng, len(x), rng.uniform(1, 1.5)) * 10 ** rng.uniform(-3.5, -1.7)
