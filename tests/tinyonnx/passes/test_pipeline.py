"""The passes together: order, verification, graphs that were rewritten before, namesakes of ONNX's operators."""

from __future__ import annotations

import re

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tinyonnx import ir, registry
from tinyonnx.passes import PIPELINE, run_passes
from tinyonnx.registry import same_as
from tinyonnx.runtime.shape_independent import alike

DOMAIN = "test.passes.namesakes"
WEIGHTS = ", ".join(
    [
        *(floats(name, 4, 4, 1, 1) for name in ("w", "v", "u")), floats("d", 4, 1, 3, 3), floats("b", 4),
        *(floats(f"n{p}", 4, positive=p in "gv") for p in "gbmv"), "float three = {3.0}, float zero = {0.0}",
        "float six = {6.0}", floats("k", 1, 4, 1, 1), "int64[4] same = {1, 4, 6, 6}, int64[3] flat = {1, 4, 36}",
        "float root = {1.4142135}, float half = {0.5}, float one = {1.0}, float two = {2.0}",
        floats("scale", 6), floats("shift", 6), floats("matrix", 6, 6),
        "float[0] none = {}, float[4] scales = {1, 1, 1, 1}",
    ]
)  # fmt: skip
PATTERNS = {
    "batchnorm": "c = Conv(x, w) y = BatchNormalization(c, ng, nb, nm, nv)",
    "channelwise": "c = Conv(x, w) y = Mul(c, k)",
    "residual": "c = Conv(x, w) y = Add(c, x)",
    "activation": "c = Conv(x, w) y = Relu(c)",
    "hardswish": "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
    "hardswish of hard sigmoid": "s = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, s)",
    "swish": "a = Mul(x, three) s = Sigmoid(a) y = Mul(x, s)",
    "gelu": """inside = Div(x, root) e = Erf(inside) o = Add(e, one) p = Mul(x, o) y = Mul(p, half)""",
    "layer norm": """m = ReduceMean<axes=[3]>(x) diff = Sub(x, m) q = Pow(diff, two) v0 = ReduceMean<axes=[3]>(q)
        a = Add(v0, half) r = Sqrt(a) n = Div(diff, r) s = Mul(n, scale) y = Add(s, shift)""",
    "linear": "p = MatMul(x, matrix) y = Add(p, shift)",
    "attention": "s = MatMul(x, x) r = Mul(s, half) p = Softmax(r) y = MatMul(p, x)",
    "identity": "i = Identity(x) y = Neg(i)",
    "reshape of reshape": "r = Reshape(x, flat) y = Reshape(r, same)",
    "split": "y = Split<axis=1>(x)",
    "empty roi": "y = Resize(x, none, scales)",
    "expand, depthwise": "h = Conv(x, w) y = Conv<group=4, pads=[1,1,1,1]>(h, d)",
    "depthwise, pointwise": "h = Conv<group=4, pads=[1,1,1,1]>(x, d) y = Conv(h, w)",
    "gate": """m = GlobalAveragePool(x) a = Conv(m, w) h = Relu(a) g = Conv(h, v) s = Sigmoid(g)
        z = Mul(x, s) y = Conv(z, u)""",
    "stem": "f = Conv(x, v) h = Conv<group=4, pads=[1,1,1,1]>(f, d) y = Conv(h, w)",
}
NAMESAKES = sorted(set(re.findall(r"[A-Z]\w+", " ".join(PATTERNS.values()))))


@pytest.fixture
def namesakes(monkeypatch):
    """Operators of another domain under the names of ONNX's: each negates its first input."""
    registry.registered()  # imports all operators, which would be lost with the copy
    monkeypatch.setattr(registry, "_OPS", dict(registry._OPS))
    monkeypatch.setattr(registry, "_custom", True)
    for name in NAMESAKES:

        @tinyonnx.op(name, domain=DOMAIN, shape=same_as())
        def negated(x, *others, alpha=0.0, beta=0.0, axis=0, axes=None, group=1, pads=None):
            return -x


