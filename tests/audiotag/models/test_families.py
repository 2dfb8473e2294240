"""Features and outputs of other families, compared with those of their original code (../shared/data/families)."""

from __future__ import annotations

import numpy as np
import pytest

from audiotag import ModelError, Tagger
from audiotag.features import mel
from audiotag.features.settings import mel_filterbank, window
from audiotag.models.describe import describe, description_of
from audiotag.models.families import descriptions
from audiotag.models.families.efficientat import config
from audiotag.models.network import Network, sigmoid

CLIPS = ("dog_bark/1-30226-A", "rain/1-17367-A", "rooster/2-100786-A")
LABELS = "".join(f"sound {i}\n" for i in range(10))

FRONT_ENDS = {
    "efficientsed": ("fmn06", "waveform", "features", "mel_filterbank", "window"),
    "panns": ("panns", "waveform_32k", "features_32k", "mel_filterbank_32k", "window_32k"),
    "panns_16k": ("panns", "waveform_16k", "features_16k", "mel_filterbank_16k", "window_16k"),
    "ced": ("ced_tiny", "waveform", "features", "mel_filterbank", "window"),
}


@pytest.fixture(scope="module")
def families(shared):
    return shared / "data/families"


def of(families, folder):
    return np.load(families / folder / "golden.npz")


def definition(x, config):
    """Return features computed in float64 with numpy, (mels, frames)."""
    x = x.astype(np.float64)
    y = x if config.preemphasis is None else x[1:] - config.preemphasis * x[:-1]
    y = np.pad(y, config.padding, mode={"reflect": "reflect", "zero": "constant", None: "constant"}[config.centre])
    frames = np.lib.stride_tricks.sliding_window_view(y, config.n_fft)[:: config.hop] * window(config).astype(float)
    power = np.abs(np.fft.rfft(frames)) ** config.power
    energy = np.maximum(power @ mel_filterbank(config).T.astype(float) + config.log.offset, config.log.floor)
    values = (np.log(energy) / np.log({"e": np.e, "10": 10}[config.log.base]) + config.shift) / config.scale
    if config.log.top_db is not None:
        per_db = {"e": np.log(10) / 10, "10": 0.1}[config.log.base] / config.scale
        values = np.maximum(values, values.max() - config.log.top_db * per_db)
    return values.T


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_features_are_those_of_the_family(name, families):
    folder, sound, features, bank, shape = FRONT_ENDS[name]
    golden, config = of(families, folder), descriptions()[name].features
    expected = golden[bank] if len(golden[bank]) == config.n_mels else golden[bank].T
    np.testing.assert_allclose(mel_filterbank(config), expected, rtol=0, atol=3e-5)
    start = (config.n_fft - config.window.length) // 2
    np.testing.assert_allclose(window(config)[start : start + config.window.length], golden[shape], atol=3e-7)
    for clip in CLIPS:
        samples, theirs = golden[f"{clip}:{sound}"], golden[f"{clip}:{features}"]
        theirs = theirs.reshape(theirs.shape[-2:])
        theirs = theirs if len(theirs) == config.n_mels else theirs.T
        ours, exact = mel.log_mel(samples, config), definition(samples, config)
        scale = np.abs(theirs).max()
        # bands far below the loudest one are rounding errors of the float32 transform, theirs as ours
        noise = np.abs(theirs - exact).max()
        np.testing.assert_allclose(ours, exact, rtol=0, atol=max(1e-4 * scale, 2 * noise), err_msg=clip)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=max(1e-4 * scale, 3 * noise), err_msg=clip)
        assert np.abs(ours - theirs).mean() <= 1e-6 * scale


def test_features_of_efficientat_variants(families):
    golden = of(families, "mn_frontends")
    for key in golden.files:
        clip, kind, variant = (*key.split(":"), "")[:3]
        if kind == "features":
            hop, bins = (int(part) for part in variant.removeprefix("hop").split("_mels"))
            ours = mel.log_mel(golden[f"{clip}:waveform"], config(hop, bins))
            np.testing.assert_allclose(ours[:, : golden[key].shape[2]], golden[key][0], rtol=0, atol=1e-4, err_msg=key)


def test_the_described_efficientat_is_the_undescribed_one(mn04, tmp_path, shared):
    described = tmp_path / "described.onnx"
    describe(mn04, description_of("efficientat"), described)
    clip = shared / "data/esc10/rooster/2-100786-A.ogg"
    np.testing.assert_array_equal(Tagger(described).scores(clip), Tagger(mn04).scores(clip))


