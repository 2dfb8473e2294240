"""The gate of squeeze-and-excitation, and graphs that only look like it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text, unoptimised

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
    result.assert_without("SqueezeGate", 1e-5)


CONVOLUTIONS = """m = GlobalAveragePool(x) a = Conv(m, k1, b1) h = Relu(a)
    g = Conv(h, k2, b2) s = HardSigmoid(g) y = Mul(x, s)"""
GEMMS = """m = ReduceMean<axes=[2,3], keepdims=0>(x) a = Gemm<transB=1>(m, w1, b1) h = Relu(a)
    g = Gemm<transB=1>(h, w2, b2) s = Sigmoid(g) e = Reshape(s, gate) y = Mul(x, e)"""
SHAPES = {
    "k1": (4, 12, 1, 1), "k2": (12, 4, 1, 1), "k3": (4, 12, 3, 3), "kwide": (12, 12, 1, 1), "grouped": (4, 6, 1, 1),
    "w1": (4, 12), "w2": (12, 4), "v1": (12, 4), "v2": (4, 12), "wide": (12, 12), "b1": (4,), "b2": (12,), "one": (1,),
}  # fmt: skip
OPERANDS = {name: floats(name, *shape) for name, shape in SHAPES.items()}
OPERANDS |= {"scalar": "float scalar = {0.3}", "gate": "int64[4] gate = {0, 12, 1, 1}"}


def gated(body: str, shape: str = "N,12,7,5", inputs: str = "", constants: dict[str, str] = OPERANDS) -> str:
    return model_text(body, f"float[{shape}] x{inputs}", "float[n,c,h,k] y", ", ".join(constants.values()))


@pytest.mark.parametrize(
    "body",
    [
        CONVOLUTIONS,
        GEMMS,
        CONVOLUTIONS.replace(", b1", "").replace(", b2", ""),
        GEMMS.replace("<transB=1>(m, w1", "(m, v1").replace("<transB=1>(h, w2", "(h, v2"),
        GEMMS.replace("axes=[2,3]", "axes=[-1,-2]"),
        GEMMS.replace("Sigmoid(g)", "HardSigmoid<alpha=0.3, beta=0.4>(g)").replace(
            "Relu(a)", "LeakyRelu<alpha=0.2>(a)"
        ),
        GEMMS.replace("b1", "one").replace("b2", "scalar"),
        CONVOLUTIONS.replace("Mul(x, s)", "Mul(s, x)"),
    ],
)
def test_spellings_of_the_gate(optimise, body):
    result = optimise(gated(body), x=data(2, 12, 7, 5))
    assert result.ops == {"SqueezeGate": 1, "Mul": 1}
    assert result.error < 1e-5


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (CONVOLUTIONS.replace("Pool(x)", "Pool(n)").replace("m =", "n = Neg(x) m ="), "the mean of another tensor"),
        (GEMMS.replace("ReduceMean", "ReduceMax"), None),
        (CONVOLUTIONS.replace("Average", "Max"), None),
        (CONVOLUTIONS.replace("Mul(x", "Add(x"), None),
        (CONVOLUTIONS.replace("Relu(a)", "Abs(a)"), None),
        (CONVOLUTIONS.replace("Relu(a)", "Identity(a)"), "a has no activation that could be fused"),
        (CONVOLUTIONS.replace("HardSigmoid(g)", "Identity(g)"), "g has no activation that could be fused"),
        (CONVOLUTIONS.replace("h =", "l = Conv(m, k1) t = Tanh(l) f = Add(a, t) h =").replace("u(a)", "u(f)"), None),
        (CONVOLUTIONS.replace("Conv(m, k1", "Conv<pads=[1,1,1,1]>(m, k3"), "is not a 1×1 convolution"),
        (CONVOLUTIONS.replace("Conv(m, k1", "Conv<group=2>(m, grouped"), "is not a 1×1 convolution"),
        (GEMMS.replace("<transB=1>(m", "<transB=1, alpha=0.5>(m"), "is a Gemm with factors"),
        (GEMMS.replace("<transB=1>(m", "<transB=1, beta=0.5>(m"), "is a Gemm with factors"),
        (GEMMS.replace("<transB=1>(h", "<transB=1, alpha=0.5>(h"), "is a Gemm with factors"),
        (GEMMS.replace("s =", "i = Tanh(g) l = Gemm(i, wide) s =").replace("Sigmoid(g)", "Sigmoid(l)"), None),
        ("m = GlobalAveragePool(x) g = Conv(m, kwide) s = Sigmoid(g) y = Mul(x, s)", None),
    ],
)
def test_every_part_is_needed(optimise, body, reason):
    result = optimise(gated(body), x=data(2, 12, 7, 5))
    assert "SqueezeGate" not in result.ops
    assert reason is None or result.refused(reason)
    assert result.error < 1e-4


@pytest.mark.parametrize("axes", ["[1,2]", "[1,3]"])
def test_means_over_other_axes_stay(optimise, axes):
    """The image is a cube, so that shapes don't tell."""
    body = GEMMS.replace("[2,3]", axes)
    result = optimise(gated(body, "2,12,12,12"), x=data(2, 12, 12, 12))
    assert "SqueezeGate" not in result.ops
    assert result.refused("does not reduce exactly the spatial axes")
    assert result.error < 1e-5


