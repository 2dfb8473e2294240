from __future__ import annotations

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
import onnxruntime as ort
import pytest

from audiotag.errors import ModelError
from audiotag.models.checkpoint import read_checkpoint
from audiotag.models.mobilenet import (
    WIDTHS,
    Config,
    graph_from_state,
    make_divisible,
    named_config,
    parameter_count,
    random_graph,
)
from tinyonnx import to_bytes
from tinyonnx.tools.costs import count_parameters

PARAMETERS = {
    "mn01": 123_783,
    "mn02": 324_695,
    "mn04": 983_599,
    "mn05": 1_431_239,
    "mn10": 4_876_831,
    "mn20": 17_909_287,
    "mn30": 39_086_367,
    "mn40": 68_427_303,
}
BLOCKS = [f"features.{i}" for i in range(17)]


@pytest.fixture(scope="module")
def state(shared):
    return read_checkpoint(shared / "data/mn04_as_mAP_432.pt")


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "data/golden_mn04.npz") as data:
        return dict(data)


def state_of(graph):
    return {v.name: v.const for v in graph.initializers if v.name != "spatial_axes"}


def run(graph, melspec, names=None):
    session = ort.InferenceSession(to_bytes(graph), providers=["CPUExecutionProvider"])
    return session.run(names, {"melspec": melspec})


def with_blocks(graph):
    """Return the graph with every block's result as an output."""
    graph = graph.clone()
    values = graph.values()
    for name in BLOCKS:
        values[name].dtype = np.dtype(np.float32)
        graph.add_output(values[name])
    return graph


# -- architecture -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "expected"), [(1.6, 8), (11.9, 16), (12, 16), (18, 24), (44, 48), (50, 48), (73.6, 72), (960, 960)]
)
def test_make_divisible(channels, expected):
    assert make_divisible(channels) == expected


@pytest.mark.parametrize(("name", "expected"), PARAMETERS.items())
def test_parameters_of_the_published_networks(name, expected):
    assert parameter_count(named_config(name)) == expected


def test_widths():
    assert WIDTHS.keys() == PARAMETERS.keys()
    assert [Config(width).name for width in WIDTHS.values()] == list(WIDTHS)
    assert Config(1.0).embedding == 960
    assert Config(0.4).embedding == 384
    with pytest.raises(ModelError, match="mn99"):
        named_config("mn99")


