"""PANNs' networks compared with their definition in numpy, with random weights of the published names and shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tinyonnx
from audiotag import ModelError, Tagger
from audiotag.events import EventOptions
from audiotag.features.settings import mel_filterbank
from audiotag.models import catalog, panns
from audiotag.models.families.panns import config
from audiotag.models.panns import graph_from_panns_state
from tinyonnx.tools.costs import count_parameters

FRAMES = 96


def shapes_of(shared, name):
    """Return names and shapes of the published tensors."""
    tensors = json.loads((shared / f"data/families/panns/keys_{name}.json").read_text())["tensors"]
    return {tensor["key"]: tuple(tensor["shape"]) for tensor in tensors}


def state_of(shared, name, factor=1):
    """Return a checkpoint with random weights, under which activations neither explode nor vanish.

    Convolutions have `factor` times fewer channels than published.
    """
    rng, state = np.random.default_rng(1), {}
    for key, published in shapes_of(shared, name).items():
        shape = published
        if key.startswith(("conv_block", "fc")):
            shape = tuple(size // factor if size >= 64 and size != 527 else size for size in published)
        if key.endswith("num_batches_tracked"):
            state[key] = np.array(1000)
            continue
        if key.startswith("spectrogram"):
            state[key] = np.zeros(shape, np.float32)
            continue
        array = rng.standard_normal(shape, np.float32)
        if len(shape) > 1:
            array *= (2 / np.prod(shape[1:])) ** 0.5
        elif key.endswith((".weight", ".running_var")):
            array = np.exp(0.1 * array)
        else:
            array *= 0.05
        state[key] = array
    rate = 32000 if len(state["logmel_extractor.melW"]) == 513 else 16000
    state["logmel_extractor.melW"] = mel_filterbank(config(rate)).T
    return state


# -- the definition ---------------------------------------------------------------------


def norm(state, name, x):
    scale, bias, mean, variance = (
        state[f"{name}.{kind}"][:, None, None] for kind in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


def conv(x, weight):
    """Compute a convolution of (channels, time, mel) with stride 1 that keeps the size; depthwise if its weight is."""
    out, n, size, _ = weight.shape
    pad = size // 2
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, [(0, 0), (pad, pad), (pad, pad)]), (size, size), (1, 2)
    )
    if n < len(x):
        return np.einsum("cthij,cij->cth", windows, weight[:, 0])
    return np.tensordot(weight, windows, axes=([1, 2, 3], [0, 3, 4])).reshape(out, *x.shape[1:])


def pool(x, size=2):
    c, t, m = x.shape
    t, m = t // size * size, m // size * size
    return x[:, :t, :m].reshape(c, t // size, size, m // size, size).mean((2, 4))


def relu(x):
    return np.maximum(x, 0)


def cnn(state, x, blocks, layers):
    for index in range(1, blocks + 1):
        for layer in range(1, layers + 1):
            block = f"conv_block{index}"
            x = relu(norm(state, f"{block}.bn{layer}", conv(x, state[f"{block}.conv{layer}.weight"])))
        x = x if index == 6 else pool(x)
    return x


def mobilenet_v1(state, x):
    x = relu(norm(state, "features.0.2", pool(conv(x, state["features.0.0.weight"]))))
    for index, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), 1):
        name = f"features.{index}"
        x = relu(norm(state, f"{name}.2", pool(conv(x, state[f"{name}.0.weight"]), stride)))
        x = relu(norm(state, f"{name}.5", conv(x, state[f"{name}.4.weight"])))
    return x


BODIES = {
    "Cnn6": lambda state, x: cnn(state, x, 4, 1),
    "Cnn10": lambda state, x: cnn(state, x, 4, 2),
    "Cnn14_DecisionLevelMax": lambda state, x: cnn(state, x, 6, 2),
    "MobileNetV1": mobilenet_v1,
}


def definition(name, state, logmel):
    """Return (probabilities of the clip, of its segments) of one clip (time, mel)."""
    x = norm(state, "bn0", logmel.T[:, :, None])[:, :, 0].T[None]
    x = BODIES[name](state, x).mean(2)
    if name == "Cnn14_DecisionLevelMax":
        windows = [np.lib.stride_tricks.sliding_window_view(np.pad(x, [(0, 0), (1, 1)], constant_values=value), 3, 1)
                   for value in (-np.inf, 0)]  # fmt: skip
        x = (windows[0].max(2) + windows[1].mean(2)).T
    else:
        x = (x.max(1) + x.mean(1))[None]
    x = relu(x @ state["fc1.weight"].T + state["fc1.bias"])
    segments = 1 / (1 + np.exp(-(x @ state["fc_audioset.weight"].T + state["fc_audioset.bias"])))
    return segments.max(0), segments


@pytest.mark.parametrize("name", BODIES)
def test_networks_are_as_defined(name, shared, monkeypatch):
    small = "Cnn14" in name
    if small:
        monkeypatch.setattr(panns, "_CNN14", tuple(size // 16 for size in panns._CNN14))
    state = state_of(shared, name, 16 if small else 1)
    graph, described = graph_from_panns_state(state, f"{name}_mAP=0.400.pth")
    logmel = np.random.default_rng(0).standard_normal((FRAMES, 64)).astype(np.float32)
    session = tinyonnx.InferenceSession(tinyonnx.to_bytes(graph))
    expected, segments = definition(name, state, logmel)
    assert np.ptp(expected) > 0.1
    found = session.run(["clipwise_output"], {"logmel": logmel[None, None]})[0]
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-4)
    assert (described.frames is None) == (name != "Cnn14_DecisionLevelMax")
    if described.frames is not None:
        found = session.run(["segmentwise_output"], {"logmel": logmel[None, None]})[0]
        np.testing.assert_allclose(found[0], segments, rtol=0, atol=1e-4)


def test_events_of_segments(shared, monkeypatch, tmp_path):
    monkeypatch.setattr(panns, "_CNN14", tuple(size // 16 for size in panns._CNN14))
    name = "Cnn14_DecisionLevelMax"
    graph, described = graph_from_panns_state(state_of(shared, name, 16), f"{name}_mAP=0.385.pth")
    graph.metadata["custom:audiotag"] = described.to_text()
    tinyonnx.save_model(graph, tmp_path / "model.onnx")
    sound = np.random.default_rng(0).standard_normal(128_000).astype(np.float32)
    events = list(Tagger(tmp_path / "model.onnx").find_events(sound, EventOptions(0.01, 0.005), rate=32000))
    assert events[0].tags
    assert all(0 <= event.start < event.end <= 4 for event in events)


@pytest.mark.parametrize("name", ["Cnn14", "Cnn14_16k", "Cnn14_DecisionLevelMax", "MobileNetV1"])
def test_published_shapes(name, shared):
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes_of(shared, name).items()}
    rate = 16000 if "16k" in name else 32000
    state["logmel_extractor.melW"] = mel_filterbank(config(rate)).T
    graph, described = graph_from_panns_state(state, f"{name}_mAP=0.400.pth")
    assert described.rate == rate
    (release,) = (model for model in catalog.MODELS.values() if model.asset.startswith(f"{name}_mAP"))
    assert release.parameters == count_parameters(graph)
    assert release.architecture == graph.metadata["custom:architecture"]


def test_front_ends_that_are_not_the_released_ones(shared):
    state = state_of(shared, "Cnn6")
    bank = state["logmel_extractor.melW"]
    with pytest.raises(ModelError, match=r"melW is not the filter bank of 50 Hz to 14000 Hz"):
        graph_from_panns_state(state | {"logmel_extractor.melW": 2 * bank}, "Cnn6.pth")
    with pytest.raises(ModelError, match=r"melW has shape \[129, 64\]; it must have 513 rows"):
        graph_from_panns_state(state | {"logmel_extractor.melW": bank[:129]}, "Cnn6.pth")
    del state["logmel_extractor.melW"]
    with pytest.raises(ModelError, match=r"melW is missing: the sample rate"):
        graph_from_panns_state(state, "Cnn6.pth")


def test_other_networks_are_refused(shared):
    state = state_of(shared, "Cnn6")
    with pytest.raises(ModelError, match="name says DecisionLevelMax, but its tensors are those of Cnn6"):
        graph_from_panns_state(state, "Cnn14_DecisionLevelMax_mAP=0.385.pth")
    with pytest.raises(ModelError, match=r"unexpected tensor att_block\.att\.weight"):
        graph_from_panns_state(state | {"att_block.att.weight": np.zeros(3, np.float32)}, "Cnn6.pth")
    with pytest.raises(ModelError, match=r"conv_block1\.bn1\.bias is missing"):
        graph_from_panns_state({k: v for k, v in state.items() if k != "conv_block1.bn1.bias"}, "Cnn6.pth")
    with pytest.raises(ModelError, match="not a network of PANNs that is known"):
        graph_from_panns_state({k: v for k, v in state.items() if "conv_block4" not in k}, "Cnn6.pth")
