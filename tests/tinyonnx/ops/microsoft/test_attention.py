"""com.microsoft: attention and rotary embeddings against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.ops.microsoft.running import call, check_contrib, contrib_outputs
from tests.tinyonnx.ops.running import normal
from tinyonnx.errors import OpError

F16, F32 = np.float16, np.float32
B, S, D, N, H = 2, 5, 12, 3, 4
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def ints(values):
    return np.array(values, np.int32)


def raw_mask(*shape, seed=9):
    mask = (np.random.default_rng(seed).random(shape) < 0.7).astype(np.int32)
    mask[..., 0] = 1
    return mask


# -- Attention --------------------------------------------------------------------------

MASKS = {
    "none": None,
    "lengths": ints([5, 3]),
    "ends and starts": ints([5, 4, 0, 2]),
    "per key": raw_mask(B, S),
    "per query": raw_mask(B, S, S),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("attributes", [{}, {"scale": 0.3}, {"mask_filter_value": -50.0}])
def test_attention(mask, unidirectional, attributes):
    x, w, b = normal(B, S, D), normal(D, 3 * N * H, seed=1) / F32(3), normal(3 * N * H, seed=2)
    inputs = [x, w, b, *([] if MASKS[mask] is None else [MASKS[mask]])]
    check_contrib("Attention", *inputs, num_heads=N, unidirectional=unidirectional, **TOLERANCE, **attributes)


def test_attention_with_values_of_another_size():
    x, w, b = normal(B, S, D), normal(D, 2 * N * H + N * 2, seed=1) / F32(3), normal(2 * N * H + N * 2, seed=2)
    check_contrib("Attention", x, w, b, num_heads=N, qkv_hidden_sizes=[N * H, N * H, N * 2], **TOLERANCE)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_a_past(before, unidirectional, masked):
    x, w, b = normal(B, S, D), normal(D, 3 * N * H, seed=1) / F32(3), normal(3 * N * H, seed=2)
    past = normal(2, B, N, before, H, seed=3)
    mask = raw_mask(B, before + S) if masked else None
    check_contrib(
        "Attention", x, w, b, mask, past, n_outputs=2, num_heads=N, unidirectional=unidirectional, **TOLERANCE
    )


@pytest.mark.parametrize("shape", [(B, N, S, S), (1, N, S, S), (B, 1, S, S), (1, 1, S, S)])
def test_attention_with_a_bias(shape):
    x, w, b = normal(B, S, D), normal(D, 3 * N * H, seed=1) / F32(3), normal(3 * N * H, seed=2)
    check_contrib("Attention", x, w, b, None, None, normal(*shape, seed=4), num_heads=N, **TOLERANCE)


def test_attention_with_a_square_mask():
    x, w, b = normal(B, S, D), normal(D, 3 * N * H, seed=1) / F32(3), normal(3 * N * H, seed=2)
    square = raw_mask(B, 1, 8, 8)
    (y,) = contrib_outputs("Attention", x, w, b, square, num_heads=N)
    (z,) = contrib_outputs("Attention", x, w, b, square[:, 0, :S, :S].copy(), num_heads=N)
    np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)  # a kernel, and the operator


def test_attention_in_half_precision():
    x, w = normal(B, S, D, dtype=F16), normal(D, 3 * N * H, dtype=F16, seed=1)
    y = call("Attention", x, w, num_heads=N)
    np.testing.assert_array_equal(y, call("Attention", x.astype(F32), w.astype(F32), num_heads=N).astype(F16))


@pytest.mark.parametrize(
    ("changes", "attributes", "message"),
    [
        ({0: normal(B, D)}, {}, "input has 2 dimensions, needs 3"),
        ({1: normal(D + 1, 36)}, {}, "input has 12 features, weights 13 rows"),
        ({1: normal(D, 37)}, {}, "weights have 37 columns"),
        ({}, {"num_heads": 5}, "a query has 12 numbers, which can't be divided into 5 heads"),
        ({}, {"num_heads": 0}, "divided into 0 heads"),
        ({}, {"qkv_hidden_sizes": [12, 12, 13]}, "qkv_hidden_sizes"),
        ({2: normal(35)}, {}, r"bias has shape \[35\], should be \[36\]"),
        ({2: normal(36, dtype=np.float64)}, {}, "bias is float64, should be float32"),
        ({3: ints([1, 2, 3])}, {}, r"the mask has shape \[3\]"),
        ({4: normal(2, B, N, 3, H + 1)}, {}, r"past has shape \[2, 2, 3, 3, 5\]"),
        ({5: normal(B, N, S, S + 1)}, {}, "attention_bias has shape"),
        ({5: normal(B, N + 1, S, S)}, {}, "attention_bias has shape"),
        ({}, {"do_rotary": 1}, "do_rotary 1 is not supported"),
    ],
)
def test_attention_refusals(changes, attributes, message):
    inputs = [normal(B, S, D), normal(D, 36), normal(36), None, None, None]
    for i, value in changes.items():
        inputs[i] = value
    with pytest.raises(OpError, match=message):
        call("Attention", *inputs, **{"num_heads": N, **attributes})


# -- QAttention -------------------------------------------------------------------------


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("mask", MASKS)
def test_quantized_attention(per_column, dtype, mask):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (B, S, D)).astype(np.uint8)
    w = random.integers(0, 100, (D, 3 * N * H)).astype(dtype)
    wide = (3 * N * H,) if per_column else ()
    scale, zero = np.full(wide, 0.01, F32), np.full(wide, 50, dtype)
    inputs = [x, w, normal(3 * N * H), F32(0.02), scale, MASKS[mask], np.uint8(128), zero]
    inputs = [None if i is None else np.asarray(i) for i in inputs]
    check_contrib("QAttention", *inputs, num_heads=N, **TOLERANCE)


def test_quantized_attention_with_a_past():
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (B, S, D)).astype(np.uint8)
    w = random.integers(-50, 50, (D, 3 * N * H)).astype(np.int8)
    past = normal(2, B, N, 3, H, seed=3)
    inputs = [x, w, normal(3 * N * H), *map(np.asarray, (F32(0.02), F32(0.01))), None, None, None, past]
    check_contrib("QAttention", *inputs, n_outputs=2, num_heads=N, unidirectional=1, **TOLERANCE)


# -- MultiHeadAttention -----------------------------------------------------------------

T = 7


def separate(value_size=H):
    return normal(B, S, N * H), normal(B, T, N * H, seed=1), normal(B, T, N * value_size, seed=2)


@pytest.mark.parametrize("value_size", [H, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", [None, ints([7, 4]), raw_mask(B, T), raw_mask(B, S, T)])
@pytest.mark.parametrize("attributes", [{}, {"scale": 0.3, "mask_filter_value": -40.0}])
def test_multi_head_attention(value_size, bias, mask, attributes):
    q, k, v = separate(value_size)
    b = normal(N * (2 * H + value_size), seed=3) if bias else None
    check_contrib("MultiHeadAttention", q, k, v, b, mask, num_heads=N, **TOLERANCE, **attributes)


@pytest.mark.parametrize("shape", [(B, N, S, T), (1, N, S, T), (1, 1, S, T)])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_multi_head_attention_with_a_bias_of_scores(shape, unidirectional):
    q, k, v = separate()
    if unidirectional:
        k, v, shape = k[:, :S].copy(), v[:, :S].copy(), (*shape[:3], S)
    inputs = q, k, v, None, None, normal(*shape, seed=4)
    check_contrib("MultiHeadAttention", *inputs, num_heads=N, unidirectional=unidirectional, **TOLERANCE)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_multi_head_attention_with_a_past(before, unidirectional):
    q, k, v = (normal(B, S, N * H, seed=i) for i in range(3))
    past = normal(B, N, before, H, seed=3), normal(B, N, before, H, seed=4)
    inputs = q, k, v, None, None, None, *past
    options = {"num_heads": N, "unidirectional": unidirectional, "n_outputs": 3}
    check_contrib("MultiHeadAttention", *inputs, **options, **TOLERANCE)


@pytest.mark.parametrize("bias", [False, True])
def test_cross_attention_of_kept_keys(bias):
    q, k, v = normal(B, S, N * H), normal(B, N, T, H, seed=1), normal(B, N, T, H, seed=2)
    (y,) = contrib_outputs("MultiHeadAttention", q, k, v, num_heads=N)
    flat = [x.swapaxes(1, 2).reshape(B, T, N * H) for x in (k, v)]
    check_contrib("MultiHeadAttention", q, *flat, num_heads=N, **TOLERANCE)
    np.testing.assert_allclose(y, call("MultiHeadAttention", q, *flat, num_heads=N), rtol=1e-5, atol=1e-6)
    if not bias:
        check_contrib("MultiHeadAttention", q, k, v, num_heads=N, **TOLERANCE)


@pytest.mark.parametrize("bias", [False, True])
def test_packed_operands(bias):
    b = normal(3 * N * H, seed=5) if bias else None
    packed = normal(B, S, N, 3, H)
    q, k, v = (packed[:, :, :, i].reshape(B, S, N * H) for i in range(3))
    expected = call("MultiHeadAttention", q, k, v, b, num_heads=N)
    np.testing.assert_array_equal(call("MultiHeadAttention", packed, None, None, b, num_heads=N), expected)
    pair = np.stack([k.reshape(B, S, N, H), v.reshape(B, S, N, H)], axis=3)
    np.testing.assert_array_equal(call("MultiHeadAttention", q, pair, None, b, num_heads=N), expected)


def test_all_outputs():
    q, k, v = separate()
    y, keys, values, scores = contrib_outputs("MultiHeadAttention", q, k, v, num_heads=N, n_outputs=4)
    heads = [x.reshape(B, -1, N, H).swapaxes(1, 2) for x in (q, k, v)]
    np.testing.assert_array_equal(keys, heads[1])
    np.testing.assert_array_equal(values, heads[2])
    np.testing.assert_allclose(scores, heads[0] @ heads[1].swapaxes(2, 3) / 2, rtol=1e-5, atol=1e-6)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(y, (weights @ values).swapaxes(1, 2).reshape(B, S, N * H), rtol=1e-5, atol=1e-6)


def test_unidirectional_without_a_past_counts_from_the_first_key():
    """ONNX Runtime does, too, except that its last query sees every key."""
    q, k, v = separate()
    y = call("MultiHeadAttention", q, k, v, num_heads=N, unidirectional=1)
    assert T > S
    k, v = k[:, :S].copy(), v[:, :S].copy()
    (expected,) = check_contrib("MultiHeadAttention", q, k, v, num_heads=N, unidirectional=1, **TOLERANCE)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "attributes", "message"),
    [
        ({0: normal(S, D)}, {}, "query has 2 dimensions, needs 3"),
        ({}, {"num_heads": 5}, "query has 12 numbers, which can't be divided into 5 heads"),
        ({1: None}, {}, "input key is missing"),
        ({2: None}, {}, "input value is missing"),
        ({1: normal(B, T, 15)}, {}, "queries are"),
        ({1: normal(B + 1, T, 12)}, {}, "queries are"),
        ({2: normal(B, T + 1, 12)}, {}, "keys are"),
        ({3: normal(35)}, {}, r"bias has shape \[35\], should be \[36\]"),
        ({4: ints([1, 2, 3])}, {}, r"the mask has shape \[3\]"),
        ({5: normal(B, N, S, T + 1)}, {}, "attention_bias has shape"),
        ({6: normal(B, N, 3, H)}, {}, "past_key and past_value must be given together"),
        ({6: normal(B, N, 3, H), 7: normal(B, N, 2, H)}, {}, r"past_value has shape \[2, 3, 2, 4\]"),
        ({8: ints([3])}, {}, "past_sequence_length"),
        ({0: normal(B, S, N, 3, H)}, {}, "must be absent if query holds all three"),
        ({1: normal(B, T, N, 2, H)}, {}, "must be absent if key holds keys and values"),
        ({1: normal(B, T, D, dtype=F16)}, {}, "key is float16, should be float32"),
    ],
)
def test_multi_head_refusals(changes, attributes, message):
    inputs = [*separate(), None, None, None, None, None, None]
    for i, value in changes.items():
        inputs[i] = value
    with pytest.raises(OpError, match=message):
        call("MultiHeadAttention", *inputs, **{"num_heads": N, **attributes})


# -- RotaryEmbedding --------------------------------------------------------------------


def caches(size=H, most=20, dtype=F32):
    angles = np.arange(most)[:, None] / 10 ** (np.arange(size // 2) / size)
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [np.array([4]), np.array([[3, 1, 0, 7, 9], [0, 1, 2, 3, 4]])])
@pytest.mark.parametrize("shape", [(B, S, N * H), (B, N, S, H)])
def test_rotary_embedding(interleaved, positions, shape):
    check_contrib("RotaryEmbedding", normal(*shape), positions, *caches(), interleaved=interleaved, **TOLERANCE)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding_of_a_part_of_each_head(interleaved):
    attributes = {"num_heads": N, "rotary_embedding_dim": 4, "interleaved": interleaved}
    check_contrib("RotaryEmbedding", normal(B, S, N * 8), np.array([2]), *caches(), **attributes, **TOLERANCE)


@pytest.mark.parametrize(
    ("changes", "attributes", "message"),
    [
        ({0: normal(S, D)}, {}, "input has 2 dimensions, needs 3 or 4"),
        ({1: np.array([16])}, {}, "positions are 16 to 20, cos_cache has 20 rows"),
        ({1: np.array([-1])}, {}, "positions are -1 to 3"),
        ({1: np.array([1, 2])}, {}, r"position_ids has shape \[2\]"),
        ({1: normal(1)}, {}, "position_ids is float32"),
        ({3: normal(20, 3)}, {}, r"sin_cache has shape \[20, 3\], should be \[20, 2\]"),
        ({0: normal(B, N, S, 3)}, {}, "a head has 3 features, cos_cache rotates 4"),
        ({0: normal(B, S, 13)}, {}, "input has 13 numbers, which can't be divided into 3 heads"),
        ({}, {"rotary_embedding_dim": 4}, "rotary_embedding_dim needs num_heads"),
        ({}, {"rotary_embedding_dim": 6, "num_heads": 3}, "rotary_embedding_dim is 6, cos_cache rotates 4"),
        ({}, {"is_packed_batching": 1}, "is_packed_batching 1 is not supported"),
        ({}, {"scale": 2.0}, "scale 2.0 is not supported"),
    ],
)
def test_rotary_refusals(changes, attributes, message):
    inputs = [normal(B, S, N * H), np.array([0]), *caches()]
    for i, value in changes.items():
        inputs[i] = value
    with pytest.raises(OpError, match=message):
        call("RotaryEmbedding", *inputs, **attributes)
