from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text


def _bn(name: str, channels: int) -> str:
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
    weights = ", ".join([floats("w", *weight), *([floats("b", channels)] if bias else []), _bn("n", channels)])
    result = optimise(model_text(body, "float[2,4,9,8] x", "float[n,c,h,k] y", weights), x=data(2, 4, 9, 8))
    assert set(result.ops) == {op}
    assert result.error < 2e-5


def test_batchnorm_stays_where_the_convolution_is_read_elsewhere(optimise):
    body = """c = Conv(x, w)
              y = BatchNormalization(c, ng, nb, nm, nv)
              z = Relu(c)"""
    weights = f"{floats('w', 3, 4, 1, 1)}, {_bn('n', 3)}"
    text = model_text(body, "float[1,4,5,5] x", "float[n,c,h,k] y, float[n,c,h,k] z", weights)
    result = optimise(text, x=data(1, 4, 5, 5))
    assert result.ops["BatchNormalization"] == 1
    assert any("fold_batchnorm: skipping y: its output is read by" in r for r in result.refusals())
    assert result.error < 1e-5


CHANNELWISE = {
    "bias": "y = Add(c, perchannel)",
    "bias, swapped": "y = Add(perchannel, c)",
    "subtraction": "y = Sub(c, perchannel)",
    "scale": "y = Mul(c, perchannel)",
    "division": "y = Div(c, perchannel)",
    "one number": "y = Mul(c, three)",
    "scale, shift, normalise": "m = Mul(c, perchannel) a = Add(m, rank3) y = BatchNormalization(a, ng, nb, nm, nv)",
}


@pytest.mark.parametrize("spelling", CHANNELWISE)
@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize("op", ["Conv<group=2>", "ConvTranspose<group=2>"])
def test_arithmetic_per_channel_goes_into_the_weights(optimise, op, bias, spelling):
    shape = (6, 2, 3, 3) if op.startswith("Conv<") else (4, 3, 3, 3)
    weights = [floats("w", *shape), floats("b", 6), floats("perchannel", 1, 6, 1, 1, positive=True)]
    weights += [floats("rank3", 6, 1, 1), "float three = {3.0}", _bn("n", 6)]
    body = f"c = {op}(x, w{bias}) {CHANNELWISE[spelling]}"
    result = optimise(model_text(body, "float[2,4,9,8] x", "float[n,c,h,k] y", ", ".join(weights)), x=data(2, 4, 9, 8))
    assert dict(result.ops) == {op.split("<")[0]: 1}
    assert result.error < 2e-5


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w) y = Sub(perchannel, c)",
        "c = Conv(x, w) y = Add(c, percolumn)",
        "c = Conv(x, w) y = Div(c, zero)",
        "c = Conv(x, w) a = Add(c, perchannel) r = Relu(c) y = Add(a, r)",
    ],
)
def test_what_is_not_per_channel_stays(optimise, body):
    weights = [floats("w", 6, 4, 1, 1), floats("perchannel", 1, 6, 1, 1), floats("percolumn", 8), "float zero = {0.0}"]
    text = model_text(body, "float[2,4,9,8] x", "float[n,c,h,k] y", ", ".join(weights))
    result = optimise(text, x=data(2, 4, 9, 8))
    assert result.ops["Conv"] + result.ops["FusedConv"] == 1
    assert sum(result.ops.values()) > 1
    assert result.error < 2e-5


@pytest.mark.parametrize(
    ("element", "w", "k", "x", "op"),
    [("float", 1e30, 1e30, 1e-35, "Mul"), ("float", 1e30, 1e-30, 1e-35, "Div"), ("float16", 1e-4, 1e4, 6e4, "Div")],
    ids=["overflow", "overflow of a quotient", "underflow"],
)
def test_weights_that_would_leave_their_range_stay(optimise, element, w, k, x, op):
    dtype = np.float32 if element == "float" else np.float16
    if dtype == np.float16:  # written as its bits
        w, k = (int(np.float16(number).view(np.uint16)) for number in (w, k))
    constants = f"{element}[1,1,1,1] w = {{{w}}}, {element} k = {{{k}}}"
    text = model_text(f"c = Conv(x, w) y = {op}(c, k)", f"{element}[1,1,1,1] x", f"{element}[n,c,h,v] y", constants)
    result = optimise(text, x=np.full((1, 1, 1, 1), x, dtype))
    assert result.ops[op] == 1
    assert any("scaled weights" in r for r in result.refusals())
    assert result.error == 0


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


