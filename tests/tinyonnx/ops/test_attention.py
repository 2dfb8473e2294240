from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

import tinyonnx
from tests.tinyonnx.ops.running import check_backend_cases, normal, outputs_of
from tinyonnx.errors import OpError


@pytest.mark.parametrize("name", ["Attention", "RotaryEmbedding", "TensorScatter"])
def test_backend_cases(name: str) -> None:
    check_backend_cases(name)


def reference(name: str, inputs: list[Any], attributes: dict[str, Any], opset: int, n_outputs: int) -> list[Any]:
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    outputs = [f"y{i}" for i in range(n_outputs)]
    value, element = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(name, names, outputs, **attributes)],
        "g",
        [value(n, element(x.dtype), x.shape) for n, x in zip(names, inputs) if x is not None],
        [value(n, 1, None) for n in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    feeds = {n: x for n, x in zip(names, inputs) if x is not None}
    return list(ReferenceEvaluator(model).run(None, feeds))


def compare(inputs: list[Any], opset: int = 25, n_outputs: int = 4, **attributes: Any) -> None:
    ours = outputs_of("Attention", *inputs, opset=opset, n_outputs=n_outputs, **attributes)
    for a, b in zip(ours, reference("Attention", inputs, attributes, opset, n_outputs), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol=2e-5, atol=2e-6)


def operands(queries: int = 5, keys: int = 7, heads: tuple[int, int] = (4, 2), value: int = 3) -> list[Any]:
    return [
        normal(2, heads[0], queries, 8),
        normal(2, heads[1], keys, 8, seed=1),
        normal(2, heads[1], keys, value, seed=2),
    ]


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", [None, "float", "bool", "short", "heads"])
@pytest.mark.parametrize("past", [0, 4])
def test_against_the_reference(mode: int, causal: int, mask: str | None, past: int) -> None:
    q, k, v = operands()
    shape = {"heads": (4, 5, 7 + past), "short": (5, 5)}.get(mask or "", (5, 7 + past))
    given = None if mask is None else normal(*shape, seed=3)
    if mask in ("bool", "short"):
        given = given > 0
    cache = [normal(2, 2, past, 8, seed=4), normal(2, 2, past, 3, seed=5)] if past else []
    attributes = {"qk_matmul_output_mode": mode, "is_causal": causal, "softcap": 2.0 if mode else 0.0}
    compare([q, k, v, given, *cache], **attributes)


@pytest.mark.parametrize("window", [(0, 0), (2, -1), (-1, 1), (1, 2)])
@pytest.mark.parametrize("causal", [0, 1])
def test_windows(window: tuple[int, int], causal: int) -> None:
    left, right = window
    compare(operands(), left_window_size=left, right_window_size=right, is_causal=causal)
    lengths = np.array([3, 7])
    inputs = [*operands(), None, None, None, lengths]
    compare(inputs, n_outputs=1, left_window_size=left, right_window_size=right, is_causal=causal)


def test_heads_in_one_axis() -> None:
    q, k, v = (x.swapaxes(1, 2).reshape(2, x.shape[2], -1) for x in operands())
    compare([q, k, v], q_num_heads=4, kv_num_heads=2, scale=0.3)


def test_a_row_without_keys_is_zero() -> None:
    inputs = [*operands(), np.zeros((5, 7), np.bool_)]
    y, weights = (outputs_of("Attention", *inputs, opset=24, n_outputs=4, qk_matmul_output_mode=3)[i] for i in (0, 3))
    assert not y.any()
    assert not weights.any()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats(dtype: Any) -> None:
    inputs = [x.astype(dtype) for x in operands()]
    (y,) = outputs_of("Attention", *inputs, opset=24, softmax_precision=1)
    (wide,) = outputs_of("Attention", *[x.astype(np.float64) for x in inputs], opset=24)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(np.float64), wide, rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    ("change", "attributes", "message"),
    [
        ({0: normal(2, 3, 5, 8)}, {}, "number of query heads, 3, must be a multiple"),
        ({0: normal(2, 4, 5, 6)}, {}, "heads of 6"),
        ({2: normal(2, 2, 6, 3)}, {}, "Q, K and V"),
        ({0: normal(2, 5, 32)}, {}, "ranks"),
        ({3: np.ones((5, 9), np.bool_)}, {}, "attn_mask"),
        ({3: np.ones((3, 7), np.bool_)}, {}, "attn_mask"),
        ({0: normal(2, 4, 1, 8), 3: np.ones((2, 1), np.bool_)}, {}, "attn_mask"),
        ({4: normal(2, 2, 4, 8)}, {}, "past_value"),
        ({4: normal(2, 2, 4, 7), 5: normal(2, 2, 4, 3)}, {}, "past_key"),
        ({6: np.array([1, 2, 3])}, {}, "nonpad_kv_seqlen"),
        ({}, {"q_num_heads": 4}, "rank 3"),
        ({}, {"qk_matmul_output_mode": 4}, "qk_matmul_output_mode"),
        ({}, {"softmax_precision": 7}, "softmax_precision"),
        ({}, {"scale": -1.0}, "scale"),
        ({}, {"left_window_size": -2}, "window"),
    ],
)
def test_misuse(change: dict[int, Any], attributes: dict[str, Any], message: str) -> None:
    inputs: list[Any] = [*operands(), None, None, None, None]
    for place, value in change.items():
        inputs[place] = value
    with pytest.raises(OpError, match=message):
        outputs_of("Attention", *inputs, opset=25, **attributes)


