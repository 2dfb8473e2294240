"""Checkpoints of all variants become models with the front ends that they were trained with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import tinyonnx
from audiotag import ModelError, Tagger, cli
from audiotag.models import catalog, conversion
from audiotag.models.description import KEY, parse
from audiotag.models.families.efficientat import variant
from audiotag.models.labels_file import read_labels
from audiotag.models.mobilenet import Config, build, named_config, parameter_count, random_tensors
from audiotag.models.network import Network
from tinyonnx.tools.costs import count_parameters

CLIPS = ("dog_bark/1-30226-A", "rain/1-17367-A", "rooster/2-100786-A")


@pytest.mark.parametrize(
    ("family", "outputs"),
    [("dymn04", ("logits", "embedding")), ("fmn06", ("strong_logits", "weak_logits", "frame_embedding"))],
)
def test_outputs_are_those_of_the_family(family, outputs, shared, tmp_path):
    folder = shared / "data/families" / family
    catalog.convert(folder / f"{family}.pt", tmp_path / "model.onnx")
    network = Network(str(tmp_path / "model.onnx"), family)
    golden = np.load(folder / "golden.npz")
    for clip in CLIPS:
        feeds = network.feeds(golden[f"{clip}:features"].reshape(1, 128, -1))
        for name, found in zip(outputs, network.session.run(list(outputs), feeds), strict=True):
            expected = golden[f"{clip}:{name}"]
            np.testing.assert_allclose(found[0].reshape(expected.shape), expected, rtol=0, atol=1e-4, err_msg=name)


def test_a_legacy_checkpoint_of_panns(shared, tmp_path):
    folder = shared / "data/families/panns"
    catalog.convert(folder / "panns_mobilenetv2.pt", tmp_path / "model.onnx")
    network = Network(str(tmp_path / "model.onnx"), "panns")
    assert (network.description.rate, network.embedding) == (32000, "embedding")
    golden = np.load(folder / "golden.npz")
    for clip in CLIPS:
        feeds = network.feeds(golden[f"{clip}:features_32k"].T[None])
        outputs = network.session.run(["clipwise_output", "embedding"], feeds)
        for name, found in zip(("clipwise_output", "embedding"), outputs, strict=True):
            np.testing.assert_allclose(found[0], golden[f"{clip}:{name}"], rtol=0, atol=1e-4, err_msg=name)


def ced_state(path):
    """Return the tensors of CED's checkpoint from the export, which has linear maps transposed, under other names."""
    graph = onnx.load(path).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {name.removeprefix("model."): array for name, array in arrays.items() if name.startswith("model.")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays:
            state[".".join(node.name.split("/")[2:-1]) + ".weight"] = arrays[node.input[1]].T
    return state


def test_a_checkpoint_of_ced(shared, checkpoint, tmp_path):
    folder = shared / "data/families/ced_tiny"
    state = ced_state(folder / "ced_tiny.onnx") | {"front_end.0.spectrogram.window": np.ones(512, np.float32)}
    names = {tensor["key"] for tensor in json.loads((folder / "ced_tiny_keys.json").read_text())["tensors"]}
    assert set(state) | {"front_end.0.mel_scale.fb", "init_bn.1.num_batches_tracked"} == names
    graph = checkpoint(state, "audiotransformer_tiny_mAP_4814.pt")
    assert graph.metadata["custom:architecture"] == catalog.MODELS["ced_tiny"].architecture
    assert count_parameters(graph) == catalog.MODELS["ced_tiny"].parameters
    tinyonnx.save_model(graph, tmp_path / "model.onnx")
    network, golden = Network(str(tmp_path / "model.onnx"), "ced"), np.load(folder / "golden.npz")
    for clip in CLIPS:
        outputs = network.session.run(["prob", "embedding"], network.feeds(golden[f"{clip}:features"][None]))
        for name, found in zip(("probabilities", "embedding"), outputs, strict=True):
            np.testing.assert_allclose(found[0], golden[f"{clip}:{name}"], rtol=0, atol=1e-4, err_msg=name)
    short, long = (Tagger(tmp_path / "model.onnx").tag(np.ones(n, np.float32), 16000) for n in (100, 200_000))
    assert len(short.tags) == len(long.tags) == 10
    del state["blocks.3.norm1.bias"]
    with pytest.raises(ModelError, match=r"not a checkpoint of CED: blocks\.3\.norm1\.bias is missing"):
        checkpoint(state)


def state_of(config, seed=0):
    """Return a checkpoint of a config with random weights."""
    tensors, state = random_tensors(seed), {}

    def remembered(name, shape, gain):
        return state.setdefault(name, tensors(name, shape, gain))

    build(config, remembered)
    return state


@pytest.fixture
def checkpoint(monkeypatch, tmp_path):
    """Make graphs of checkpoints that exist in memory."""

    def graph(state, name="model.pt", **options):
        monkeypatch.setattr(conversion, "read_checkpoint", lambda path: state)
        return conversion.graph_of(Path(name), name, **options)

    return graph


def described(graph):
    return parse(graph.metadata[f"custom:{KEY}"])


@pytest.mark.parametrize(
    ("name", "hop", "bins"),
    [
        ("mn10_as_hop_5_mAP_475.pt", 160, 128),
        ("mn10_as_hop_15_mAP_463.pt", 480, 128),
        ("mn10_as_hop_20_mAP_456.pt", 640, 128),
        ("mn10_as_hop_25_mAP_447.pt", 800, 128),
        ("mn10_as_mels_40_mAP_453.pt", 320, 40),
        ("mn10_as_mels_256_mAP_474.pt", 320, 256),
        ("mn10_as_mAP_471.pt", 320, 128),
    ],
)
def test_the_name_tells_the_front_end(name, hop, bins, checkpoint, tmp_path):
    graph = checkpoint(state_of(Config(0.1)), name)
    features = described(graph).features
    assert (features.hop, features.n_mels) == (hop, bins)
    assert graph.inputs[0].shape == ("batch", 1, bins, "time")
    tinyonnx.save_model(graph, tmp_path / "model.onnx")
    assert Tagger(tmp_path / "model.onnx").tag(np.ones(32000, np.float32), 32000).tags


def test_options_tell_the_front_end_where_the_name_does_not(checkpoint):
    features = described(checkpoint(state_of(Config(0.1)), "mine.pt", hop=20, bins=64)).features
    assert (features.hop, features.n_mels) == (640, 64)
    with pytest.raises(ModelError, match=r"its name says hop 20, not 10; rename the file"):
        checkpoint(state_of(Config(0.1)), "mn01_hop_20.pt", hop=10)


def test_strides_of_a_variant():
    assert variant("mn10_as_fc_s2221_mAP_466.pt").strides == (2, 2, 2, 1)
    assert next(b.stride for b in Config(1, strides=(2, 2, 1, 1)).blocks if b.kernel == 5) == 2
    assert sum(block.stride == 2 for block in Config(1, strides=(2, 2, 1, 1)).blocks) == 2


def test_a_convolutional_head(checkpoint, tmp_path):
    state = state_of(Config(0.1, head="fc"))
    graph = checkpoint(state, "mn01_as_fc.pt")
    tinyonnx.save_model(graph, tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((2, 1, 128, 100)).astype(np.float32)
    session = tinyonnx.InferenceSession(tmp_path / "model.onnx")
    logits, embedding, maps = session.run(["logits", "embedding", "features.16"], {"melspec": x})
    weight, (scale, bias, mean, variance) = state["classifier.0.weight"][:, :, 0, 0], (
        state[f"classifier.1.{kind}"][:, None, None] for kind in ("weight", "bias", "running_mean", "running_var")
    )  # fmt: skip
    scores = (np.einsum("oc,bchw->bohw", weight, maps) - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(logits, scores.mean((2, 3)), rtol=0, atol=1e-4)
    np.testing.assert_allclose(embedding, maps.mean((2, 3)), rtol=0, atol=1e-5)


def test_a_fine_tuned_checkpoint_needs_labels(checkpoint, tmp_path):
    state = {f"module.{name}": array for name, array in state_of(Config(0.1, classes=3)).items()}
    with pytest.raises(ModelError, match=r"^mine\.pt: has 3 classes, not the usual 527: .* --labels FILE"):
        checkpoint(state, "mine.pt")
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ncow\n")
    with pytest.raises(ModelError, match="has 3 classes, but the list of labels has 2"):
        checkpoint(state, "mine.pt", labels=labels)
    labels.write_text("cat\ncow\ncrow, black\n")
    graph = checkpoint(state, "mine.pt", labels=labels)
    tinyonnx.save_model(graph, tmp_path / "model.onnx")
    result = Tagger(tmp_path / "model.onnx").tag(np.ones(32000, np.float32), 32000)
    assert {tag.label for tag in result.tags} == {"cat", "cow", "crow, black"}


def test_a_list_of_classes_that_is_no_table(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text('index,name\n0,"cat\n' + "1,cow\n" * 30_000)
    with pytest.raises(ModelError, match=r"labels\.csv: is not a list of classes: field larger"):
        read_labels(labels)


def test_the_command(shared, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    assert cli.main(["models", "convert", str(shared / "data/mn04_as_mAP_432.pt"), str(out), "--hop", "20"]) == 0
    assert "128 mel bands every 20 ms at 32000 Hz, 527 classes, logits" in capsys.readouterr().out


def test_the_table_of_releases_is_true():
    for model in catalog.MODELS.values():
        assert variant(model.asset).bins in (40, 64, 128, 256)
        if model.architecture in ("mn01", "mn04", "mn10"):
            assert model.parameters == parameter_count(named_config(model.architecture))
        assert model.mean_ap is None or "mAP" not in model.asset or f"{model.mean_ap:g}"[2:] in model.asset
