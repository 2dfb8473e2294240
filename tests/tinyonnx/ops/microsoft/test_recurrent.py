"""com.microsoft: DynamicQuantizeLSTM against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tinyonnx.ops.microsoft.running import call, check_contrib
from tests.tinyonnx.ops.running import normal
from tinyonnx.errors import OpError

T, B, F, H = 7, 3, 5, 4
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def weights(directions=1, dtype=np.int8, per_column=False, seed=0):
    """Return W and R of bytes, their scales and zero points."""
    random = np.random.default_rng(seed)
    low, high = (-128, 128) if dtype == np.int8 else (0, 256)
    w, r = (random.integers(low, high, (directions, rows, 4 * H)).astype(dtype) for rows in (F, H))
    shape = (directions, 4 * H) if per_column else (directions,)
    scales = [random.uniform(0.003, 0.01, shape).astype(np.float32) for _ in range(2)]
    zero_points = [np.full(shape, 0 if dtype == np.int8 else 120, dtype) for _ in range(2)]
    return w, r, [scales[0], zero_points[0], scales[1], zero_points[1]]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("per_column", [False, True])
def test_dynamic_quantize_lstm(direction, dtype, per_column):
    directions = 2 if direction == "bidirectional" else 1
    w, r, quantization = weights(directions, dtype, per_column)
    x, b = normal(T, B, F), normal(directions, 8 * H, seed=1)
    states = [normal(directions, B, H, seed=2), normal(directions, B, H, seed=3)]
    inputs = [x, w, r, b, None, *states, None, *quantization]
    check_contrib("DynamicQuantizeLSTM", *inputs, n_outputs=3, hidden_size=H, direction=direction, **TOLERANCE)


def test_dynamic_quantize_lstm_with_everything():
    w, r, quantization = weights()
    inputs = [normal(T, B, F), w, r, None, np.array([7, 3, 5], np.int32), None, None, normal(1, 3 * H, seed=4)]
    attributes = {"clip": 0.8, "activations": ["HardSigmoid", "Relu", "Tanh"], "input_forget": 1}
    check_contrib("DynamicQuantizeLSTM", *inputs, *quantization, n_outputs=3, hidden_size=H, **TOLERANCE, **attributes)


def test_dynamic_quantize_lstm_refuses():
    w, r, quantization = weights()
    x, rest = normal(T, B, F), [None] * 5
    with pytest.raises(OpError, match="W_scale is missing"):
        call("DynamicQuantizeLSTM", x, w, r)
    with pytest.raises(OpError, match="W is float32"):
        call("DynamicQuantizeLSTM", x, w.astype(np.float32), r, *rest, *quantization)
    with pytest.raises(OpError, match="W is int8, its zero point uint8"):
        call("DynamicQuantizeLSTM", x, w, r, *rest, quantization[0], np.zeros(1, np.uint8), *quantization[2:])
    with pytest.raises(OpError, match="W_scale has shape"):
        call("DynamicQuantizeLSTM", x, w, r, *rest, np.ones(3, np.float32), *quantization[1:])
    with pytest.raises(OpError, match="X is float64"):
        call("DynamicQuantizeLSTM", x.astype(np.float64), w, r, *rest, *quantization)
    with pytest.raises(OpError, match=r"R has shape \[1, 15, 4\], should be"):
        call("DynamicQuantizeLSTM", x, w, r[:, :, :15], *rest, *quantization)
