from __future__ import annotations

import numpy as np
import pytest

from audiotag import audio, mel

SILENCE = np.float32(-1.402585)


def clips(golden):
    return sorted(key.split(":")[0] for key in golden if key.endswith(":melspec"))


def test_features_agree_with_pytorch_on_all_clips(shared, golden):
    names = clips(golden)
    assert len(names) == 10
    for name in names:
        samples = audio.read(shared / f"data/esc10/{name}.ogg")
        assert len(samples) == golden[f"{name}:num_samples"]
        np.testing.assert_array_equal(samples[:64], golden[f"{name}:samples_32k_head"])
        np.testing.assert_allclose(mel.log_mel(samples), golden[f"{name}:melspec"], rtol=0, atol=1e-4, err_msg=name)


def test_filterbank_and_window_are_pytorchs(golden):
    ours = mel.mel_filterbank()
    # one unit in the last place of a mel, about 2.4e-4, over the width of a bank, 27 mel, and twice that
    np.testing.assert_allclose(ours, golden["mel_filterbank"], rtol=0, atol=2e-5)
    np.testing.assert_array_equal(ours != 0, golden["mel_filterbank"] != 0)
    np.testing.assert_allclose(mel.hann_window()[112:912], golden["window"], rtol=0, atol=3e-7)
    assert not mel.hann_window()[:112].any()
    assert not mel.hann_window()[912:].any()


def reference(x):
    """The definition, in float64 and without blocks or bands."""
    x = np.pad(x.astype(np.float64), (0, max(0, 514 - len(x))))
    y = np.pad(x[1:] - 0.97 * x[:-1], 512, mode="reflect")
    n = np.arange(800)
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * n / 799), 112)
    frames = [y[t * 320 : t * 320 + 1024] * window for t in range(1 + (len(x) - 1) // 320)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    return ((np.log(power @ mel.mel_filterbank().T.astype(np.float64) + 1e-5) + 4.5) / 5).T


@pytest.mark.parametrize("n", [0, 1, 2, 100, 513, 514, 515, 799, 800, 1023, 1024, 1025, 1600, 32000, 100_001])
def test_any_length_follows_the_definition(n):
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    features = mel.log_mel(x)
    assert features.dtype == np.float32
    assert features.shape == (128, mel.DEFAULT.n_frames(n))
    np.testing.assert_allclose(features, reference(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 513, 514, 4000, 40_000])
@pytest.mark.parametrize("block", [1, 7, 320, 777])
def test_blocks_do_not_show(n, block):
    if block == 1 and n > 4000:
        block = 5
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    np.testing.assert_array_equal(mel.log_mel(x, block=block), mel.log_mel(x))


@pytest.mark.parametrize("n", [0, 100, 50_000])
def test_silence_is_one_value(n):
    features = mel.log_mel(np.zeros(n, np.float32))
    np.testing.assert_allclose(features, SILENCE, rtol=0, atol=1e-6)


def test_short_clips_are_continued_with_zeros():
    x = np.random.default_rng(0).standard_normal(300).astype(np.float32)
    np.testing.assert_array_equal(mel.log_mel(x), mel.log_mel(np.pad(x, (0, 214))))


def test_stream_counts_the_clips_own_samples():
    stream = mel.LogMelStream()
    stream.push(np.zeros(100, np.float32))
    stream.finish()
    assert stream.n_samples == 100
