"""ONNX Runtime's own normalisations, compared with its results."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.ops.microsoft.running import call, check_contrib, contrib_outputs
from tests.tinyonnx.ops.running import normal
from tinyonnx.errors import OpError

F16, F32 = np.float16, np.float32


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("dtype", [F32, np.float64])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_normalization_before_opset_17(axis, dtype, bias):
    x = normal(2, 3, 4, dtype=dtype)
    scale = normal(*x.shape[axis:], dtype=dtype, seed=1)
    inputs = [x, scale, *([normal(*x.shape[axis:], dtype=dtype, seed=2)] if bias else [])]
    check_contrib("LayerNormalization", *inputs, axis=axis, domain="", n_outputs=1)
    if dtype == F32:
        check_contrib("LayerNormalization", *inputs, axis=axis, epsilon=0.1, domain="", n_outputs=3)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("dtype", [F32, np.float64])
def test_simplified_layer_normalization(axis, dtype):
    x = normal(2, 3, 4, dtype=dtype)
    check_contrib("SimplifiedLayerNormalization", x, normal(*x.shape[axis:], dtype=dtype, seed=1), axis=axis, domain="")


def test_simplified_layer_normalization_gives_the_inverse_deviation():
    x, scale = normal(2, 3, 4), normal(4, seed=1)
    y, inverse = contrib_outputs("SimplifiedLayerNormalization", x, scale, domain="", n_outputs=2, epsilon=0.5)
    np.testing.assert_allclose(inverse[..., 0], 1 / np.sqrt((x.astype(np.float64) ** 2).mean(-1) + 0.5), rtol=1e-6)
    np.testing.assert_allclose(y, x * inverse * scale, rtol=1e-5)


def test_type_of_the_scale_decides():
    y = call("LayerNormalization", normal(3, 4, dtype=F16), normal(4), domain="")
    assert y.dtype == F32


@pytest.mark.parametrize("axis", [2, -3])
def test_layer_normalization_refusals(axis):
    with pytest.raises(OpError, match=f"axis {axis} is out of range"):
        call("LayerNormalization", normal(3, 4), normal(4), axis=axis, domain="")
    with pytest.raises(OpError, match=r"Scale has shape \[3\], should be \[4\]"):
        call("LayerNormalization", normal(3, 4), normal(3), domain="")


@pytest.mark.parametrize("shape", [(2, 3, 8), (5, 8)])
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [F32, F16])
def test_skip_layer_normalization(shape, beta, bias, dtype):
    hidden = [normal(8, dtype=dtype, seed=s) for s in (2, 3, 4)]
    inputs = [normal(*shape, dtype=dtype), normal(*shape, dtype=dtype, seed=1), hidden[0]]
    inputs += [hidden[1] if beta else None, *([hidden[2]] if bias else [])]
    tolerance = {} if dtype == F32 else {"rtol": 2e-3, "atol": 2e-3}
    check_contrib("SkipLayerNormalization", *inputs, epsilon=1e-3, **tolerance)
    simplified = inputs[:3] + ([hidden[2]] if bias else [])
    check_contrib("SkipSimplifiedLayerNormalization", *simplified, epsilon=1e-3, **tolerance)


@pytest.mark.parametrize("skip", [(1, 3, 8), (3, 8)])
def test_skip_broadcasts_over_the_batch(skip):
    check_contrib("SkipLayerNormalization", normal(2, 3, 8), normal(*skip, seed=1), normal(8, seed=2))


@pytest.mark.parametrize("name", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_skip_gives_statistics_and_the_sum(name):
    x, skip, gamma = normal(2, 3, 8), normal(2, 3, 8, seed=1), normal(8, seed=2)
    y, mean, inverse, total = contrib_outputs(name, x, skip, gamma, n_outputs=4, epsilon=0.1)
    np.testing.assert_array_equal(total, x + skip)
    center = total.mean(-1, keepdims=True) if name == "SkipLayerNormalization" else np.zeros((2, 3, 1), F32)
    np.testing.assert_allclose(mean, center, atol=1e-6)
    np.testing.assert_allclose(inverse, 1 / np.sqrt(((total - center) ** 2).mean(-1, keepdims=True) + 0.1), rtol=1e-5)
    np.testing.assert_allclose(y, (total - mean) * inverse * gamma, rtol=1e-5, atol=1e-6)


def test_skip_refusals():
    x, gamma = normal(2, 3, 8), normal(8)
    with pytest.raises(OpError, match=r"skip has shape \[2, 4, 8\], should be \[2, 3, 8\]"):
        call("SkipLayerNormalization", x, normal(2, 4, 8), gamma)
    with pytest.raises(OpError, match=r"gamma has shape \[7\], should be \[8\]"):
        call("SkipLayerNormalization", x, x, normal(7))
    with pytest.raises(OpError, match="bias is float64, should be float32"):
        call("SkipSimplifiedLayerNormalization", x, x, gamma, normal(8, dtype=np.float64))
    with pytest.raises(OpError, match=r"input has shape \[8\]"):
        call("SkipLayerNormalization", gamma, gamma, gamma)


def embedding(*, segments=True, mask=None, positions=None):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (2, 5)).astype(np.int32)
    kinds = rng.integers(0, 2, (2, 5)).astype(np.int32) if segments else None
    tables = normal(9, 8), normal(6, 8, seed=1), normal(2, 8, seed=2) if segments else None
    inputs = [ids, kinds, *tables, normal(8, seed=3), normal(8, seed=4)]
    if mask is not None or positions is not None:
        inputs.append(None if mask is None else np.array(mask, np.int32))
    if positions is not None:
        inputs.append(np.array(positions, np.int32))
    return inputs


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("mask", [None, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]])
@pytest.mark.parametrize("positions", [None, [[4, 3, 2, 1, 0]], [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]])
@pytest.mark.parametrize("n_outputs", [2, 3])
def test_embed_layer_normalization(segments, mask, positions, n_outputs):
    inputs = embedding(segments=segments, mask=mask, positions=positions)
    check_contrib("EmbedLayerNormalization", *inputs, n_outputs=n_outputs, epsilon=1e-3)


def test_embed_refusals():
    inputs = embedding()
    with pytest.raises(OpError, match="word_embedding has 9 rows, the ids are 0 to 9"):
        call("EmbedLayerNormalization", np.array([[0, 9]], np.int32), None, *inputs[2:])
    with pytest.raises(OpError, match="position_embedding has 6 rows, the ids are 0 to 6"):
        call("EmbedLayerNormalization", np.zeros((1, 7), np.int32), None, *inputs[2:])
    with pytest.raises(OpError, match=r"input_ids has shape \[2\]"):
        call("EmbedLayerNormalization", np.zeros(2, np.int32), *inputs[1:])
    with pytest.raises(OpError, match=r"segment_ids has shape \[2, 5\], should be \[1, 2\]"):
        call("EmbedLayerNormalization", np.zeros((1, 2), np.int32), *inputs[1:])
    with pytest.raises(OpError, match="input segment_embedding is missing"):
        call("EmbedLayerNormalization", *inputs[:4], None, *inputs[5:])
    with pytest.raises(OpError, match=r"gamma has shape \[3\], should be \[8\]"):
        call("EmbedLayerNormalization", *inputs[:5], normal(3), inputs[6])
    with pytest.raises(OpError, match=r"position_embedding has shape \[6, 7\]"):
        call("EmbedLayerNormalization", *inputs[:3], normal(6, 7), *inputs[4:])
