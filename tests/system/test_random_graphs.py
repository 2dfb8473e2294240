"""Random small networks: optimised, unoptimised and onnxruntime agree, in every float type.

onnxruntime runs each network in float32; the wider and the narrower type are held to its
answer as closely as float16 or float32 allows, and to each other's unoptimised run.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto

import tinyonnx
from onnx_conformance.generate.networks import ImageNetwork
from tinyonnx.ir import Array

TOLERANCE = {np.float16: 3e-2, np.float32: 2e-4, np.float64: 2e-4}
NETWORKS = 60


def run(model: ModelProto, x: Array, level: int) -> list[Array]:
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel(level)
    session = tinyonnx.InferenceSession(model.SerializeToString(), options)
    first = session.run(None, {"x": x})
    for once, again in zip(first, session.run(None, {"x": x}), strict=True):
        np.testing.assert_array_equal(once, again)
    return first


def assert_close(actual: list[Array], expected: list[Array], tolerance: float) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        np.testing.assert_allclose(a.astype(np.float64) / scale, b.astype(np.float64) / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_random_network(seed: int) -> None:
    opset = [13, 17, 20][seed % 3]
    single = ImageNetwork(seed, np.float32, opset).build()
    dims = single.graph.input[0].type.tensor_type.shape.dim
    x = np.random.default_rng(seed).standard_normal([d.dim_value for d in dims]).astype(np.float16)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    expected = onnxruntime.InferenceSession(single.SerializeToString(), options).run(None, {"x": x.astype(np.float32)})
    for dtype in (np.float32, (np.float16, np.float64)[seed % 2]):
        model = ImageNetwork(seed, dtype, opset).build()
        optimised, plain = (run(model, x.astype(dtype), level) for level in (99, 0))
        assert all(a.dtype == dtype for a in (*optimised, *plain))
        assert_close(optimised, expected, TOLERANCE[dtype])
        assert_close(plain, expected, TOLERANCE[dtype])
        if dtype == np.float64:
            assert_close(optimised, plain, 1e-6)
