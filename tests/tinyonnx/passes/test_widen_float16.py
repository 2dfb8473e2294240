"""Float16 computed in float32, and nodes that must stay as they are."""

from __future__ import annotations

import importlib

import numpy as np
import onnx
import onnx.helper
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import model_text
from tinyonnx.registry import find

RNG = np.random.default_rng(0)


def halves(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float16)


def constant(name: str, array: np.ndarray) -> str:
    """Return an initializer of float16 as text: onnx's syntax has their bits."""
    bits = array.astype(np.float16).view(np.uint16).ravel().tolist()
    return f"float16[{','.join(map(str, array.shape))}] {name} = {{{','.join(map(str, bits))}}}"


@pytest.fixture
def without_weights(monkeypatch):
    """Widen graphs without weights too."""
    monkeypatch.setattr(importlib.import_module("tinyonnx.passes.widen_float16"), "_has_weights", lambda node: True)


def test_graphs_without_weights_stay(optimise):
    """Products of two inputs are rounded as the operator rounds them."""
    text = model_text("m = MatMul(x, x) y = Add(m, x)", "float16[5, 5] x", "float16[5, 5] y", opset=17)
    result = optimise(text, x=halves(5, 5))
    assert result.applied("computed in float32") == 0
    assert set(result.ops) == {"MatMul", "Add"}