@pytest.mark.parametrize(
    ("variable", "shape"), [("k1", (4, 12, 1, 1)), ("b1", (4,)), ("k2", (12, 4, 1, 1)), ("b2", (12,))]
)
def test_weights_that_are_not_constant_stay(optimise, variable, shape):
    constants = {name: text for name, text in OPERANDS.items() if name != variable}
    text = gated(CONVOLUTIONS, inputs=f", float[{','.join(map(str, shape))}] {variable}", constants=constants)
    result = optimise(text, **{"x": data(2, 12, 7, 5), variable: data(*shape, seed=1)})
    assert "SqueezeGate" not in result.ops
    assert result.refused("has weights that are not constant")
    assert result.error < 1e-5


@pytest.mark.parametrize("inner", ["m", "h", "s"])
def test_inner_values_that_a_subgraph_captures(optimise, inner):
    """The gate's own result may be read by others, too."""
    then, other = "t () => (float[n,c,h,k] p) { p = Neg(INNER) }", "e () => (float[n,c,h,k] q) { q = Abs(INNER) }"
    branches = f"then_branch = {then}, else_branch = {other}".replace("INNER", inner)
    text = model_text(
        f"{CONVOLUTIONS} z = If (yes) <{branches}>", "float[2,12,7,5] x, bool yes",
        "float[n,c,h,k] y, float[n,c,h,k] z", ", ".join(OPERANDS.values()),
    )  # fmt: skip
    result = optimise(text, x=data(2, 12, 7, 5), yes=np.array(True))
    assert ("SqueezeGate" in result.ops) == (inner == "s")
    assert inner == "s" or result.refused("its output is read")
    assert result.error < 1e-5


def test_a_gate_for_other_images_stays(optimise):
    """Rank 3, one gate for all items, and one gate for each row."""
    body = (
        CONVOLUTIONS.replace("GlobalAveragePool(x)", "ReduceMean<axes=[2]>(x)").replace(", b1", "").replace(", b2", "")
    )
    weights = f"{floats('k1', 4, 12, 1)}, {floats('k2', 12, 4, 1)}"
    result = optimise(model_text(body, "float[2,12,7] x", "float[n,c,h] y", weights), x=data(2, 12, 7))
    result.assert_without("SqueezeGate", 1e-5)
    rows = CONVOLUTIONS.replace("GlobalAveragePool(x)", "ReduceMean<axes=[3]>(x)")
    result = optimise(gated(rows), x=data(2, 12, 7, 5))
    result.assert_without("SqueezeGate", 1e-5)


def test_another_operator_between_the_maps(optimise):
    body = CONVOLUTIONS.replace("g = Conv(h", "n = Neg(h) g = Conv(n")
    result = optimise(gated(body), x=data(2, 12, 7, 5))
    result.assert_without("SqueezeGate", 1e-5)


def test_shapes_that_broadcast_in_another_way(optimise):
    """One gate for each row and column instead of each item and channel; an image of rank 3."""
    body = GEMMS.replace("e = Reshape(s, gate) y = Mul(x, e)", "y = Mul(x, s)")
    result = optimise(gated(body, "2,12,2,12"), x=data(2, 12, 2, 12))
    result.assert_without("SqueezeGate", 1e-5)
    body = GEMMS.replace("ReduceMean<axes=[2,3], keepdims=0>(x)", "GlobalAveragePool(x) f = Flatten(m)")
    result = optimise(gated(body.replace("(m, w1", "(f, w1"), "12,12,7"), x=data(12, 12, 7))
    result.assert_without("SqueezeGate", 1e-5)


def test_maps_across_the_batch(optimise):
    """Possible with as many items as channels."""
    result = optimise(gated(GEMMS.replace("<transB=1>(m", "<transA=1, transB=1>(m")), x=data(12, 12, 7, 5))
    assert "SqueezeGate" not in result.ops
    assert result.refused("is a Gemm with factors")
    assert result.error < 1e-5


def test_a_convolution_that_reads_its_padding(optimise):
    text, x = gated(CONVOLUTIONS.replace("Conv(m, k1", "Conv<pads=[1,0,-1,0]>(m, k1")), data(2, 12, 7, 5)
    result = optimise(text, unoptimised(text, x=x), x=x)
    assert "SqueezeGate" not in result.ops
    assert result.refused("is not a 1×1 convolution")
    assert result.error < 1e-5
