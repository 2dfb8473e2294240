from __future__ import annotations

import numpy as np
import pytest
import soxr

from audiotag.native import resampler
from tests.native.resampling import Resampler

RATES = [
    1000,
    8000,
    11025,
    12000,
    16000,
    22050,
    24000,
    37800,
    44056,
    44100,
    48000,
    88200,
    96000,
    192000,
    31999,
    999_983,
]


@pytest.fixture(scope="module")
def resample():
    return Resampler()


def noise(n, seed=0):
    return (np.random.default_rng(seed).standard_normal(n) * 0.1).astype(np.float32)


def limited(n, rate, edge):
    """Noise (n,) without what is above `edge` of the lower Nyquist frequency, and the same at 32 kHz."""
    spectrum = np.fft.rfft(noise(n))
    spectrum[int(n / 2 * edge * min(1, 32000 / rate)) :] = 0
    x = np.fft.irfft(spectrum, n).astype(np.float32)
    m = n * 32000 // rate
    found, wanted = np.fft.rfft(x), np.zeros(m // 2 + 1, complex)
    shared = min(len(found), len(wanted))
    wanted[:shared] = found[:shared]
    return x, np.fft.irfft(wanted, m) * m / n


def decibels(power):
    return 10 * np.log10(power)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 16000, 22050, 44056, 44100, 48000, 96000, 31999])
def test_the_passband_is_that_of_an_ideal_filter(resample, rate):
    x, expected = limited(2 * rate, rate, resampler.PASSBAND)
    error = resample(x, rate) - expected
    inside = slice(len(expected) // 4, -len(expected) // 4)
    assert decibels(np.mean(error[inside] ** 2) / np.mean(expected[inside] ** 2)) < -125


@pytest.mark.parametrize("rate", [44100, 44056, 48000, 96000, 192000, 999_983])
@pytest.mark.parametrize("above", [1.002, 1.1, 1.3])
def test_what_the_lower_rate_cannot_hold_is_gone(resample, rate, above):
    t = np.arange(rate) / rate
    out = resample(np.sin(2 * np.pi * 16000 * above * t), rate)
    assert decibels(np.mean(out[4000:-4000] ** 2) / 0.5) < -120


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 31999 / 2])
def test_no_images_above_the_input_s_band(resample, rate):
    rate = int(rate)
    t = np.arange(rate) / rate
    out = resample(np.sin(2 * np.pi * 0.45 * rate * t), rate)[4000:-4000]
    window = np.kaiser(len(out), 25)
    spectrum = np.abs(np.fft.rfft(out * window)) ** 2
    frequency = np.arange(len(spectrum)) / len(out) * 32000
    assert decibels(spectrum[frequency > rate / 2].sum() / spectrum.sum()) < -120


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("n", [0, 1, 2, 100, 5000])
def test_as_many_samples_as_soxr_and_nearly_the_same(resample, rate, n):
    x, expected = noise(n, n), None
    expected = soxr.resample(x, rate, 32000)
    result = resample(x, rate)
    assert len(result) == len(expected) == resampler.outputs_of(n, rate)
    assert np.isfinite(result).all()
    # where the two filters differ most: between passband and stopband, and white noise is there, too
    assert np.abs(result - expected).max(initial=0) < 0.1


@pytest.mark.parametrize("rate", RATES)
def test_blocks_do_not_show(resample, rate):
    x = noise(70_000, 1)
    whole = resample(x, rate, len(x))
    for block in (100, 777, 8192):
        np.testing.assert_array_equal(resample(x, rate, block), whole)


def test_silence_stays_silence_and_a_constant_itself(resample):
    for rate in RATES:
        assert not resample(np.zeros(3000), rate).any()
        out = resample(np.ones(rate // 2), rate)
        np.testing.assert_allclose(out[len(out) // 3 : -len(out) // 3], 1, rtol=0, atol=3e-6)