@pytest.mark.parametrize("name", ["mn01", "mn05", "mn10"])
def test_valid_onnx_with_dynamic_batch_and_time(name):
    graph = random_graph(name)
    graph.verify()
    model = onnx.load_from_string(to_bytes(graph))
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info
    }
    width = named_config(name)
    for i, block in enumerate(width.blocks, 1):
        assert shapes[f"features.{i}"][:2] == ["batch", block.out]
    assert shapes["features.16"][:3] == ["batch", width.embedding, 4]
    outputs = {
        o.name: [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in inferred.graph.output
    }
    assert outputs == {"logits": ["batch", 527], "embedding": ["batch", width.embedding]}
    for batch, time in [(1, 1), (3, 17), (2, 100)]:
        logits, embedding = run(graph, np.zeros((batch, 1, 128, time), np.float32))
        assert logits.shape == (batch, 527)
        assert embedding.shape == (batch, width.embedding)


def test_readable_names():
    graph = random_graph("mn10")
    names = {node.name: node.op_type for node in graph.nodes}
    assert len(names) == len(graph.nodes)
    assert names["features.4.block.1.conv"] == "Conv"
    assert names["features.4.block.1.norm"] == "BatchNormalization"
    assert names["features.7.block.0.activation"] == "HardSwish"
    assert names["features.5.add"] == "Add"


# -- from a checkpoint --------------------------------------------------------------------


def test_pytorchs_numbers(state, golden):
    graph = graph_from_state(state)
    session = ort.InferenceSession(to_bytes(graph), providers=["CPUExecutionProvider"])
    clips = [key.removesuffix(":melspec") for key in golden if key.endswith(":melspec")]
    assert len(clips) == 10
    for clip in clips:
        logits, embedding = session.run(["logits", "embedding"], {"melspec": golden[f"{clip}:melspec"][None, None]})
        np.testing.assert_allclose(logits[0], golden[f"{clip}:logits"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(embedding[0], golden[f"{clip}:embedding"], rtol=0, atol=1e-4)


def test_pytorchs_feature_maps(state, golden):
    clip = next(key.removesuffix(":features.0") for key in golden if key.endswith(":features.0"))
    maps = run(with_blocks(graph_from_state(state)), golden[f"{clip}:melspec"][None, None], BLOCKS)
    for name, actual in zip(BLOCKS, maps, strict=True):
        expected = golden[f"{clip}:{name}"]
        assert np.abs(actual[0] - expected).max() <= 1e-4 * np.abs(expected).max(), name


def test_the_checkpoint_stays_inspectable(state):
    graph = graph_from_state(state)
    assert graph.name == "mn04"
    assert graph.metadata["custom:trained"] == "yes"
    assert count_parameters(graph) == PARAMETERS["mn04"]
    for name, array in state_of(graph).items():
        np.testing.assert_array_equal(array, state[name])


@pytest.mark.parametrize("name", ["mn01", "mn02", "mn05"])
def test_width_and_classes_come_from_the_shapes(name):
    graph = random_graph(name, seed=3)
    again = graph_from_state(state_of(graph))
    assert again.name == name
    x = np.random.default_rng(0).standard_normal((2, 1, 128, 50)).astype(np.float32)
    for expected, actual in zip(run(graph, x), run(again, x), strict=True):
        np.testing.assert_array_equal(actual, expected)

    fine_tuned = state_of(graph)
    fine_tuned["classifier.5.weight"] = fine_tuned["classifier.5.weight"][:50].astype(np.float16)
    fine_tuned["classifier.5.bias"] = fine_tuned["classifier.5.bias"][:50].astype(np.float64)
    assert run(graph_from_state(fine_tuned), x)[0].shape == (2, 50)


def test_states_that_are_another_network():
    good = state_of(random_graph("mn01"))

    def refusal(**changes):
        state = {k: v for k, v in {**good, **changes}.items() if v is not None}
        with pytest.raises(ModelError) as caught:
            graph_from_state(state)
        return str(caught.value)

    weight = good["features.3.block.1.0.weight"]
    assert "classifier.2.weight is missing" in refusal(**{"classifier.2.weight": None})
    assert "features.0.1.running_var is missing" in refusal(**{"features.0.1.running_var": None})
    assert "features.3.block.1.0.weight has shape" in refusal(**{"features.3.block.1.0.weight": weight[:-1]})
    assert "int64" in refusal(**{"features.3.block.1.0.weight": weight.astype(np.int64)})
    assert "unexpected tensor layers.0.attn" in refusal(**{"layers.0.attn": weight})
    assert "missing" in refusal(**dict.fromkeys(good))


# -- random -------------------------------------------------------------------------------


def test_random_weights_are_seeded():
    assert to_bytes(random_graph("mn01", seed=1)) == to_bytes(random_graph("mn01", seed=1))
    assert to_bytes(random_graph("mn01", seed=1)) != to_bytes(random_graph("mn01", seed=2))
    assert random_graph("mn01").metadata["custom:trained"] == "no"


@pytest.mark.parametrize(
    ("name", "seed"), [("mn01", 0), ("mn01", 1), ("mn04", 0), ("mn04", 1), ("mn10", 2), ("mn20", 0)]
)
def test_activations_neither_explode_nor_vanish(name, seed):
    x = np.random.default_rng(5).standard_normal((1, 1, 128, 200)).astype(np.float32)
    logits, _, *maps = run(with_blocks(random_graph(name, seed)), x)
    for block, result in zip(BLOCKS, maps, strict=True):
        assert 0.05 < result.std() < 5, block
    assert 0.05 < logits.std() < 5
