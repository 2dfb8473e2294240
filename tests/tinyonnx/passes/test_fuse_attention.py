"""Attention in exporters' forms."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, model_text

CONSTANTS = (
    "float root = {2.0}, float small = {0.5}, float fourth = {0.7}, float zero = {0.0}, float[1,1,1,1,1] tall = {2.0}"
)
Q, K, V, MASK = data(2, 5, 3, 8), data(2, 7, 3, 8, seed=1), data(2, 7, 3, 4, seed=2), data(2, 1, 1, 7, seed=3)
HEADS = "q = Transpose<perm=[0,2,1,3]>(a) k = Transpose<perm=[0,2,3,1]>(b) v = Transpose<perm=[0,2,1,3]>(c)"
SOFTMAX = "p = Softmax<axis=-1>(s) o = MatMul(p, v) y = Transpose<perm=[0,2,1,3]>(o)"


def text(body: str, outputs: str = "float[n, h, l, d] y") -> str:
    inputs = "float[2,5,3,8] a, float[2,7,3,8] b, float[2,7,3,4] c, float[2,1,1,7] mask"
    return model_text(body, inputs, outputs, CONSTANTS)


def optimised(optimise, body: str, outputs: str = "float[n, h, l, d] y"):
    return optimise(text(body, outputs), a=Q, b=K, c=V, mask=MASK)


@pytest.mark.parametrize(
    "scores",
    [
        "s = MatMul(q, k)",
        "m = MatMul(q, k) s = Div(m, root)",
        "m = MatMul(q, k) s = Mul(small, m)",
        "m = MatMul(q, k) n = Mul(m, small) s = Add(n, mask)",
        "m = MatMul(q, k) n = Div(m, root) s = Add(mask, n)",
        "q2 = Mul(q, fourth) k2 = Mul(fourth, k) s = MatMul(q2, k2)",
        "q2 = Div(q, root) m = MatMul(q2, k) s = Add(m, mask)",
    ],
)
def test_every_form(optimise, scores):
    result = optimised(optimise, f"{HEADS} {scores} {SOFTMAX}")
    assert result.ops == {"FusedAttention": 1}
    assert result.error < 1e-5


def test_factors_before_the_transposes(optimise):
    body = "a2 = Mul(a, small) q = Transpose<perm=[0,2,1,3]>(a2) k0 = Transpose<perm=[0,2,1,3]>(b)"
    body += " k = Transpose<perm=[0,1,3,2]>(k0) v = Transpose<perm=[0,2,1,3]>(c) s = MatMul(q, k)"
    result = optimised(optimise, f"{body} {SOFTMAX}")
    assert result.ops == {"FusedAttention": 1}
    assert result.error < 1e-5


def test_rank_3_without_transposes(optimise):
    body = "s = MatMul(q, k) p = Softmax<axis=2>(s) y = MatMul(p, v)"
    model = model_text(body, "float[2,5,8] q, float[2,8,7] k, float[2,7,4] v", "float[n, l, d] y")
    result = optimise(model, q=data(2, 5, 8), k=data(2, 8, 7), v=data(2, 7, 4))
    assert result.ops == {"FusedAttention": 1}
    assert result.error < 1e-5


def test_keys_that_are_read_elsewhere(optimise):
    """A decoder's keys are outputs; they stay."""
    result = optimised(optimise, f"{HEADS} s = MatMul(q, k) {SOFTMAX} z = Neg(k)", "float[n,h,l,d] y, float[n,h,e,f] z")
    assert result.ops == {"FusedAttention": 1, "Transpose": 1, "Neg": 1}
    assert result.error < 1e-5


WHERE = "float[2,5,3,8] a, float[2,7,3,8] b, float[2,7,3,4] c, bool[2,1,1,7] shown, float[2,1,1,7] mask"
SHOWN = np.array([[1, 1, 0, 1, 0, 1, 1], [0, 0, 1, 0, 0, 0, 0]], bool).reshape(2, 1, 1, 7)


def masked(optimise, scores, number="-inf", shown=SHOWN):
    constants = f"float low = {{{number}}}, float small = {{0.5}}, bool[1] yes = {{1}}"
    body = f"{HEADS} m = MatMul(q, k) n = Mul(m, small) {scores} {SOFTMAX}"
    model = model_text(body, WHERE, "float[n, h, l, d] y", constants)
    return optimise(model, a=Q, b=K, c=V, shown=shown, mask=MASK)


@pytest.mark.parametrize("number", ["-inf", "-3.4e38"])
@pytest.mark.parametrize(
    "scores",
    [
        "s = Where(shown, n, low)",
        "hidden = Not(shown) s = Where(hidden, low, n)",
        "t = Add(n, mask) s = Where(shown, t, low)",
    ],
)
def test_masks_of_where(optimise, scores, number):
    result = masked(optimise, scores, number)
    assert result.ops["FusedAttention"] == 1
    result.assert_without("Softmax", 1e-5)


def test_a_query_whose_keys_are_all_hidden(optimise):
    """Masked by -∞ the result is NaN, by a low number the mean of all values, as without the fusion."""
    for number in ("-inf", "-3.4e38"):
        result = masked(optimise, "s = Where(shown, n, low)", number, np.zeros_like(SHOWN))
        assert result.ops["FusedAttention"] == 1
        assert result.error < 1e-5