@pytest.mark.parametrize(
    ("pattern", "position"), [(name, i) for name, body in PATTERNS.items() for i in range(body.count(" = "))]
)
@pytest.mark.usefixtures("namesakes")
def test_namesakes_of_other_domains_are_left_alone(pattern, position):
    """One node of each pattern is not ONNX's: the rest may still be rewritten, but it must stay."""
    parts = PATTERNS[pattern].split(" = ")
    parts[position + 1] = f"own.{parts[position + 1]}"
    body = " = ".join(parts).replace("own.", f"{DOMAIN}.")
    text = model_text(body, "float[1,4,6,6] x", "float[n,c,h,k] y", WEIGHTS)
    text = text.replace('"" : 17', f'"" : 17, "{DOMAIN}" : 1')
    model, x = onnx.parser.parse_model(text).SerializeToString(), data(1, 4, 6, 6)
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = tinyonnx.InferenceSession(model, options).run(None, {"x": x})
    session = tinyonnx.InferenceSession(model)
    (actual,) = session.run(None, {"x": x})
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    assert [node.domain for node in session.plan_for(None, {"x": x}).graph.nodes].count(DOMAIN) == 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_second_run_changes_nothing(pattern):
    """A session that meets many sizes runs the passes on graphs that they have rewritten before."""
    text = model_text(PATTERNS[pattern], "float[1,4,6,6] x", "float[n,c,h,k] y", WEIGHTS)
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    rewrite = session.rewrite({"x": data(1, 4, 6, 6)})
    before = rewrite.graph.clone()
    run_passes(rewrite, PIPELINE)
    assert alike(before, rewrite.graph)


def test_every_pass_is_verified(monkeypatch):
    """A pass that breaks the graph is found when it ends, not when another one fails; by users, after the last."""
    model = onnx.parser.parse_model(model_text("y = Neg(x)", "float[2] x", "float[n] y"))
    session = tinyonnx.InferenceSession(model.SerializeToString())
    rewrite = session.rewrite({"x": data(2)})

    def careless(rewrite):
        rewrite.graph.nodes[0].inputs[0].uses.clear()

    def never(rewrite):
        raise NotImplementedError

    with pytest.raises(AssertionError, match="use list of x"):
        run_passes(rewrite, [careless, never])
    monkeypatch.setattr("tinyonnx.passes._VERIFIED_NODES", 0)
    with pytest.raises(NotImplementedError):
        run_passes(rewrite, [careless, never])
    monkeypatch.undo()
    monkeypatch.setattr("tinyonnx.passes.VERIFY_EACH", False)
    with pytest.raises(NotImplementedError):
        run_passes(rewrite, [careless, never])
    with pytest.raises(AssertionError, match="use list of x"):
        run_passes(rewrite, [careless])


LONG = {
    "no-ops": "a{i} = Identity(a{h})",
    "constants": "c{i} = Add(one, one) a{i} = Add(a{h}, c{i})",
    "swish": "s{i} = Sigmoid(a{h}) a{i} = Mul(a{h}, s{i})",
    "shapes": "n{i} = Shape(x) r{i} = Reshape(x, n{i}) a{i} = Add(a{h}, r{i})",
    "activation": "t{i} = Conv(a{h}, w) a{i} = Relu(t{i})",
    "one input": "r{i} = Neg(x) a{i} = Add(a{h}, r{i})",
}


@pytest.mark.parametrize("pattern", LONG)
def test_the_work_of_rewriting_grows_in_proportion_to_the_graph(pattern, monkeypatch):
    looked = []
    outwards = ir._outwards

    def counted(near, length):
        for at in outwards(near, length):
            looked.append(at)
            yield at

    monkeypatch.setattr(ir, "_outwards", counted)
    work = []
    for count in (100, 200, 400):
        chain = " ".join(LONG[pattern].format(i=i + 1, h=i) for i in range(count))
        weights = f"{floats('w', 4, 4, 1, 1)}, float one = {{1.0}}"
        text = model_text(f"a0 = Neg(x) {chain} y = Neg(a{count})", "float[1,4,6,6] x", "float[n,c,h,k] y", weights)
        session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
        looked.clear()
        session.plan_for(None, {"x": np.zeros((1, 4, 6, 6), np.float32)})
        work.append(len(looked))
    assert work[2] - work[1] <= 2.5 * (work[1] - work[0])
