"""Models that are taggers, models that are not, and their outputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from audiotag import ModelError, Tagger
from audiotag.features.settings import MelConfig
from audiotag.models.network import sigmoid
from tests.audiotag.conftest import make_tagger
from tinyonnx.codegen.kernel import DISABLED, Kernel


@pytest.mark.skipif(DISABLED, reason="without the JIT nothing is compiled")
@pytest.mark.parametrize("seconds", [0.5, 10])
def test_kernels_of_a_first_clip_are_known_before_it_is_analysed(model, seconds, monkeypatch):
    """They are compiled together: any that is missing in the list would be compiled alone, after the others."""
    used, address = [], Kernel.address

    def noted(kernel, kinds):
        used.append((kernel, kinds))
        return address(kernel, kinds)

    tagger, features = Tagger(model), MelConfig()
    expected = tagger.network.kernels(features, round(seconds * features.rate))
    monkeypatch.setattr(Kernel, "address", noted)
    tagger.tag(np.zeros(round(seconds * features.rate), np.float32), features.rate)
    assert {kernel.__name__ for kernel, _ in used} >= {"push", "run_table"}
    assert set(used) <= set(expected)


def test_logits_are_pytorchs(shared, golden, mn04):
    tagger = Tagger(mn04)
    names = sorted({key.split(":")[0] for key in golden if key.endswith(":logits")})
    assert len(names) == 10
    for name in names:
        expected = sigmoid(golden[f"{name}:logits"])
        np.testing.assert_allclose(tagger.scores(shared / f"data/esc10/{name}.ogg"), expected, rtol=0, atol=1e-4)


NOT_TAGGERS = {
    "mels.onnx": (
        {"input": "float[batch, 1, 64, time] x"},
        "its input 'x' is tensor\\(float\\) \\(batch, 1, 64, time\\)",
    ),
    "rank.onnx": ({"input": "float[batch, samples] x"}, "expected one input"),
    "type.onnx": ({"input": "int64[batch, 1, 128, time] x"}, "tensor\\(int64\\)"),
    "two.onnx": ({"input": "float[batch, 1, 128, time] x, float[1] y"}, "it has 2 inputs"),
    "classes.onnx": ({"output": "float[batch, 10] scores", "classes": 10}, "no output has 527 classes"),
}


@pytest.mark.parametrize("name", NOT_TAGGERS)
def test_models_that_are_no_taggers(name, tmp_path, clip):
    options, message = NOT_TAGGERS[name]
    path = make_tagger(tmp_path / name, **options)
    with pytest.raises(ModelError, match=message) as caught:
        Tagger(path).tag(clip)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("output", ["float[batch, 527] scores", "float[batch, n] scores", "float[batch, n] logits"])
def test_logits_are_found_by_name_or_by_size(output, tmp_path, tagger, clip):
    path = make_tagger(tmp_path / "model.onnx", output=output)
    assert Tagger(path).tag(clip).tags == tagger.tag(clip).tags


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_models_in_other_precisions(kind, tmp_path, tagger, clip):
    path = make_tagger(
        tmp_path / "model.onnx", input=f"{kind}[batch, 1, 128, time] x", output=f"{kind}[batch, 527] logits", kind=kind
    )
    close = pytest.approx([tag.score for tag in tagger.tag(clip).tags], abs=1e-2 if kind == "float16" else 1e-6)
    assert [tag.score for tag in Tagger(path).tag(clip).tags] == close


def test_an_output_that_turns_out_to_have_another_size(tmp_path, clip):
    path = make_tagger(tmp_path / "model.onnx", output="float[batch, n] scores", classes=10)
    with pytest.raises(ModelError, match=r"output 'scores' has shape \(1, 10\), not \(1, 527\)"):
        Tagger(path).tag(clip)


def test_a_model_of_fixed_length(tmp_path, noise):
    tagger = Tagger(make_tagger(tmp_path / "model.onnx", input="float[1, 1, 128, 100] x"))
    assert tagger.tag(noise[:32000, 0], 32000).tags
    with pytest.raises(ModelError, match=r"takes exactly 100 frames \(1 s\), not 50"):
        tagger.tag(noise[:16000, 0], 32000)


@pytest.mark.parametrize("content", [b"", b"random bytes, no model" * 50])
def test_files_that_are_no_models(content, tmp_path, clip):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        Tagger(path).tag(clip)


EXPORTS = (
    "mn04_torchscript.onnx",
    "mn04_torchscript_opset13.onnx",
    "mn04_dynamo.onnx",
    "mn04_hear_multi_output.onnx",
)


@pytest.mark.parametrize("name", [*EXPORTS, "ours"])
def test_embeddings_are_pytorchs(name, shared, golden, mn04):
    tagger = Tagger(mn04 if name == "ours" else shared / "data/onnx" / name)
    clips = sorted({key.split(":")[0] for key in golden if key.endswith(":embedding")})
    assert len(clips) == 10
    for clip in clips[:3]:
        path = shared / f"data/esc10/{clip}.ogg"
        embedding = tagger.embed(path)
        assert (embedding.shape, embedding.dtype) == ((384,), np.float32)
        np.testing.assert_allclose(embedding, golden[f"{clip}:embedding"].reshape(-1), rtol=0, atol=1e-4)
        result = tagger.tag(path, top=None, embedding=True)
        np.testing.assert_array_equal(result.embedding, embedding)
        expected = sorted(sigmoid(golden[f"{clip}:logits"]).reshape(-1), reverse=True)
        np.testing.assert_allclose([tag.score for tag in result.tags], expected, rtol=0, atol=1e-4)


def test_a_model_without_an_embedding_says_so(tmp_path, clip):
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[batch, 1, 128, time] x) => (float[batch, 527] logits) {
            peak = ReduceMax <axes = [1, 3], keepdims = 0> (x)
            logits = MatMul (peak, weights)
        }""")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((128, 527), np.float32), "weights"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"model\.onnx: has no embedding"):
        Tagger(tmp_path / "model.onnx").embed(clip)
