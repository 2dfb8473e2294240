"""Synthesised sounds: 43 kinds in numpy, different at every call.

Every generator takes a random generator and a number of samples at 32 kHz and returns that many samples of any
loudness. They need not be realistic, because the teacher labels them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

from models.train.signals import RATE, Array, Rng, band, burst, in_room, noise, ring, scatter, slow, times, tone


def wail(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    middle, depth, rate = rng.uniform(600, 1300), rng.uniform(200, 600), 10 ** rng.uniform(-0.9, 0.7)
    shape = np.sin(2 * np.pi * rate * t) if rng.random() < 0.6 else 2 * ((rate * t) % 1) - 1
    return tone(np.maximum(middle + depth * shape, 80), rng.integers(1, 7), rng.uniform(0.7, 2))


def hi_lo(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    low = rng.uniform(350, 900)
    f = np.where((t * rng.uniform(0.4, 2)) % 1 < 0.5, low, low * rng.uniform(1.2, 1.6))
    return tone(f, rng.integers(1, 9), rng.uniform(0.6, 1.5))


def air_raid(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    rise = (1 - np.exp(-t / rng.uniform(0.8, 3))) * (0.75 + 0.25 * np.sin(2 * np.pi * t * rng.uniform(0.05, 0.3)))
    return tone(80 + rng.uniform(300, 700) * rise, 8, 0.8)


def beeps(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    on = ((t * 10 ** rng.uniform(-0.3, 1)) % 1) < rng.uniform(0.2, 0.7)
    return tone(np.full(n, 10 ** rng.uniform(2.6, 3.7)), rng.integers(1, 4)) * on


def phone_line(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    pairs = [(350, 440), (480, 620), (440, 480), (425, 425), (400, 450)]
    a, b = pairs[rng.integers(len(pairs))]
    period, duty = rng.choice([0.5, 1, 3, 6, 100]), rng.uniform(0.3, 0.6)
    return (np.sin(2 * np.pi * a * t) + np.sin(2 * np.pi * b * t)) * ((t / period) % 1 < duty)


def dial(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    rate = rng.uniform(2, 9)
    index = (t * rate).astype(int)
    rows, columns = np.array([697, 770, 852, 941]), np.array([1209, 1336, 1477, 1633])
    keys = rng.integers(0, 4, (2, index[-1] + 1))
    y = np.sin(2 * np.pi * rows[keys[0, index]] * t) + np.sin(2 * np.pi * columns[keys[1, index]] * t)
    return y * ((t * rate) % 1 < 0.6)


def bell_phone(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    y = scatter(
        n,
        times(rng, n, rng.uniform(15, 30), True),
        [ring(rng, 0.4, rng.uniform(800, 2200), [1, 1.5, 2.7, 4.1])],
        np.ones(n),
    )
    period = rng.uniform(2, 6)
    return y * ((t / period) % 1 < rng.uniform(0.3, 0.6))


def bells(rng: Rng, n: int) -> Array:
    base = 10 ** rng.uniform(2, 3.5)
    sounds = [
        ring(rng, rng.uniform(0.3, 4), base * rng.uniform(0.6, 1.7), list(rng.uniform(0.5, 6, 7))) for _ in range(4)
    ]
    at = times(rng, n, 10 ** rng.uniform(-0.5, 1), rng.random() < 0.5)
    return scatter(n, at, sounds, rng.uniform(0.3, 1, len(at)))


def keyboard(rng: Rng, n: int) -> Array:
    """Synthesise typing: noise bursts for the press and the release of every key."""
    low, high = rng.uniform(300, 2500), rng.uniform(4000, 15000)
    keys = []
    for _ in range(8):
        press, release = burst(rng, rng.uniform(0.01, 0.05), low, high), burst(rng, 0.02, low * 1.5, high)
        gap = np.zeros(int(rng.uniform(0.03, 0.1) * RATE))
        thud = burst(rng, 0.04, 80, 400) * rng.uniform(0, 0.6)
        press[: len(thud)] += thud[: len(press)]
        keys.append(np.concatenate([press, gap, release * rng.uniform(0.2, 0.7)]))
    gaps = (
        rng.exponential(1 / rng.uniform(4, 14), 400)
        + rng.uniform(0.02, 0.08)
        + (rng.random(400) < 0.06) * rng.random(400)
    )
    at = (np.cumsum(gaps) * RATE).astype(int)
    at = at[at < n]
    return scatter(n, at, keys, rng.uniform(0.3, 1, len(at))) + noise(rng, n, 1) * 10 ** rng.uniform(-4, -2)


def clicks(rng: Rng, n: int) -> Array:
    sounds = [
        burst(rng, 10 ** rng.uniform(-2.7, -1.2), 10 ** rng.uniform(2, 3.3), 10 ** rng.uniform(3.4, 4.2))
        for _ in range(3)
    ]
    at = times(rng, n, 10 ** rng.uniform(-0.3, 1.6), rng.random() < 0.5)
    return scatter(n, at, sounds, rng.uniform(0.3, 1, len(at)))


def clock(rng: Rng, n: int) -> Array:
    base = rng.uniform(1000, 5000)
    tick = burst(rng, rng.uniform(0.01, 0.06), base * 0.6, base * 1.6)
    tock = burst(rng, rng.uniform(0.01, 0.06), base * 0.4, base * 1.2)
    at = times(rng, n, rng.choice([1, 2, 2, 4, 5]), True)
    return scatter(n, at, [tick, tock] if rng.random() < 0.6 else [tick], np.ones(len(at)))


def engine(rng: Rng, n: int) -> Array:
    """Return an engine: pulses of varying rate through three resonances."""
    base, top = rng.uniform(15, 60), rng.uniform(1, 5)
    speed = base * (1 + (top - 1) * slow(rng, n, rng.uniform(0.1, 1.5)))
    jitter = 1 + 0.05 * slow(rng, n, 30)
    phase = np.cumsum(speed * jitter) / RATE
    pulse = np.exp(-(phase % 1) * rng.uniform(3, 25)) * (1 + 0.4 * np.sin(np.pi * np.floor(phase)))
    y = pulse - pulse.mean() + noise(rng, n, 1) * pulse * rng.uniform(0, 1.5)
    body = sum(band(y, f, f * rng.uniform(1.3, 3), 1) * rng.uniform(0.3, 1) for f in rng.uniform(60, 3000, 3))
    return body + y * rng.uniform(0, 0.3)


def buzz_saw(rng: Rng, n: int) -> Array:
    f = rng.uniform(60, 220) * (1 + rng.uniform(0.1, 0.8) * slow(rng, n, rng.uniform(0.3, 2)))
    y = tone(f, 30, rng.uniform(0.2, 1)) + noise(rng, n) * rng.uniform(0.5, 5)
    return np.tanh(y * rng.uniform(0.3, 3)) * (0.6 + 0.4 * slow(rng, n, 3))


def rotor(rng: Rng, n: int) -> Array:
    rate = rng.uniform(5, 25)
    phase = (np.arange(n) / RATE * rate) % 1
    chop = np.exp(-phase * rng.uniform(2, 10))
    y = band(noise(rng, n, 1), 40, rng.uniform(200, 1500)) * (0.15 + chop)
    return (
        y
        + 0.1 * rng.random() * tone(np.full(n, rng.uniform(300, 2500)), 3)
        + 0.2 * band(noise(rng, n, 1), 300, 4000) * chop
    )


def hum(rng: Rng, n: int) -> Array:
    return tone(np.full(n, rng.choice([50.0, 60.0, 100.0, 120.0, 400.0])), rng.integers(1, 25), rng.uniform(0.3, 2))


def coloured(rng: Rng, n: int) -> Array:
    return noise(rng, n, rng.uniform(-1, 2.5))


def banded(rng: Rng, n: int) -> Array:
    centre, width = 10 ** rng.uniform(2, 4), rng.uniform(1.1, 4)
    return band(noise(rng, n), centre / width, centre * width) * (
        slow(rng, n, 10 ** rng.uniform(-0.5, 1)) ** rng.uniform(0, 3)
    )


def wind(rng: Rng, n: int) -> Array:
    parts = [
        band(noise(rng, n, 1), f, f * rng.uniform(1.2, 2), 1) * slow(rng, n, rng.uniform(0.3, 2)) ** 2
        for f in rng.uniform(80, 1200, 3)
    ]
    return sum(parts)


def rain(rng: Rng, n: int) -> Array:
    drops = [burst(rng, rng.uniform(0.002, 0.02), rng.uniform(800, 4000), rng.uniform(5000, 15000)) for _ in range(8)]
    at = times(rng, n, 10 ** rng.uniform(1, 3), False)
    bed = band(noise(rng, n), rng.uniform(200, 2000), rng.uniform(5000, 15000)) * rng.uniform(0, 1.5)
    return scatter(n, at, drops, rng.exponential(0.5, len(at))) + bed


def surf(rng: Rng, n: int) -> Array:
    swell = slow(rng, n, rng.uniform(0.1, 0.5)) ** 2
    return noise(rng, n, rng.uniform(0.5, 1.5)) * (0.1 + swell) + band(noise(rng, n), 2000, 10000) * swell**2 * 0.3


def crackle(rng: Rng, n: int) -> Array:
    snaps = [
        burst(rng, 10 ** rng.uniform(-2.8, -1.5), rng.uniform(500, 3000), rng.uniform(4000, 15000)) for _ in range(10)
    ]
    at = times(rng, n, 10 ** rng.uniform(0.5, 1.8), False)
    bed = noise(rng, n, 1.5) * slow(rng, n, 3) * rng.uniform(0, 0.4)
    return scatter(n, at, snaps, rng.exponential(0.6, len(at))) + bed


def thunder(rng: Rng, n: int) -> Array:
    at = times(rng, n, 0.3, False)
    length = int(rng.uniform(1.5, 6) * RATE)
    rumble = band(noise(rng, length, 2), 20, rng.uniform(100, 900)) * np.exp(
        -np.arange(length) / RATE * rng.uniform(0.5, 2)
    )
    return scatter(n, at, [rumble * slow(rng, length, 8)], rng.uniform(0.3, 1, len(at)))


def bang(rng: Rng, n: int) -> Array:
    shot = burst(rng, 10 ** rng.uniform(-1.3, 0.4), 40, 10 ** rng.uniform(3, 4.1))
    at = times(rng, n, 10 ** rng.uniform(-0.5, 1), rng.random() < 0.4)
    return np.tanh(scatter(n, at, [shot], rng.uniform(0.5, 1, len(at))) * rng.uniform(1, 6))


def applause(rng: Rng, n: int) -> Array:
    claps = [burst(rng, rng.uniform(0.01, 0.04), rng.uniform(500, 1200), rng.uniform(2000, 6000)) for _ in range(12)]
    at = times(rng, n, 10 ** rng.uniform(0.3, 2.5), False)
    return scatter(n, at, claps, rng.uniform(0.2, 1, len(at)))


def whistle(rng: Rng, n: int) -> Array:
    f = rng.uniform(700, 3500) * 2 ** (rng.uniform(0, 1) * (slow(rng, n, rng.uniform(0.5, 6)) - 0.5))
    vibrato = 1 + rng.uniform(0, 0.03) * np.sin(2 * np.pi * np.arange(n) / RATE * rng.uniform(4, 30))
    return tone(f * vibrato, 2, 3) * (slow(rng, n, 4) > 0.25) + noise(rng, n) * rng.uniform(0, 0.1)


def chirps(rng: Rng, n: int) -> Array:
    songs = []
    for _ in range(rng.integers(1, 5)):
        m = int(10 ** rng.uniform(-1.7, -0.4) * RATE)
        t = np.linspace(0, 1, m)
        f = rng.uniform(1500, 6500) * 2 ** (
            rng.uniform(-1, 1) * t + rng.uniform(0, 0.3) * np.sin(2 * np.pi * t * rng.uniform(0, 20))
        )
        songs.append(tone(f, rng.integers(1, 3), 2) * np.sin(np.pi * t))
    at = times(rng, n, 10 ** rng.uniform(-0.3, 1), rng.random() < 0.4)
    return scatter(n, at, songs, rng.uniform(0.2, 1, len(at))) + noise(rng, n, 1) * rng.uniform(0, 0.05)


def crickets(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    trill = (np.sin(2 * np.pi * t * rng.uniform(15, 80)) > 0) * ((t * rng.uniform(0.7, 4)) % 1 < rng.uniform(0.3, 1))
    return np.sin(2 * np.pi * rng.uniform(2500, 7000) * t) * trill + noise(rng, n) * rng.uniform(0, 0.1)


def voice(rng: Rng, n: int) -> Array:
    """Synthesise animal calls: gliding pitch through three formants."""
    calls = []
    for _ in range(3):
        m = int(rng.uniform(0.08, 1.2) * RATE)
        t = np.linspace(0, 1, m)
        f = 10 ** rng.uniform(1.9, 3) * 2 ** (rng.uniform(-1, 1) * t + rng.uniform(0, 0.6) * np.sin(np.pi * t))
        y = tone(f * (1 + rng.uniform(0, 0.06) * slow(rng, m, 60)), 20, rng.uniform(0.2, 1)) + noise(
            rng, m
        ) * rng.uniform(0, 4)
        y = sum(band(y, c, c * 1.4, 1) for c in rng.uniform(250, 4000, 3))
        calls.append(y * np.sin(np.pi * t) ** rng.uniform(0.3, 1.5))
    at = times(rng, n, rng.uniform(0.3, 2.5), rng.random() < 0.5)
    return scatter(n, at, calls, rng.uniform(0.3, 1, len(at)))


def typing(rng: Rng, n: int) -> Array:
    """Synthesise typing: ringing keys, pressed and released, in a small room."""
    partials, decay, rough = rng.uniform(800, 7000, 5), rng.uniform(100, 600), rng.uniform(0.3, 2)

    def stroke(scale: float, fall: float, seconds: float) -> Array:
        t = np.arange(int(seconds * RATE)) / RATE
        y = rng.standard_normal(len(t)) * np.exp(-t * 8 / seconds) * rough
        for f in partials * scale:
            y += np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) * np.exp(-t * fall) * rng.uniform(0.2, 1)
        return y

    keys = []
    for _ in range(10):
        press = stroke(rng.uniform(0.9, 1.1), decay, rng.uniform(0.02, 0.05))
        release = stroke(1.2, decay * 1.3, 0.03) * rng.uniform(0.2, 0.6)
        keys.append(np.concatenate([press, np.zeros(int(rng.uniform(0.04, 0.09) * RATE)), release]))
    at = (np.cumsum(rng.gamma(6, 1 / rng.uniform(5, 12) / 6, 200)) * RATE).astype(int)
    at = at[at < n]
    y = scatter(n, at, keys, rng.uniform(0.4, 1, len(at)))
    return in_room(rng, y / np.abs(y).max(), 0.2, rng.uniform(300, 1500), rng.uniform(0, 0.15))


def dog(rng: Rng, n: int) -> Array:
    """Synthesise barks: rising and falling pitch with noise through two formants, clipped, in a room."""
    m = int(rng.uniform(0.1, 0.35) * RATE)
    t = np.linspace(0, 1, m)
    rise = (rng.uniform(1.2, 2.5) - 1) * np.sin(np.pi * np.minimum(t * rng.uniform(1, 1.6), 1))
    f = 10 ** rng.uniform(2.2, 3) * (1 + rise) * (1 + rng.uniform(0, 0.1) * slow(rng, m, 200))
    y = tone(f, 25, rng.uniform(0.2, 1.2)) + band(rng.standard_normal(m), 300, 8000) * rng.uniform(0.1, 3)
    low, high = (
        band(y, rng.uniform(300, 600), rng.uniform(700, 1500), 1),
        band(y, rng.uniform(1000, 1500), rng.uniform(1800, 3500), 1),
    )
    y = np.tanh((2 * low + high * rng.uniform(0.2, 2) + 0.05 * y) * rng.uniform(0.3, 3))
    y *= np.minimum(t * rng.uniform(8, 40), 1) * np.exp(-t * rng.uniform(1, 5)) * (1 - t)
    at = (np.cumsum(rng.uniform(0.3, 1.2, 40)) * RATE).astype(int)
    if rng.random() < 0.5:
        at = np.sort(np.concatenate([at[::2], at[::2] + int(0.4 * RATE)]))
    at = at[at < n]
    return in_room(
        rng, scatter(n, at, [y], rng.uniform(0.6, 1, len(at))), 0.5, rng.uniform(300, 3000), rng.uniform(0, 0.1)
    )


def bark(rng: Rng, n: int) -> Array:
    barks = []
    for _ in range(2):
        m = int(rng.uniform(0.1, 0.3) * RATE)
        t = np.linspace(0, 1, m)
        f = rng.uniform(250, 900) * (1 - rng.uniform(0.2, 0.6) * t) * (1 + 0.5 * np.exp(-t * 20))
        y = tone(f, 14, rng.uniform(0.3, 1)) + noise(rng, m) * rng.uniform(1, 8)
        y = band(y, rng.uniform(300, 700), rng.uniform(1200, 3500), 1)
        barks.append(y * np.minimum(t * 30, 1) * np.exp(-t * rng.uniform(2, 6)))
    at = times(rng, n, rng.uniform(0.6, 3.5), rng.random() < 0.5)
    return scatter(n, at, barks, rng.uniform(0.5, 1, len(at)))


def pluck(rng: Rng, n: int) -> Array:
    """Synthesise plucked strings by the Karplus-Strong algorithm."""
    notes = []
    for _ in range(5):
        period = int(RATE / (rng.uniform(80, 300) * 2 ** (rng.integers(0, 24) / 12)))
        m = int(rng.uniform(0.5, 2) * RATE)
        x = np.zeros(m)
        x[:period] = rng.uniform(-1, 1, period)
        denominator = np.zeros(period + 2)
        denominator[0], denominator[period:] = 1, -rng.uniform(0.490, 0.4995)
        notes.append(lfilter([1.0], denominator, x))
    at = times(rng, n, rng.uniform(1, 8), rng.random() < 0.7)
    return scatter(n, at, notes, rng.uniform(0.4, 1, len(at)))


def chip(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    index = (t * rng.uniform(2, 14)).astype(int)
    f = 110 * 2 ** (rng.choice([0, 2, 4, 7, 9, 12, 14, 16, 19, 24], index[-1] + 1)[index] / 12) * rng.choice([1, 2, 4])
    phase = np.cumsum(f) / RATE % 1
    return np.where(phase < rng.uniform(0.1, 0.5), 1.0, -1.0) if rng.random() < 0.6 else 2 * phase - 1


def pad(rng: Rng, n: int) -> Array:
    root = rng.uniform(80, 400)
    return sum(
        tone(np.full(n, root * 2 ** (s / 12)) * (1 + 0.003 * slow(rng, n, 3)), rng.integers(1, 8), 1.3)
        * slow(rng, n, 1)
        for s in rng.choice(24, 3)
    )


def drums(rng: Rng, n: int) -> Array:
    t = np.arange(RATE // 3) / RATE
    kick = np.sin(2 * np.pi * (50 * t + 8 * (1 - np.exp(-t * 30)))) * np.exp(-t * 9)
    snare = burst(rng, 0.2, 200, 9000)
    hat = burst(rng, 0.06, 6000, 15000) * 0.5
    beat = RATE * 60 / rng.uniform(70, 180) / 2
    y = np.zeros(n)
    for sound, every, offset in ((kick, 4, 0), (snare, 4, 2), (hat, 1, 0)):
        at = (np.arange(offset, n / beat, every) * beat).astype(int)
        y += scatter(n, at, [sound], rng.uniform(0.6, 1, len(at) + 1))
    return y


def heart(rng: Rng, n: int) -> Array:
    thud = ring(rng, 0.15, rng.uniform(40, 90), [1, 1.7])
    pair = np.concatenate([thud, np.zeros(int(rng.uniform(0.05, 0.2) * RATE)), thud * 0.7])
    at = times(rng, n, rng.uniform(0.8, 2), True)
    return scatter(n, at, [pair], np.ones(len(at)))


def steps(rng: Rng, n: int) -> Array:
    sounds = [burst(rng, rng.uniform(0.04, 0.15), 60, rng.uniform(600, 6000)) for _ in range(4)]
    at = times(rng, n, rng.uniform(1, 4), True) + rng.integers(0, 2000)
    return scatter(n, at, sounds, rng.uniform(0.4, 1, len(at)))


def bubbles(rng: Rng, n: int) -> Array:
    sounds = []
    for _ in range(6):
        t = np.arange(int(rng.uniform(0.02, 0.12) * RATE)) / RATE
        sounds.append(tone(rng.uniform(300, 2500) * (1 + t * rng.uniform(0, 15))) * np.exp(-t * 40))
    at = times(rng, n, 10 ** rng.uniform(0, 1.8), False)
    return scatter(n, at, sounds, rng.uniform(0.2, 1, len(at))) + noise(rng, n) * rng.uniform(0, 0.05)


def laser(rng: Rng, n: int) -> Array:
    m = int(rng.uniform(0.1, 0.8) * RATE)
    t = np.linspace(0, 1, m)
    shot = tone(rng.uniform(800, 5000) * np.exp(-t * rng.uniform(1, 5)), rng.integers(1, 6)) * (1 - t)
    at = times(rng, n, rng.uniform(0.5, 4), rng.random() < 0.5)
    return scatter(n, at, [shot], np.ones(len(at)))


def breath(rng: Rng, n: int) -> Array:
    t = np.arange(n) / RATE
    rate = rng.uniform(0.2, 0.8)
    rough = 1 + rng.uniform(0, 3) * (np.sin(2 * np.pi * t * rng.uniform(20, 60)) > 0.5)
    return (
        band(noise(rng, n), rng.uniform(100, 600), rng.uniform(1500, 6000), 1)
        * np.maximum(np.sin(2 * np.pi * rate * t), 0)
        * rough
    )


def squeak(rng: Rng, n: int) -> Array:
    f = 10 ** rng.uniform(2.5, 3.5) * (1 + 0.4 * slow(rng, n, rng.uniform(1, 8)))
    return tone(f, 8, 0.7) * (slow(rng, n, rng.uniform(1, 6)) > 0.5) * (1 + noise(rng, n, 1))


def sine(rng: Rng, n: int) -> Array:
    f = 10 ** rng.uniform(1.7, 4.1)
    sweep = 2 ** (rng.choice([0, 0, rng.uniform(-3, 3)]) * np.linspace(0, 1, n))
    return tone(np.minimum(f * sweep, 15500), 1)


def silence(rng: Rng, n: int) -> Array:
    return noise(rng, n, rng.uniform(0, 2)) * rng.choice([0, 1e-5, 1e-4, 5e-4])


GENERATORS: dict[str, Callable[[Rng, int], Array]] = {
    f.__name__: f
    for f in (
        wail,
        hi_lo,
        air_raid,
        beeps,
        phone_line,
        dial,
        bell_phone,
        bells,
        keyboard,
        clicks,
        clock,
        engine,
        buzz_saw,
        rotor,
        hum,
        coloured,
        banded,
        wind,
        rain,
        surf,
        crackle,
        thunder,
        bang,
        applause,
        whistle,
        chirps,
        crickets,
        voice,
        bark,
        pluck,
        chip,
        pad,
        drums,
        heart,
        steps,
        bubbles,
        laser,
        breath,
        squeak,
        sine,
        silence,
        typing,
        dog,
    )
}
"""All generators by name."""

OFTEN = {"typing": 5.0, "dog": 5.0, "wail": 3.0, "silence": 2.0, "hi_lo": 2.0}
"""Weights of generators in the draw; 1 for all others."""
