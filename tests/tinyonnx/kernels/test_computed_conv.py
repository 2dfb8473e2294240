"""Convolutions with computed weights against the numpy operator, and as the kernels of constant weights give them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx.parser
import onnxruntime
import pytest

import tinyonnx
from tests.tinyonnx.kernels.fast import assert_close, choose, run
from tests.tinyonnx.kernels.test_conv import ACTIVATIONS, noise
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tinyonnx.codegen.primitives import LANES
from tinyonnx.ir import Array
from tinyonnx.registry import FUSED, Fast, Info, lookup


def check(x: Array, w: Array, b: Array | None = None, **attributes: Any) -> None:
    """Compare with numpy's result, and bit for bit with that of the same weights as constants."""
    actual, expected = run("Conv", x, w, b, constants=(), **attributes)
    assert_close(actual, expected)
    np.testing.assert_array_equal(actual, run("Conv", x, w, b, **attributes)[0])


@pytest.mark.parametrize("filters", [1, LANES - 1, LANES, LANES + 1, 2 * LANES + 3, 3 * LANES, 4 * LANES, 117])
@pytest.mark.parametrize("bias", [False, True])
def test_pointwise(filters: int, bias: bool) -> None:
    check(noise(0, 2, 5, 3, 9), noise(1, filters, 5, 1, 1), noise(2, filters) if bias else None)


@pytest.mark.parametrize("channels", [2, 3, 8, LANES - 1, LANES, LANES + 5, 3 * LANES])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2), (4, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_depthwise(channels: int, kernel: int, stride: int, bias: bool) -> None:
    x, w, b = noise(0, 2, channels, 7, 12), noise(1, channels, 1, kernel, kernel), noise(2, channels)
    check(x, w, b if bias else None, group=channels, strides=[stride] * 2, pads=[kernel // 2] * 4)


@pytest.mark.parametrize("size", [(3, 40), (5, 5), (2, 1)], ids=str)  # of which the second is gathered
@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize("filters", [1, LANES - 1, LANES, 2 * LANES + 5])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_general(size: tuple[int, int], group: int, filters: int, stride: int, dilation: int) -> None:
    x, w, b = noise(0, 2, 4 * group, *size), noise(1, filters * group, 4, 3, 2), noise(2, filters * group)
    attributes = {"group": group, "strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [2, 2, 2, 2]}
    check(x, w, b, **attributes)
    check(x, w, None, **attributes)


def test_one_axis() -> None:
    check(noise(0, 2, 6, 50), noise(1, 40, 6, 3), noise(2, 40), strides=[2], pads=[1, 1])
    check(noise(0, 2, 6, 50), noise(1, 6, 1, 3), None, group=6)
    check(noise(0, 2, 6, 50), noise(1, 20, 6, 1), None)


@pytest.mark.parametrize("attributes", ACTIVATIONS, ids=lambda a: a.get("activation", "linear"))
@pytest.mark.parametrize("kind", ["pointwise", "depthwise", "general", "grouped"])
def test_epilogue(kind: str, attributes: dict[str, Any]) -> None:
    shape, group = {"pointwise": (24, 1), "depthwise": (1, 24), "general": (24, 1), "grouped": (8, 3)}[kind]
    k = 1 if kind == "pointwise" else 3
    x, w, b, residual = noise(0, 2, 24, 5, 11), noise(1, 24, shape, k, k) / 8, noise(2, 24), noise(3, 2, 24, 5, 11)
    attributes = {"fused": True, "group": group, "pads": [k // 2] * 4, **attributes}
    # the bias is computed, constant, absent
    for bias, constants in ((b, ()), (b, (2,)), (None, ())):
        assert_close(*run("FusedConv", x, w, bias, residual, constants=constants, **attributes))
        assert_close(*run("FusedConv", x, w, bias, constants=constants, **attributes))


def test_refusals_say_why() -> None:
    f4 = np.dtype(np.float32)
    x, w, out = Info(f4, (1, 4, 5, 5)), Info(f4, (6, 4, 1, 1)), Info(f4, (1, 6, 5, 5))

    def why(*infos: Info | None, **attributes: Any) -> str:
        reason = choose(lookup(FUSED, "FusedConv", 1), out, infos, attributes)
        return "" if isinstance(reason, Fast) else reason

    assert why(x, w) == ""
    assert "float64" in why(x, w._replace(dtype=np.dtype(np.float64)))
    assert "channels" in why(x._replace(shape=(1, 5, 5, 5)), w)
    assert "input is constant" in why(x._replace(value=np.zeros((1, 4, 5, 5), f4)), w)
    assert "residual" in why(x, w, None, Info(f4, (1, 6, 1, 1)))
    assert "'Selu'" in why(x, w, activation="Selu")
    assert "axes" in why(Info(f4, (1, 4, 5, 5, 5)), Info(f4, (6, 4, 1, 1, 1)))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("shape", "group"), [((20, 6, 3, 3), 2), ((20, 12, 1, 1), 1), ((12, 1, 3, 3), 12)])
def test_weights_mixed_by_attention(threads: int, shape: tuple[int, ...], group: int) -> None:
    """The model has groups, as exporters write one convolution per item: every run packs other weights."""
    pad = shape[2] // 2
    body = f"""m = GlobalAveragePool(x) t = Flatten(m) a = Gemm(t, linear)
        s = Softmax<axis=1>(a) k = MatMul(s, kernels) w = Reshape(k, shape)
        y = Conv<group={group}, pads=[{pad},{pad},{pad},{pad}]>(x, w)"""
    weights = ", ".join(
        [floats("linear", 12, 4), floats("kernels", 4, math.prod(shape)),
         f"int64[4] shape = {{{', '.join(map(str, shape))}}}"]
    )  # fmt: skip
    text = model_text(body, "float[1,12,30,31] x", f"float[1,{shape[0]},30,31] y", weights)
    model = onnx.parser.parse_model(text).SerializeToString()
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = threads
    session, oracle = tinyonnx.InferenceSession(model, options), onnxruntime.InferenceSession(model)
    for seed in range(3):
        feeds = {"x": data(1, 12, 30, 31, seed=seed) + np.float32(seed)}
        assert_close(session.run(None, feeds)[0], oracle.run(None, feeds)[0])
        assert not session.plan_for(None, feeds).numpy_steps