# -- FlexAttention ----------------------------------------------------------------------


def test_graphs_change_scores_and_probabilities() -> None:
    body = """
        half = Constant<value = float {0.5}>()
        y = ai.onnx.preview.FlexAttention<
            score_mod = cap (float[B,N,L,T] s) => (float[B,N,L,T] t) { t = Tanh(s) },
            prob_mod = weaken (float[B,N,L,T] p) => (float[B,N,L,T] r) { r = Mul(p, half) }
        >(q, k, v)
    """
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 24, "ai.onnx.preview": 1]>
        g (float[2,4,5,8] q, float[2,2,7,8] k, float[2,2,7,3] v) => (float[2,4,5,3] y) {{ {body} }}
    """)
    q, k, v = operands()
    (y,) = tinyonnx.InferenceSession(model.SerializeToString()).run(None, {"q": q, "k": k, "v": v})
    scores = np.tanh(q @ k.repeat(2, axis=1).swapaxes(2, 3) / np.sqrt(8))
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(y, weights @ v.repeat(2, axis=1) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "body", ["(float[B,N,L,T] s) => (t, u) { t = Tanh(s) u = Abs(s) }", "(float[B,N,L,T] s) => (t) { t = Size(s) }"]
)
def test_graphs_that_change_them_to_something_else(body: str) -> None:
    model = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 24, "ai.onnx.preview": 1]>
        g (float[2,4,5,8] q, float[2,2,7,8] k, float[2,2,7,3] v) => (y) {{
            y = ai.onnx.preview.FlexAttention<score_mod = m {body}>(q, k, v)
        }}
    """)
    with pytest.raises(tinyonnx.NodeError, match="score_mod must give one tensor like its input"):
        tinyonnx.InferenceSession(model.SerializeToString()).run(None, dict(zip("qkv", operands(), strict=True)))


# -- RotaryEmbedding, TensorScatter -------------------------------------------------------


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("turned", [0, 4])
@pytest.mark.parametrize("positions", [False, True])
def test_rotary_against_the_reference(interleaved: int, turned: int, positions: bool) -> None:
    x, half = normal(2, 3, 5, 8), (turned or 8) // 2
    caches = [normal(50, half, seed=s) if positions else normal(2, 5, half, seed=s) for s in (1, 2)]
    ids = [np.random.default_rng(0).integers(0, 50, (2, 5))] if positions else []
    attributes = {"interleaved": interleaved, "rotary_embedding_dim": turned}
    (ours,) = outputs_of("RotaryEmbedding", x, *caches, *ids, opset=23, **attributes)
    (expected,) = reference("RotaryEmbedding", [x, *caches, *ids], attributes, 23, 1)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([normal(2, 3, 5, 8), normal(50, 3), normal(50, 3), np.zeros((2, 5), np.int64)], {}, "cos_cache"),
        ([normal(2, 3, 5, 8), normal(50, 4), normal(50, 4), np.full((2, 5), 50)], {}, "position_ids"),
        ([normal(2, 3, 5, 8), normal(2, 5, 4), normal(2, 5, 4)], {"rotary_embedding_dim": 10}, "rotary_embedding_dim"),
        ([normal(2, 5, 24), normal(2, 5, 4), normal(2, 5, 4)], {}, "num_heads"),
    ],
)
def test_rotary_misuse(inputs: list[Any], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        outputs_of("RotaryEmbedding", *inputs, opset=23, **attributes)


def test_writing_around_the_end() -> None:
    cache, update = np.zeros((2, 1, 5, 1), np.float32), np.arange(1, 7, dtype=np.float32).reshape(2, 1, 3, 1)
    (y,) = outputs_of("TensorScatter", cache, update, np.array([3, 0]), opset=24, mode="circular")
    assert y[:, 0, :, 0].tolist() == [[3, 0, 0, 1, 2], [4, 5, 6, 0, 0]]
    with pytest.raises(OpError, match="leave a cache of 5"):
        outputs_of("TensorScatter", cache, update, np.array([3, 0]), opset=24)
    with pytest.raises(OpError, match="axis is 0"):
        outputs_of("TensorScatter", cache, update, opset=24, axis=0)
    with pytest.raises(OpError, match="update has 6"):
        outputs_of("TensorScatter", cache, np.ones((2, 1, 6, 1), np.float32), opset=24)
