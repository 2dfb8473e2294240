from __future__ import annotations

import numpy as np
import pytest
import soxr

from audiotag.standalone import resampler
from conformance.resampling import RATES, Resampler, decibels, measure, table

MORE_RATES = [*RATES, 1000, 12000, 24000, 37800, 88200, 31999, 999_983]


@pytest.fixture(scope="module")
def resample():
    return Resampler()


def noise(n, seed=0):
    return (np.random.default_rng(seed).standard_normal(n) * 0.1).astype(np.float32)


@pytest.mark.parametrize("rate", [*RATES, 1000, 31999, 88200])
def test_the_response_is_as_good_as_soxr_s(resample, rate):
    response = measure(resample, rate)
    assert abs(response.ripple) < 1e-4
    assert -4 < response.edge < -2
    assert response.leak < -125
    assert response.error < -120


def test_the_table():
    first, *lines = table([44100]).splitlines()[2:]
    assert "native" in first
    (cells,) = (line.split() for line in lines)
    assert cells[0] == "44100"
    assert len(cells) == 9


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 15999])
def test_no_images_above_the_input_s_band(resample, rate):
    t = np.arange(rate) / rate
    out = resample(np.sin(2 * np.pi * 0.45 * rate * t), rate)[4000:-4000]
    spectrum = np.abs(np.fft.rfft(out * np.kaiser(len(out), 25))) ** 2
    frequency = np.arange(len(spectrum)) / len(out) * 32000
    assert decibels(spectrum[frequency > rate / 2].sum() / spectrum.sum()) < -120


@pytest.mark.parametrize("rate", MORE_RATES)
@pytest.mark.parametrize("n", [0, 1, 2, 100, 5000])
def test_as_many_samples_as_soxr_and_nearly_the_same(resample, rate, n):
    x = noise(n, n)
    expected, result = soxr.resample(x, rate, 32000), resample(x, rate)
    assert len(result) == len(expected) == resampler.outputs_of(n, rate, 32000)
    assert np.isfinite(result).all()
    # they differ most between passband and stopband, where white noise is, too
    assert np.abs(result - expected).max(initial=0) < 0.1


@pytest.mark.parametrize("target", [16000, 48000, 22050, 1000])
def test_other_output_rates(target):
    resample = Resampler(target)
    for rate in (8000, 16000, 22050, 44056, 44100, 48000, 1_000_000):
        if rate == target:
            continue  # isn't resampled
        turns = 2 * np.pi * 0.4 * min(rate, target)
        tone = np.sin(turns * np.arange(rate // 2) / rate).astype(np.float32)
        out = resample(tone, rate)
        assert len(out) == len(soxr.resample(tone, rate, target)) == resampler.outputs_of(len(tone), rate, target)
        inside = slice(len(out) // 4, -len(out) // 4)
        expected = np.sin(turns * np.arange(len(out)) / target)
        np.testing.assert_allclose(out[inside], expected[inside], rtol=0, atol=5e-6)
        np.testing.assert_array_equal(resample(tone, rate, 1000), out)


@pytest.mark.parametrize("rate", MORE_RATES)
def test_blocks_do_not_show(resample, rate):
    x = noise(70_000, 1)
    whole = resample(x, rate, len(x))
    for block in (100, 777, 8192):
        np.testing.assert_array_equal(resample(x, rate, block), whole)


def test_silence_stays_silence_and_a_constant_itself(resample):
    for rate in MORE_RATES:
        assert not resample(np.zeros(3000), rate).any()
        out = resample(np.ones(rate // 2), rate)
        np.testing.assert_allclose(out[len(out) // 3 : -len(out) // 3], 1, rtol=0, atol=3e-6)