OUTPUTS = {
    "dymn04": ("efficientat", "dymn04/dymn04.onnx", "waveform", "logits", "embedding"),
    "fmn06": ("efficientsed", "fmn06/fmn06.onnx", "waveform", "weak_logits", "frame_embedding"),
    "panns": ("panns", "panns/panns_mobilenetv2.onnx", "waveform_32k", "clipwise_output", "embedding"),
    "ced": ("ced", "ced_tiny/ced_tiny.onnx", "waveform", "probabilities", "embedding"),
    "wave10": ("waveform_16k", "wave10/wave10.onnx", "waveform", "wave10:probabilities", None),
    "wave10_stft": ("waveform_16k", "wave10/wave10_stft.onnx", "waveform", "wave10_stft:probabilities", None),
}


def heard(golden, clip, sound, features):
    """Return the output of the front end as the family computes it, (rows, columns)."""
    if features.startswith("waveform"):
        return golden[f"{clip}:{sound}"][None]
    rows = golden[f"{clip}:{sound.replace('waveform', 'features')}"]
    rows = rows.reshape(rows.shape[-2:])
    return rows.T if features.startswith("panns") else rows


@pytest.mark.parametrize("name", OUTPUTS)
def test_scores_are_those_of_the_family(name, families, tmp_path):
    features, path, sound, scores, embedding = OUTPUTS[name]
    labels = tmp_path / "labels.txt"
    labels.write_text(LABELS)
    model = tmp_path / "model.onnx"
    network = describe(families / path, description_of(features, labels if name.startswith("wave") else None), model)
    tagger, golden = Tagger(model), of(families, path.split("/")[0])
    for clip in CLIPS:
        expected = golden[f"{clip}:{scores}"]
        expected = sigmoid(expected) if scores.endswith("logits") else expected
        outcome = network.answer(heard(golden, clip, sound, features), embedding=embedding is not None)
        np.testing.assert_allclose(outcome.scores, expected, rtol=0, atol=1e-4, err_msg=clip)
        # from samples on, features of silent bands differ by rounding, which these random weights amplify
        found = tagger.scores(golden[f"{clip}:{sound}"], tagger.rate)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3, err_msg=clip)
        assert np.abs(found - expected).mean() <= 1e-4
        if embedding is not None:
            vector = golden[f"{clip}:{embedding}"]
            vector = vector.mean(axis=0) if vector.ndim == 2 else vector
            np.testing.assert_allclose(outcome.embedding, vector, rtol=0, atol=1e-4, err_msg=clip)


def test_frame_wise_scores_are_those_of_the_family(families, tmp_path):
    model = tmp_path / "model.onnx"
    network = describe(families / "fmn06/fmn06.onnx", description_of("efficientsed"), model)
    golden = of(families, "fmn06")
    for clip in CLIPS:
        frames = network.answer(golden[f"{clip}:features"][0], frames=True).frames
        np.testing.assert_allclose(frames, sigmoid(golden[f"{clip}:strong_logits"]).T, rtol=0, atol=1e-4)


def test_long_clips_of_a_bounded_model_are_the_mean_of_pieces(families, tmp_path):
    model = tmp_path / "model.onnx"
    describe(families / "ced_tiny/ced_tiny.onnx", description_of("ced"), model)
    tagger, golden = Tagger(model), of(families, "ced_tiny")
    samples = np.concatenate([golden[f"{clip}:waveform"] for clip in CLIPS])
    piece = round(10.11 * 16000)
    parts = [samples[:piece], samples[-piece:]]
    expected = np.mean([tagger.scores(part, 16000) for part in parts], axis=0)
    np.testing.assert_allclose(tagger.scores(samples, 16000), expected, rtol=0, atol=1e-12)
    with pytest.raises(ModelError, match=r"takes at most 10\.11 s, not windows of 20 s"):
        list(tagger.tag_windows(samples, 20, rate=16000))


def test_short_clips_are_padded_to_the_least_length(families, tmp_path):
    model = tmp_path / "model.onnx"
    describe(families / "ced_tiny/ced_tiny.onnx", description_of("ced"), model)
    tagger = Tagger(model)
    samples = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    padded = np.concatenate([samples, np.zeros(1560, np.float32)])
    np.testing.assert_array_equal(tagger.scores(samples, 16000), tagger.scores(padded, 16000))
    assert tagger.tag(samples, 16000).end == 1000 / 16000
    assert isinstance(tagger.network, Network)
