"""RNN, GRU and LSTM against onnxruntime, their equations, and onnx's cases."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.tinyonnx.ops.running import (
    assert_same,
    check_against_onnxruntime,
    check_backend_cases,
    normal,
    onnxruntime_outputs,
    outputs_of,
)
from tinyonnx.errors import OpError, ResourceError
from tinyonnx.ir import Node
from tinyonnx.limits import Limits
from tinyonnx.registry import lookup
from tinyonnx.runtime.operator_call import OpContext

F32 = np.float32
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STATES = {"RNN": 1, "GRU": 1, "LSTM": 2}
DIRECTIONS = ["forward", "reverse", "bidirectional"]
TIME, BATCH, FEATURES, HIDDEN = 7, 3, 4, 5


def operands(name, direction="forward", *, bias=True, lens=None, initial=False, peepholes=False, dtype=F32, seed=0):
    """Return the positional inputs of an operator, random."""
    d, g, h = 2 if direction == "bidirectional" else 1, GATES[name], HIDDEN
    inputs = [
        normal(TIME, BATCH, FEATURES, dtype=dtype, seed=seed),
        normal(d, g * h, FEATURES, dtype=dtype, seed=seed + 1) / dtype(2),
        normal(d, g * h, h, dtype=dtype, seed=seed + 2) / dtype(2),
        normal(d, 2 * g * h, dtype=dtype, seed=seed + 3) / dtype(2) if bias else None,
        None if lens is None else np.array(lens, np.int32),
        *[normal(d, BATCH, h, dtype=dtype, seed=seed + 4 + i) if initial else None for i in range(STATES[name])],
    ]
    if name == "LSTM":
        inputs.append(normal(d, 3 * h, dtype=dtype, seed=seed + 6) if peepholes else None)
    while inputs[-1] is None:
        inputs.pop()
    return inputs


def compare(name, inputs, opset=14, **attributes):
    n = STATES[name] + 1
    attributes = {"hidden_size": HIDDEN, **attributes}
    check_against_onnxruntime(name, *inputs, opset=opset, n_outputs=n, rtol=1e-5, atol=1e-5, **attributes)


@pytest.mark.parametrize("name", GATES)
def test_backend_cases(name):
    check_backend_cases(name)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("opset", [7, 14, 22])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_directions(name, direction, opset, initial, bias):
    compare(name, operands(name, direction, initial=initial, bias=bias), opset, direction=direction)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lens", [[7, 3, 5], [1, 2, 7], [4, 4, 4]])
@pytest.mark.parametrize("initial", [False, True])
def test_sequences_of_different_length(name, direction, lens, initial):
    compare(name, operands(name, direction, lens=lens, initial=initial), direction=direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("input_forget", [0, 1])
@pytest.mark.parametrize("peepholes", [False, True])
@pytest.mark.parametrize("lens", [None, [6, 2, 7]])
def test_lstm_extras(direction, input_forget, peepholes, lens):
    inputs = operands("LSTM", direction, lens=lens, initial=True, peepholes=peepholes)
    compare("LSTM", inputs, direction=direction, input_forget=input_forget)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lens", [None, [6, 2, 7]])
@pytest.mark.parametrize("bias", [False, True])
def test_gru_linear_before_reset(direction, lens, bias):
    inputs = operands("GRU", direction, lens=lens, initial=True, bias=bias)
    compare("GRU", inputs, direction=direction, linear_before_reset=1)


# (name, alpha, beta) of activations that onnxruntime has, with the parameters that they take
ACTIVATIONS = [
    ("Relu", [], []),
    ("Tanh", [], []),
    ("Sigmoid", [], []),
    ("Affine", [0.7], [0.2]),
    ("LeakyRelu", [0.3], []),
    ("ThresholdedRelu", [0.4], []),
    ("ScaledTanh", [0.8], [1.3]),
    ("HardSigmoid", [0.3], [0.4]),
    ("Elu", [0.6], []),
    ("Softsign", [], []),
    ("Softplus", [], []),
]
FORMULAS = {
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x >= 0, x, a * x),
    "ThresholdedRelu": lambda x, a, b: np.where(x >= a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.minimum(np.maximum(a * x + b, 0), 1),
    "Elu": lambda x, a, b: np.where(x >= 0, x, a * (np.exp(x) - 1)),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: np.log(1 + np.exp(x)),
}


@pytest.mark.parametrize(("activation", "alpha", "beta"), ACTIVATIONS)
def test_each_activation_by_its_formula(activation, alpha, beta):
    x, w, r, b = operands("RNN", dtype=np.float64)
    y, last = outputs_of(
        "RNN", x, w, r, b, n_outputs=2, activations=[activation], activation_alpha=alpha, activation_beta=beta
    )
    h = np.zeros((BATCH, HIDDEN))
    for t in range(TIME):
        z = x[t] @ w[0].T + h @ r[0].T + b[0, :HIDDEN] + b[0, HIDDEN:]
        h = FORMULAS[activation](z, *(v[0] if v else None for v in (alpha, beta)))
        np.testing.assert_allclose(y[t, 0], h, rtol=1e-9)
    np.testing.assert_allclose(last[0], h, rtol=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", GATES)
def test_activations_with_their_numbers(name, seed):
    rng = np.random.default_rng(seed)
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[name]
    direction = DIRECTIONS[seed % 3]
    # bounded ones: what grows without bound tells nothing at a relative tolerance
    pool = [a for a in ACTIVATIONS if a[0] in ("Tanh", "Sigmoid", "ScaledTanh", "HardSigmoid", "Softsign", "LeakyRelu")]
    chosen = [pool[i] for i in rng.integers(0, len(pool), count * (2 if direction == "bidirectional" else 1))]
    numbers = {
        "activation_alpha": [v for c in chosen for v in c[1]],
        "activation_beta": [v for c in chosen for v in c[2]],
    }
    numbers = {k: v for k, v in numbers.items() if v}
    compare(
        name,
        operands(name, direction, seed=seed),
        direction=direction,
        activations=[c[0] for c in chosen],
        **numbers,
    )


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_clip(name, direction):
    compare(name, operands(name, direction, initial=True), direction=direction, clip=0.3)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_layout_swaps_batch_and_time(name, direction):
    plain = operands(name, direction, initial=True, lens=[3, 7, 5])
    n = STATES[name] + 1
    swapped = [v.swapaxes(0, 1) if i in (0, 5, 6) else v for i, v in enumerate(plain)]
    y, *last = outputs_of(name, *plain, opset=14, n_outputs=n, direction=direction)
    other, *other_last = outputs_of(name, *swapped, opset=14, n_outputs=n, direction=direction, layout=1)
    np.testing.assert_array_equal(other, y.transpose(2, 0, 1, 3))
    for a, b in zip(other_last, last, strict=True):
        np.testing.assert_array_equal(a, b.swapaxes(0, 1))


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_types(name, dtype):
    inputs = operands(name, dtype=dtype, initial=True)
    outputs = outputs_of(name, *inputs, n_outputs=STATES[name] + 1, opset=22)
    wide = [None if i is None else i.astype(F32) for i in inputs]
    expected = outputs_of(name, *wide, n_outputs=STATES[name] + 1, opset=22)
    for output, reference in zip(outputs, expected, strict=True):
        if dtype == np.float64:
            np.testing.assert_allclose(output, reference, rtol=1e-4, atol=1e-5)
        else:
            assert_same(output, reference.astype(dtype))


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("opset", [1, 3])
def test_first_versions(name, opset):
    inputs = operands(name, lens=[7, 2, 4])
    n = STATES[name] + 1
    outputs = outputs_of(name, *inputs, opset=opset, n_outputs=n, output_sequence=1)
    for output, reference in zip(outputs, outputs_of(name, *inputs, opset=7, n_outputs=n), strict=True):
        np.testing.assert_array_equal(output, reference)


@pytest.mark.parametrize("name", GATES)
def test_empty_sequences_keep_their_state(name):
    inputs = operands(name, lens=[0, 2, 0], initial=True)
    y, *last = outputs_of(name, *inputs, n_outputs=STATES[name] + 1)
    assert not y[:, :, [0, 2]].any()
    for state, initial in zip(last, inputs[5:], strict=False):
        np.testing.assert_array_equal(state[:, [0, 2]], initial[:, [0, 2]])
    no_time = [inputs[0][:0], *inputs[1:4], None, *inputs[5:]]
    y, *last = outputs_of(name, *no_time, n_outputs=STATES[name] + 1)
    assert y.shape == (0, 1, BATCH, HIDDEN)
    np.testing.assert_array_equal(last[0], inputs[5])


def test_absent_outputs():
    inputs = operands("LSTM")
    (y,) = onnxruntime_outputs("LSTM", *inputs, opset=14, hidden_size=HIDDEN)
    np.testing.assert_allclose(outputs_of("LSTM", *inputs, opset=14)[0], y, rtol=1e-5, atol=1e-6)


# -- refusals ---------------------------------------------------------------------------


def changed(index, value):
    inputs = operands("LSTM", initial=True, lens=[7, 7, 7], peepholes=True)
    inputs[index] = value
    return inputs


REFUSED = [
    (0, np.zeros((3, 4), F32), {}, "X has 2 dimensions, needs 3"),
    (1, np.zeros((1, 20, 5), F32), {}, r"W has shape \[1, 20, 5\], should be \[1, 20, 4\]"),
    (1, np.zeros((2, 20, 4), F32), {}, r"W has shape \[2, 20, 4\], should be \[1, 20, 4\]"),
    (1, np.zeros((1, 20, 4)), {}, "X is float32, W is float64"),
    (2, np.zeros((1, 19, 5), F32), {}, r"R has shape \[1, 19, 5\], should be \[1, 20, 5\]"),
    (3, np.zeros((1, 20), F32), {}, r"B has shape \[1, 20\], should be \[1, 40\]"),
    (4, np.array([7, 7], np.int32), {}, r"sequence_lens has shape \[2\], should be \[3\]"),
    (4, np.array([7, 8, 1], np.int32), {}, r"sequence_lens \[7, 8, 1\] must be between 0 and 7"),
    (4, np.array([7, -1, 1], np.int32), {}, r"sequence_lens \[7, -1, 1\] must be between 0 and 7"),
    (4, np.array([7, 7, 7], F32), {}, "sequence_lens is float32, must be int32"),
    (5, np.zeros((1, 2, 5), F32), {}, r"initial_h has shape \[1, 2, 5\], should be \[1, 3, 5\]"),
    (6, np.zeros((1, 3, 5)), {}, "X is float32, initial_c is float64"),
    (7, np.zeros((1, 5), F32), {}, r"P has shape \[1, 5\], should be \[1, 15\]"),
    (None, None, {"direction": "sideways"}, "direction is 'sideways'"),
    (None, None, {"layout": 2}, "layout is 2"),
    (None, None, {"hidden_size": 6}, "hidden_size is 6, R has 5"),
    (None, None, {"clip": -1.0}, "clip is -1.0"),
    (None, None, {"activations": ["Tanh", "Tanh"]}, "2 activations, forward needs 3"),
    (None, None, {"activations": ["Tanh", "Tanh", "Gelu"]}, "unknown activation 'Gelu'"),
]


@pytest.mark.parametrize(("index", "value", "attributes", "message"), REFUSED)
def test_refusals(index, value, attributes, message):
    inputs = operands("LSTM", initial=True) if index is None else changed(index, value)
    with pytest.raises(OpError, match=message):
        outputs_of("LSTM", *inputs, n_outputs=3, **attributes)


def test_results_are_limited():
    context = OpContext(Node("LSTM", [], [None] * 3, opset=22), Limits(max_tensor_bytes=1000))
    with pytest.raises(ResourceError, match="max_tensor_bytes"):
        lookup("", "LSTM", 22).function(context, *operands("LSTM"))
