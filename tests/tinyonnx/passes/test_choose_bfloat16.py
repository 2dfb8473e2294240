"""The choice of products whose operands are rounded to bfloat16, the weights, and the corrected biases."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx.helper
import onnx.parser
import pytest

import tinyonnx
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.codegen.processor import has_bfloat16
from tinyonnx.ir import Array, Node

pytestmark = pytest.mark.skipif(not DISABLED and not has_bfloat16(), reason="the processor lacks AVX512-BF16")


def model(body: str, **weights: Array) -> bytes:
    """Return a model from x [batch, 40, height, width] to y."""
    text = f"""<ir_version: 9, opset_import: ["" : 20]>
        g (float[batch,40,height,width] x) => (float[n,c,h,k] y) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.helper.make_tensor(n, 1, a.shape, a.ravel()) for n, a in weights.items())
    return proto.SerializeToString()


def session(content: bytes, precision: str = "bfloat16") -> tinyonnx.InferenceSession:
    options = tinyonnx.SessionOptions()
    options.precision = precision
    return tinyonnx.InferenceSession(content, options)


def noise(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


LARGE, SMALL, B = noise(1, 64, 40, 1, 1), noise(2, 12, 40, 1, 1), noise(3, 64)
X = noise(0, 1, 40, 6, 7)


def nodes(s: tinyonnx.InferenceSession, x: Array = X) -> list[Node]:
    return s.plan_for(None, {"x": x}).graph.nodes


def test_products_with_many_weights_are_rounded() -> None:
    s = session(model("y = Conv(x, w, b)", w=LARGE, b=B))
    (node,) = nodes(s)
    assert node.rounded
    expected = LARGE.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert node.inputs[1] is not None
    np.testing.assert_array_equal(node.inputs[1].const, expected)
    (remark,) = [r for r in s.plan_for(None, {"x": X}).remarks if r.pass_name == "round_weights"]
    assert "bfloat16: 2560 weights" in remark.text


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Conv(x, w)", {"w": SMALL}),
        ("y = Conv(x, w)", {"w": noise(4, 40, 40, 3, 3)}),
        ("y = Conv<group = 4>(x, w)", {"w": noise(4, 400, 10, 1, 1)}),
        ("y = Conv<strides = [2, 2]>(x, w)", {"w": LARGE}),
        ("y = MatMul(x, w)", {"w": noise(4, 1, 1, 7, 400)}),
    ],
)
def test_other_products_stay(body: str, weights: dict[str, Array]) -> None:
    content = model(body, **weights)
    s = session(content)
    assert not any(node.rounded for node in nodes(s))
    np.testing.assert_array_equal(s.run(None, {"x": X})[0], session(content, "float32").run(None, {"x": X})[0])


def test_float32_is_the_default() -> None:
    s = tinyonnx.InferenceSession(model("y = Conv(x, w)", w=LARGE))
    assert s.precision == "float32"
    assert not any(node.rounded for node in nodes(s))


def test_bias_takes_in_the_mean_error_of_weights() -> None:
    """The second convolution's input is known for x = 0: it is b. Its remaining error is that of rounding sums."""
    b = np.abs(noise(5, 64)).astype(ml_dtypes.bfloat16).astype(np.float32)
    w2, b2 = noise(6, 32, 64, 1, 1), noise(7, 32)
    content = model("z = Conv(x, w, b) y = Conv(z, w2, b2)", w=LARGE, b=b, w2=w2, b2=b2)
    zeros = np.zeros_like(X)
    exact = session(content, "float32").run(None, {"x": zeros})[0]
    uncorrected = np.abs(w2[:, :, 0, 0] - w2[:, :, 0, 0].astype(ml_dtypes.bfloat16).astype(np.float32)) @ b
    error = np.abs(session(content).run(None, {"x": zeros})[0] - exact).max()
    assert error < 1e-5 < uncorrected.max() / 100


def test_results_do_not_depend_on_earlier_sizes() -> None:
    """Nor does a second pipeline, over a graph that was rewritten without sizes, round or correct anything again."""
    content = model(
        "z = Conv(x, w, b) r = Relu(z) y = Conv(r, w2, b2)", w=LARGE, b=B, w2=noise(6, 32, 64, 1, 1), b2=noise(7, 32)
    )
    expected = session(content).run(None, {"x": X})[0]
    other = session(content)
    for height in range(1, 5):
        other.run(None, {"x": noise(0, 1, 40, height, 3)})
        other.run(["r"], {"x": noise(0, 1, 40, height, 3)})
    np.testing.assert_array_equal(other.run(None, {"x": X})[0], expected)
    np.testing.assert_array_equal(other.run(None, {"x": np.repeat(X, 3, 0)})[0], np.repeat(expected, 3, 0))


def test_a_model_that_zeros_do_not_fit_runs_without_corrections() -> None:
    content = model("s = Reshape(x, shape) y = Conv(s, w, b)", w=LARGE, b=B)
    proto = onnx.load_from_string(content)
    proto.graph.initializer.append(onnx.helper.make_tensor("shape", 7, (4,), [1, 40, 6, 7]))
    s = session(proto.SerializeToString())
    (remark,) = [r for r in s.plan_for(None, {"x": X}).remarks if r.pass_name == "round_weights"]
    assert remark.text == "bfloat16: 2560 weights"
    assert any(node.rounded for node in nodes(s))


def test_unoptimised_nodes_are_float32() -> None:
    options = tinyonnx.SessionOptions()
    options.precision = "bfloat16"
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert tinyonnx.InferenceSession(model("y = Conv(x, w)", w=LARGE), options).precision == "float32"
