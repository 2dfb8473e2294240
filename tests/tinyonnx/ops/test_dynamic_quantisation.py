"""Dynamic quantisation gives the bits of onnxruntime: rounding, range with zero, saturation, order of the scales."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import tinyonnx

MODEL = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n,k] x, int8[k,m] w, float scale) => (uint8[n,k] q, float s, uint8 z, float[n,m] y) {
        q, s, z = DynamicQuantizeLinear(x)
        products = MatMulInteger(q, w, z)
        sums = Cast<to=1>(products)
        both = Mul(s, scale)
        y = Mul(sums, both)
    }
""").SerializeToString()


@pytest.mark.parametrize("kind", ["both signs", "positive", "negative", "ties", "zeros"])
def test_dynamic_quantisation(kind):
    rng = np.random.default_rng(3)
    ours, theirs = tinyonnx.InferenceSession(MODEL), onnxruntime.InferenceSession(MODEL)
    for _ in range(20):
        n, k, m = rng.integers(1, 40, 3)
        x = rng.standard_normal((n, k)).astype(np.float32) * np.float32(10 ** rng.uniform(-4, 4))
        x = {"positive": np.abs(x), "negative": -np.abs(x), "ties": np.round(x * 2) / 2, "zeros": x * 0}.get(kind, x)
        w = rng.integers(-128, 128, (k, m)).astype(np.int8)
        feeds = {"x": x, "w": w, "scale": np.array(rng.uniform(1e-4, 0.1), np.float32)}
        for actual, expected in zip(ours.run(None, feeds), theirs.run(None, feeds), strict=True):
            np.testing.assert_array_equal(actual, expected)