def test_layers_keep_the_precision_of_float32(optimise):
    """Convolutions, normalisations and products between an input and an output of float16."""
    bias = constant("b", np.array([0.5, -1, 2, 0.25]))
    weights = f"{constant('w', halves(4, 3, 3))}, {constant('v', halves(8, 4))}, {bias}, int64[2] shape = {{2,8}}"
    body = """c = Conv<pads=[1,1]>(x, w, b) r = Relu(c) t = Transpose<perm=[0,2,1]>(r) n = LayerNormalization(t, b, b)
        s = Softmax<axis=1>(n) p = ReduceMean<axes=[2], keepdims=0>(s) q = Reshape(p, shape) y = MatMul(q, v)"""
    x = halves(2, 3, 8)
    result = optimise(model_text(body, "float16[2,3,8] x", "float16[2,4] y", weights, opset=17), x=x)
    assert result.applied("computed in float32") == 8
    assert result.ops["Cast"] == 2
    assert result.error < 2e-3
    assert {n.output.dtype for n in result.graph.nodes} == {np.dtype(np.float32), np.dtype(np.float16)}


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize("size", [0, 1, 5, 300])
def test_every_size(size):
    """A plan for every size, its results and those without optimisation: equal where nothing is rounded between."""
    text = model_text(
        "m = Mul(x, k) y = Add(m, x) g = Gather(x, i) z = Concat<axis=0>(g, x) f = Cast<to=7>(x)",
        "float16[n] x", "float16[n] y, float16[m] z, int64[n] f",
        f"{constant('k', np.array([2]))}, int64[1] i = {{0}}", opset=17,
    )  # fmt: skip
    content = onnx.parser.parse_model(text).SerializeToString()
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    session, plain = tinyonnx.InferenceSession(content), tinyonnx.InferenceSession(content, options)
    for n in (7, 9, size):
        x = RNG.integers(-40, 40, n).astype(np.float16)
        if n == 0:
            for one in (session, plain):
                with pytest.raises(tinyonnx.Error, match="out of range"):
                    one.run(None, {"x": x})
            continue
        for a, b in zip(session.run(None, {"x": x}), plain.run(None, {"x": x}), strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.usefixtures("without_weights")
def test_results_within_the_graph_are_rounded(optimise):
    """Both a result that the user reads and its reader."""
    result = optimise(
        model_text("y = Mul(x, x) z = Add(y, x)", "float16[31] x", "float16[31] y, float16[31] z", opset=17),
        x=halves(31),
    )
    assert result.ops["Cast"] == 3
    assert result.error < 2e-3


@pytest.mark.usefixtures("without_weights")
def test_a_rounding_that_the_model_asks_for_stays(optimise):
    x = np.linspace(1, 2, 31, dtype=np.float32)
    result = optimise(model_text("h = Cast<to=10>(x) y = Cast<to=1>(h)", "float[31] x", "float[31] y"), x=x)
    assert result.error == 0
    assert result.ops["Cast"] == 2


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize("move", ["r = Transpose(h)", "r = Concat<axis=0>(h, m)", "r = Identity(h)"])
def test_a_rounding_that_the_model_asks_for_stays_before_moves(move):
    """Values beyond float16's range become infinite, as in onnxruntime."""
    text = model_text(f"h = Cast<to=10>(x) m = Neg(h) {move} y = Cast<to=1>(r)", "float[4] x", "float[n] y")
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    (y,) = session.run(None, {"x": np.array([1, 1.0001, 70000, -1e-9], np.float32)})
    np.testing.assert_array_equal(y[:4], np.float32([1, 1, np.inf, 0]))


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize("read", ["e = SequenceAt(s, i)", "e = ConcatFromSequence<axis=0>(s)"])
def test_operands_of_unknown_type(optimise, read):
    """Elements of sequences have no known type: what is computed with them stays in float16."""
    constants = f"int64 i = {{0}}, {constant('k', np.array([2]))}"
    text = model_text(
        f"r = Exp(x) s = SequenceConstruct(r) {read} y = Add(e, k)", "float16[5] x", "float16[5] y", constants
    )
    assert optimise(text, x=halves(5)).error == 0


def test_casts_between_nodes_of_both_types(optimise):
    """A normalisation in float32 between products in float16: nothing is rounded, as in onnxruntime."""
    weights = constant("w", halves(4, 4)) + ", float[4] s = {1,1,1,1}"
    body = """h = Cast<to=10>(x) m = MatMul(h, w) f = Cast<to=1>(m) n = LayerNormalization(f, s) g = Cast<to=10>(n)
        o = MatMul(g, w) y = Cast<to=1>(o)"""
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    result = optimise(model_text(body, "float[3,4] x", "float[3,4] y", weights, opset=17), x=x)
    assert result.ops["Cast"] == 0
    assert result.error < 1e-5


@pytest.mark.usefixtures("without_weights")
def test_moved_elements_stay_as_they_are_in_the_file(optimise):
    """A table of float16 is not widened; only the rows that are read from it are."""
    text = model_text(
        "g = Gather(table, i) t = Transpose(g) y = Cast<to=1>(t)", "int64[3] i", "float[2,3] y",
        constant("table", halves(9, 2)), opset=17,
    )  # fmt: skip
    result = optimise(text, i=np.array([8, 0, 3]))
    assert result.applied("computed in float32") == 0
    assert result.error == 0


@pytest.mark.usefixtures("without_weights")
def test_in_branches_and_loops(optimise):
    body = """m = Mul(x, x) y = If (c) <then_branch = g () => (float16[5] a) { b = Mul(x, x) a = Add(b, k) },
        else_branch = h () => (float16[5] d) { d = Sqrt(m) }>"""
    text = model_text(body, "float16[5] x, bool c", "float16[5] y", constant("k", np.array([1])))
    for c in (True, False):
        result = optimise(text, x=halves(5), c=np.array(c))
        assert result.error < 4e-3


@pytest.mark.usefixtures("without_weights")
def test_types_named_by_attributes():
    """Results whose type an attribute names are not changed."""
    node = onnx.helper.make_node("DequantizeLinear", ["q", "s"], ["y"], output_dtype=10)
    graph = onnx.helper.make_graph(
        [node], "g", [onnx.helper.make_tensor_value_info("q", 2, [4])],
        [onnx.helper.make_tensor_value_info("y", 10, [4])],
        [onnx.helper.make_tensor("s", 10, [], [0.5])],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
    (y,) = tinyonnx.InferenceSession(model.SerializeToString()).run(None, {"q": np.uint8([0, 1, 3, 255])})
    np.testing.assert_array_equal(y, np.float16([0, 0.5, 1.5, 127.5]), strict=True)


STAY = frozenset({
    "AffineGrid", "Bernoulli", "BitCast", "Cast", "CastLike", "CausalConvWithState", "CenterCropPad", "Col2Im",
    "Compress", "CumProd", "DFT", "DeformConv", "Det", "EyeLike", "LinearAttention", "Loop", "MaxRoiPool", "MaxUnpool",
    "MelWeightMatrix", "Mod", "NegativeLogLikelihoodLoss", "OneHot", "OptionalGetElement", "RandomNormalLike",
    "RandomUniformLike", "Range", "ReverseSequence", "RoiAlign", "STFT", "Scan", "Scatter", "SoftmaxCrossEntropyLoss",
    "SwiGLU", "TensorScatter", "Trilu", "Unique",
})  # fmt: skip
"""Operators that take and give float16, and whose nodes stay in it: they have subgraphs, make or move numbers, or have
no kernel."""


def test_every_operator_is_widened_or_known_to_stay() -> None:
    widening = importlib.import_module("tinyonnx.passes.widen_float16")
    half, listed = "tensor(float16)", widening._COMPUTES | widening._MOVES
    found = {
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if not schema.domain
        and find("", schema.name, schema.since_version) is not None
        and any(half in given.types for given in schema.inputs)
        and any(half in result.types for result in schema.outputs)
    }
    assert found - listed <= STAY, "an operator is neither widened nor among those that stay"
    assert not listed & STAY
