from __future__ import annotations

import numpy as np
import pytest

from audiotag.features import mel
from audiotag.features.settings import Logarithm, MelBank, MelConfig, Window, mel_filterbank, window
from audiotag.sound import audio

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
    ours = mel_filterbank(mel.DEFAULT)
    # one unit in the last place of a log_mel, about 2.4e-4, over the width of a bank, 27 log_mel, and twice that
    np.testing.assert_allclose(ours, golden["mel_filterbank"], rtol=0, atol=2e-5)
    np.testing.assert_array_equal(ours != 0, golden["mel_filterbank"] != 0)
    np.testing.assert_allclose(window(mel.DEFAULT)[112:912], golden["window"], rtol=0, atol=3e-7)
    assert not window(mel.DEFAULT)[:112].any()
    assert not window(mel.DEFAULT)[912:].any()


def energies(x, config=mel.DEFAULT):
    """Return energies (n_mels, T) by the definition, in float64 and without blocks, and energies of frames (T,)."""
    half = config.n_fft // 2
    x = np.pad(x.astype(np.float64), (0, max(0, config.min_samples - len(x))))
    y = np.pad(x[1:] - config.preemphasis * x[:-1], half, mode="reflect")
    weights = np.zeros(config.n_fft)
    start = (config.n_fft - config.window.length) // 2
    weights[start : start + config.window.length] = np.hanning(config.window.length)
    starts = range(0, len(y) - config.n_fft + 1, config.hop)
    frames = np.array([y[start : start + config.n_fft] * weights for start in starts])
    power = np.abs(np.fft.rfft(frames)) ** 2
    return (power @ mel_filterbank(config).T.astype(np.float64)).T, power.mean(axis=1)


def reference(x, config=mel.DEFAULT):
    return (np.log(energies(x, config)[0] + config.log.offset) + 4.5) / 5


def noise(n, seed):
    """Return noise that is white after pre-emphasis, as recordings nearly are."""
    x = np.random.default_rng(seed).standard_normal(n) * 0.1
    for i in range(1, n):
        x[i] += 0.97 * x[i - 1]
    return x.astype(np.float32)


def in_blocks(x, block, config=mel.DEFAULT):
    stream = mel.LogMelStream(config)
    frames = [stream.push(x[i : i + block]) for i in range(0, len(x), block)]
    return mel.join_frames([*frames, stream.finish()])


LENGTHS = [0, 1, 2, 100, 513, 514, 515, 799, 800, 1023, 1024, 1025, 1600, 32000, 100_001]


@pytest.mark.parametrize("n", LENGTHS)
def test_any_length_follows_the_definition(n):
    x = noise(n, n)
    features = mel.log_mel(x)
    assert features.dtype == np.float32
    assert features.shape == (128, mel.DEFAULT.n_frames(n))
    np.testing.assert_allclose(features, reference(x), rtol=0, atol=3e-5)


@pytest.mark.parametrize("n", LENGTHS)
def test_energies_of_white_noise_are_off_by_rounding_of_the_whole_frame(n):
    # a Fourier transform in float32 rounds every bin by as much as the loudest needs: pre-emphasis leaves
    # white noise with low bands a thousand times weaker than the others, where a logarithm shows that
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    ours = np.exp(5 * mel.log_mel(x).astype(np.float64) - 4.5) - mel.DEFAULT.log.offset
    expected, mean = energies(x)
    rounding = 1e-6 * np.sqrt(mean)
    bound = rounding * (2 * np.sqrt(expected) + rounding) + 1e-6 * (expected + mel.DEFAULT.log.offset)
    assert (np.abs(ours - expected) <= bound).all()


CONFIGS = [
    MelConfig(rate=16000, n_fft=512, window=Window(length=400), hop=160, mel=MelBank(bins=64, fmax=7600.0)),
    MelConfig(rate=16000, n_fft=400, window=Window(length=400), hop=160, mel=MelBank(bins=80, fmax=8000.0)),
    MelConfig(rate=44100, n_fft=2048, window=Window(length=1100), hop=441, mel=MelBank(bins=256, fmax=20000.0)),
    MelConfig(rate=8000, n_fft=256, window=Window(length=255), hop=77, mel=MelBank(bins=20, fmin=50.0, fmax=4000.0)),
    MelConfig(n_fft=64, window=Window(length=64), hop=63, mel=MelBank(bins=5)),
    MelConfig(n_fft=64, window=Window(length=50), hop=301, mel=MelBank(bins=5)),
    MelConfig(n_fft=8, window=Window(length=8), hop=1, mel=MelBank(bins=2)),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_fft}-{c.hop}")
@pytest.mark.parametrize("n", [1, 3000])
def test_any_configuration_follows_the_definition(config, n):
    x = noise(n, n)
    features = mel.log_mel(x, config)
    assert features.shape == (config.n_mels, config.n_frames(n))
    np.testing.assert_allclose(features, reference(x, config), rtol=0, atol=3e-5)
    for block in (1, 100, 1111):
        np.testing.assert_array_equal(in_blocks(x, block, config), features)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_fft": 1028}, "multiple of 8 up to 65536, not 1028"),
        ({"window": Window(length=1025)}, "2 to n_fft = 1024, not 1025"),
        ({"hop": 0}, "positive, not 32000, 0, 128"),
        ({"mel": MelBank(fmax=16001)}, "rate / 2 = 16000"),
        ({"scale": 0}, "scale must not be zero"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        MelConfig(**setting)


@pytest.mark.parametrize("setting", [{}, {"offset": -1e-5}, {"offset": float("nan")}, {"floor": 1e-40}])
def test_a_logarithm_of_zero_is_refused(setting):
    with pytest.raises(ValueError, match="positive float32"):
        Logarithm(**setting)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_spoils_its_frames_only(value):
    x = noise(32000, 1)
    clean = mel.log_mel(x)
    x[16000] = value
    spoilt = mel.log_mel(x)
    touched = np.array([t * 320 - 512 <= 16000 and t * 320 + 512 > 15999 for t in range(clean.shape[1])])
    assert not np.isfinite(spoilt[:, touched]).any()
    np.testing.assert_array_equal(spoilt[:, ~touched], clean[:, ~touched])


@pytest.mark.parametrize("n", [0, 100, 50_000])
def test_silence_is_one_value(n):
    features = mel.log_mel(np.zeros(n, np.float32))
    np.testing.assert_allclose(features, SILENCE, rtol=0, atol=1e-6)


def test_short_clips_are_continued_with_zeros():
    x = np.random.default_rng(0).standard_normal(300).astype(np.float32)
    np.testing.assert_array_equal(mel.log_mel(x), mel.log_mel(np.pad(x, (0, 214))))
