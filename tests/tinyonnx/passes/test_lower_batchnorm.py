"""BatchNormalization as a product and a sum, and where it stays."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from tests.tinyonnx.passes.conftest import data, floats, model_text
from tests.tinyonnx.passes.test_fold_batchnorm import bn


@pytest.mark.parametrize("shape", [(5, 4), (2, 4, 9), (2, 4, 9, 8), (1, 4, 3, 2, 5)])
def test_any_rank(optimise, shape):
    names = ",".join("nchwd"[: len(shape)])
    text = model_text(
        "y = BatchNormalization<epsilon=0.01>(x, ng, nb, nm, nv)", f"float[{','.join(map(str, shape))}] x",
        f"float[{names}] y", bn("n", 4),
    )  # fmt: skip
    result = optimise(text, x=data(*shape))
    assert dict(result.ops) == {"Mul": 1, "Add": 1}
    assert result.error < 2e-6


def test_two_of_the_same_parameters(optimise):
    """Constants of other ranks and other values of epsilon are not shared."""
    body = """a = BatchNormalization(x, ng, nb, nm, nv) b = BatchNormalization<epsilon=0.5>(a, ng, nb, nm, nv)
        c = Reshape(b, flat) y = BatchNormalization(c, ng, nb, nm, nv)"""
    text = model_text(body, "float[2,4,3,3] x", "float[n,c,h] y", f"{bn('n', 4)}, int64[3] flat = {{2, 4, 9}}")
    result = optimise(text, x=data(2, 4, 3, 3))
    assert result.ops["BatchNormalization"] == 0
    assert result.error < 1e-5


def test_activations_and_readers_stay_in_order(optimise):
    body = "r = Relu(x) y = BatchNormalization(r, ng, nb, nm, nv) z = Add(y, r)"
    text = model_text(body, "float[2,4,3,3] x", "float[a,b,c,d] y, float[e,f,g,h] z", bn("n", 4))
    result = optimise(text, x=data(2, 4, 3, 3))
    assert dict(result.ops) == {"Relu": 1, "Mul": 1, "Add": 2}
    assert result.error < 2e-6


def test_other_types_stay(optimise):
    text = model_text(
        "d = Cast<to=11>(x) y = BatchNormalization(d, k, k, k, k)", "float[2,3,4] x", "double[n,c,h] y",
        "double[3] k = {1, 2, 3}", opset=15,
    )  # fmt: skip
    result = optimise(text, x=data(2, 3, 4))
    assert result.ops["BatchNormalization"] == 1
    assert result.refused("lower_batchnorm: skipping y: it is not of float32")
    assert result.error < 1e-9


@pytest.mark.parametrize(
    ("scale", "variance", "reason"),
    [("1e30", "1e-30", "not finite"), ("1", "-1", "variance is not positive"), ("inf", "1", "not finite")],
)
def test_numbers_that_are_none_stay(optimise, scale, variance, reason):
    weights = f"float[1] g = {{{scale}}}, float[1] k = {{1}}, float[1] v = {{{variance}}}"
    text = model_text(
        "y = BatchNormalization<epsilon=0.0>(x, g, k, k, v)", "float[2,1,4] x", "float[n,c,h] y", weights
    )  # fmt: skip
    x = data(2, 1, 4)
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(onnx.parser.parse_model(text)).run(None, {"x": x})
    result = optimise(text, expected, x=x)
    assert result.ops["BatchNormalization"] == 1
    assert result.refused(reason)


def test_parameters_of_pixels_stay(optimise):
    """The model is of opset 7, with spatial=0, which onnxruntime and onnx's reference don't run."""
    body = "y = BatchNormalization<spatial=0>(x, ng, nb, nm, nv)"
    weights = ", ".join(floats(f"n{p}", 4, 3, positive=p in "gv") for p in "gbmv")
    text = model_text(body, "float[2,4,3] x", "float[n,c,h] y", weights, opset=7)
    x = data(2, 4, 3)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.parser.parse_model(text).graph.initializer}
    g, b, m, v = (values[f"n{p}"] for p in "gbmv")
    result = optimise(text, [g * (x - m) / (v + 1e-5) ** 0.5 + b], x=x)
    assert dict(result.ops) == {"BatchNormalization": 1}
    assert result.refused("differ from pixel to pixel")
    assert result.error < 1e-5
