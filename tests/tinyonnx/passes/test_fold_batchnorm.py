"""BatchNormalization folded into convolutions, and where that would be wrong."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text, unoptimised

X, Y = "float[2,4,9,8] x", "float[n,c,h,k] y"


def bn(name: str, channels: int) -> str:
    return ", ".join(floats(f"{name}{p}", channels, positive=p in "gv") for p in "gbmv")


@pytest.mark.parametrize(
    ("op", "weight", "bias", "attributes"),
    [
        ("Conv", (6, 4, 3, 3), True, "pads=[1,1,1,1]"),
        ("Conv", (6, 4, 1, 1), False, "strides=[2,2]"),
        ("Conv", (4, 1, 5, 5), False, "group=4, pads=[2,2,2,2]"),
        ("Conv", (6, 2, 3, 3), True, "group=2"),
        ("ConvTranspose", (4, 6, 3, 3), True, "strides=[2,2]"),
        ("ConvTranspose", (4, 3, 3, 3), True, "group=2"),
    ],
)
def test_batchnorm_folds_into_the_convolution_before_it(optimise, op, weight, bias, attributes):
    group = 2 if "group=2" in attributes else 1
    channels = weight[0] if op == "Conv" else weight[1] * group
    body = f"""c = {op}<{attributes}>(x, w{", b" if bias else ""})
               y = BatchNormalization<epsilon=0.001>(c, ng, nb, nm, nv)"""
    weights = ", ".join([floats("w", *weight), *([floats("b", channels)] if bias else []), bn("n", channels)])
    result = optimise(model_text(body, X, Y, weights), x=data(2, 4, 9, 8))
    assert set(result.ops) == {op}
    assert result.error < 2e-5


def test_the_default_of_epsilon(optimise):
    weights = f"{floats('w', 3, 4, 1, 1)}, {floats('k', 3)}, float[3] v = {{0, 0.00001, 1}}"
    body = "c = Conv(x, w) y = BatchNormalization(c, k, k, k, v)"
    result = optimise(model_text(body, X, Y, weights), x=data(2, 4, 9, 8) / 100)
    assert dict(result.ops) == {"Conv": 1}
    assert result.error < 1e-3


@pytest.mark.parametrize("source", ["x", "r", "g"])
def test_batchnorm_of_something_else_stays(optimise, source):
    body = f"r = Relu(x) g = MatMul(x, w) y = BatchNormalization({source}, ng, nb, nm, nv)"
    result = optimise(model_text(body, X, Y, f"{floats('w', 8, 8)}, {bn('n', 4)}"), x=data(2, 4, 9, 8))
    assert result.applied("is folded into the weights") == 0
    assert result.error < 1e-5


def test_batchnorm_stays_where_the_convolution_is_read_elsewhere(optimise):
    body = """c = Conv(x, w)
              y = BatchNormalization(c, ng, nb, nm, nv)
              z = Relu(c)"""
    weights = f"{floats('w', 3, 4, 1, 1)}, {bn('n', 3)}"
    text = model_text(body, "float[1,4,5,5] x", "float[n,c,h,k] y, float[n,c,h,k] z", weights)
    result = optimise(text, x=data(1, 4, 5, 5))
    assert result.applied("is folded into the weights") == 0
    assert result.refused("fold_batchnorm: skipping y: its output is read by")
    assert result.error < 1e-5


@pytest.mark.parametrize(
    ("op", "variable", "shape", "reason"),
    [
        ("ConvTranspose", "w", (4, 3, 1, 1), "weight is not constant"),
        *((op, "b", (3,), "bias is not constant") for op in ("Conv", "ConvTranspose")),
        *((op, name, (3,), "scale, bias, mean or variance is not constant")
          for op in ("Conv", "ConvTranspose") for name in ("ng", "nb", "nm", "nv")),
    ],
)  # fmt: skip
def test_batchnorm_stays_where_an_operand_is_not_constant(optimise, op, variable, shape, reason):
    weights = {"w": floats("w", 3, 4, 1, 1) if op == "Conv" else floats("w", 4, 3, 1, 1), "b": floats("b", 3)}
    weights |= {f"n{p}": floats(f"n{p}", 3, positive=p in "gv") for p in "gbmv"}
    del weights[variable]
    inputs = f"{X}, float[{','.join(map(str, shape))}] {variable}"
    body = f"c = {op}(x, w, b) y = BatchNormalization(c, ng, nb, nm, nv)"
    feeds = {"x": data(2, 4, 9, 8), variable: np.abs(data(*shape)) + 0.5}
    result = optimise(model_text(body, inputs, Y, ", ".join(weights.values())), **feeds)
    assert result.applied("is folded into the weights") == 0
    assert result.refused(reason)
    assert result.error < 1e-5


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("shape", "group"), [((6, 4, 3, 3), 1), ((6, 2, 1, 1), 2), ((4, 1, 3, 3), 4)])
def test_computed_weights_are_scaled_during_the_run(optimise, shape, group, bias):
    body = f"""w = Add(v, v) c = Conv<group={group}, pads=[1,1,1,1]>(x, w{", b" if bias else ""})
        n = BatchNormalization<epsilon=0.1>(c, ng, nb, nm, nv) y = Relu(n)"""
    weights = ", ".join([floats("b", shape[0]), bn("n", shape[0])])
    inputs = f"{X}, float[{','.join(map(str, shape))}] v"
    result = optimise(model_text(body, inputs, Y, weights), x=data(2, 4, 9, 8), v=data(*shape, seed=1))
    assert dict(result.ops) == {"Add": 1, "Mul": 1, "FusedConv": 1}
    assert next(node for node in result.graph.nodes if node.op_type == "Mul").output.shape == shape
    assert result.error < 2e-5


def test_factors_of_computed_weights_are_finite(optimise):
    weights = "float[1] g = {1e30}, float[1] k = {1}, float[1] v = {1e-30}"
    body = "c = Conv(x, w) y = BatchNormalization<epsilon=0.0>(c, g, k, k, v)"
    text = model_text(body, f"{X}, float[1,4,1,1] w", Y, weights)
    feeds = {"x": data(2, 4, 9, 8), "w": data(1, 4, 1, 1) * np.float32(1e-20)}
    result = optimise(text, unoptimised(text, **feeds), **feeds)
    assert result.ops["BatchNormalization"] == 1
    assert result.refused("fold_batchnorm: skipping y: its factors are not finite numbers of float32")


def test_statistics_of_the_batch_are_not_constants(optimise):
    body = "c = Conv(x, w) y, m, v = BatchNormalization<training_mode=1>(c, ng, nb, nm, nv)"
    outputs = f"{Y}, float[c] m, float[c] v"
    weights = f"{floats('w', 3, 4, 1, 1)}, {bn('n', 3)}"
    text = model_text(body, X, outputs, weights)
    x = data(2, 4, 9, 8)
    expected = ReferenceEvaluator(onnx.parser.parse_model(text)).run(None, {"x": x})
    result = optimise(text, expected, x=x)
    assert result.ops["BatchNormalization"] == 1
    assert result.refused("training mode")
    assert result.error < 1e-5
    for alone in (body, body.replace("y, m, v", "y")):
        result = optimise(model_text(alone, X, Y, weights), expected[:1], x=x)
        assert result.ops["BatchNormalization"] == 1
        assert result.error < 1e-5


@pytest.mark.parametrize("opset", [6, 9])
def test_an_old_batchnorm_trains_where_it_has_further_outputs(optimise, opset):
    """It trains even if nothing reads them; with one output it never trains, whatever `is_test` is."""
    weights = f"{floats('w', 3, 4, 1, 1)}, {bn('n', 3)}"
    x = data(2, 4, 9, 8)
    body = "c = Conv(x, w) {} = BatchNormalization{}(c, ng, nb, nm, nv)"
    for outputs, mode, ops in (("y", "", {"Conv": 1}), ("y, m, v, s, t", "<training_mode=1>", None)):
        newer = onnx.parser.parse_model(model_text(body.format(outputs[:7], mode), X, Y, weights))
        expected = ReferenceEvaluator(newer).run(None, {"x": x})
        result = optimise(model_text(body.format(outputs, ""), X, Y, weights, opset=opset), expected, x=x)
        assert dict(result.ops) == (ops or {"Conv": 1, "BatchNormalization": 1})
        assert result.error < 1e-5


@pytest.mark.parametrize("variance", [0.0, -0.5])
def test_batchnorm_stays_where_the_variance_is_not_positive(optimise, variance):
    weights = f"{floats('w', 3, 4, 1, 1)}, {floats('k', 3)}, float[3] v = {{1, {variance}, 2}}"
    body = "c = Conv(x, w) y = BatchNormalization<epsilon=0.0>(c, k, k, k, v)"
    text, x = model_text(body, X, Y, weights), data(2, 4, 9, 8)
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(onnx.parser.parse_model(text)).run(None, {"x": x})
    result = optimise(text, expected, x=x)
    assert result.ops["BatchNormalization"] == 1
    assert result.refused("variance is not positive")
    assert result.error < 1e-5


def test_batchnorm_stays_where_weights_would_overflow(optimise):
    weights = "float[1,4,1,1] w = {1e30, 1e30, 1e30, 1e30}, float[1] k = {1}, float[1] v = {1e-30}"
    body = "c = Conv(x, w) y = BatchNormalization<epsilon=0.0>(c, k, k, k, v)"
    result = optimise(model_text(body, X, Y, weights), x=data(2, 4, 9, 8) * np.float32(1e-30))
    assert result.applied("is folded into the weights") == 0
    assert result.refused("overflow")
    assert result.error < 1e10  # of results about 1e15


def test_batchnorm_stays_with_weights_of_little_range(optimise, narrow):
    one = int(np.float16(1).view(np.uint16))
    weights = f"float16[1,4,1,1] w = {{{one}, {one}, {one}, {one}}}, float16[1] k = {{{one}}}"
    body = "c = Conv(x, w) y = BatchNormalization(c, k, k, k, k)"
    text = model_text(body, X.replace("float", "float16"), Y.replace("float", "float16"), weights)
    result = optimise(text, x=data(2, 4, 9, 8).astype(np.float16))
    assert result.ops["BatchNormalization"] == 1
    assert result.refused("too little range")


@pytest.mark.parametrize("parameters", ["s, ng, ng, ng", "ng, s, ng, ng", "ng, ng, s, ng", "ng, ng, ng, s"])
def test_parameters_of_another_shape_are_the_error_that_they_were(parameters):
    weights = f"{floats('w', 3, 4, 1, 1)}, {floats('ng', 3, positive=True)}, float[1] s = {{1.0}}"
    body = f"c = Conv(x, w) y = BatchNormalization(c, {parameters})"
    model = onnx.parser.parse_model(model_text(body, X, Y, weights)).SerializeToString()
    with pytest.raises(tinyonnx.NodeError, match=r'BatchNormalization "y".* has shape'):
        tinyonnx.InferenceSession(model).run(None, {"x": data(2, 4, 9, 8)})


def test_the_default_of_epsilon_decides_whether_a_variance_is_positive(optimise):
    weights = f"{floats('w', 3, 4, 1, 1)}, {floats('k', 3)}, float[3] v = {{1, -0.000015, 1}}"
    body = "c = Conv(x, w) y = BatchNormalization(c, k, k, k, v)"
    result = optimise(model_text(body, X, Y, weights), x=data(2, 4, 9, 8))
    assert dict(result.ops) == {"Conv": 1, "BatchNormalization": 1}
    assert result.refused("its variance is not positive")
