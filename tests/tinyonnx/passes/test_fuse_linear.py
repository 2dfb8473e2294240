"""Products with their bias, residual and activation."""

from __future__ import annotations

import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text

WEIGHTS = ", ".join(
    floats(name, *shape) for name, shape in [("w", (4, 6)), ("v", (6, 6)), ("b", (6,)), ("row", (1, 6))]
)
X, R = data(2, 3, 4), data(2, 3, 6)


def text(body: str, outputs: str = "float[i, j, k] y") -> str:
    return model_text(body, "float[2, 3, 4] x, float[2, 3, 6] r", outputs, WEIGHTS)


@pytest.mark.parametrize(
    "body",
    [
        "p = MatMul(x, w) y = Add(p, b)",
        "p = MatMul(x, w) y = Add(b, p)",
        "p = MatMul(x, w) y = Add(r, p)",
        "p = MatMul(x, w) q = Add(p, b) y = Add(r, q)",
        "p = MatMul(x, w) q = Add(p, b) y = Relu(q)",
        "p = MatMul(x, w) q = Add(p, b) s = Add(q, r) y = Tanh(s)",
    ],
)
def test_fused(optimise, body):
    result = optimise(text(body), x=X, r=R)
    assert result.ops == {"Linear": 1}
    assert result.error < 1e-5


def test_the_later_of_two_products_takes_the_sum(optimise):
    result = optimise(text("p = MatMul(x, w) q = MatMul(r, v) y = Add(p, q)"), x=X, r=R)
    assert result.ops == {"MatMul": 1, "Linear": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize(
    ("body", "reason", "left"),
    [
        ("p = MatMul(x, w) q = Add(p, b) y = Add(q, b)", "a bias already", 2),
        ("p = MatMul(x, w) q = Add(p, r) y = Add(q, b)", "a bias already", 2),
        ("p = MatMul(x, w) q = Add(p, r) y = Add(q, r)", "another tensor already", 2),
        ("p = MatMul(x, w) y = Add(p, row)", "not one number per column", 2),
        ("p = MatMul(x, w) m = ReduceMax<axes=[0]>(r) y = Add(p, m)", "the other operand has shape [1, 3, 6]", 3),
    ],
)
def test_refused(optimise, body, reason, left):
    result = optimise(text(body), x=X, r=R)
    assert result.refused(reason)
    assert sum(result.ops.values()) == left
    assert result.error < 1e-5


def test_a_product_that_is_read_elsewhere(optimise):
    result = optimise(text("p = MatMul(x, w) y = Add(p, b) z = Neg(p)", "float[i, j, k] y, float[i, j, k] z"), x=X, r=R)
    assert result.refused("its output is read")
    assert "Linear" not in result.ops


def test_computed_matrices_are_left_alone(optimise):
    body = "t = Transpose<perm=[0, 2, 1]>(r) p = MatMul(r, t) y = Add(p, p)"
    result = optimise(text(body), x=X, r=R)
    result.assert_without("Linear", 1e-5)
