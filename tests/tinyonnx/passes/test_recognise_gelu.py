"""Spelled-out Gelu."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text

CONSTANTS = """float root2 = {1.4142135}, float half_root = {0.70710677}, float half = {0.5}, float one = {1.0},
    float two = {2.0}, float three = {3.0}, float c = {0.044715}, float s = {0.7978846}, float[1] cs = {0.035677407},
    float nearly = {0.71}, """ + floats("v", 6)

ERF = [
    "d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
    "d = Mul(half_root, x) e = Erf(d) a = Add(one, e) h = Mul(half, x) y = Mul(h, a)",
    "d = Div(x, root2) e = Erf(d) a = Add(e, one) h = Mul(a, half) y = Mul(h, x)",
    "d = Div(x, root2) e = Erf(d) a = Add(e, one) h = Div(a, two) y = Mul(x, h)",
    "d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Div(m, two)",
]
TANH = [
    """p = Pow(x, three) q = Mul(p, c) u = Add(x, q) w = Mul(u, s) t = Tanh(w) a = Add(t, one) h = Mul(half, x)
    y = Mul(h, a)""",
    """p = Mul(x, x) q = Mul(p, x) r = Mul(c, q) u = Add(r, x) w = Mul(s, u) t = Tanh(w) a = Add(one, t)
    h = Mul(a, half) y = Mul(x, h)""",
    """p = Mul(x, x) q = Mul(p, c) r = Add(q, one) z = Mul(s, x) w = Mul(z, r) t = Tanh(w) a = Add(t, one)
    m = Mul(x, a) y = Mul(m, half)""",
    """p = Pow(x, two) q = Mul(p, cs) r = Add(q, s) w = Mul(x, r) t = Tanh(w) a = Add(t, one) m = Mul(x, a)
    y = Div(m, two)""",
]


def text(body: str, outputs: str = "float[n, k] y") -> str:
    return model_text(body, "float[2, 6] x", outputs, CONSTANTS)


@pytest.mark.parametrize("body", ERF + TANH)
def test_every_order(optimise, body):
    result = optimise(text(body), x=data(2, 6) * 3)
    assert result.ops == {"Gelu": 1}
    assert result.graph.nodes[0].attributes["approximate"] == ("none" if "Erf" in body else "tanh")
    assert result.error < 2e-6


def test_into_the_product(optimise):
    body = f"product = MatMul(z, matrix) x = Add(v, product) {TANH[0]}"
    weights = f"{CONSTANTS}, {floats('matrix', 4, 6)}"
    result = optimise(model_text(body, "float[2, 3, 4] z", "float[b, n, k] y", weights), z=data(2, 3, 4))
    assert result.ops == {"Linear": 1}
    assert result.error < 2e-6


@pytest.mark.parametrize(
    "body",
    [
        ERF[0].replace("root2", "two"),
        ERF[1].replace("half_root", "nearly"),
        ERF[0].replace("one", "two"),
        ERF[0].replace("half)", "one)"),
        ERF[0].replace("Mul(x, a)", "Mul(e, a)"),
        ERF[0].replace("Mul(x, a)", "Mul(a, a)"),
        ERF[0].replace("Mul(m, half)", "Div(half, m)"),
        ERF[0].replace("Div(x, root2)", "Div(root2, x)"),
        ERF[0].replace("Mul(m, half)", "Mul(m, v)"),
        TANH[0].replace("three", "two"),
        TANH[0].replace("c)", "s)"),
        TANH[2].replace("Mul(p, c)", "Mul(p, x)"),
        "t = Tanh(x) a = Add(t, one) m = Mul(x, a) y = Mul(m, half)",
    ],
)
def test_what_only_looks_like_gelu_stays(optimise, body):
    result = optimise(text(body), x=data(2, 6) + 4)
    result.assert_without("Gelu", 1e-4)


@pytest.mark.parametrize("read", "eam")
def test_inner_values_that_are_read_elsewhere(optimise, read):
    result = optimise(text(f"{ERF[0]} z = Neg({read})", "float[n, k] y, float[n, k] z"), x=data(2, 6))
    result.assert_without("Gelu", 1e-6)


def test_an_argument_that_is_read_elsewhere_stays_as_well(optimise):
    result = optimise(text(f"{ERF[0]} z = Neg(d)", "float[n, k] y, float[n, k] z"), x=data(2, 6))
    assert result.ops == {"Gelu": 1, "Div": 1, "Neg": 1}
    assert result.error < 1e-6


def test_a_constant_that_raises_the_rank_stays(optimise):
    body = ERF[0].replace("half)", "tall)")
    model = model_text(body, "float[2, 6] x", "float[b, n, k] y", CONSTANTS + ", float[1,1,1] tall = {0.5}")
    result = optimise(model, x=data(2, 6))
    assert result.refused("a constant broadcasts it")
    assert result.error < 1e-6


def test_large_values(optimise):
    x = np.array([[0, 1e-30, 12, -12, 1e20, -1e20]], np.float32)
    for body in (ERF[0], TANH[0]):
        model = model_text(body, "float[1, 6] x", "float[n, k] y", CONSTANTS)
        result = optimise(model, x=x)
        assert result.ops == {"Gelu": 1}
        assert result.error <= 1e14  # a unit of the last place of 1e20
