"""Means of rows from ExpandDepthwise for the gate."""

from __future__ import annotations

import pytest

from tests.tinyonnx.passes.conftest import data, floats, model_text


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


DEPTHWISE = """a = Conv(x, we) c = Conv<group=12, pads=[1,1,1,1]>(a, wd)
    m = GlobalAveragePool({}) p = Conv(m, k1) h = Relu(p) g = Conv(h, k2) s = Sigmoid(g)"""
WEIGHTS = ", ".join(
    floats(*w) for w in [("we", 12, 4, 1, 1), ("wd", 12, 1, 3, 3), ("k1", 3, 12, 1, 1), ("k2", 12, 3, 1, 1)]
)


def test_two_gates_share_the_means(optimise):
    second = "m2 = GlobalAveragePool(c) p2 = Conv(m2, k1) h2 = Tanh(p2) g2 = Conv(h2, k2) s2 = Sigmoid(g2)"
    body = f"{DEPTHWISE.format('c')} {second} y = Mul(c, s) z = Mul(c, s2)"
    outputs = "float[n,c,h,k] y, float[n,c,h,k] z"
    result = optimise(model_text(body, "float[2,4,7,9] x", outputs, WEIGHTS), x=data(2, 4, 7, 9))
    assert result.ops == {"ExpandDepthwise": 1, "SqueezeGate": 2, "Mul": 2}
    assert result.applied("takes its means from c") == 2
    source = next(node for node in result.graph.nodes if node.op_type == "ExpandDepthwise")
    assert len(source.outputs) == 2
    assert all(n.inputs[0] is source.outputs[1] for n in result.graph.nodes if n.op_type == "SqueezeGate")
    assert result.error < 2e-5


def test_a_gate_of_something_else_takes_its_own_means(optimise):
    body = f"{DEPTHWISE.format('d')} y = Mul(d, s)".replace("m = Glo", "d = Abs(c) m = Glo")
    result = optimise(model_text(body, "float[2,4,7,9] x", "float[n,c,h,k] y", WEIGHTS), x=data(2, 4, 7, 9))
    gate = next(node for node in result.graph.nodes if node.op_type == "SqueezeGate")
    assert gate.inputs[0].name == "d"
    assert result.error < 2e-5
