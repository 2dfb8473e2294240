"""Spelled-out HardSwish, and what only looks like it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, model_text

HARDSWISH = {
    "operator": ("y = HardSwish(x)", ""),
    "hard sigmoid": ("s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, s)", ""),
    "hard sigmoid, swapped": ("s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(s, x)", ""),
    "product, then division": ("a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)", "c"),
    "division, then product": ("a = Add(three, x) c = Clip(a, zero, six) d = Div(c, six) y = Mul(x, d)", "c"),
    "factor of a sixth": ("a = Add(x, three) c = Clip(a, zero, six) m = Mul(c, x) y = Mul(m, sixth)", "c"),
    "scaled input": ("a = Add(x, three) c = Clip(a, zero, six) d = Mul(x, sixth) y = Mul(d, c)", "c"),
}


CONSTANTS = "float three = {3.0}, float zero = {0.0}, float six = {6.0}, float sixth = {0.16666667}"


@pytest.mark.parametrize("spelling", HARDSWISH)
def test_hardswish_is_recognised_in_every_spelling(optimise, spelling):
    body, constants = HARDSWISH[spelling]
    text = model_text(body, "float[3,7] x", "float[n,c] y", CONSTANTS if constants else "")
    result = optimise(text, x=data(3, 7) * 4)
    assert dict(result.ops) == {"HardSwish": 1}
    assert result.error < 1e-6


@pytest.mark.parametrize(
    ("x", "element", "constants"),
    [
        (np.array([-5, -1, 1, 7], np.int32), "int32", "int32 three = {3}, int32 zero = {0}, int32 six = {6}"),
        (data(4).astype(np.float64), "double", "double[1,1] three = {3.0}, double zero = {0.0}, double six = {6.0}"),
    ],
    ids=["integers", "a constant of higher rank"],
)
def test_what_computes_otherwise_is_no_hardswish(optimise, x, element, constants):
    body = "a = Add(x, three) c = Clip(a, zero, six) d = Div(x, six) y = Mul(d, c)"
    result = optimise(model_text(body, f"{element}[4] x", f"{element}[n] y", constants), x=x)
    assert "HardSwish" not in result.ops
    assert result.error < 1e-6


@pytest.mark.parametrize(
    "body",
    [
        "s = HardSigmoid<alpha=0.2, beta=0.5>(x) y = Mul(x, s)",
        "s = HardSigmoid<alpha=0.16666667, beta=0.4>(x) y = Mul(x, s)",
        "a = Add(x, six) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, three) m = Mul(x, c) y = Div(m, six)",
        "n = Neg(x) s = HardSigmoid<alpha=0.16666667, beta=0.5>(n) y = Mul(x, s)",
    ],
)
def test_what_only_looks_like_hardswish_stays(optimise, body):
    constants = "" if "HardSigmoid" in body else CONSTANTS
    result = optimise(model_text(body, "float[3,7] x", "float[n,c] y", constants), x=data(3, 7) * 4)
    assert "HardSwish" not in result.ops
    assert result.error < 1e-6