def test_a_query_whose_keys_are_all_hidden_by_two_masks(optimise):
    """The Where replaces numbers that the Add has made low: the result is the mean of all values, never NaN."""
    constants = "float low = {-3.4e38}"
    padding = np.float32([0, 0, 0, -3.4e38, 0, -3.4e38, -3.4e38]).reshape(1, 1, 1, 7)
    model = model_text(
        f"{HEADS} m = MatMul(q, k) t = Add(m, mask) s = Where(shown, t, low) {SOFTMAX}",
        WHERE.replace("float[2,1,1,7] mask", "float[1,1,1,7] mask"), "float[n, h, l, d] y", constants,
    )  # fmt: skip
    for shown in (np.zeros_like(SHOWN), SHOWN):
        result = optimise(model, a=Q, b=K, c=V, shown=shown, mask=padding)
        assert result.ops["FusedAttention"] == 1
        assert result.error < 1e-5


@pytest.mark.parametrize(
    ("scores", "number", "reason"),
    [
        ("s = Where(shown, n, low)", "-10000.0", "the scores are not a product"),
        ("s = Where(yes, n, low)", "-inf", "the same for all keys"),
    ],
)
def test_masks_that_are_no_bias(optimise, scores, number, reason):
    result = masked(optimise, scores, number)
    assert "FusedAttention" not in result.ops
    assert result.refused(reason)
    assert result.error < 1e-5


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{HEADS} s = MatMul(q, k) p = Softmax<axis=2>(s) y = MatMul(p, v)", "not over the last axis"),
        (f"{HEADS} s = MatMul(q, k) {SOFTMAX} z = Neg(p)", "its output is read"),
        (f"{HEADS} s = MatMul(q, k) {SOFTMAX} z = Neg(s)", "the scores are not a product"),
        (f"{HEADS} m = MatMul(q, k) s = Relu(m) {SOFTMAX}", "the scores are not a product"),
        (
            f"{HEADS} v2 = Mul(v, small) s = MatMul(q, k) {SOFTMAX.replace('(p, v)', '(p, v2)')}",
            "the values have a factor",
        ),
    ],
)
def test_refused(optimise, body, reason):
    outputs = "float[n,h,l,d] y, float[n,h,l,t] z" if "z =" in body else "float[n,h,l,d] y"
    result = optimised(optimise, body, outputs)
    assert result.refused(reason)
    result.assert_without("FusedAttention", 1e-5)


def test_a_factor_that_is_zero_or_raises_the_rank(optimise):
    for factor in ("zero", "tall"):
        body = f"{HEADS} m = MatMul(q, k) s = Mul(m, {factor}) p = Softmax<axis=-1>(s) y = MatMul(p, v)"
        rank = "float[i, n, h, l, d] y" if factor == "tall" else "float[n, h, l, d] y"
        result = optimised(optimise, body, rank)
        assert "FusedAttention" not in result.ops
        assert result.error < 1e-5


def test_every_row_of_a_bias_that_is_the_same_for_all_keys(optimise):
    body = f"{HEADS} m = MatMul(q, k) n = ReduceMax<axes=[3]>(m) s = Add(m, n) {SOFTMAX}"
    result = optimised(optimise, body)
    result.assert_without("FusedAttention", 1e-5)


def test_transposes_that_move_elements_apart(optimise):
    body = "m = MatMul(q, k) p = Softmax<axis=-1>(m) o = MatMul(p, v) y = Transpose<perm=[0,2,1]>(o)"
    model = model_text(body, "float[2,5,8] q, float[2,8,7] k, float[2,7,4] v", "float[n, d, l] y")
    result = optimise(model, q=data(2, 5, 8), k=data(2, 8, 7), v=data(2, 7, 4))
    assert result.ops == {"FusedAttention": 1, "Transpose": 1}
    assert result.error < 1e-5
    body = "q = Transpose<perm=[0,2,1]>(t) s = MatMul(q, k) p = Softmax<axis=-1>(s) y = MatMul(p, v)"
    model = model_text(body, "float[2,8,5] t, float[2,8,7] k, float[2,7,4] v", "float[n, l, d] y")
    result = optimise(model, t=data(2, 8, 5), k=data(2, 8, 7), v=data(2, 7, 4))
    assert result.refused("not contiguous")
    assert result.error < 1e-5


def test_a_causal_mask(optimise):
    body = "m = MatMul(q, k) s = Add(m, mask) p = Softmax<axis=-1>(s) y = MatMul(p, v)"
    mask = np.triu(np.full((6, 6), np.float32(-np.inf)), 1)
    model = model_text(body, "float[2,6,8] q, float[2,8,6] k, float[2,6,4] v, float[6,6] mask", "float[n,l,d] y")
    result = optimise(model, q=data(2, 6, 8), k=data(2, 8, 6), v=data(2, 6, 4), mask=mask)
    assert result.ops == {"FusedAttention": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize("queries", ["float[2,1,8] q", "float[1,5,8] q"])
def test_a_bias_that_broadcasts_the_scores(optimise, queries):
    body = "m = MatMul(q, k) s = Add(m, mask) p = Softmax<axis=-1>(s) y = MatMul(p, v)"
    batch, rows = (2, 1) if queries.startswith("float[2") else (1, 5)
    inputs = f"{queries}, float[{batch},8,6] k, float[{batch},6,4] v, float[2,5,6] mask"
    feeds = {"q": data(batch, rows, 8), "k": data(batch, 8, 6), "v": data(batch, 6, 4), "mask": data(2, 5, 6)}
    result = optimise(model_text(body, inputs, "float[n,l,d] y"), **feeds)
    assert result.refused("the bias broadcasts the scores")
    assert result.error < 1e-5
