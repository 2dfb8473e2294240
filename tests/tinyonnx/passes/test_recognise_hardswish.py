"""Spelled-out HardSwish, and graphs that only look like it."""

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
    result.assert_without("HardSwish", 1e-6)


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
    result.assert_without("HardSwish", 1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "a = Add(x, three) c = Clip(a, three, six) m = Mul(x, c) y = Div(m, six)",
        'a = Add(x, three) c = Clip(a, "", six) m = Mul(x, c) y = Div(m, six)',
        "a = Add(x, three) c = Clip(a, zero) m = Mul(x, c) y = Div(m, six)",
        "a = Sub(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Add(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(six, m)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, three)",
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Mul(m, three)",
        "a = Add(x, three) c = Clip(a, zero, six) d = Mul(c, three) y = Mul(x, d)",
        "a = Add(x, three) c = Clip(a, zero, six) d = Mul(c, sixth) y = Div(x, d)",
        "n = Neg(x) a = Add(n, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "n = Neg(x) a = Add(n, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(x, d)",
        "n = Neg(x) a = Add(n, three) c = Clip(a, zero, six) d = Div(x, six) y = Mul(d, c)",
        "a = Add(x, three) c = Relu(a) m = Mul(x, c) y = Div(m, six)",
        "s = Sigmoid(x) y = Mul(x, s)",
        "a = Add(x, x) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Div(x, d)",
    ],
)
def test_every_part_is_needed(optimise, body):
    result = optimise(model_text(body, "float[3,7] x", "float[n,c] y", CONSTANTS), x=data(3, 7) * 4 + 0.125)
    assert "HardSwish" not in result.ops
    assert result.error < 1e-5 * max(1.0, float(np.abs(data(3, 7)).max()) ** 2) or "Div(six, m)" in body


@pytest.mark.parametrize("bounds", ["min=0.0, max=6.0", "min=0.0, max=5.0", "max=6.0", "min=0.0"])
def test_bounds_that_are_attributes(optimise, bounds):
    body = f"a = Add(x, three) c = Clip<{bounds}>(a) m = Mul(x, c) y = Div(m, six)"
    constants = "float three = {3.0}, float six = {6.0}"
    result = optimise(model_text(body, "float[3,7] x", "float[n,c] y", constants, opset=10), x=data(3, 7) * 4)
    assert (dict(result.ops) == {"HardSwish": 1}) == (bounds == "min=0.0, max=6.0")
    assert result.error < 1e-6


@pytest.mark.parametrize(("variable", "value"), [("three", 3), ("zero", 0), ("six", 6)])
def test_constants_that_are_inputs(optimise, variable, value):
    constants = ", ".join(c for c in CONSTANTS.split(", ") if f" {variable} " not in c)
    body = "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)"
    text = model_text(body, f"float[3,7] x, float {variable}", "float[n,c] y", constants)
    result = optimise(text, x=data(3, 7) * 4, **{variable: np.array(value, np.float32)})
    result.assert_without("HardSwish", 1e-6)


@pytest.mark.parametrize("inner", ["a", "c", "m"])
def test_inner_values_that_are_read_elsewhere(optimise, inner):
    body = f"a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six) z = Identity({inner})"
    result = optimise(model_text(body, "float[3,7] x", "float[n,c] y, float[n,c] z", CONSTANTS), x=data(3, 7) * 4)
    assert "HardSwish" not in result.ops
    assert result.refused(f"{inner}: its output is read")
    assert result.error < 1e-6


def test_an_input_of_unknown_shape(optimise):
    body = "z = Reshape(x, target) a = Add(z, three) c = Clip(a, zero, six) m = Mul(z, c) y = Div(m, six)"
    text = model_text(body, "float[3,7] x, int64[2] target", "float[n,c] y", CONSTANTS)
    result = optimise(text, x=data(3, 7) * 4, target=np.array([3, 7]))
    assert "HardSwish" not in result.ops
    assert result.refused("its input's shape is not known")
    assert result.error < 1e-6
