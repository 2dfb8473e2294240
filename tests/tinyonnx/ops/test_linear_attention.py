from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import tinyonnx
from tests.tinyonnx.ops.running import check_backend_cases, normal, outputs_of
from tinyonnx.errors import OpError

RULES = ["linear", "gated", "delta", "gated_delta"]


@pytest.mark.parametrize("name", ["LinearAttention", "CausalConvWithState"])
def test_backend_cases(name: str) -> None:
    check_backend_cases(name)


def operands(tokens: int = 6) -> dict[str, Any]:
    return {
        "query": normal(2, tokens, 4 * 3),
        "key": normal(2, tokens, 2 * 3, seed=1) / 2,
        "value": normal(2, tokens, 2 * 5, seed=2),
        "past": normal(2, 2, 3, 5, seed=3),
        "decay": -abs(normal(2, tokens, 2 * 3, seed=4)),
        "beta": abs(normal(2, tokens, 2, seed=5)),
    }


@pytest.mark.parametrize("rule", RULES)
def test_token_by_token_in_plain_words(rule: str) -> None:
    x = operands()
    attributes = {"q_num_heads": 4, "kv_num_heads": 2, "update_rule": rule, "scale": 0.7}
    y, state = outputs_of("LinearAttention", *x.values(), opset=27, n_outputs=2, **attributes)
    for b in range(2):
        for head in range(2):
            s = x["past"][b, head].astype(np.float64)
            for t in range(6):
                k, v = x["key"][b, t, head * 3 :][:3], x["value"][b, t, head * 5 :][:5]
                if "gated" in rule:
                    s = np.exp(x["decay"][b, t, head * 3 :][:3])[:, None] * s
                new = x["beta"][b, t, head] * (v - s.T @ k) if "delta" in rule else v
                s = s + np.outer(k, new)
                for group in range(2):
                    at = head * 2 + group
                    expected = 0.7 * x["query"][b, t, at * 3 :][:3] @ s
                    np.testing.assert_allclose(y[b, t, at * 5 :][:5], expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(state[b, head], s, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_sequence_in_two_pieces(rule: str) -> None:
    x = operands()
    attributes = {"q_num_heads": 4, "kv_num_heads": 2, "update_rule": rule}
    whole, last = outputs_of("LinearAttention", *x.values(), opset=27, n_outputs=2, **attributes)
    parts, state = [], x["past"]
    for piece in (slice(0, 2), slice(2, 6)):
        cut = {name: value if name == "past" else value[:, piece] for name, value in x.items()} | {"past": state}
        part, state = outputs_of("LinearAttention", *cut.values(), opset=27, n_outputs=2, **attributes)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state, last, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "attributes", "message"),
    [
        ({"decay": None}, {}, "needs decay"),
        ({"beta": None}, {}, "needs beta"),
        ({"decay": normal(2, 6, 5)}, {}, "decay has shape"),
        ({"past": normal(2, 2, 3, 4)}, {}, "past_state"),
        ({"key": normal(2, 5, 6)}, {}, "key has shape"),
        ({}, {"q_num_heads": 3}, "not a multiple"),
        ({}, {"update_rule": "magic"}, "magic"),
    ],
)
def test_misuse(change: dict[str, Any], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        outputs_of(
            "LinearAttention", *(operands() | change).values(), opset=27,
            **{"q_num_heads": 4, "kv_num_heads": 2} | attributes,
        )  # fmt: skip


@pytest.mark.parametrize("activation", ["none", "silu"])
def test_causal_convolution_in_two_pieces_and_against_numpy(activation: str) -> None:
    x, w, b = normal(2, 3, 7), normal(3, 1, 4, seed=1), normal(3, seed=2)
    y, state = outputs_of("CausalConvWithState", x, w, b, opset=27, n_outputs=2, activation=activation)
    for c in range(3):
        expected = np.convolve(x[1, c], w[c, 0, ::-1])[:7] + b[c]
        expected = expected if activation == "none" else expected / (1 + np.exp(-expected))
        np.testing.assert_allclose(y[1, c], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(state, x[:, :, -3:])
    first, carried = outputs_of("CausalConvWithState", x[..., :2], w, b, opset=27, n_outputs=2, activation=activation)
    rest, end = outputs_of(
        "CausalConvWithState", x[..., 2:], w, b, carried, opset=27, n_outputs=2, activation=activation
    )
    np.testing.assert_allclose(np.concatenate([first, rest], axis=2), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(end, state)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([normal(2, 3), normal(3, 1, 4)], {}, "ranks 2 and 3"),
        ([normal(2, 3, 7), normal(4, 1, 4)], {}, "weight"),
        ([normal(2, 3, 7), normal(3, 1, 4), normal(2)], {}, "bias"),
        ([normal(2, 3, 7), normal(3, 1, 4), None, normal(2, 3, 4)], {}, "past_state"),
        ([normal(2, 3, 7), normal(3, 1, 4)], {"activation": "relu"}, "relu"),
    ],
)
def test_causal_misuse(inputs: list[Any], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(OpError, match=message):
        outputs_of("CausalConvWithState", *inputs, opset=27, **attributes)


@pytest.mark.parametrize(("keys", "values"), [(0, 8), (8, 0), (0, 0)])
def test_heads_of_no_numbers(keys: int, values: int) -> None:
    q, k, v, decay, beta = (np.ones((1, 2, n), np.float32) for n in (keys, keys, values, 4, 4))
    inputs = [helper.make_tensor_value_info(name, 1, None) for name in "qkvdb"]
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in ("y", "state")]
    node = helper.make_node(
        "LinearAttention", ["q", "k", "v", "", "d", "b"], ["y", "state"], kv_num_heads=4, q_num_heads=4
    )
    graph = helper.make_graph([node], "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 27)], ir_version=10).SerializeToString()
    y, state = tinyonnx.InferenceSession(model).run(None, {"q": q, "k": k, "v": v, "d": decay, "b": beta})
    assert (y.shape, state.shape) == ((1, 2, values), (1, 4, keys // 4, values // 4))
    assert not y.any()
