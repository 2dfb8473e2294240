"""Attention operators of ONNX and of ONNX Runtime as FusedAttention: masks, causes, caches, shared heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

import tinyonnx
from tests.tinyonnx.ops.microsoft.running import check_contrib
from tests.tinyonnx.passes.conftest import data

B, S, T, N, H = 2, 5, 7, 4, 8
Q, K, V = data(B, S, N * H), data(B, T, N * H, seed=1), data(B, T, N * H, seed=2)
PADDING = np.array([[1] * 7, [1] * 4 + [0] * 3], np.int32)
KINDS = {np.dtype(np.float32): 1, np.dtype(np.int32): 6, np.dtype(np.int64): 7, np.dtype(np.bool_): 9}


def both(
    op: str, feeds: dict[str, Any], outputs: int = 1, domain: str = "", opset: int = 23,
    constant: Sequence[str] = (), **attributes: Any,
) -> Any:  # fmt: skip
    """Return the results of a plan and of the operator itself in numpy, and the plan's operators."""
    names = ["" if x is None else name for name, x in feeds.items()]
    given = {name: x for name, x in feeds.items() if x is not None}
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    weights = [numpy_helper.from_array(given.pop(name), name) for name in constant]
    inputs = [helper.make_tensor_value_info(name, KINDS[x.dtype], x.shape) for name, x in given.items()]
    declared = [helper.make_tensor_value_info(name, 1, None) for name in results]
    graph = helper.make_graph([node], op, inputs, declared, weights)
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    content = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    plain = tinyonnx.SessionOptions()
    plain.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = tinyonnx.InferenceSession(content)
    ours, expected = session.run(None, given), tinyonnx.InferenceSession(content, plain).run(None, given)
    return ours, expected, [node.op_type for node in session.plan_for(None, given).graph.nodes]