@pytest.mark.parametrize(
    "activation",
    [
        "Relu(c)",
        "HardSwish(c)",
        "Sigmoid(c)",
        "Tanh(c)",
        "LeakyRelu<alpha=0.3>(c)",
        "HardSigmoid(c)",
        "HardSigmoid<alpha=0.3, beta=0.1>(c)",
    ],
)
@pytest.mark.parametrize("op", ["Conv", "Gemm"])
def test_activation_goes_into_the_epilogue(optimise, op, activation):
    if op == "Conv":
        body, shape, weights = "c = Conv<pads=[1,1,1,1]>(x, w)", (2, 4, 6, 5), floats("w", 8, 4, 3, 3)
    else:
        body, shape, weights = "c = Gemm<transB=1>(x, w, b)", (3, 4), f"{floats('w', 8, 4)}, {floats('b', 8)}"
    dims = ",".join(map(str, shape))
    out = "n,c,h,k" if op == "Conv" else "n,c"
    text = model_text(f"{body} y = {activation}", f"float[{dims}] x", f"float[{out}] y", weights)
    result = optimise(text, x=data(*shape))
    assert dict(result.ops) == {f"Fused{op}": 1}
    assert result.graph.nodes[0].origin == ("c", "y")
    assert result.error < 1e-5


def test_residual_and_activation_after_it(optimise):
    body = """c = Conv<pads=[1,1,1,1]>(x, w)
              s = Add(x, c)
              y = Relu(s)"""
    text = model_text(body, "float[1,4,6,5] x", "float[n,c,h,k] y", floats("w", 4, 4, 3, 3))
    result = optimise(text, x=data(1, 4, 6, 5))
    assert dict(result.ops) == {"FusedConv": 1}
    assert result.graph.nodes[0].origin == ("c", "s", "y")
    assert result.error < 1e-5


def test_a_broadcast_residual_is_refused_with_a_reason(optimise):
    body = "c = Conv(x, w) y = Add(c, r)"
    inputs = "float[1,4,6,5] x, float[1,4,1,1] r"
    text = model_text(body, inputs, "float[n,c,h,k] y", floats("w", 4, 4, 1, 1))
    result = optimise(text, x=data(1, 4, 6, 5), r=data(1, 4, 1, 1))
    assert result.ops["Add"] == 1
    assert any("the other operand has shape [1, 4, 1, 1], not [1, 4, 6, 5]" in r for r in result.refusals())
    assert result.error < 1e-5


SE = {
    "EfficientAT": """m = ReduceMean<axes=[2,3], keepdims=1>(x)
        q = Squeeze(m, last) p = Squeeze(q, last)
        a = Gemm<transB=1>(p, w1, b1) h = Relu(a)
        g = Gemm<transB=1>(h, w2, b2) s = Sigmoid(g)
        sh = Shape(m) e = Reshape(s, sh)
        z = Mul(e, x) u = Unsqueeze(z, first) y = ReduceMax<axes=[0], keepdims=0>(u)""",
    "torchvision": """m = GlobalAveragePool(x)
        a = Conv(m, k1, b1) h = Relu(a)
        g = Conv(h, k2, b2) s = HardSigmoid(g)
        y = Mul(x, s)""",
}


@pytest.mark.parametrize("spelling", SE)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_gate_of_squeeze_and_excitation_becomes_one_node(optimise, spelling, batch):
    weights = "int64[1] last = {-1}, int64[1] first = {0}, "
    weights += ", ".join([floats("w1", 4, 12), floats("w2", 12, 4), floats("b1", 4), floats("b2", 12)])
    weights += f", {floats('k1', 4, 12, 1, 1)}, {floats('k2', 12, 4, 1, 1)}"
    text = model_text(SE[spelling], "float[N,12,7,5] x", "float[n,c,h,k] y", weights)
    result = optimise(text, x=data(batch, 12, 7, 5))
    assert dict(result.ops) == {"SqueezeGate": 1, "Mul": 1}
    assert result.error < 1e-5


