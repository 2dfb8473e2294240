"""MatMulNBits against the operator: bits, sizes around panels and blocks, zero points, biases; and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import tinyonnx
from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import noise
from tinyonnx.codegen.block_tiles import PANEL
from tinyonnx.registry import Info, lookup
from tinyonnx.runtime.plan import KernelStep

RNG = np.random.default_rng(0)


def weights(n: int, k: int, size: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return packed weights and scales."""
    blocks = -(-k // size)
    packed = RNG.integers(0, 256, (n, blocks, size * bits // 8)).astype(np.uint8)
    return packed, RNG.uniform(0.01, 0.1, (n, blocks)).astype(np.float32)


def points(n: int, k: int, size: int, bits: int) -> np.ndarray:
    """Return packed zero points."""
    blocks = -(-k // size)
    return RNG.integers(0, 256, (n, -(-blocks * bits // 8))).astype(np.uint8)


def check(x: np.ndarray, packed: Any, scales: Any, *rest: Any, k: int, size: int, bits: int = 4) -> None:
    operands = (x, packed, scales, *rest)
    attributes = {"K": k, "N": len(packed), "bits": bits, "block_size": size}
    constants = range(1, len(operands))
    result = run("MatMulNBits", *operands, constants=list(constants), domain="com.microsoft", **attributes)
    assert_close(*result, tolerance=3e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("rows", [1, 2, 3, 9, 100])
def test_sizes(rows: int, bits: int) -> None:
    """Part of a panel, several panels and a part; one block, several, a last one that is not whole."""
    for n, k, size in ((1, 16, 16), (PANEL - 3, 37, 16), (PANEL, 64, 32), (2 * PANEL + 5, 300, 128), (7, 530, 256)):
        packed, scales = weights(n, k, size, bits)
        check(noise(rows, rows, k), packed, scales, k=k, size=size, bits=bits)
        check(noise(rows, rows, k), packed, scales, points(n, k, size, bits), k=k, size=size, bits=bits)


def test_optional_inputs() -> None:
    """Zero points that are floats, a bias, flat scales, the usual g_idx, rows in several axes."""
    n, k, size = PANEL + 3, 70, 32
    packed, scales = weights(n, k, size, 4)
    floats = RNG.uniform(5, 10, scales.shape).astype(np.float32)
    g_idx, bias = (np.arange(k) // size).astype(np.int32), noise(5, n)
    check(noise(1, 2, 3, k), packed, scales.reshape(-1), floats, g_idx, bias, k=k, size=size)
    check(noise(1, 1, 1, k), packed, scales, None, None, bias, k=k, size=size)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [1, 40])
def test_onnxruntime(rows: int, bits: int) -> None:
    """The model also runs on several threads, and as a stored plan."""
    n, k, size = 200, 256, 32
    packed, scales = weights(n, k, size, bits)
    constants = [packed, scales.reshape(-1), points(n, k, size, bits).reshape(-1)]
    names = ["b", "scales", "zeros"]
    node = helper.make_node(
        "MatMulNBits", ["x", *names], ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=size
    )
    graph = helper.make_graph(
        [node], "blocks", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, n])],
        [numpy_helper.from_array(array, name) for array, name in zip(constants, names)],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    x = noise(3, rows, k)
    (expected,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    for threads in (1, 3):
        options = tinyonnx.SessionOptions()
        options.intra_op_num_threads = threads
        session = tinyonnx.InferenceSession(content, options)
        assert_close(session.run(None, {"x": x})[0], expected, tolerance=1e-5)
        assert isinstance(session.plan_for(None, {"x": x}).steps[0], KernelStep)


def test_refusals() -> None:
    n, k, size = 8, 32, 16
    packed, scales = weights(n, k, size, 4)

    def info(array: np.ndarray, constant: bool = True) -> Info:
        return Info(array.dtype, array.shape, array if constant else None)

    operator, out, x = (
        lookup("com.microsoft", "MatMulNBits", 1),
        info(noise(0, 3, n), False),
        info(noise(0, 3, k), False),
    )
    attributes = {"K": k, "N": n, "block_size": size}
    mixed = info(np.arange(k)[::-1].astype(np.int32) // size)

    def reason(*infos: Info | None, **more: Any) -> str:
        return str(choose(operator, out, infos, attributes | more))

    assert "not constant" in reason(x, info(packed, False), info(scales))
    assert "constant" in reason(info(noise(0, 3, k)), info(packed), info(scales))
    assert "g_idx" in reason(x, info(packed), info(scales), None, mixed)
    assert "attributes are invalid" in reason(x, info(packed), info(scales), bits=3)
    assert "the shape of an input contradicts" in reason(x, info(packed), info(scales[:, :1]))
    assert "the shape of an input contradicts" in reason(x, info(packed[:4]), info(scales))
    assert "float16" in reason(x, info(packed), info(scales.astype(np.float16)))
