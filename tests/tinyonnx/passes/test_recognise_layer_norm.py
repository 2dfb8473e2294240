"""Spelled-out LayerNormalization."""

from __future__ import annotations

import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text

CONSTANTS = ", ".join(
    ["float two = {2.0}, float three = {3.0}, float one = {1.0}, float eps = {1e-5}", floats("g", 8), floats("b", 8),
     floats("wide", 5, 8), floats("row", 1, 1, 8), "int64[1] last = {-1}"]
)  # fmt: skip
MOMENTS = """m = ReduceMean<axes=[-1]>(x) c = Sub(x, m) q = Pow(c, two) w = ReduceMean<axes=[-1]>(q) a = Add(w, eps)
    r = Sqrt(a)"""
TORCH = f"{MOMENTS} n = Div(c, r) s = Mul(n, g) y = Add(s, b)"
TENSORFLOW = """m = ReduceMean<axes=[2]>(x) c = Sub(x, m) q = Mul(c, c) w = ReduceMean<axes=[2]>(q) a = Add(eps, w)
    r = Sqrt(a) i = Reciprocal(r) f = Mul(i, g) l = Mul(x, f) k = Mul(m, f) d = Sub(b, k) y = Add(l, d)"""
FORMS = {
    "torch": TORCH,
    "two differences": TORCH.replace("c = Sub(x, m)", "c = Sub(x, m) c2 = Sub(x, m)").replace("Div(c", "Div(c2"),
    "other orders": f"{MOMENTS.replace('Add(w, eps)', 'Add(eps, w)')} n = Div(c, r) s = Mul(g, n) y = Add(b, s)",
    "reciprocal": f"{MOMENTS} i = Reciprocal(r) n = Mul(c, i) s = Mul(n, g) y = Add(s, b)",
    "one over": f"{MOMENTS} i = Div(one, r) n = Mul(i, c) s = Mul(n, g) y = Add(s, b)",
    "no shift": f"{MOMENTS} n = Div(c, r) y = Mul(n, g)",
    "tensorflow": TENSORFLOW,
    "two axes": TORCH.replace("[-1]", "[-2, -1]").replace("g)", "wide)"),
}


def text(body: str, outputs: str = "float[i, j, k] y") -> str:
    return model_text(body, "float[2, 5, 8] x", outputs, CONSTANTS)


@pytest.mark.parametrize("form", FORMS)
def test_every_form(optimise, form):
    result = optimise(text(FORMS[form]), x=data(2, 5, 8) * 4 + 3)
    assert result.ops == {"LayerNormalization": 1}
    assert result.error < 2e-5


@pytest.mark.parametrize(
    "body",
    [
        TORCH.replace("[-1]", "[1]"),
        TORCH.replace("w = ReduceMean<axes=[-1]>", "w = ReduceMean<axes=[1]>"),
        TORCH.replace("Pow(c, two)", "Pow(c, three)"),
        TORCH.replace("Div(c, r)", "Div(r, c)"),
        TORCH.replace("Div(c, r)", "Div(x, r)"),
        TORCH.replace("Sub(x, m)", "Sub(m, x)"),
        TORCH.replace("Pow(c, two)", "Mul(c, x)"),
        TORCH.replace("Add(w, eps)", "Add(w, w)"),
        TENSORFLOW.replace("Sub(b, k)", "Sub(k, b)"),
        TENSORFLOW.replace("Mul(m, f)", "Mul(m, i)"),
    ],
)
def test_what_only_looks_like_it_stays(optimise, body):
    result = optimise(text(body), x=abs(data(2, 5, 8)) + 1)
    result.assert_without("LayerNormalization", 1e-3)


@pytest.mark.parametrize("read", "mcqwarns")
def test_inner_values_that_are_read_elsewhere(optimise, read):
    result = optimise(text(f"{TORCH} z = Neg({read})", "float[i, j, k] y, float[i, j, l] z"), x=data(2, 5, 8))
    assert result.ops["LayerNormalization"] == (read == "s")  # the shift alone is left out
    assert result.error < 1e-5


def test_parameters_of_other_shapes(optimise):
    result = optimise(text(TORCH.replace("g)", "row)")), x=data(2, 5, 8))
    assert result.refused("don't fit the normalised axes [8]")
    assert result.error < 1e-5


def test_double_precision_keeps_its_operators(optimise):
    names = "two", "three", "one", "eps", "g", "b", "wide", "row"
    constants = CONSTANTS.replace("float", "double")
    assert all(name in constants for name in names)
    result = optimise(
        model_text(TORCH, "double[2, 5, 8] x", "double[i, j, k] y", constants), x=data(2, 5, 8).astype("f8")
    )
    assert result.refused("whose roundings would differ")
    assert result.error < 1e-12


def test_a_constant_that_raises_the_rank(optimise):
    constants = CONSTANTS.replace("float eps = {1e-5}", "float[1,1,1,1] eps = {1e-5}")
    model = model_text(TORCH, "float[2, 5, 8] x", "float[h, i, j, k] y", constants)
    result = optimise(model, x=data(2, 5, 8))
    assert result.refused("a constant of higher rank broadcasts its input")
    assert result.error < 2e-5