def check(op: str, feeds: dict[str, Any], lowered: bool = True, **options: Any) -> None:
    ours, expected, operators = both(op, feeds, **options)
    for a, b in zip(ours, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    assert ("FusedAttention" in operators) == lowered
    assert (op in operators) != lowered


def operands(key_heads: int = N, queries: int = S, keys: int = T) -> dict[str, Any]:
    size = key_heads * H
    return {"q": data(B, queries, N * H), "k": data(B, keys, size, seed=1), "v": data(B, keys, size, seed=2)}


@pytest.mark.parametrize("is_causal", [0, 1])
@pytest.mark.parametrize("key_heads", [N, 2, 1])
@pytest.mark.parametrize("queries", [1, 3, S, 60])
def test_heads(queries: int, key_heads: int, is_causal: int) -> None:
    """Rank 3, and rank 4; queries stand at the positions of the first keys."""
    heads = {"q_num_heads": N, "kv_num_heads": key_heads, "is_causal": is_causal}
    feeds = operands(key_heads, queries)
    check("Attention", feeds, **heads)
    apart = {
        name: x.reshape(B, x.shape[1], -1, H).swapaxes(1, 2).copy() for name, x in feeds.items()
    }  # fmt: skip
    check("Attention", apart, is_causal=is_causal, scale=0.3)


@pytest.mark.parametrize("queries", [1, 3, 60])
@pytest.mark.parametrize("key_heads", [N, 2])
def test_past(queries: int, key_heads: int) -> None:
    """Keys and values of the past come first, and all of them are outputs."""
    past = {"m": None, "pk": data(B, key_heads, 9, H, seed=3), "pv": data(B, key_heads, 9, H, seed=4)}
    feeds = operands(key_heads, queries, queries) | past
    for is_causal in (0, 1):
        check("Attention", feeds, outputs=3, q_num_heads=N, kv_num_heads=key_heads, is_causal=is_causal)
    check("Attention", operands(), outputs=3, q_num_heads=N, kv_num_heads=N)


def test_constant_keys_and_values() -> None:
    """Then the node is a step of numpy, of one output instead of three."""
    past = {"m": None, "pk": data(B, N, 3, H, seed=3), "pv": data(B, N, 3, H, seed=4)}
    feeds = {"q": data(B, N, S, H), "k": data(B, N, T, H, seed=1), "v": data(B, N, T, H, seed=2)} | past
    check("Attention", feeds, outputs=3, constant=["k", "v", "pk", "pv"])


def test_masks() -> None:
    """Booleans, one row of which hides all keys; numbers; with and without shared heads."""
    hidden = PADDING[:, None, None].astype(bool) & (np.arange(S)[:, None] != 2)
    heads = {"q_num_heads": N, "kv_num_heads": N}
    for mask in (
        hidden,
        hidden[0, 0],
        data(S, T),
        data(B, N, S, T),
        np.where(hidden, np.float32(0), np.float32(-np.inf)),
    ):
        check("Attention", operands() | {"m": mask}, is_causal=1, **heads)
    for mask in (hidden[0, 0], data(B, N, S, T)):
        check("Attention", operands(2) | {"m": mask}, q_num_heads=N, kv_num_heads=2)


@pytest.mark.parametrize(
    ("feeds", "attributes"),
    [
        (operands(), {"softcap": 2.0}),
        (operands() | {"m": np.ones((S, T - 2), bool)}, {"opset": 24}),
        (operands(2) | {"m": PADDING[:, None, None].astype(bool)}, {"kv_num_heads": 2}),
    ],
)
def test_left_alone(feeds: dict[str, Any], attributes: dict[str, Any]) -> None:
    check("Attention", feeds, lowered=False, **({"q_num_heads": N, "kv_num_heads": N} | attributes))


@pytest.mark.parametrize("mask", [None, PADDING, np.array([7, 4], np.int32)])
@pytest.mark.parametrize("bias", [None, data(1, N, S, T)])
def test_multi_head_attention(mask: Any, bias: Any) -> None:
    feeds = {"q": Q, "k": K, "v": V, "b": data(3 * N * H), "m": mask, "a": bias}
    check("MultiHeadAttention", feeds, domain="com.microsoft", num_heads=N)
    check_contrib("MultiHeadAttention", *feeds.values(), num_heads=N, atol=1e-5)


@pytest.mark.parametrize("queries", [1, 3, S, 60])
@pytest.mark.parametrize("keys", [1, S, T, 200])
def test_unidirectional_attention_of_other_lengths(queries: int, keys: int) -> None:
    feeds = operands(queries=queries, keys=keys)
    options: Any = {"domain": "com.microsoft", "num_heads": N, "unidirectional": 1}
    check("MultiHeadAttention", feeds, **options)
    past = {"pk": data(B, N, 3, H, seed=3), "pv": data(B, N, 3, H, seed=4)}
    feeds |= {"b": None, "m": None, "a": None} | past
    check("MultiHeadAttention", feeds, lowered=queries == keys, outputs=3, **options)


def test_multi_head_attention_with_a_past() -> None:
    past = data(B, N, 3, H, seed=3), data(B, N, 3, H, seed=4)
    feeds = {"q": Q, "k": Q + 1, "v": Q - 1, "b": None, "m": None, "a": None, "pk": past[0], "pv": past[1]}
    for unidirectional in (0, 1):
        check(
            "MultiHeadAttention", feeds, domain="com.microsoft", outputs=3, num_heads=N, unidirectional=unidirectional
        )  # fmt: skip


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(
    "mask", [None, PADDING[:, :S].copy(), np.array([5, 3], np.int32), np.ones((B, S, S), np.int32)]
)
def test_self_attention(mask: Any, outputs: int) -> None:
    feeds = {"x": Q, "w": data(N * H, 3 * N * H, seed=5) / 5, "b": data(3 * N * H, seed=6), "m": mask}
    for unidirectional in (0, 1):
        options = {"num_heads": N, "unidirectional": unidirectional}
        check("Attention", feeds, domain="com.microsoft", outputs=outputs, **options)
    past = {"past": data(2, B, N, 3, H, seed=7)}
    if mask is None:
        check("Attention", feeds | past, domain="com.microsoft", outputs=2, num_heads=N, unidirectional=1)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("turned", [H, 4])
def test_rotary_embedding(turned: int, interleaved: int) -> None:
    tables = {"cos": data(20, turned // 2), "sin": data(20, turned // 2, seed=1)}
    ids = np.random.default_rng(0).integers(0, 20, (B, S))
    attributes = {"interleaved": interleaved, "num_heads": N} | (
        {} if turned == H else {"rotary_embedding_dim": turned}
    )
    for x in (Q, Q.reshape(B, S, N, H).swapaxes(1, 2).copy()):
        for feeds, domain in (
            ({"x": x, **tables, "ids": ids}, ""),
            ({"x": x, "ids": ids, **tables}, "com.microsoft"),
            ({"x": x, "ids": np.array([3]), **tables}, "com.microsoft"),
        ):
            given = {k: n for k, n in attributes.items() if domain or x.ndim == 3 or k != "num_heads"}
            ours, expected, operators = both("RotaryEmbedding", feeds, domain=domain, **given)
            np.testing.assert_allclose(ours[0], expected[0], rtol=0, atol=1e-6)
            assert "RotaryEmbedding" not in operators


def test_positions_that_are_not_there() -> None:
    feeds = {"x": Q, "ids": np.full((B, S), -1), "cos": data(20, H // 2), "sin": data(20, H // 2)}
    with pytest.raises(tinyonnx.NodeError, match="the numbers of rows are -1 to -1, the table has 20"):
        both("RotaryEmbedding", feeds, domain="com.microsoft")


@pytest.mark.parametrize("other", ["q", "k", "v"])
def test_batches_of_different_sizes_are_refused(other: str) -> None:
    """FusedAttention would broadcast them."""
    feeds = {"q": data(B, N, S, H), "k": data(B, N, T, H, seed=1), "v": data(B, N, T, H, seed=2)}
    feeds[other] = feeds[other][:1]
    with pytest.raises(tinyonnx.NodeError, match=r"Q, K and V, as \[B, N, length, size\], are"):
        both("Attention", feeds)