def test_squeeze_and_excitation_inside_is_refused_where_it_is_read_elsewhere(optimise):
    weights = f"{floats('b1', 4)}, {floats('b2', 12)}, {floats('k1', 4, 12, 1, 1)}, {floats('k2', 12, 4, 1, 1)}"
    for inner, fused in (("s", True), ("h", False), ("m", False)):
        body = SE["torchvision"] + f" t = Identity({inner})"
        text = model_text(body, "float[1,12,7,5] x", "float[n,c,h,k] y, float[n,c,h,k] t", weights)
        result = optimise(text, x=data(1, 12, 7, 5))
        assert ("SqueezeGate" in result.ops) == fused
        assert fused or result.refusals()
        assert result.error < 1e-5


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("inner", ["Relu", "Sigmoid"])
def test_a_bottleneck_with_squeeze_and_excitation(optimise, batch, inner):
    """Its depthwise convolution gives the means, and its last one takes in the gate."""
    body = f"""a = Conv(x, we, be) b = Relu(a)
        c = Conv<group=12, kernel_shape=[3,3], pads=[1,1,1,1]>(b, wd) d = {inner}(c)
        m = GlobalAveragePool(d) p = Conv(m, k1, b1) h = Relu(p) g = Conv(h, k2, b2) s = HardSigmoid(g)
        z = Mul(d, s) o = Conv(z, wp) y = Add(o, x)"""
    weights = ", ".join(
        floats(*w)
        for w in [
            ("we", 12, 4, 1, 1), ("be", 12), ("wd", 12, 1, 3, 3), ("k1", 3, 12, 1, 1), ("b1", 3), ("k2", 12, 3, 1, 1),
            ("b2", 12), ("wp", 4, 12, 1, 1),
        ]
    )  # fmt: skip
    text = model_text(body, "float[N,4,7,9] x", "float[n,c,h,k] y", weights)
    result = optimise(text, x=data(batch, 4, 7, 9))
    assert dict(result.ops) == {"ExpandDepthwise": 1, "SqueezeGate": 1, "GatedConv": 1}
    assert [v.shape for v in result.graph.nodes[0].outputs] == [(batch, 12, 7, 9), (batch, 12, 7, 1)]
    assert result.graph.nodes[1].inputs[0] is result.graph.nodes[0].outputs[1]
    assert result.error < 2e-5


def test_a_gated_image_that_is_read_elsewhere_is_computed(optimise):
    body = "z = Mul(g, x) y = Conv(z, w) t = Relu(z)"
    inputs = "float[1,4,6,5] x, float[1,4,1,1] g"
    text = model_text(body, inputs, "float[n,c,h,k] y, float[n,c,h,k] t", floats("w", 4, 4, 1, 1))
    result = optimise(text, x=data(1, 4, 6, 5), g=data(1, 4, 1, 1))
    assert "GatedConv" not in result.ops
    assert any("not fused with" in r for r in result.refusals())
    assert result.error < 1e-5


@pytest.mark.parametrize(
    ("w1", "w2", "bias"),
    [
        (floats("w1", 4, 4), floats("w2", 4, 4), floats("b", 4, 1)),  # one number per row of the batch
        (floats("w1", 4, 4), floats("w2", 4, 4), floats("b", 4, 4)),
        (floats("w1", 2, 3), floats("w2", 3, 2), floats("b", 3)),  # pairs of channels
    ],
)
def test_a_gate_whose_maps_are_not_those_of_channels_stays(optimise, w1, w2, bias):
    inner = 2 if "[2" in w1 else 4
    body = """m = GlobalAveragePool(x) f = Reshape(m, rows) a = Gemm(f, w1, b) h = Relu(a)
        g = Gemm(h, w2) s = Sigmoid(g) e = Reshape(s, gate) y = Mul(x, e)"""
    shapes = f"int64[2] rows = {{-1, {inner}}}, int64[4] gate = {{4, 4, 1, 1}}"
    text = model_text(body, "float[4,4,3,3] x", "float[n,c,h,k] y", f"{w1}, {w2}, {bias}, {shapes}")
    result = optimise(text, x=data(4, 4, 3, 3))
    assert "SqueezeGate" not in result.ops
    assert result.refusals()
    assert result.error < 1e-5


def test_a_gate_that_mixes_the_items_of_the_batch_stays(optimise):
    weights = ", ".join([floats("w1", 3, 4, 1, 1), floats("w2", 4, 3, 1, 1)])
    body = """m = GlobalAveragePool(x) f = Reshape(m, mixed) a = Conv(f, w1) h = Relu(a)
        g = Conv(h, w2) s = Sigmoid(g) e = Reshape(s, gate) y = Mul(x, e)"""
    shapes = "int64[4] mixed = {1, 4, 2, 1}, int64[4] gate = {2, 4, 1, 1}"
    text = model_text(body, "float[2,4,3,3] x", "float[n,c,h,k] y", f"{weights}, {shapes}")
    result = optimise(text, x=data(2, 4, 3, 3))
    assert "SqueezeGate" not in result.ops
    assert result.error < 1e-5


def test_nan_and_infinity_survive_fusion(optimise):
    body = "c = Conv(x, w) y = Relu(c)"
    text = model_text(body, "float[1,1,1,4] x", "float[n,c,h,k] y", "float[1,1,1,1] w = {1.0}")
    x = np.array([np.nan, np.inf, -np.inf, -1.0], np.float32).reshape(1, 1, 1, 4)
    model_nodes = optimise(text, x=np.zeros_like(x)).ops
    assert dict(model_nodes) == {"FusedConv": 1}
    import onnx.parser

    import tinyonnx

    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    (y,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(y.reshape(-1), [np.nan, np.inf, 0.0, 0.0])
