"""com.microsoft: GroupQueryAttention against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import tinyonnx
from tests.tinyonnx.ops.microsoft.running import call, contrib_outputs, feeds_of, model_of
from tests.tinyonnx.ops.running import normal
from tinyonnx.errors import OpError

F16, F32 = np.float16, np.float32
N, K, H = 4, 2, 16
HEADS = {"num_heads": N, "kv_num_heads": K}


def ints(*values):
    return np.array(values, np.int32)


def node_inputs(batch, queries, past, lengths, *, total=None, packed=False, rotary=False, extra=()):
    """Return inputs for sequences of `lengths` keys in all, in a cache of `past` positions."""
    if packed:
        new = [normal(batch, queries, (N + 2 * K) * H), None, None]
    else:
        new = [normal(batch, queries, N * H), *(normal(batch, queries, K * H, seed=i) for i in (1, 2))]
    cache = [normal(batch, K, past, H, seed=i) for i in (3, 4)]
    angles = normal(64, H // 2, seed=5)
    caches = [np.cos(angles), np.sin(angles)] if rotary else [None, None]
    most = max(lengths) if total is None else total
    return [*new, *cache, ints(*lengths) - 1, ints(most), *caches, *extra]


def check(inputs, lengths, *, atol=1e-5, **attributes):
    """Compare with ONNX Runtime: outputs, and the caches as far as they are filled."""
    model = model_of("GroupQueryAttention", inputs, 3, "com.microsoft", attributes)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    wanted = onnxruntime.InferenceSession(model, options).run(None, feeds_of(inputs))
    actual = contrib_outputs("GroupQueryAttention", *inputs, n_outputs=3, **attributes)
    for a, b in zip(actual, wanted, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
    for item, length in enumerate(lengths):  # without queries of padding
        a, b = (outputs[0][item, : max(length, 1)] for outputs in (actual, wanted))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)
    for a, b in zip(actual[1:], wanted[1:], strict=True):
        for item, length in enumerate(lengths):
            np.testing.assert_allclose(a[item, :, :length], b[item, :, :length], rtol=1e-5, atol=atol)


@pytest.mark.parametrize("options", [
    {}, {"scale": 0.3}, {"softcap": 2.0}, {"smooth_softmax": 1}, {"local_window_size": 1}, {"local_window_size": 3},
    {"local_window_size": 30}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1},
    {"do_rotary": 1, "softcap": 1.5, "local_window_size": 4, "smooth_softmax": 1},
])  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("batch", "queries", "past", "lengths"), [
    (1, 6, 0, [6]), (2, 5, 0, [5, 3]),  # first tokens, padded on the right
    (1, 1, 7, [8]), (1, 1, 20, [8]), (2, 1, 9, [10, 10]), (2, 1, 9, [10, 4]), (1, 3, 5, [8]),  # later ones
])  # fmt: skip
def test_like_onnxruntime(options, packed, batch, queries, past, lengths):
    rotary = bool(options.get("do_rotary"))
    inputs = node_inputs(batch, queries, past, lengths, packed=packed, rotary=rotary)
    check(inputs, lengths, **HEADS, **options)


def test_positions_bias_and_sinks():
    positions = np.array([[4, 9, 2]], np.int64)
    extra = positions, normal(1, N, 3, 8, seed=6), normal(N, seed=7)
    check(node_inputs(1, 3, 5, [8], rotary=True, extra=extra), [8], **HEADS, do_rotary=1)
    bias = None, normal(1, 1, 1, 8, seed=8)
    check(node_inputs(1, 1, 7, [8], extra=bias), [8], **HEADS, softcap=3.0)


def test_float16():
    inputs = [x.astype(F16) if x is not None and x.dtype == F32 else x for x in node_inputs(1, 1, 7, [8], rotary=True)]
    check(inputs, [8], **HEADS, do_rotary=1, atol=2e-3)


def test_a_decoder_that_feeds_its_cache_back():
    """Steps of one token, each with a longer cache, give the numbers of all tokens at once."""
    text = """<ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[b,s,128] x, float[b,2,p,16] k, float[b,2,p,16] v, int64[b,t] mask)
        => (float[b,s,64] y, float[b,2,q,16] k1, float[b,2,q,16] v1) <int64[1] one = {1}, int64[1] axis = {1}> {
            n = ReduceSum<keepdims=0>(mask, axis) m = Sub(n, one) lengths = Cast<to=6>(m)
            size = Shape(mask) t0 = Gather(size, axis) total = Cast<to=6>(t0)
            y, k1, v1 = com.microsoft.GroupQueryAttention<num_heads=4, kv_num_heads=2>(x,,,k,v,lengths,total)}"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    x, empty = normal(1, 9, 128), np.zeros((1, 2, 0, 16), F32)
    wanted = session.run(None, {"x": x, "k": empty, "v": empty, "mask": np.ones((1, 9), np.int64)})
    k, v, rows = empty, empty, []
    for i in range(9):
        mask = np.ones((1, i + 1), np.int64)
        y, k, v = session.run(None, {"x": x[:, i : i + 1], "k": k, "v": v, "mask": mask})
        rows.append(y)
    for actual, expected in zip((np.concatenate(rows, 1), k, v), wanted, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize(("change", "attributes", "message"), [
    ({}, {"kv_num_heads": 3}, "must be a multiple"),
    ({0: normal(1, 1, 33)}, {}, "needs three axes"),
    ({1: None}, {}, "given together"),
    ({3: None}, {}, "given together"),
    ({1: normal(1, 2, K * H)}, {}, "key has shape"),
    ({3: normal(1, K, 7, 4)}, {}, "past_key has shape"),
    ({5: ints(7, 7)}, {}, "seqlens_k has shape"),
    ({5: ints(9)}, {}, "puts 1 new ones at"),
    ({5: ints(-1)}, {}, "puts 1 new ones at"),
    ({6: None}, {}, "are needed"),
    ({}, {"do_rotary": 1}, "needs cos_cache"),
    ({}, {"qk_output": 1}, "qk_output 1 is not supported"),
    ({10: normal(1, 3, 1, 8)}, {}, "attention_bias has shape"),
    ({11: normal(3)}, {}, "head_sink has shape"),
])  # fmt: skip
def test_errors(change, attributes, message):
    inputs = [*node_inputs(1, 1, 7, [8]), None, None, None]
    for i, x in change.items():
        inputs[i] = x
    with pytest.raises(OpError, match=message):
        call("GroupQueryAttention", *inputs, **{**HEADS, **attributes})
